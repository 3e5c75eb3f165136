//! Up to where a partition is on stable storage, and who waits for it: group commit.
//!
//! One thread at a time syncs, for everybody: it takes the end of the log as it is when it
//! begins, so one sync serves all who had appended by then. Those who come while it runs wait for
//! it and, if it did not cover them, the first of them runs the next one. Those whom a sync has served
//! are likely to come back together: the first of them waits a moment for the others, so that the next
//! sync is for all and not for one. One that is alone waits for nobody.
//!
//! The invariant it keeps: `synced` moves only after a sync that succeeded, and never after one
//! that failed. The first failure of any kind poisons, for good: what Linux reports once it does
//! not report again, and a second sync would return a success that means nothing. Since one
//! thread at a time syncs, no other can take the success that should have been its failure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::epoch::Epoch;
use crate::sync::{AtomicBool, AtomicU64, Mutex};

use crate::storage::was_not_begun;

/// How long one who is about to sync waits for company at the most: half of what a quick disk takes.
const PATIENCE: Duration = Duration::from_micros(100);
/// How long a thread stays awake for a sync that is about to end.
const AWAKE: Duration = Duration::from_micros(60);
/// With more threads than this none stays awake: they would be in each other's way.
const MANY: u64 = 16;

/// Group commit for one partition.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The offset below which everything is on stable storage. Stored with Release by the thread
    /// that synced, loaded with Acquire.
    synced: AtomicU64,
    /// Whether a thread syncs. Whoever finds that none does, with Acquire, is the one, until it stores
    /// `false` with Release: what one who synced has stored, the next one sees.
    syncing: AtomicBool,
    /// Whether `cause` is set: what an appender looks at, without a lock. Stored with Release after the
    /// cause, loaded with Acquire.
    poisoned: AtomicBool,
    /// A leaf lock.
    cause: Mutex<Option<Arc<io::Error>>>,
    /// Advanced when a sync has ended, and when those who wait are to look again for another reason.
    turns: Epoch,
    /// How many threads have come to wait since the last sync was begun. Relaxed, as those that follow: only
    /// the number matters.
    arrived: AtomicU64,
    /// How many threads the last sync was for, and how long it took in nanoseconds.
    group: AtomicU64,
    took: AtomicU64,
}

impl Durability {
    /// Everything below `synced` is on stable storage.
    pub(crate) fn new(synced: u64) -> Self {
        Self {
            synced: AtomicU64::new(synced),
            syncing: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            cause: Mutex::new(None),
            turns: Epoch::default(),
            arrived: AtomicU64::new(0),
            group: AtomicU64::new(0),
            took: AtomicU64::new(0),
        }
    }

    /// The offset below which everything is on stable storage.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// What the first failed sync said, if one failed.
    #[inline]
    pub(crate) fn poison(&self) -> Option<Arc<io::Error>> {
        if !self.poisoned.load(Ordering::Acquire) {
            return None;
        }
        self.cause.lock().clone()
    }

    /// Poisons from outside of a sync: bytes are known to be missing.
    pub(crate) fn give_up(&self, cause: Arc<io::Error>) {
        self.cause.lock().get_or_insert(cause);
        self.poisoned.store(true, Ordering::Release);
        self.turns.advance();
    }

