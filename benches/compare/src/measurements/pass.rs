//! W5: one thread sends and another consumes, until everything has come over.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{BUDGET, Measured, count_of, fill};
use crate::payload::{END, Ledger, Look, Payloads, stamp};
use crate::peer::{Need, Outcome, Peer, Receiver, Sender, Setup};

/// How long the consumer may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run<P: Peer>(dir: &Path) -> Outcome<Measured> {
    let record_bytes = 100;
    let peer = P::open(&dir.join("log"), &Setup::shared(record_bytes, 1))?;
    let payloads = Payloads::new(record_bytes);
    let parks = P::lacks(Need::Parking).is_none();
    let begun = Instant::now();
    let (sent, read) = thread::scope(|scope| {
        let producing = scope.spawn(|| -> Outcome<u64> {
            let mut sender = peer.sender(0)?;
            let count = count_of(record_bytes).min(P::MOST_READ);
            let sent = fill(&mut sender, &mut payloads.clone(), 1, count, begun + BUDGET)?;
            sender.send(&payloads.end())?;
            Ok(sent)
        });
        let consumed = consume(&peer, &payloads, parks, begun + PATIENCE);
        (producing.join().expect("a thread that reports errors"), consumed)
    });
    let (sent, (ledger, end)) = (sent?, read?);
    ledger.verdict(&[sent])?;
    let mut measured = Measured::rate(sent, end - begun);
    let consumer = if parks { "consumer sleeps" } else { "consumer polls" };
    consumer.clone_into(&mut measured.note);
    Ok(measured)
}

fn consume<P: Peer>(
    peer: &P,
    payloads: &Payloads,
    parks: bool,
    until: Instant,
) -> Outcome<(Ledger, Instant)> {
    let mut receiver = peer.receiver(0)?;
    let mut ledger = Ledger::new(payloads, 1, Look::Quick);
    let ended = Cell::new(false);
    let mut each = |payload: &[u8]| {
        if stamp(payload) == END {
            ended.set(true);
        } else {
            ledger.see(payload);
        }
    };
    let mut polls = 0_u32;
    while !ended.get() {
        let count =
            if parks { receiver.wait(1000, &mut each)? } else { receiver.poll(1000, &mut each)? };
        if count == 0 {
            std::hint::spin_loop();
        }
        polls = polls.wrapping_add(1);
        if polls.is_multiple_of(1024) && Instant::now() > until {
            return Err("not all was consumed in time".into());
        }
    }
    let end = Instant::now();
    Ok((ledger, end))
}
