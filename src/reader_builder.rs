//! How a reader is described before it is opened.

use std::sync::Arc;

use crate::broker::{Broker, BrokerInner};
use crate::error::{Error, Result};
use crate::fetcher::Limits;
use crate::reader::Reader;
use crate::start::Start;

/// Describes a reader. Made by [`Broker::reader`].
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Start;
///
/// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
/// broker.create_topic("payments", TopicConfig::new())?;
/// let reader = broker
///     .reader()
///     .topic("orders", Start::Earliest)
///     .partition("payments", 0, Start::Latest)
///     .merge_by_timestamp()
///     .max_records(100)
///     .open()?;
/// # drop(reader);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct ReaderBuilder {
    broker: Arc<BrokerInner>,
    wanted: Vec<(String, Option<u32>, Start)>,
    limits: Limits,
    merge: bool,
}

impl Broker {
    /// Starts to describe a reader.
    pub fn reader(&self) -> ReaderBuilder {
        ReaderBuilder {
            broker: Arc::clone(&self.inner),
            wanted: Vec::new(),
            limits: Limits::DEFAULT,
            merge: false,
        }
    }
}

impl ReaderBuilder {
    /// Reads one partition.
    pub fn partition(mut self, topic: &str, partition: u32, start: Start) -> Self {
        self.wanted.push((topic.to_owned(), Some(partition), start));
        self
    }

    /// Reads all partitions the topic has when the reader is opened.
    pub fn topic(mut self, topic: &str, start: Start) -> Self {
        self.wanted.push((topic.to_owned(), None, start));
        self
    }

    /// The most records one poll returns. Default: 500.
    pub fn max_records(mut self, records: usize) -> Self {
        self.limits.records = records;
        self
    }

    /// The most bytes of records one poll returns; a single larger record is returned all the
    /// same. Default: 1 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Returns the records of all partitions as one stream, the earliest timestamp first. Default:
    /// partition by partition, in turn.
    ///
    /// Each partition's own order is kept, whatever its timestamps. The stream is ordered among
    /// the records that are there: a partition that is silent holds nobody up, so a record that is
    /// sent later with an earlier timestamp comes later.
    pub fn merge_by_timestamp(mut self) -> Self {
        self.merge = true;
        self
    }

    /// Opens the reader.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::OffsetOutOfRange`],
    /// [`Error::InvalidConfig`] if nothing or the same partition twice is to be read or a limit is
    /// 0, [`Error::Closed`], [`Error::Corrupt`], [`Error::Io`].
    pub fn open(self) -> Result<Reader> {
        self.limits.validate()?;
        let mut reader = Reader::new(self.broker, self.limits, self.merge);
        for (name, number, start) in &self.wanted {
            reader.assign(name, *number, *start)?;
        }
        if reader.is_unassigned() {
            return Err(Error::config("partition", "a reader needs a partition to read"));
        }
        Ok(reader)
    }
}
