//! W8: a backlog is read with commits, by a consumer that would go on where it was after a crash.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Measured, fill};
use crate::payload::{Ledger, Look, Payloads};
use crate::peer::{Outcome, Peer, Receiver, Setup};

const BACKLOG: u64 = 2_000_000;
const COMMIT_EVERY: usize = 500;
const FILLING: Duration = Duration::from_secs(5);

pub fn run<P: Peer>(dir: &Path) -> Outcome<Measured> {
    let record_bytes = 100;
    let setup = Setup { commits: true, ..Setup::plain(record_bytes) };
    let peer = P::open(&dir.join("log"), &setup)?;
    let mut payloads = Payloads::for_batches(record_bytes);
    let until = Instant::now() + FILLING;
    let backlog = BACKLOG.min(P::MOST_READ);
    let sent = fill(&mut peer.sender(0)?, &mut payloads, 100, backlog, until)?;
    let mut ledger = Ledger::new(&payloads, 1, Look::Quick);
    let begun = Instant::now();
    let mut receiver = peer.receiver(0)?;
    let mut uncommitted = 0;
    loop {
        let count =
            receiver.poll(COMMIT_EVERY - uncommitted, &mut |payload| ledger.see(payload))?;
        uncommitted += count;
        if uncommitted >= COMMIT_EVERY || count == 0 {
            receiver.commit()?;
            uncommitted = 0;
        }
        if count == 0 {
            break;
        }
    }
    let time = begun.elapsed();
    ledger.verdict(&[sent])?;
    drop(receiver);
    let mut next = peer.receiver(0)?;
    let again = next.poll(1, &mut |_| {})?;
    if again != 0 {
        return Err("check failed: the next consumer gets records that were committed".into());
    }
    let mut measured = Measured::rate(sent, time);
    measured.note = format!("backlog {sent}");
    Ok(measured)
}
