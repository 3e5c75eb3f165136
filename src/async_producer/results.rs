//! What became of records, for whoever wants it from a channel.
//!
//! The invariant it keeps: nobody waits for a result to be received. A channel that is full loses its
//! oldest, and that is counted. Filled by whoever drains, with no lock held.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::outgoing::OutgoingRecord;
use crate::error::Error;
use crate::sent::Sent;

/// A record that was sent, received from
/// [`AsyncProducer::successes`](crate::AsyncProducer::successes).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The topic.
    pub topic: Arc<str>,
    /// Where it was put.
    pub sent: Sent,
    /// The record's [`tag`](OutgoingRecord::tag).
    pub tag: u64,
}

/// A record that was accepted and could not be sent, received from
/// [`AsyncProducer::errors`](crate::AsyncProducer::errors).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Undelivered {
    /// The record, which can be sent again. It carries the time at which it was accepted, if it had
    /// none of its own.
    pub record: OutgoingRecord,
    /// The partition it was for; `None` if it was not accepted for any.
    pub partition: Option<u32>,
    /// Why it could not be sent. After [`Error::NotSynced`] and, with
    /// [`Acks::Synced`](crate::Acks::Synced), [`Error::Poisoned`] it may have been written all the same.
    pub error: Error,
}

/// A channel that is there once somebody asks for it.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    channel: OnceLock<(Sender<T>, Receiver<T>)>,
    capacity: usize,
    /// How many were not received in time. Relaxed: only the number matters.
    dropped: AtomicU64,
}

impl<T> Outlet<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { channel: OnceLock::new(), capacity, dropped: AtomicU64::new(0) }
    }

    pub(super) fn receiver(&self) -> Receiver<T> {
        self.channel.get_or_init(|| bounded(self.capacity)).1.clone()
    }

    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.channel.get().is_some()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Puts a result in, in the place of the oldest if need be.
    pub(super) fn put(&self, mut result: T) {
        let Some((sender, receiver)) = self.channel.get() else { return };
        loop {
            match sender.try_send(result) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(again)) => result = again,
            }
            if receiver.try_recv().is_ok() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_results_are_dropped_and_counted() {
        let outlet = Outlet::new(3);
        outlet.put(0);
        assert_eq!((outlet.is_wanted(), outlet.dropped()), (false, 0), "nobody asked for it");
        let receiver = outlet.receiver();
        (1..=5).for_each(|number| outlet.put(number));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(outlet.dropped(), 2);
    }
}
