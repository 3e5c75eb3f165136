//! The live line, and what it is drawn from later.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crate::Result;
use crate::account::Account;
use crate::downstream::Downstream;
use crate::source::Source;

const EVERY: Duration = Duration::from_millis(100);
/// How many looks lie between two lines where they are not written over each other.
const LINES: usize = 5;

/// How many had come and gone at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) came: u64,
    pub(crate) left: u64,
    pub(crate) backlog: u64,
}

#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    /// What waited before this run began.
    backlog: u64,
    came: AtomicU64,
    has_ended: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

/// Says that no more lines come, by an error too.
pub(crate) struct SourceEnds<'a>(&'a Watch);

impl Drop for SourceEnds<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
    }
}

impl Watch {
    pub(crate) fn begin(backlog: u64) -> Self {
        Self {
            begun: Instant::now(),
            backlog,
            came: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            samples: Mutex::new(vec![Sample { backlog, ..Sample::default() }]),
        }
    }

    pub(crate) fn sent(&self, lines: u64) {
        self.came.fetch_add(lines, Ordering::Relaxed);
    }

    pub(crate) fn source_ends(&self) -> SourceEnds<'_> {
        SourceEnds(self)
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().expect("nobody panics here").clone()
    }

    /// Looks on until all lines have come and were delivered, or no more will come.
    pub(crate) fn until_drained(
        &self,
        sink: &Downstream,
        source: &Source,
        before: &Account,
        sending: &ScopedJoinHandle<'_, Result<()>>,
    ) -> Result<()> {
        let wanted = source.count() - before.committed();
        for look in 0.. {
            let is_last = sink.delivered() >= wanted
                || (sending.is_finished()
                    && self.came.load(Ordering::Relaxed) + self.backlog < wanted);
            self.look(sink, look, is_last)?;
            if is_last {
                break;
            }
            std::thread::sleep(EVERY);
        }
        println!();
        Ok(())
    }

    fn look(&self, sink: &Downstream, look: usize, is_last: bool) -> Result<()> {
        let (came, left) = (self.came.load(Ordering::Relaxed), sink.delivered());
        let seconds = self.begun.elapsed().as_secs_f64();
        let sample =
            Sample { seconds, came, left, backlog: (self.backlog + came).saturating_sub(left) };
        let mut samples = self.samples.lock().expect("nobody panics here");
        // What is written over shows the last moment, a line of its own the time since the one before.
        let span = if std::io::stdout().is_terminal() { 1 } else { LINES };
        let last = samples.len().saturating_sub(span);
        let last = samples.get(last).copied().unwrap_or_default();
        let rate =
            |now: u64, then: u64| (now - then) as f64 / (seconds - last.seconds).max(1e-9) / 1e3;
        let line = format!(
            "{seconds:5.1} s  in {came:>9} ({:7.1} k/s)  out {left:>9} ({:6.1} k/s)  backlog {:>9}",
            rate(came, last.came),
            rate(left, last.left),
            sample.backlog
        );
        samples.push(sample);
        let mut out = std::io::stdout();
        if out.is_terminal() {
            write!(out, "\r{line}")?;
        } else if look.is_multiple_of(LINES) || is_last {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}