    /// Waits until everything below `offset` is on stable storage, by whomever it is made so, for at
    /// most `timeout`, and not when `is_over`. Returns the offset below which everything is.
    pub(crate) fn wait_for_others(
        &self,
        offset: u64,
        timeout: Duration,
        is_over: impl Fn() -> bool,
    ) -> Result<u64, Arc<io::Error>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let turn = self.turns.now();
            let synced = self.synced();
            if synced >= offset || is_over() {
                return Ok(synced);
            }
            if let Some(cause) = self.poison() {
                return Err(cause);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(synced);
            }
            self.turns.wait(turn, deadline);
        }
    }

    /// Rings those who wait for others, so that they look again.
    pub(crate) fn ring(&self) {
        self.turns.advance();
    }

    /// Waits until everything below `offset` is on stable storage, running `sync` if nobody else
    /// is. `sync` returns the offset below which it made everything durable; it must be at least
    /// `offset`. A sync that was not begun has done no harm: whoever ran it is told, and the next
    /// one who waits runs another.
    pub(crate) fn wait(
        &self,
        offset: u64,
        sync: impl Fn() -> io::Result<u64>,
    ) -> Result<(), WaitError> {
        if self.synced() >= offset {
            return Ok(());
        }
        self.arrived.fetch_add(1, Ordering::Relaxed);
        loop {
            // Whatever is found out from here on, the end of a sync that is running comes later.
            let turn = self.turns.now();
            if self.is_decided(offset)? {
                return Ok(());
            }
            if self.syncing.swap(true, Ordering::Acquire) {
                self.follow(turn, offset);
                continue;
            }
            let turn = Turn(self);
            // Another may have synced since, or have failed to: then this one must not.
            if self.is_decided(offset)? {
                return Ok(());
            }
            turn.sync(&sync)?;
        }
    }

    /// Whether everything below `offset` is on stable storage; an error if it never will be.
    fn is_decided(&self, offset: u64) -> Result<bool, WaitError> {
        if self.synced() >= offset {
            return Ok(true);
        }
        self.poison().map_or(Ok(false), |cause| Err(WaitError::Poisoned(cause)))
    }

    /// Waits while another thread syncs: parked until that is likely to end, then awake for a moment, so
    /// that those who are few come back together and the next sync can be for all of them.
    fn follow(&self, turn: u32, offset: u64) {
        // Time does not pass under loom.
        if cfg!(loom) || self.group.load(Ordering::Relaxed) > MANY {
            return self.turns.wait(turn, None);
        }
        let took = Duration::from_nanos(self.took.load(Ordering::Relaxed));
        self.turns.wait(turn, Some(Instant::now() + took.saturating_sub(AWAKE)));
        let begun = Instant::now();
        while self.turns.now() == turn && self.synced() < offset {
            if begun.elapsed() >= AWAKE {
                return self.turns.wait(turn, None);
            }
            std::thread::yield_now();
        }
    }

    /// Waits a moment for as many as the last sync was for: they were woken together, and are likely to
    /// come back together. One that is alone does not wait.
    fn gather(&self) {
        let group = self.group.load(Ordering::Relaxed);
        if cfg!(loom) || group < 2 {
            return;
        }
        let begun = Instant::now();
        let patience = Duration::from_nanos(self.took.load(Ordering::Relaxed) / 2).min(PATIENCE);
        while self.arrived.load(Ordering::Relaxed) < group && begun.elapsed() < patience {
            std::thread::yield_now();
        }
    }
}

/// Held by the thread that syncs.
struct Turn<'a>(&'a Durability);

impl Turn<'_> {
    /// Syncs, and says what came of it.
    fn sync(self, sync: impl Fn() -> io::Result<u64>) -> Result<(), WaitError> {
        let Self(durability) = self;
        durability.gather();
        let served = durability.arrived.swap(0, Ordering::Relaxed);
        let begun = Instant::now();
        let unwound = Unwound(durability);
        let result = sync();
        std::mem::forget(unwound);
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        durability.group.store(served, Ordering::Relaxed);
        durability.took.store(took, Ordering::Relaxed);
        match result {
            Ok(end) => durability.synced.store(end, Ordering::Release),
            Err(error) if was_not_begun(&error) => return Err(WaitError::NotBegun(error)),
            Err(error) => durability.give_up(Arc::new(error)),
        }
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.syncing.store(false, Ordering::Release);
        self.0.turns.advance();
    }
}

/// Dropped by a panic in a sync alone: nobody knows what became of it.
struct Unwound<'a>(&'a Durability);

impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        self.0.give_up(Arc::new(io::Error::other("a sync panicked")));
    }
}

/// Why what was waited for is not on stable storage.
#[derive(Debug)]
pub(crate) enum WaitError {
    /// A sync failed, and none is tried again.
    Poisoned(Arc<io::Error>),
    /// This time no sync could be begun.
    NotBegun(io::Error),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::thread;

    use super::*;
    use crate::storage::not_begun;

