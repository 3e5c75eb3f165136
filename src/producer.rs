//! Sending by topic name.

use std::sync::Arc;

use crate::broker::{Broker, BrokerInner};
use crate::error::Result;
use crate::housekeeping::Waits;
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::sender::{Acks, Sender};
use crate::sent::Sent;

/// Sends records to the topics of a broker, by name.
///
/// Costs nothing to make. Clones send with the same settings and choose partitions each for
/// themselves. A hot path holds a [`Topic`](crate::Topic) instead, which saves the look-up.
///
/// ```
/// use forebay::{Acks, Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(8))?;
/// let producer = broker.producer();
/// let sent = producer.send("orders", Record::new("paid").key("user-7"))?;
/// println!("partition {} offset {}", sent.partition, sent.offset);
/// producer.send_with("orders", Record::new("shipped").key("user-7"), Acks::Synced)?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    broker: Arc<BrokerInner>,
    sender: Sender,
}

impl Broker {
    /// A producer with [`Acks::Written`] and [`Partitioner::Murmur2`].
    #[must_use]
    pub fn producer(&self) -> Producer {
        Producer { broker: Arc::clone(&self.inner), sender: Sender::new(self.inner.next_seed()) }
    }
}

impl Producer {
    /// What its sends wait for. Default: [`Acks::Written`].
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.sender.acks = acks;
        self
    }

    /// How it chooses partitions. Default: [`Partitioner::Murmur2`].
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.sender.partitioner = partitioner;
        self
    }

    /// Sends one record.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic), [`Error::UnknownPartition`](crate::Error::UnknownPartition), [`Error::RecordTooLarge`](crate::Error::RecordTooLarge),
    /// [`Error::TooManyHeaders`](crate::Error::TooManyHeaders), [`Error::TimestampOutOfRange`](crate::Error::TimestampOutOfRange), [`Error::StorageFull`](crate::Error::StorageFull),
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Io`](crate::Error::Io): nothing was sent. [`Error::Poisoned`](crate::Error::Poisoned): with
    /// [`Acks::Synced`] the record may have been written, but is not known to be durable.
    /// [`Error::NotSynced`](crate::Error::NotSynced): the record was appended, and is not durable yet.
    pub fn send(&self, topic: &str, record: Record<'_>) -> Result<Sent> {
        self.send_with(topic, record, self.sender.acks)
    }

    /// Sends one record, waiting for `acks` whatever the producer is set to.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_with(&self, topic: &str, record: Record<'_>, acks: Acks) -> Result<Sent> {
        let topic = self.broker.topic_to_send(topic)?;
        self.sender.send(&self.broker, &topic, &record, acks, Waits::AsTopicSays)
    }

    /// As [`send`](Self::send), without waiting for room.
    pub(crate) fn send_at_once(&self, topic: &str, record: Record<'_>) -> Result<Sent> {
        let topic = self.broker.topic_to_send(topic)?;
        self.sender.send(&self.broker, &topic, &record, self.sender.acks, Waits::Never)
    }

    /// Sends records together: those for one partition lie in one frame, and are there after a
    /// crash all or none.
    ///
    /// Returns where each was put, in the order they were given. An error about any record, or for
    /// want of room for any, means that none was sent.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let records = [Record::new("placed"), Record::new("paid")];
    /// let sent = broker.producer().send_batch("orders", &records)?;
    /// assert_eq!(sent[1].offset, 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::TooManyRecords`](crate::Error::TooManyRecords). After
    /// [`Error::Poisoned`](crate::Error::Poisoned) a part of the records, whole partitions of them, may have
    /// been sent.
    pub fn send_batch(&self, topic: &str, records: &[Record<'_>]) -> Result<Vec<Sent>> {
        self.send_batch_with(topic, records, self.sender.acks)
    }

    /// Sends records together, waiting for `acks` whatever the producer is set to.
    ///
    /// # Errors
    ///
    /// As [`send_batch`](Self::send_batch).
    pub fn send_batch_with(
        &self,
        topic: &str,
        records: &[Record<'_>],
        acks: Acks,
    ) -> Result<Vec<Sent>> {
        let topic = self.broker.topic_to_send(topic)?;
        self.sender.send_batch(&self.broker, &topic, records, acks, Waits::AsTopicSays)
    }

    /// Waits until every record that was appended before, by this producer or another, is on
    /// stable storage.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::Closed`](crate::Error::Closed).
    pub fn flush(&self) -> Result<()> {
        Broker { inner: Arc::clone(&self.broker) }.flush()
    }
}
