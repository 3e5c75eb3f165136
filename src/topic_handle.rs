//! A topic resolved once: what a hot path holds.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Broker, BrokerInner, IfPresent};
use crate::config::TopicConfig;
use crate::error::Result;
use crate::housekeeping::Waits;
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::sender::{Acks, Sender};
use crate::sent::Sent;
use crate::timestamp::Timestamp;
use crate::topic::TopicState;

/// A handle to one topic, to send to it and to ask where its partitions begin and end.
///
/// It stands for the topic it was made for: if that is deleted, uses of it are
/// [`Error::UnknownTopic`](crate::Error::UnknownTopic), even if another topic gets the name.
/// Clones choose partitions each for themselves.
///
/// ```
/// use forebay::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::new().partitions(2))?;
/// for number in 0..10_u32 {
///     orders.send(Record::new(&number.to_le_bytes()).key("user-7"))?;
/// }
/// let sent = orders.latest_offset(0)? + orders.latest_offset(1)?;
/// assert_eq!(sent, 10);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Topic {
    broker: Arc<BrokerInner>,
    state: Arc<TopicState>,
    sender: Sender,
}

impl Broker {
    /// Creates a topic, durably.
    ///
    /// # Errors
    ///
    /// [`Error::TopicExists`](crate::Error::TopicExists),
    /// [`Error::InvalidTopicName`](crate::Error::InvalidTopicName),
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig),
    /// [`Error::StorageFull`](crate::Error::StorageFull), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Io`](crate::Error::Io).
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<Topic> {
        let state = self.inner.create(name, &config, IfPresent::Refuse)?;
        Ok(self.handle(state))
    }

    /// Creates a topic, durably, or returns the one that is there, with the settings it has.
    ///
    /// # Errors
    ///
    /// As [`create_topic`](Self::create_topic), without
    /// [`Error::TopicExists`](crate::Error::TopicExists).
    pub fn create_topic_if_absent(&self, name: &str, config: TopicConfig) -> Result<Topic> {
        let state = self.inner.create(name, &config, IfPresent::Return)?;
        Ok(self.handle(state))
    }

    /// The topic of this name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn topic(&self, name: &str) -> Result<Topic> {
        Ok(self.handle(self.inner.topic(name)?))
    }

    fn handle(&self, state: Arc<TopicState>) -> Topic {
        Topic {
            broker: Arc::clone(&self.inner),
            state,
            sender: Sender::new(self.inner.next_seed()),
        }
    }
}

