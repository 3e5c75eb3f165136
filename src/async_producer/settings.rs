//! How a producer is set up. Made by the builder, read by everybody.

use std::time::Duration;

use crate::sender::Acks;

/// What a send does when an [`AsyncProducer`](crate::AsyncProducer) holds as much as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for room, however long that takes.
    #[default]
    Block,
    /// It waits for room, for at most this long, and is then
    /// [`Error::BufferFull`](crate::Error::BufferFull).
    Timeout(Duration),
    /// It is [`Error::BufferFull`](crate::Error::BufferFull) at once.
    Refuse,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) acks: Acks,
    pub(super) batch_records: usize,
    pub(super) batch_bytes: usize,
    pub(super) linger: Duration,
    pub(super) buffer_bytes: usize,
    pub(super) buffer_records: usize,
    pub(super) when_full: WhenFull,
    pub(super) retries: u32,
    pub(super) retry_backoff: Duration,
    pub(super) result_capacity: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            acks: Acks::Written,
            batch_records: 500,
            batch_bytes: 64 << 10,
            linger: Duration::ZERO,
            buffer_bytes: 32 << 20,
            buffer_records: 1 << 20,
            when_full: WhenFull::Block,
            retries: 3,
            retry_backoff: Duration::from_millis(100),
            result_capacity: 1024,
        }
    }
}
