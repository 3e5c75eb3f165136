//! Which batches a flush waits for: pure bookkeeping, under the inbox's lock.
//!
//! Each batch is counted for the epoch it was opened in, and each flush ends an epoch. A flush is done
//! when no batch of its epoch or an earlier one is left.

use std::collections::VecDeque;

/// How many batches are left of each epoch.
#[derive(Debug)]
pub(super) struct Epochs {
    /// The number of the first epoch that is counted.
    first: u64,
    /// Never empty; the first is not 0 unless it is the only one.
    left: VecDeque<u64>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { first: 0, left: VecDeque::from([0]) }
    }
}

impl Epochs {
    /// Counts a batch, and returns its epoch.
    pub(super) fn open(&mut self) -> u64 {
        if let Some(last) = self.left.back_mut() {
            *last += 1;
        }
        self.first + self.left.len() as u64 - 1
    }

    /// Says that a batch is no longer there.
    pub(super) fn close(&mut self, epoch: u64) {
        if let Some(left) = self.left.get_mut((epoch - self.first) as usize) {
            *left -= 1;
        }
        self.shrink();
    }

    /// Ends the epoch, and returns it.
    pub(super) fn end(&mut self) -> u64 {
        self.left.push_back(0);
        let ended = self.first + self.left.len() as u64 - 2;
        self.shrink();
        ended
    }

    fn shrink(&mut self) {
        while self.left.len() > 1 && self.left.front() == Some(&0) {
            self.left.pop_front();
            self.first += 1;
        }
    }

    /// Whether nothing is left of `epoch`, which was ended, and of those before.
    pub(super) fn is_done(&self, epoch: u64) -> bool {
        self.first > epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_done_when_it_and_all_before_are() {
        let mut epochs = Epochs::default();
        let nothing = epochs.end();
        assert!(epochs.is_done(nothing));
        let (one, two) = (epochs.open(), epochs.open());
        let first = epochs.end();
        let three = epochs.open();
        let second = epochs.end();
        epochs.close(three);
        assert!(!epochs.is_done(second), "the one before is not");
        epochs.close(one);
        assert!(!epochs.is_done(first));
        epochs.close(two);
        assert!(epochs.is_done(first) && epochs.is_done(second));
        let four = epochs.open();
        assert!(epochs.is_done(second), "what comes later does not matter");
        epochs.close(four);
    }
}
