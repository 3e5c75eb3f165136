//! One thread sends: W1, W1k, W16, W2, and each point of a sweep.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{BUDGET, Measured, check, count_of, fill, warm_up};
use crate::payload::Payloads;
use crate::peer::{Outcome, Peer, Setup};
use crate::peers::{Task, with_named};

/// How often a process sends to a new log; the middle run counts. What one gives back of the memory the next
/// finds, where a virtual machine has to ask its host for what the first one takes.
const RUNS: usize = 3;

pub fn run<P: Peer>(record_bytes: usize, batch: usize, dir: &Path) -> Outcome<Measured> {
    let count = count_of(record_bytes).next_multiple_of(batch as u64);
    measure::<P>(record_bytes, batch, count, BUDGET, dir)
}

fn measure<P: Peer>(
    record_bytes: usize,
    batch: usize,
    count: u64,
    budget: Duration,
    dir: &Path,
) -> Outcome<Measured> {
    warm_up::<P>(record_bytes, batch, dir)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let peer = P::open(&dir.join("log"), &Setup::plain(record_bytes))?;
        let mut payloads = if batch > 1 {
            Payloads::for_batches(record_bytes)
        } else {
            Payloads::new(record_bytes)
        };
        let mut sender = peer.sender(0)?;
        let begun = Instant::now();
        let sent = fill(&mut sender, &mut payloads, batch, count, begun + budget)?;
        let time = begun.elapsed();
        drop(sender);
        check(&peer, &payloads, 1, &[sent])?;
        drop(peer);
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        runs.push((sent, time));
    }
    let rate = |&(sent, time): &(u64, Duration)| super::as_f64(sent) / time.as_secs_f64();
    runs.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
    let (sent, time) = runs[RUNS / 2];
    Ok(Measured::rate(sent, time))
}

/// How many records a point of a sweep sends, and for how long at most.
pub fn sweep_point(record_bytes: usize) -> (u64, Duration) {
    let count = ((96 << 20) / (record_bytes as u64 + 28)).max(200);
    (count, Duration::from_secs(2))
}

/// One point of a sweep, with the peer of that name.
pub fn sweep(peer: &str, record_bytes: usize, dir: &Path) -> Outcome<Measured> {
    struct Point<'a>(usize, &'a Path);
    impl Task for Point<'_> {
        type Result = Outcome<Measured>;

        fn with<P: Peer>(self) -> Self::Result {
            let (count, budget) = sweep_point(self.0);
            measure::<P>(self.0, 1, count, budget, self.1)
        }
    }
    with_named(peer, Point(record_bytes, dir)).ok_or("no such peer")?
}