    #[test]
    fn after_a_failure_nothing_is_synced_again_and_all_are_told() {
        let durability = Durability::new(0);
        let calls = AtomicUsize::new(0);
        let fail = || {
            calls.fetch_add(1, Ordering::Relaxed);
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        for _ in 0..3 {
            match durability.wait(5, fail).expect_err("failed") {
                WaitError::Poisoned(cause) => assert_eq!(cause.kind(), io::ErrorKind::StorageFull),
                other @ WaitError::NotBegun(_) => panic!("{other:?}"),
            }
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(durability.synced(), 0);
        assert!(durability.poison().is_some());
    }

    #[test]
    fn a_sync_that_was_not_begun_is_tried_again_by_the_next_one() {
        let durability = Durability::new(0);
        let busy = || Err(not_begun(io::Error::from(io::ErrorKind::OutOfMemory)));
        assert!(matches!(durability.wait(5, busy), Err(WaitError::NotBegun(_))));
        assert!(durability.poison().is_none());
        durability.wait(5, || Ok(5)).expect("synced");
        assert_eq!(durability.synced(), 5);
    }

    #[test]
    fn who_waits_for_others_syncs_nothing_and_is_told_when_it_is_done() {
        let durability = Durability::new(0);
        let timeout = Duration::from_millis(1);
        assert_eq!(durability.wait_for_others(5, timeout, || false).expect("nobody syncs"), 0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| durability.wait_for_others(5, Duration::MAX, || false));
            durability.wait(7, || Ok(7)).expect("synced");
            assert_eq!(waiting.join().expect("no panic").expect("synced"), 7);
            let waiting = scope.spawn(|| durability.wait_for_others(8, Duration::MAX, || false));
            durability.give_up(Arc::new(io::ErrorKind::Other.into()));
            assert!(waiting.join().expect("no panic").is_err());
        });
    }

    #[test]
    fn a_panic_in_a_sync_poisons_and_keeps_nobody_waiting() {
        let durability = Durability::new(0);
        let panicking = || durability.wait(1, || panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
        assert!(matches!(durability.wait(1, || Ok(1)), Err(WaitError::Poisoned(_))));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it goes by the clock")]
    fn one_that_is_alone_after_a_slow_sync_waits_for_nobody() {
        let durability = Durability::new(0);
        let slow = || {
            thread::sleep(Duration::from_millis(300));
            Ok(2)
        };
        thread::scope(|scope| {
            scope.spawn(|| durability.wait(1, slow).expect("synced"));
            scope.spawn(|| durability.wait(2, slow).expect("synced"));
        });
        let begun = Instant::now();
        durability.wait(3, || Ok(3)).expect("synced");
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_was_durable_before_a_failure_stays_so() {
        let durability = Durability::new(0);
        durability.wait(5, || Ok(5)).expect("synced");
        durability.wait(6, || Err(io::ErrorKind::Other.into())).expect_err("failed");
        durability.wait(5, || panic!("not needed")).expect("below what is durable");
    }

    #[test]
    fn who_waits_together_shares_a_sync() {
        const OTHERS: u64 = 4;
        let durability = Durability::new(0);
        let (end, calls) = (AtomicU64::new(1), AtomicUsize::new(0));
        // The first sync takes its target, and ends only when the others have appended and wait.
        let sync = || {
            let target = end.load(Ordering::SeqCst);
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                while end.load(Ordering::SeqCst) < 1 + OTHERS {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(target)
        };
        thread::scope(|scope| {
            scope.spawn(|| durability.wait(1, sync).expect("synced"));
            while calls.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            for _ in 0..OTHERS {
                scope.spawn(|| {
                    let mine = end.fetch_add(1, Ordering::SeqCst) + 1;
                    durability.wait(mine, sync).expect("synced");
                    assert!(durability.synced() >= mine);
                });
            }
        });
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "one for the first, one for all who came meanwhile"
        );
        assert_eq!(durability.synced(), 1 + OTHERS);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it goes by the clock")]
    fn those_who_come_back_together_share_the_next_sync() {
        const THREADS: u64 = 4;
        const ROUNDS: u64 = 50;
        let durability = Durability::new(0);
        let (end, calls) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let mine = end.fetch_add(1, Ordering::SeqCst) + 1;
                        let sync = || {
                            let target = end.load(Ordering::SeqCst);
                            calls.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(Duration::from_millis(2));
                            Ok(target)
                        };
                        durability.wait(mine, sync).expect("synced");
                    }
                });
            }
        });
        let calls = calls.load(Ordering::SeqCst);
        assert!(calls < THREADS * ROUNDS / 2, "{calls} syncs for {} records", THREADS * ROUNDS);
    }

    #[test]
    fn nobody_is_told_too_early_when_many_wait() {
        let threads = if cfg!(miri) { 3 } else { 8 };
        let rounds = if cfg!(miri) { 5 } else { 200 };
        let durability = Durability::new(0);
        let (end, reached) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let mine = end.fetch_add(1, Ordering::SeqCst) + 1;
                        let sync = || {
                            let target = end.load(Ordering::SeqCst);
                            thread::yield_now();
                            reached.store(target, Ordering::SeqCst);
                            Ok(target)
                        };
                        durability.wait(mine, sync).expect("synced");
                        assert!(reached.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        assert_eq!(durability.synced(), threads * rounds);
    }
}
