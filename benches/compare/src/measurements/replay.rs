//! W4: everything that was sent is read, by a reader that checks what its peer checks.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Measured, count_of, fill};
use crate::payload::{Ledger, Look, Payloads};
use crate::peer::{Outcome, Peer, Receiver, Setup};

/// How long sending may take before it is timed how the records are read.
const FILLING: Duration = Duration::from_secs(3);

pub fn run<P: Peer>(batch: usize, dir: &Path) -> Outcome<Measured> {
    let record_bytes = 100;
    let count = count_of(record_bytes).min(P::MOST_READ) / batch as u64 * batch as u64;
    let peer = P::open(&dir.join("log"), &Setup::plain(record_bytes))?;
    let mut payloads = Payloads::for_batches(record_bytes);
    let until = Instant::now() + FILLING;
    let sent = fill(&mut peer.sender(0)?, &mut payloads, batch, count, until)?;
    let mut ledger = Ledger::new(&payloads, 1, Look::Quick);
    let mut receiver = peer.receiver(0)?;
    let begun = Instant::now();
    while receiver.poll(1000, &mut |payload| ledger.see(payload))? > 0 {}
    let time = begun.elapsed();
    ledger.verdict(&[sent])?;
    let mut measured = Measured::rate(sent, time);
    if P::MOST_READ < u64::MAX {
        measured.note = format!("of {sent} records only: reading takes the square of their number");
    }
    Ok(measured)
}
