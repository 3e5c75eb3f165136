//! The locks and atomics of the group coordinator: those of every day, or those of a model checker.
//!
//! Built with `--cfg loom`, the same code runs under loom, which tries every order in which
//! threads can pass these points: `group/tests/hand_over.rs`.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

    pub(crate) use parking_lot::Mutex;
}

#[cfg(loom)]
mod real {
    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};

    /// loom's lock, which nobody poisons, called as the real one is.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics under it")
        }
    }
}

pub(crate) use real::{AtomicBool, AtomicU64, Mutex};
