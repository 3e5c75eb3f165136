//! How a reader sleeps until one of its partitions has something for it.
//!
//! A reader that found a partition empty leaves a registration there, under that partition's
//! append lock; the next append takes it away and rings here, naming the partition. So an append
//! that nobody waits for pays nothing, and a reader of many partitions looks only at those that
//! rang.
//!
//! No wake-up is missed: the registration is made under the lock that appends are made under, and
//! only if there is nothing to read; a ring is kept until it is taken.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Where partitions ring for one reader.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    /// The tokens that rang and were not taken yet. A leaf lock.
    rang: Mutex<Vec<usize>>,
    bell: Condvar,
}

impl Waker {
    /// Says that what was registered with `token` has something to read.
    pub(crate) fn ring(&self, token: usize) {
        let mut rang = self.rang.lock();
        // One that rings and rings while nobody listens is heard once.
        if rang.last() != Some(&token) {
            rang.push(token);
        }
        drop(rang);
        self.bell.notify_one();
    }

    /// Moves the tokens that rang to `tokens`.
    pub(crate) fn take(&self, tokens: &mut Vec<usize>) {
        tokens.append(&mut self.rang.lock());
    }

    /// Sleeps until something has rung, or until `deadline`; without one, for as long as it takes.
    /// Returns whether something has.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut rang = self.rang.lock();
        while rang.is_empty() {
            match deadline {
                None => self.bell.wait(&mut rang),
                Some(deadline) => {
                    if self.bell.wait_until(&mut rang, deadline).timed_out() {
                        return !rang.is_empty();
                    }
                }
            }
        }
        true
    }
}
