//! What peers take besides time: bytes on the disk, and memory of the process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Measured, as_f64, check, count_of, fill};
use crate::payload::Payloads;
use crate::peer::{Outcome, Peer, Setup};

const RECORD_BYTES: usize = 100;
/// More than usual, so that what files take at their ends counts little.
const FILLING: Duration = Duration::from_secs(4);

/// Allocated blocks and lengths of all files after the peer was closed, over the records.
pub fn disk<P: Peer>(batch: usize, dir: &Path) -> Outcome<Measured> {
    let log = dir.join("log");
    let peer = P::open(&log, &Setup::plain(RECORD_BYTES))?;
    let mut payloads = Payloads::for_batches(RECORD_BYTES);
    let count = count_of(RECORD_BYTES).next_multiple_of(100);
    let until = Instant::now() + FILLING;
    let sent = fill(&mut peer.sender(0)?, &mut payloads, batch, count, until)?;
    drop(peer);
    let (blocks, length) = below(&log)?;
    check(&P::open(&log, &Setup::plain(RECORD_BYTES))?, &payloads, 1, &[sent])?;
    let figures = [blocks, length].map(|bytes| as_f64(bytes) / as_f64(sent)).to_vec();
    Ok(Measured { figures, note: format!("{sent} records") })
}

/// Bytes of allocated blocks and of lengths of all files below a directory.
fn below(dir: &Path) -> Outcome<(u64, u64)> {
    let (mut blocks, mut length) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let (more, longer) = below(&entry.path())?;
            blocks += more;
            length += longer;
        } else {
            blocks += metadata.blocks() * 512;
            length += metadata.len();
        }
    }
    Ok((blocks, length))
}

/// The most anonymous memory seen while records are sent, beyond what the process had before.
pub fn memory<P: Peer>(dir: &Path) -> Outcome<Measured> {
    let mut payloads = Payloads::new(RECORD_BYTES);
    let before = anonymous_kib()?;
    let done = AtomicBool::new(false);
    let (sent, most) = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(anonymous_kib().unwrap_or(0));
                thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let sent = open_and_fill::<P>(&mut payloads, dir);
        let last = anonymous_kib();
        done.store(true, Ordering::Relaxed);
        (sent, watching.join().expect("it only reads").max(last.unwrap_or(0)))
    });
    let (peer, sent) = sent?;
    check(&peer, &payloads, 1, &[sent])?;
    let figures = vec![as_f64(most.saturating_sub(before)) / 1024.0];
    Ok(Measured { figures, note: format!("{sent} records") })
}

fn open_and_fill<P: Peer>(payloads: &mut Payloads, dir: &Path) -> Outcome<(P, u64)> {
    let peer = P::open(&dir.join("log"), &Setup::plain(RECORD_BYTES))?;
    let until = Instant::now() + FILLING;
    let sent = fill(&mut peer.sender(0)?, payloads, 1, count_of(RECORD_BYTES), until)?;
    Ok((peer, sent))
}

fn anonymous_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no RssAnon")?;
    Ok(number.parse()?)
}
