//! What a send returns.

use crate::timestamp::Timestamp;

/// Where a record was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition.
    pub partition: u32,
    /// The offset in it; [`Sent::UNKNOWN_OFFSET`] if an [`AsyncProducer`](crate::AsyncProducer) was not
    /// to wait for it.
    pub offset: u64,
    /// The timestamp it carries.
    pub timestamp: Timestamp,
}

impl Sent {
    /// What stands for the offset of a record that an [`AsyncProducer`](crate::AsyncProducer) with
    /// [`Acks::None`](crate::Acks::None) has accepted and not yet appended, Kafka's -1. No record has it.
    pub const UNKNOWN_OFFSET: u64 = u64::MAX;
}
