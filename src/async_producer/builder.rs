//! How an asynchronous producer is opened.

use std::sync::Arc;
use std::time::Duration;

use super::interceptor::{Interceptor, Interceptors};
use super::owner::Owner;
use super::producer::AsyncProducer;
use super::settings::{Settings, WhenFull};
use super::shared::Shared;
use crate::broker::{Broker, BrokerInner};
use crate::error::{Error, Result};
use crate::partitioner::Partitioner;
use crate::sender::{Acks, Sender};

/// The most records and bytes of a batch: far below what a frame can hold.
const MAX_BATCH_RECORDS: usize = 1 << 20;
const MAX_BATCH_BYTES: usize = 256 << 20;
/// The room for results is made at once, so it is limited.
const MAX_RESULT_CAPACITY: usize = 1 << 20;

/// Sets up an [`AsyncProducer`]. Made by [`Broker::async_producer`].
///
/// ```
/// use std::time::Duration;
/// use forebay::{Acks, Broker, WhenFull};
///
/// let broker = Broker::in_memory()?;
/// let producer = broker
///     .async_producer()
///     .acks(Acks::Synced)
///     .linger(Duration::from_millis(2))
///     .buffer_bytes(8 << 20)
///     .when_full(WhenFull::Timeout(Duration::from_millis(50)))
///     .open()?;
/// # drop(producer);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a producer is opened by open()"]
pub struct AsyncProducerBuilder {
    broker: Arc<BrokerInner>,
    settings: Settings,
    partitioner: Partitioner,
    interceptors: Interceptors,
}

impl Broker {
    /// Sets up a producer that sends without waiting, in batches.
    pub fn async_producer(&self) -> AsyncProducerBuilder {
        AsyncProducerBuilder {
            broker: Arc::clone(&self.inner),
            settings: Settings::default(),
            partitioner: Partitioner::default(),
            interceptors: Interceptors::default(),
        }
    }
}

impl AsyncProducerBuilder {
    /// What is to have happened to a record before its ticket says that it was sent. Default:
    /// [`Acks::Written`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// How many records of a partition are sent together at the most: a batch of so many is sent
    /// without lingering. Default: 500.
    pub fn batch_records(mut self, records: usize) -> Self {
        self.settings.batch_records = records;
        self
    }

    /// How many bytes of a partition are sent together at the most, as they lie in the log; a larger
    /// record is sent alone. Default: 64 KiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// How long a record waits for others to be sent with, if its batch does not fill up. Zero: it is
    /// sent as soon as nobody else is at it, by the thread that sends unless the producer waits for
    /// syncs; records that come meanwhile are sent together. Default: zero.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// How many bytes of records may wait to be sent, as they lie in the log. The memory taken may be
    /// twice that, because what holds them grows in steps. Default: 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// How many records may wait to be sent. Default: 1,048,576.
    pub fn buffer_records(mut self, records: usize) -> Self {
        self.settings.buffer_records = records;
        self
    }

    /// What a send does when as much waits as may. Default: [`WhenFull::Block`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.settings.when_full = when_full;
        self
    }

    /// How often a batch is tried again that could not be sent for want of room or of something else
    /// that may come back. Default: 3.
    ///
    /// A topic that is full and is set to [wait or to drop its oldest](crate::OnFull) decides itself: its
    /// batches are tried for as long as it says.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// How long after a failure a batch is tried again. Default: 100 ms.
    pub fn retry_backoff(mut self, backoff: Duration) -> Self {
        self.settings.retry_backoff = backoff;
        self
    }

    /// How many results [`successes`](AsyncProducer::successes) and [`errors`](AsyncProducer::errors)
    /// have room for, each. Default: 1,024.
    pub fn result_capacity(mut self, results: usize) -> Self {
        self.settings.result_capacity = results;
        self
    }

    /// How partitions are chosen. Default: [`Partitioner::Murmur2`].
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Shows every record to `interceptor`, behind those that were added before. Default: none.
    pub fn interceptor(mut self, interceptor: Arc<dyn Interceptor>) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// Opens the producer, and starts its thread.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] names a setting that is 0 or too large; [`Error::Closed`],
    /// [`Error::Forked`]; [`Error::Io`] if there can be no thread.
    pub fn open(self) -> Result<AsyncProducer> {
        let Self { broker, settings, partitioner, interceptors } = self;
        for (field, value, max) in [
            ("batch_records", settings.batch_records, MAX_BATCH_RECORDS),
            ("batch_bytes", settings.batch_bytes, MAX_BATCH_BYTES),
            ("buffer_bytes", settings.buffer_bytes, usize::MAX / 4),
            ("buffer_records", settings.buffer_records, usize::MAX / 4),
            ("result_capacity", settings.result_capacity, MAX_RESULT_CAPACITY),
        ] {
            if value == 0 || value > max {
                return Err(Error::config(field, format!("{value} is not between 1 and {max}")));
            }
        }
        broker.check_open()?;
        let mut sender = Sender::new(broker.next_seed());
        sender.partitioner = partitioner;
        let shared = Shared::new(broker, settings, interceptors, sender);
        Ok(AsyncProducer::new(Owner::open(shared)?))
    }
}
