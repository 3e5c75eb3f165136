//! The locks and atomics of everything that threads share: those of every day, or those of a model
//! checker.
//!
//! Built with `--cfg loom`, the same code runs under loom, which tries every order in which
//! threads can pass these points: `group/tests/hand_over.rs`, `log/tests/publish.rs`. A lock that
//! is held while one of these points is passed must be one of these too.

/// Alone in its cache line, and in the one that is fetched with it: for what one thread stores to again
/// and again while others look at what would lie beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct OwnLine<T>(pub(crate) T);

impl<T> std::ops::Deref for OwnLine<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};

    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
}

#[cfg(loom)]
mod real {
    use std::ops::{Deref, DerefMut};

    use loom::sync::{RwLockReadGuard, RwLockWriteGuard};

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};

    const UNPOISONED: &str = "no thread panics under it";

    /// loom's lock, which nobody poisons, called as the real one is.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(UNPOISONED)))
        }
    }

    /// Gives the lock back when it is dropped; without one only while its thread waits.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_deref().expect("it does not wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_deref_mut().expect("it does not wait")
        }
    }

    /// loom's condition variable, called as the real one is.
    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("it does not wait");
            guard.0 = Some(self.0.wait(held).expect(UNPOISONED));
        }

        /// Time does not pass here: whoever waits is rung.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: std::time::Instant) {
            self.wait(guard);
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// loom's lock for many readers, called as the real one is.
    #[derive(Debug)]
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect(UNPOISONED)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect(UNPOISONED)
        }
    }

    /// Bugs that tests of a log plant, to see that they are caught.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum Planted {
        #[default]
        Nothing,
        /// What is committed moves before the bytes are there.
        PublishesEarly,
        /// What is committed is stored without Release.
        PublishesRelaxed,
        /// The log's end moves before the record is published in its segment.
        EndsEarly,
        /// Segments are forgotten before the log's start moves.
        ForgetsEarly,
        /// Sealing does not exclude others that move the recovery point.
        SealsUnlocked,
    }
}

pub(crate) use real::*;
