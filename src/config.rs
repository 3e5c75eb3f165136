//! What can be set for a topic, with defaults, limits and the check of both.
//!
//! A plain value: validated when it is used, never half applied.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::on_full::OnFull;

/// The most partitions a topic may have.
pub const MAX_PARTITIONS: u32 = 1 << 20;
/// The smallest and the largest segment, in bytes.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=2 << 30;
/// The most a record may be allowed to take, in bytes: what a segment can hold.
const RECORD_BYTES_LIMIT: u64 = 1 << 30;
/// The least a limit of bytes leaves to each partition: room for its segments to be small files still.
const PARTITION_BYTES: u64 = 64 << 10;
/// Into how many segments what is kept is divided at the least, so that it can go piece by piece.
const PIECES: u64 = 8;
/// A segment is not made smaller than this for the sake of that, in bytes and in records.
const PIECE_BYTES: u64 = 16 << 10;
const PIECE_RECORDS: u64 = 256;

/// Whose time a record carries.
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::{Timestamp, TimestampType};
///
/// let config = TopicConfig::new().timestamp_type(TimestampType::AppendTime);
/// let orders = broker.create_topic("orders", config)?;
/// let sent = orders.send(Record::new("paid").timestamp(Timestamp::from_millis(1)))?;
/// assert!(sent.timestamp > Timestamp::from_millis(1));
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampType {
    /// The time the sender gave, or, where none was given, the time of the send.
    #[default]
    CreateTime,
    /// The time of the append by the broker's clock, whatever the sender gave. Never decreases
    /// within a partition while the broker is open, even if the clock is set back.
    AppendTime,
}

/// Settings of a topic, kept on disk with it.
///
/// All but the number of partitions can be changed while records flow, with
/// [`Broker::alter_topic`](crate::Broker::alter_topic).
///
/// ```
/// use std::time::Duration;
/// use forebay::TopicConfig;
///
/// let config = TopicConfig::new().partitions(8).retention_age(Duration::from_secs(2 * 86_400));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub(crate) partitions: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_age: Option<Duration>,
    pub(crate) index_interval_bytes: u64,
    pub(crate) max_record_bytes: u64,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) retention_age: Option<Duration>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) retention_records: Option<u64>,
    pub(crate) flush_records: Option<u64>,
    pub(crate) flush_interval: Option<Duration>,
    pub(crate) consumed_by: Vec<String>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_records: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) on_full: OnFull,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            segment_bytes: 64 << 20,
            segment_age: Some(Duration::from_secs(7 * 86_400)),
            index_interval_bytes: 4 << 10,
            max_record_bytes: 1 << 20,
            timestamp_type: TimestampType::CreateTime,
            retention_age: None,
            retention_bytes: None,
            retention_records: None,
            flush_records: None,
            flush_interval: None,
            consumed_by: Vec::new(),
            max_bytes: None,
            max_records: None,
            max_age: None,
            on_full: OnFull::Reject,
        }
    }
}