impl Topic {
    /// What its sends wait for. Default: [`Acks::Written`].
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.sender.acks = acks;
        self
    }

    /// How its sends choose partitions. Default: [`Partitioner::Murmur2`].
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.sender.partitioner = partitioner;
        self
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.state.name()
    }

    /// The topic's settings as they are at this moment.
    #[must_use]
    pub fn config(&self) -> TopicConfig {
        (*self.state.config()).clone()
    }

    /// The most one of its records may take in the log at this moment, in bytes.
    pub(crate) fn max_record_bytes(&self) -> Result<u64> {
        self.broker.check_owner()?;
        Ok(self.state.config().max_record_bytes)
    }

    /// How many partitions it has at this moment; they are numbered from 0.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.state.partition_count()
    }

    /// Sends one record.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`](crate::Producer::send).
    #[inline]
    pub fn send(&self, record: Record<'_>) -> Result<Sent> {
        self.send_with(record, self.sender.acks)
    }

    /// Sends one record, waiting for `acks` whatever the handle is set to.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`](crate::Producer::send).
    #[inline]
    pub fn send_with(&self, record: Record<'_>, acks: Acks) -> Result<Sent> {
        self.sender.send(&self.broker, &self.state, &record, acks, Waits::AsTopicSays)
    }

    /// As [`send`](Self::send), waiting for room or not.
    #[inline]
    pub(crate) fn send_waiting(&self, record: Record<'_>, waits: Waits) -> Result<Sent> {
        self.sender.send(&self.broker, &self.state, &record, self.sender.acks, waits)
    }

    /// As [`send_batch`](Self::send_batch), waiting for room or not.
    pub(crate) fn send_batch_waiting(
        &self,
        records: &[Record<'_>],
        waits: Waits,
    ) -> Result<Vec<Sent>> {
        self.sender.send_batch(&self.broker, &self.state, records, self.sender.acks, waits)
    }

    /// Sends records together, as [`Producer::send_batch`](crate::Producer::send_batch) does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_batch(&self, records: &[Record<'_>]) -> Result<Vec<Sent>> {
        self.send_batch_with(records, self.sender.acks)
    }

    /// Sends records together, waiting for `acks` whatever the handle is set to.
    ///
    /// # Errors
    ///
    /// As [`Producer::send_batch`](crate::Producer::send_batch).
    pub fn send_batch_with(&self, records: &[Record<'_>], acks: Acks) -> Result<Vec<Sent>> {
        self.sender.send_batch(&self.broker, &self.state, records, acks, Waits::AsTopicSays)
    }

    /// Waits until every record that was appended to this topic before, by whomever, is on stable
    /// storage.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`](crate::Error::Poisoned) if a sync failed; the other partitions are
    /// synced all the same. [`Error::Closed`](crate::Error::Closed).
    pub fn flush(&self) -> Result<()> {
        self.broker.check_open()?;
        self.state.flush()
    }

    /// Deletes the records of a partition below `before`, durably, as Kafka's `deleteRecords`, and
    /// returns the first offset that can be read. Disk space is given back in whole segments.
    ///
    /// Who has not read them is told by [`Error::Gap`](crate::Error::Gap).
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send_batch(&[Record::new("one"), Record::new("two")])?;
    /// assert_eq!(orders.delete_records(0, 1)?, 1);
    /// assert_eq!(orders.earliest_offset(0)?, 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition),
    /// [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange) if `before` lies beyond the end,
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::StorageFull`](crate::Error::StorageFull),
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Io`](crate::Error::Io); in the latter case the records may be gone already.
    pub fn delete_records(&self, partition: u32, before: u64) -> Result<u64> {
        self.state.check_writable()?;
        let start = self.state.partition(partition)?.delete_below(before);
        self.broker.room_keeper().consumed();
        start
    }

    /// The first offset of a partition that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition),
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn earliest_offset(&self, partition: u32) -> Result<u64> {
        let log = self.state.partition(partition)?.log();
        log.check_gate()?;
        Ok(log.start_offset())
    }

    /// The offset the next record of a partition will get; as many records lie before it as were
    /// ever sent there.
    ///
    /// # Errors
    ///
    /// As [`earliest_offset`](Self::earliest_offset).
    pub fn latest_offset(&self, partition: u32) -> Result<u64> {
        let log = self.state.partition(partition)?.log();
        log.check_gate()?;
        Ok(log.end_offset())
    }

    /// The offset below which every record of a partition is on stable storage.
    ///
    /// # Errors
    ///
    /// As [`earliest_offset`](Self::earliest_offset).
    pub fn synced_offset(&self, partition: u32) -> Result<u64> {
        let log = self.state.partition(partition)?.log();
        log.check_gate()?;
        Ok(log.synced_offset())
    }

    /// Waits until every record of a partition below `offset` is on stable storage, by whomever that is
    /// done, for at most `timeout`. Returns the offset below which every record is: less than was asked
    /// for if the time was up.
    ///
    /// It syncs nothing itself. What does is [`Acks::Synced`], [`flush`](Self::flush),
    /// [`flush_records`](TopicConfig::flush_records) and
    /// [`flush_interval`](TopicConfig::flush_interval), and a segment that is full.
    ///
    /// # Errors
    ///
    /// As [`earliest_offset`](Self::earliest_offset), and
    /// [`Error::Poisoned`](crate::Error::Poisoned) if it will not be.
    pub fn wait_synced(&self, partition: u32, offset: u64, timeout: Duration) -> Result<u64> {
        let log = self.state.partition(partition)?.log();
        log.check_gate()?;
        log.wait_synced(offset, timeout)
    }

    /// The first record of a partition that is not older than `timestamp`: its offset and its
    /// time; `None` if all are older. As Kafka's `offsetsForTimes`.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// use forebay::Timestamp;
    ///
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// for millis in [1_000, 2_000, 3_000] {
    ///     orders.send(Record::new("tick").timestamp(Timestamp::from_millis(millis)))?;
    /// }
    /// let found = orders.offset_for_timestamp(0, Timestamp::from_millis(1_500))?;
    /// assert_eq!(found, Some((1, Timestamp::from_millis(2_000))));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`earliest_offset`](Self::earliest_offset), and
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Io`](crate::Error::Io).
    pub fn offset_for_timestamp(
        &self,
        partition: u32,
        timestamp: impl Into<Timestamp>,
    ) -> Result<Option<(u64, Timestamp)>> {
        let log = self.state.partition(partition)?.log();
        log.check_gate()?;
        let found = log.first_not_older(timestamp.into().as_millis())?;
        Ok(found.map(|(offset, millis)| (offset, Timestamp::from_millis(millis))))
    }
}
