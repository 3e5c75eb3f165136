//! What an iterator over a consumer's records is in the middle of.

use crate::batch::Batch;
use crate::topic_partition::TopicPartition;

/// Records that an iterator was given and returns one by one. They are kept with the consumer, so that an
/// iterator which is forgotten takes nothing with it.
#[derive(Debug, Default)]
pub(super) struct Lent {
    pub(super) batch: Batch,
    pub(super) next: usize,
    /// The record that was returned last, while it is not done with.
    pub(super) handed: Option<(TopicPartition, u64)>,
}

impl Lent {
    /// Whether there is nothing that an iterator has left.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.handed.is_none() && self.batch.is_empty()
    }
}
