//! What happens to a consumer, as messages.

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::error::Error;
use crate::topic_partition::TopicPartition;

/// What happened to a consumer, as told by [`Consumer::events`](crate::Consumer::events).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// Its partitions changed.
    Rebalanced(Rebalance),
    /// A poll, or what it did on the way, met this.
    Error(Error),
}

/// How a consumer's partitions changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebalance {
    /// The generation of the group.
    pub generation: u64,
    /// Partitions it reads from now on.
    pub assigned: Vec<TopicPartition>,
    /// Partitions it let go of.
    pub revoked: Vec<TopicPartition>,
    /// Partitions that were taken from it.
    pub lost: Vec<TopicPartition>,
}

/// How many events wait to be received; the oldest are dropped for newer ones.
const MAX_EVENTS: usize = 1024;

/// Where events go. It never waits.
#[derive(Debug)]
pub(super) struct Events {
    sender: Sender<ConsumerEvent>,
    receiver: Receiver<ConsumerEvent>,
}

impl Events {
    pub(super) fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(MAX_EVENTS);
        Self { sender, receiver }
    }

    pub(super) fn receiver(&self) -> Receiver<ConsumerEvent> {
        self.receiver.clone()
    }

    pub(super) fn send(&self, mut event: ConsumerEvent) {
        while let Err(TrySendError::Full(again)) = self.sender.try_send(event) {
            drop(self.receiver.try_recv());
            event = again;
        }
    }
}
