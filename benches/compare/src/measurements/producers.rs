//! Several threads send: W3, where each send is synced, and W6, where it is not.

use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::{BUDGET, Measured, check, count_of};
use crate::payload::Payloads;
use crate::peer::{Ack, Outcome, Peer, Sender, Setup};

const RECORD_BYTES: usize = 100;

/// Each thread sends for as long as the others.
pub fn synced<P: Peer>(threads: usize, dir: &Path) -> Outcome<Measured> {
    let partitions = if P::LOG_PER_SYNCING_THREAD { threads } else { 1 };
    let setup = Setup { ack: Ack::Synced, ..Setup::shared(RECORD_BYTES, partitions) };
    run::<P>(&setup, threads, u64::MAX, dir)
}

pub fn written<P: Peer>(partitions: usize, dir: &Path) -> Outcome<Measured> {
    let threads = 4;
    let each = count_of(RECORD_BYTES) / threads as u64;
    run::<P>(&Setup::shared(RECORD_BYTES, partitions), threads, each, dir)
}

fn run<P: Peer>(setup: &Setup, threads: usize, each: u64, dir: &Path) -> Outcome<Measured> {
    let peer = P::open(&dir.join("log"), setup)?;
    let payloads = Payloads::new(RECORD_BYTES);
    let barrier = Barrier::new(threads + 1);
    let (sent, time) = thread::scope(|scope| {
        let sending: Vec<_> = (0..threads)
            .map(|thread| {
                let (peer, barrier, mut payloads) = (&peer, &barrier, payloads.clone());
                scope.spawn(move || -> Outcome<u64> {
                    let sender = peer.sender(thread % setup.partitions);
                    barrier.wait();
                    let (mut sender, mut sent) = (sender?, 0);
                    let until = Instant::now() + BUDGET;
                    while sent < each {
                        sender.send(payloads.of(thread as u64, sent))?;
                        sent += 1;
                        let looks = setup.ack == Ack::Synced || sent % 256 == 0;
                        if looks && Instant::now() >= until {
                            break;
                        }
                    }
                    Ok(sent)
                })
            })
            .collect();
        barrier.wait();
        let begun = Instant::now();
        let join = |handle: thread::ScopedJoinHandle<'_, Outcome<u64>>| {
            handle.join().expect("a thread that reports errors")
        };
        let sent: Outcome<Vec<u64>> = sending.into_iter().map(join).collect();
        (sent, begun.elapsed())
    });
    let sent = sent?;
    check(&peer, &payloads, setup.partitions, &sent)?;
    Ok(Measured::rate(sent.iter().sum(), time))
}