impl TopicConfig {
    /// One partition, segments of 64 MiB, everything kept.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many partitions the topic is created with. Default: 1.
    ///
    /// Later it can only grow, with [`Broker::create_partitions`](crate::Broker::create_partitions).
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// The size at which a segment is full and the next one is begun, 4 KiB to 2 GiB.
    /// Default: 64 MiB.
    ///
    /// A single record or batch that is larger gets a segment of its own. Where there is a limit to
    /// what is kept, segments are at most an eighth of it, because records are deleted by segments; but
    /// not smaller for that than 16 KiB, or 256 records.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// The age at which the next segment is begun by the next append, however small the current
    /// one is; `None` for never. Default: 7 days. Less where the age of what is kept is limited: at
    /// most an eighth of that.
    #[must_use]
    pub fn segment_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.segment_age = age.into();
        self
    }

    /// How many bytes of log lie between two entries of its indexes. Smaller makes a seek faster
    /// and the indexes larger. Default: 4 KiB.
    #[must_use]
    pub fn index_interval_bytes(mut self, bytes: u64) -> Self {
        self.index_interval_bytes = bytes;
        self
    }

    /// The most one record may take in the log: key, value, headers and 26 to 52 bytes around
    /// them. At most 1 GiB. Default: 1 MiB.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: u64) -> Self {
        self.max_record_bytes = bytes;
        self
    }

    /// Whose time records carry. Default: [`TimestampType::CreateTime`].
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// How long records are kept, by the broker's time of append; as Kafka's `retention.ms`.
    /// Default: for ever.
    ///
    /// Records go by segments, when the youngest in one is older than this: that is looked at every
    /// [`retention_check_interval`](crate::BrokerBuilder::retention_check_interval), and no segment
    /// holds records of more than an eighth of this time. A record's own timestamp plays no part. While
    /// the broker is open, time is measured by a clock that nobody can set; time in which it was closed
    /// counts too, unless it seems to be more than 30 days: then it is taken for a clock that was set.
    #[must_use]
    pub fn retention_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.retention_age = age.into();
        self
    }

    /// How many bytes each partition keeps at the least: what is more is deleted, oldest segments
    /// first; as Kafka's `retention.bytes`. Default: everything.
    ///
    /// It is looked at every
    /// [`retention_check_interval`](crate::BrokerBuilder::retention_check_interval). A hard cap is
    /// [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.retention_bytes = bytes.into();
        self
    }

    /// How many records each partition keeps at the least: what is more is deleted, oldest segments
    /// first. Default: everything.
    ///
    /// It is looked at every
    /// [`retention_check_interval`](crate::BrokerBuilder::retention_check_interval). A hard cap is
    /// [`max_records`](Self::max_records).
    #[must_use]
    pub fn retention_records(mut self, records: impl Into<Option<u64>>) -> Self {
        self.retention_records = records.into();
        self
    }

    /// Keeps what any of these groups has not committed, and deletes what all of them have: at once, or,
    /// if [`retention_age`](Self::retention_age), [`retention_bytes`](Self::retention_bytes) or
    /// [`retention_records`](Self::retention_records) is set, when those say so. Default: no groups; what
    /// is deleted does not depend on who has read it.
    ///
    /// A group that has committed nothing keeps everything. Only a hard limit takes records that a group
    /// has not committed, with [`OnFull::DropOldest`]; it is told by
    /// [`Error::Gap`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let config = TopicConfig::new().consumed_by(["billing"]).max_records(2);
    /// let orders = broker.create_topic("orders", config)?;
    /// orders.send_batch(&[Record::new("one"), Record::new("two")])?;
    /// assert!(orders.send(Record::new("three")).is_err());
    ///
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// consumer.poll(Duration::from_secs(1))?;
    /// consumer.commit()?;
    /// // What was consumed does not count any more.
    /// orders.send(Record::new("three"))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn consumed_by<G: Into<String>>(mut self, groups: impl IntoIterator<Item = G>) -> Self {
        self.consumed_by = groups.into_iter().map(Into::into).collect();
        self.consumed_by.sort_unstable();
        self.consumed_by.dedup();
        self
    }

    /// The most the topic may take on disk in all its partitions, in bytes, reserved space and indexes
    /// included; at least 64 KiB for each partition. Default: no limit.
    ///
    /// What happens at the limit is said by [`on_full`](Self::on_full). Before that, what all groups of
    /// [`consumed_by`](Self::consumed_by) have committed is deleted, and what is otherwise due to be.
    #[must_use]
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// The most records the topic may hold in all its partitions, not counting those that all groups of
    /// [`consumed_by`](Self::consumed_by) have committed. Default: no limit.
    ///
    /// What happens at the limit is said by [`on_full`](Self::on_full); with [`OnFull::DropOldest`] an
    /// eighth of the records goes at a time.
    #[must_use]
    pub fn max_records(mut self, records: impl Into<Option<u64>>) -> Self {
        self.max_records = records.into();
        self
    }

    /// The oldest a record may become that not all groups of [`consumed_by`](Self::consumed_by) have
    /// committed, by the broker's time of append. Default: no limit.
    ///
    /// With [`OnFull::DropOldest`] records of that age are deleted, by segments, as with
    /// [`retention_age`](Self::retention_age), whether or not they were consumed. Otherwise the topic
    /// takes no records while it holds such a one: whoever should have consumed it is in trouble. It is
    /// looked at every
    /// [`retention_check_interval`](crate::BrokerBuilder::retention_check_interval).
    #[must_use]
    pub fn max_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.max_age = age.into();
        self
    }

    /// What a send does when the topic, the broker or the disk is full. Default: [`OnFull::Reject`].
    #[must_use]
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// After how many records a partition is synced in the background, so that a power cut takes no
    /// more than about as many, and no send waits; as Kafka's `flush.messages`. At least 1. Default:
    /// never; then segments are synced when they are full, and whatever somebody waits for.
    ///
    /// What comes while the disk is busy comes on top.
    #[must_use]
    pub fn flush_records(mut self, records: impl Into<Option<u64>>) -> Self {
        self.flush_records = records.into();
        self
    }

    /// How long after a record was sent its partition is synced in the background at the latest, so
    /// that a power cut takes no more than what was sent in about that time, and no send waits; as
    /// Kafka's `flush.ms`. At least 1 ms. Default: never.
    ///
    /// The time the disk takes comes on top. A partition that gets no records costs nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let config = TopicConfig::new().flush_interval(Duration::from_millis(100));
    /// let orders = broker.create_topic("orders", config)?;
    /// let sent = orders.send(Record::new("paid"))?;
    /// // Who wants to know waits; the sync is shared with all who do.
    /// let synced = orders.wait_synced(0, sent.offset + 1, Duration::from_secs(5))?;
    /// assert!(synced > sent.offset);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn flush_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.flush_interval = interval.into();
        self
    }

    /// The number of partitions.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        self.partitions
    }

    /// Refuses what cannot be used, naming the field.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.partitions == 0 || self.partitions > MAX_PARTITIONS {
            return Err(Error::config(
                "partitions",
                format!("{} is not in 1..={MAX_PARTITIONS}", self.partitions),
            ));
        }
        if !SEGMENT_BYTES.contains(&self.segment_bytes) {
            let (low, high) = (SEGMENT_BYTES.start(), SEGMENT_BYTES.end());
            return Err(Error::config(
                "segment_bytes",
                format!("{} is not in {low}..={high}", self.segment_bytes),
            ));
        }
        if self.segment_age.is_some_and(|age| age < Duration::from_millis(1)) {
            return Err(Error::config("segment_age", "it is below one millisecond"));
        }
        if self.index_interval_bytes == 0 {
            return Err(Error::config("index_interval_bytes", "it is 0"));
        }
        if self.max_record_bytes == 0 || self.max_record_bytes > RECORD_BYTES_LIMIT {
            return Err(Error::config(
                "max_record_bytes",
                format!("{} is not in 1..={RECORD_BYTES_LIMIT}", self.max_record_bytes),
            ));
        }
        if self.flush_records == Some(0) {
            return Err(Error::config("flush_records", "it is 0"));
        }
        if self.flush_interval.is_some_and(|interval| interval < Duration::from_millis(1)) {
            return Err(Error::config("flush_interval", "it is below one millisecond"));
        }
        self.validate_limits()
    }

    fn validate_limits(&self) -> Result<()> {
        for (field, age) in [("retention_age", self.retention_age), ("max_age", self.max_age)] {
            if age.is_some_and(|age| age < Duration::from_millis(1)) {
                return Err(Error::config(field, "it is below one millisecond"));
            }
        }
        if self.max_records == Some(0) {
            return Err(Error::config("max_records", "it is 0"));
        }
        let least = u64::from(self.partitions) * PARTITION_BYTES;
        if let Some(bytes) = self.max_bytes.filter(|bytes| *bytes < least) {
            let reason = format!(
                "{bytes} is less than {least}, which is {PARTITION_BYTES} for each of {} partitions",
                self.partitions
            );
            return Err(Error::config("max_bytes", reason));
        }
        Ok(())
    }

    /// The size at which a segment is full.
    pub(crate) fn segment_capacity(&self) -> u64 {
        let hard = self.max_bytes.map(|bytes| bytes / u64::from(self.partitions.max(1)));
        let kept = self.retention_bytes.into_iter().chain(hard).min();
        let piece = kept.map_or(u64::MAX, |bytes| (bytes / PIECES).max(PIECE_BYTES));
        self.segment_bytes.min(piece)
    }

    /// How many records make a segment full.
    pub(crate) fn segment_records(&self) -> u64 {
        self.retention_records.map_or(u64::MAX, |records| (records / PIECES).max(PIECE_RECORDS))
    }

    /// The age at which a segment is full.
    pub(crate) fn segment_lifetime(&self) -> Option<Duration> {
        let piece = |age: Duration| (age / PIECES as u32).max(Duration::from_millis(1));
        let kept = self.retention_age.into_iter().chain(self.max_age).min().map(piece);
        self.segment_age.into_iter().chain(kept).min()
    }

    /// The age of a record that keeps others out; with `DropOldest` it is deleted instead.
    pub(crate) fn stale_age(&self) -> Option<Duration> {
        self.max_age.filter(|_| self.on_full != OnFull::DropOldest)
    }

    /// Whether sends have to look how many records there are, and how old.
    pub(crate) fn counts_records(&self) -> bool {
        self.max_records.is_some() || self.stale_age().is_some()
    }

    /// Whether records of this topic are ever deleted by themselves, or kept from coming.
    pub(crate) fn is_bounded(&self) -> bool {
        let ages = self.retention_age.or(self.max_age);
        let sizes = self.retention_bytes.or(self.max_bytes);
        let counts = self.retention_records.or(self.max_records);
        ages.is_some() || sizes.is_some() || counts.is_some() || !self.consumed_by.is_empty()
    }
}

/// Kafka's rule for topic names: 1 to 249 characters of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
pub(crate) fn check_topic_name(name: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 249 {
        "it is longer than 249 characters"
    } else if name == "." || name == ".." {
        "it is a name the file system keeps for itself"
    } else if !name.bytes().all(legal) {
        "it has a character other than a-z, A-Z, 0-9, '.', '_' and '-'"
    } else {
        return Ok(());
    };
    Err(Error::InvalidTopicName { name: name.to_owned(), reason })
}
