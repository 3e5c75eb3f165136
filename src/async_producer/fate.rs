//! What becomes of a batch: looked at by its tickets, decided once by whoever drains.
//!
//! The invariant it keeps: a promise is kept. Whoever drops a batch that has no outcome gives it one,
//! so that nobody waits for ever.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::sent::Sent;
use crate::timestamp::Timestamp;

/// How often a waiting thread looks before it parks: first without and then with letting others run.
const LOOKS: usize = 100;
const YIELDS: usize = 10;

/// What became of the records of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// They lie one behind the other from this offset on; `timestamp` is given by topics that give
    /// records their time.
    At { offset: u64, timestamp: Option<Timestamp> },
    /// None was sent, or none is known to be what was asked for.
    Failed(Error),
    /// They had to be sent one by one.
    Each(Vec<Result<Sent>>),
}

impl Outcome {
    /// What became of one record, which was to carry `timestamp`.
    pub(super) fn of(&self, index: u32, partition: u32, timestamp: Timestamp) -> Result<Sent> {
        match self {
            Self::At { offset, timestamp: given } => Ok(Sent {
                partition,
                offset: offset + u64::from(index),
                timestamp: given.unwrap_or(timestamp),
            }),
            Self::Failed(error) => Err(error.clone()),
            Self::Each(each) => {
                each.get(index as usize).cloned().unwrap_or(Err(Error::ProducerClosed))
            }
        }
    }
}

/// What becomes of one batch.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) partition: u32,
    /// The process the producer is in: in a forked child nobody drains.
    owner: u32,
    outcome: OnceLock<Outcome>,
    /// How many threads are parked, or about to. Changed by them with `SeqCst` before they look at the
    /// outcome for the last time; loaded by the one who decides after it stored that: one of the two
    /// sees the other.
    parked: AtomicUsize,
    /// A leaf lock that guards nothing but the moment between looking and parking.
    parking: Mutex<()>,
    bell: Condvar,
}

impl Fate {
    fn new(partition: u32, owner: u32) -> Self {
        Self {
            partition,
            owner,
            outcome: OnceLock::new(),
            parked: AtomicUsize::new(0),
            parking: Mutex::new(()),
            bell: Condvar::new(),
        }
    }

    /// The outcome, if there is one yet.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Waits for the outcome, until `deadline` if there is one.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<Option<&Outcome>> {
        for _ in 0..LOOKS {
            if let Some(outcome) = self.outcome() {
                return Ok(Some(outcome));
            }
            std::hint::spin_loop();
        }
        for _ in 0..YIELDS {
            std::thread::yield_now();
            if let Some(outcome) = self.outcome() {
                return Ok(Some(outcome));
            }
        }
        self.park(deadline)
    }

    #[cold]
    fn park(&self, deadline: Option<Instant>) -> Result<Option<&Outcome>> {
        if self.owner != std::process::id() {
            return Err(Error::Forked { owner: self.owner });
        }
        self.parked.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut parking = self.parking.lock();
        while self.outcome().is_none() {
            match deadline {
                None => self.bell.wait(&mut parking),
                Some(deadline) => {
                    if self.bell.wait_until(&mut parking, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        drop(parking);
        self.parked.fetch_sub(1, Ordering::Relaxed);
        Ok(self.outcome())
    }

    /// Wakes those who wait, once there is an outcome. Called with no lock held.
    pub(super) fn wake(&self) {
        // Whoever has looked and not yet parked holds the lock.
        drop(self.parking.lock());
        self.bell.notify_all();
    }
}

/// The duty to decide a fate.
#[derive(Debug)]
pub(super) struct Promise(Arc<Fate>);

impl Promise {
    pub(super) fn new(partition: u32, owner: u32) -> Self {
        Self(Arc::new(Fate::new(partition, owner)))
    }

    pub(super) fn fate(&self) -> &Arc<Fate> {
        &self.0
    }

    /// Decides. Returns the fate if somebody waits, to be [woken](Fate::wake) when no lock is held.
    pub(super) fn keep(&self, outcome: Outcome) -> Option<Arc<Fate>> {
        // One who has the duty decides once.
        drop(self.0.outcome.set(outcome));
        fence(Ordering::SeqCst);
        (self.0.parked.load(Ordering::Relaxed) > 0).then(|| Arc::clone(&self.0))
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.outcome().is_none()
            && let Some(fate) = self.keep(Outcome::Failed(Error::ProducerClosed))
        {
            fate.wake();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_waits_is_woken_however_close_it_was() {
        for round in 0..2000_u64 {
            let promise = Promise::new(0, std::process::id());
            let fate = Arc::clone(promise.fate());
            thread::scope(|scope| {
                let waiting = scope.spawn(move || fate.park(None).map(|outcome| outcome.is_some()));
                if round % 3 == 0 {
                    thread::yield_now();
                }
                if let Some(fate) = promise.keep(Outcome::At { offset: round, timestamp: None }) {
                    fate.wake();
                }
                assert!(waiting.join().expect("no panic").expect("this process"));
            });
        }
    }

    #[test]
    fn a_promise_that_is_dropped_keeps_nobody_waiting() {
        let promise = Promise::new(3, std::process::id());
        let fate = Arc::clone(promise.fate());
        let timeout = Instant::now() + Duration::from_millis(5);
        assert!(fate.wait(Some(timeout)).expect("this process").is_none(), "nothing is known");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let outcome = fate.wait(None).expect("this process").expect("an outcome");
                outcome.of(0, 3, Timestamp::from_millis(1))
            });
            thread::sleep(Duration::from_millis(5));
            drop(promise);
            assert!(matches!(waiting.join().expect("no panic"), Err(Error::ProducerClosed)));
        });
    }
}
