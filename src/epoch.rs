//! Something that comes to pass again and again, and those who wait for the next time.
//!
//! All who wait are woken by one call and need no lock to go on, where a condition variable has each of them
//! take its lock first, one after the other: of 64 threads that share a sync, the last would be back long after
//! the next sync could have begun.
//!
//! No time is missed: who waits says which one it has seen, and does not wait if there was another since.

use std::time::Instant;

pub(crate) use real::Epoch;

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod real {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use rustix::thread::futex::{self, Flags};
    use rustix::time::Timespec;

    /// Counts how often it came to pass, modulo 2^32.
    #[derive(Debug, Default)]
    pub(crate) struct Epoch {
        count: AtomicU32,
        /// How many wait, or are about to. `SeqCst`, as `count` is where both are looked at: either who
        /// waits sees the new count, or who counts sees that somebody waits.
        waiting: AtomicU32,
    }

    impl Epoch {
        pub(crate) fn now(&self) -> u32 {
            self.count.load(Ordering::SeqCst)
        }

        /// Says that it has come to pass, and wakes all who wait.
        pub(crate) fn advance(&self) {
            self.count.fetch_add(1, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) > 0 {
                // It cannot fail: the word is ours.
                let _ = futex::wake(&self.count, Flags::PRIVATE, i32::MAX.cast_unsigned());
            }
        }

        pub(super) fn sleep(&self, seen: u32, deadline: Option<Instant>) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            self.waiting.fetch_add(1, Ordering::SeqCst);
            // Whatever it says, whoever waits looks again.
            let _ = futex::wait(&self.count, Flags::PRIVATE, seen, left.as_ref());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod real {
    use std::time::Instant;

    #[cfg(not(loom))]
    use parking_lot::{Condvar, Mutex};

    #[cfg(loom)]
    use crate::sync::{Condvar, Mutex};

    /// Counts how often it came to pass, modulo 2^32.
    #[derive(Debug)]
    pub(crate) struct Epoch {
        /// A leaf lock.
        count: Mutex<u32>,
        bell: Condvar,
    }

    impl Default for Epoch {
        fn default() -> Self {
            Self { count: Mutex::new(0), bell: Condvar::new() }
        }
    }

    impl Epoch {
        pub(crate) fn now(&self) -> u32 {
            *self.count.lock()
        }

        /// Says that it has come to pass, and wakes all who wait.
        pub(crate) fn advance(&self) {
            let mut count = self.count.lock();
            *count = count.wrapping_add(1);
            drop(count);
            self.bell.notify_all();
        }

        pub(super) fn sleep(&self, seen: u32, deadline: Option<Instant>) {
            let mut count = self.count.lock();
            if *count != seen {
                return;
            }
            match deadline {
                None => self.bell.wait(&mut count),
                Some(deadline) => {
                    self.bell.wait_until(&mut count, deadline);
                }
            }
        }
    }
}

impl Epoch {
    /// Waits until it came to pass after `seen`, or until `deadline`. May come back early for no reason.
    pub(crate) fn wait(&self, seen: u32, deadline: Option<Instant>) {
        if self.now() == seen {
            self.sleep(seen, deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_not_seen_the_last_time_does_not_wait() {
        let epoch = Epoch::default();
        let seen = epoch.now();
        epoch.advance();
        epoch.wait(seen, None);
        assert_ne!(epoch.now(), seen);
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let epoch = Epoch::default();
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(5);
        while Instant::now() < deadline {
            epoch.wait(epoch.now(), Some(deadline));
        }
        epoch.wait(epoch.now(), Some(deadline));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn nobody_sleeps_through_it() {
        let (threads, times) = if cfg!(miri) { (2, 20) } else { (6, 20_000) };
        let (epoch, done) = (Epoch::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let first = epoch.now();
                    loop {
                        let seen = epoch.now();
                        if seen.wrapping_sub(first) >= times || seen >= times {
                            done.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        epoch.wait(seen, None);
                    }
                });
            }
            while epoch.now() < times {
                epoch.advance();
                if epoch.now().is_multiple_of(16) {
                    thread::yield_now();
                }
            }
        });
        assert_eq!(done.into_inner(), threads);
    }
}
