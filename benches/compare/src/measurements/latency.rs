//! W5 at a steady rate: how long a record is on its way, from just before its send until it is read.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Measured, as_f64};
use crate::payload::{END, Payloads, stamp, time};
use crate::peer::{Outcome, Peer, Receiver, Sender, Setup};

const A_SECOND: u64 = 100_000;
const SECONDS: u64 = 2;
/// How long the producer goes on if it cannot keep the rate.
const PATIENCE: Duration = Duration::from_secs(4);

pub fn run<P: Peer>(parked: bool, dir: &Path) -> Outcome<Measured> {
    let record_bytes = 100;
    let peer = P::open(&dir.join("log"), &Setup::shared(record_bytes, 1))?;
    let count = (A_SECOND * SECONDS).min(P::MOST_READ);
    let epoch = Instant::now();
    let (produced, consumed) = thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&peer, record_bytes, count, epoch));
        let consumed = consume(&peer, record_bytes, parked, epoch);
        (producing.join().expect("a thread that reports errors"), consumed)
    });
    let ((sent, took), mut latencies) = (produced?, consumed?);
    if latencies.len() as u64 != sent {
        return Err(format!("check failed: {} records came of {sent}", latencies.len()).into());
    }
    // The first tenth is for warming up.
    latencies.drain(..latencies.len() / 10);
    latencies.sort_unstable();
    let kept = as_f64(sent) / took.as_secs_f64();
    let note = if kept < as_f64(A_SECOND) * 0.98 {
        format!("kept only {:.1} thousand/s", kept / 1e3)
    } else {
        String::new()
    };
    Ok(Measured { figures: shares(&latencies), note })
}

/// The median, 99 and 99.9 of 100 of sorted nanoseconds, in microseconds.
pub fn shares(sorted: &[u64]) -> Vec<f64> {
    let share = |thousandth: usize| {
        let place = (sorted.len() * thousandth / 1000).min(sorted.len() - 1);
        as_f64(sorted[place]) / 1e3
    };
    vec![share(500), share(990), share(999)]
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn produce<P: Peer>(
    peer: &P,
    record_bytes: usize,
    count: u64,
    epoch: Instant,
) -> Outcome<(u64, Duration)> {
    let mut sender = peer.sender(0)?;
    let mut payloads = Payloads::new(record_bytes);
    // So that the consumer is there.
    thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    let start = nanoseconds(epoch);
    let pace = 1_000_000_000 / A_SECOND;
    let mut sent = 0;
    while sent < count && begun.elapsed() < PATIENCE {
        let due = start + pace * sent;
        while nanoseconds(epoch) < due {
            std::hint::spin_loop();
        }
        sender.send(payloads.timed(sent, nanoseconds(epoch)))?;
        sent += 1;
    }
    let took = begun.elapsed();
    sender.send(&payloads.end())?;
    Ok((sent, took))
}

/// The nanoseconds each record was on its way.
fn consume<P: Peer>(
    peer: &P,
    record_bytes: usize,
    parked: bool,
    epoch: Instant,
) -> Outcome<Vec<u64>> {
    let capacity = usize::try_from(A_SECOND * SECONDS)?;
    let mut latencies = Vec::with_capacity(capacity);
    let (ended, wrong) = (Cell::new(false), Cell::new(false));
    let mut each = |payload: &[u8]| {
        let number = stamp(payload);
        if number == END {
            ended.set(true);
            return;
        }
        if number != latencies.len() as u64 || payload.len() != record_bytes {
            wrong.set(true);
        }
        latencies.push(nanoseconds(epoch).saturating_sub(time(payload)));
    };
    let mut receiver = peer.receiver(0)?;
    while !ended.get() {
        let count = if parked {
            receiver.wait(1000, &mut each)?
        } else {
            receiver.poll(1000, &mut each)?
        };
        if count == 0 {
            std::hint::spin_loop();
        }
    }
    if wrong.get() {
        return Err("check failed: records came out of order".into());
    }
    Ok(latencies)
}
