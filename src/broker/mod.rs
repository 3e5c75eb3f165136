//! The broker: it owns a directory, knows the topics in it, and closes them. This is the handle; what all
//! handles of one share is in `inner`.

mod inner;

pub(crate) use inner::{BrokerInner, House, IfPresent, OFFSETS_DIR, Opening, Salvage, TOPICS_DIR};

use std::path::Path;
use std::sync::Arc;

use inner::check_groups;

use crate::config::TopicConfig;
use crate::description::{PartitionDescription, RecoveryReport, TopicDescription};
use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::storage::remove_tree;

/// An open message queue: the owner of a directory and of the topics in it.
///
/// Clones share it, and any thread may use it. It stays open until [`close`](Broker::close) is
/// called or the last clone, and the last producer, topic handle, reader and consumer made from it, is
/// dropped.
///
/// ```
/// use forebay::{Broker, Record, Start, TopicConfig};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// let broker = Broker::open(path)?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4))?;
/// broker.producer().send("orders", Record::new("paid").key("user-7"))?;
/// broker.close()?;
///
/// let broker = Broker::open(path)?;
/// let mut reader = broker.reader().topic("orders", Start::Earliest).open()?;
/// assert_eq!(reader.try_poll()?.len(), 1);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Broker {
    pub(crate) inner: Arc<BrokerInner>,
}

impl Broker {
    /// The names of the topics, sorted.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("payments", TopicConfig::new())?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// assert_eq!(broker.topics(), ["orders", "payments"]);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.inner.topics.read().keys().map(ToString::to_string).collect()
    }

    /// The settings of a topic and the state of its partitions.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// let orders = broker.describe_topic("orders")?;
    /// assert_eq!(orders.partitions[0].latest_offset, 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::Closed`], [`Error::Io`].
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let topic = self.inner.topic(name)?;
        let describe = |(partition, number): (&Arc<Partition>, u32)| {
            PartitionDescription::of(partition.log(), number)
        };
        let partitions = topic.partitions().zip(0..).map(describe).collect::<Result<_>>()?;
        Ok(TopicDescription {
            name: name.to_owned(),
            config: (*topic.config()).clone(),
            partitions,
            usage: self.inner.usage(&topic),
        })
    }

    /// What all topics together take on disk, in bytes, reserved space and indexes included: what
    /// [`max_total_bytes`](crate::BrokerBuilder::max_total_bytes) limits.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.inner.quota().used()
    }

    /// Changes the settings of a topic, durably, from the next record on. Their number of
    /// partitions must be the one the topic has.
    ///
    /// ```
    /// # use forebay::{Broker, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// broker.alter_topic("orders", orders.config().segment_bytes(1 << 20))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::InvalidConfig`], [`Error::Closed`],
    /// [`Error::StorageFull`], [`Error::Io`]; the topic then has the settings it had.
    pub fn alter_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        check_groups(&config)?;
        let topic = self.inner.topic(name)?;
        topic.alter(&config)?;
        self.inner.watch(&config);
        // Whoever waits for room may have some by other limits.
        self.inner.room_keeper.ease();
        Ok(())
    }

    /// Adds partitions to a topic, durably, until it has `total`, as Kafka's `createPartitions`
    /// does.
    ///
    /// Keys may go to other partitions from then on. Readers that were opened for the whole topic
    /// go on with the partitions they have.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new().partitions(2))?;
    /// broker.create_partitions("orders", 8)?;
    /// assert_eq!(orders.partitions(), 8);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::InvalidConfig`] if the topic has more already,
    /// [`Error::Closed`], [`Error::StorageFull`], [`Error::Io`].
    pub fn create_partitions(&self, name: &str, total: u32) -> Result<()> {
        self.inner.topic(name)?.grow(total)?;
        self.inner.topics_changed();
        Ok(())
    }

    /// Deletes a topic and all its records, durably.
    ///
    /// Whoever holds a handle to it meets [`Error::UnknownTopic`] at the next use. Records that
    /// were polled before stay readable for as long as their batch is held.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.delete_topic("orders")?;
    /// assert!(broker.topics().is_empty());
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::Closed`], [`Error::Io`].
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let (result, doomed) = self.inner.delete(name)?;
        if doomed.is_some() {
            self.inner.topics_changed();
        } else {
            // It was not there for a moment, which whoever reads it may have met.
            self.inner.groups.call_all();
        }
        // The directory goes without a lock held, and if not now, then at the next open.
        if let Some(doomed) = doomed
            && let Err(error) = remove_tree(&*self.inner.around.storage, &doomed)
        {
            log::warn!("removing {}: {error}; the next open removes it", doomed.display());
        }
        result
    }

    /// Waits until every record that was appended, and everything that was committed, before is on
    /// stable storage.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send(Record::new("paid"))?;
    /// broker.flush()?;
    /// assert_eq!(orders.synced_offset(0)?, 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], [`Error::OffsetsPoisoned`] if a sync failed; the other partitions are
    /// synced all the same.
    pub fn flush(&self) -> Result<()> {
        self.inner.check_open()?;
        let topics: Vec<_> = self.inner.topics.read().values().cloned().collect();
        let mut result = Ok(());
        for topic in topics {
            match topic.flush() {
                // Deleted meanwhile: there is nothing left to be kept.
                Ok(()) | Err(Error::UnknownTopic { .. }) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.and(self.inner.groups.store().flush())
    }

    /// What recovery found when this broker was opened; empty if the directory had been closed
    /// cleanly.
    #[must_use]
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// The directory it owns.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Closes the broker for all its handles: everything is synced, and the directory is free for
    /// another broker.
    ///
    /// From then on every use is [`Error::Closed`], and readers that wait are told. Dropping the
    /// last handle does the same and says nothing of failures.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.close()?;
    /// assert!(matches!(broker.topic("orders"), Err(forebay::Error::Closed)));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first failure of a partition; all are closed, and the directory is free, in any case.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
