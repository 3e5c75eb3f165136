//! The measurements themselves, each written once for every peer.

mod drain;
mod footprint;
mod latency;
mod limits;
mod pass;
mod producers;
mod reopen;
mod replay;
mod send;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::payload::{Ledger, Look, Payloads};
use crate::peer::{Outcome, Peer, Sender, Setup};
use crate::peers::{Task, with_named};
use crate::workload::{Kind, Workload};

pub use limits::limit;
pub use reopen::victim;
pub use send::sweep;

/// What one measurement sends at most, in bytes of records.
const VOLUME: u64 = 128 << 20;
/// How long it sends at most: slow peers send fewer records, and rates are of what was sent.
const BUDGET: Duration = Duration::from_secs(1);

/// The figures of one measurement, in the order of the workload, and what else is to be said.
#[derive(Debug, Default)]
pub struct Measured {
    pub figures: Vec<f64>,
    pub note: String,
}

impl Measured {
    fn rate(records: u64, time: Duration) -> Self {
        Self { figures: vec![as_f64(records) / time.as_secs_f64()], note: String::new() }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Runs one workload with the peer of that name, in an empty directory.
pub fn run(peer: &str, workload: &Workload, dir: &Path) -> Outcome<Measured> {
    struct Run<'a>(&'a Workload, &'a Path);
    impl Task for Run<'_> {
        type Result = Outcome<Measured>;

        fn with<P: Peer>(self) -> Self::Result {
            let (workload, dir) = (self.0, self.1);
            match workload.kind {
                Kind::Send { batch } => send::run::<P>(workload.record_bytes, batch, dir),
                Kind::Synced { threads } => producers::synced::<P>(threads, dir),
                Kind::Replay { batch } => replay::run::<P>(batch, dir),
                Kind::Pass => pass::run::<P>(dir),
                Kind::Paced { parked } => latency::run::<P>(parked, dir),
                Kind::Producers { partitions } => producers::written::<P>(partitions, dir),
                Kind::Reopen => reopen::run::<P>(dir),
                Kind::Drain => drain::run::<P>(dir),
                Kind::Disk { batch } => footprint::disk::<P>(batch, dir),
                Kind::Memory => footprint::memory::<P>(dir),
            }
        }
    }
    with_named(peer, Run(workload, dir)).ok_or("no such peer")?
}

/// How many records make up the volume, each with the bytes a log puts around it.
fn count_of(record_bytes: usize) -> u64 {
    VOLUME / (record_bytes as u64 + 28)
}

/// Sends records `0..count` of producer 0, or as many as the time allows. Returns how many.
fn fill(
    sender: &mut impl Sender,
    payloads: &mut Payloads,
    batch: usize,
    count: u64,
    until: Instant,
) -> Outcome<u64> {
    let mut sent = 0;
    if batch == 1 {
        while sent < count {
            sender.send(payloads.stamped(sent))?;
            sent += 1;
            if sent % 256 == 0 && Instant::now() >= until {
                break;
            }
        }
        return Ok(sent);
    }
    while sent < count {
        sender.send_batch(&payloads.batch(sent, batch))?;
        sent += batch as u64;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(sent)
}

/// A little is sent first, to a log of its own, so that code, memory and files have been used before.
fn warm_up<P: Peer>(record_bytes: usize, batch: usize, dir: &Path) -> Outcome<()> {
    let peer = P::open(&dir.join("warm"), &Setup::plain(record_bytes))?;
    let mut payloads = Payloads::for_batches(record_bytes);
    let count = (count_of(record_bytes) / 16).next_multiple_of(batch as u64);
    let until = Instant::now() + BUDGET / 10;
    fill(&mut peer.sender(0)?, &mut payloads, batch, count, until)?;
    Ok(())
}

/// Reads all partitions and compares everything that comes with what was sent.
fn check<P: Peer>(peer: &P, payloads: &Payloads, partitions: usize, sent: &[u64]) -> Outcome<()> {
    let mut ledger = Ledger::new(payloads, sent.len(), Look::Whole);
    for partition in 0..partitions {
        peer.read_back(partition, &mut |payload| ledger.see(payload))?;
    }
    Ok(ledger.verdict(sent)?)
}
