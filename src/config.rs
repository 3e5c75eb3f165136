//! What can be set for a topic, with defaults, limits and the check of both.
//!
//! A plain value: validated when it is used, never half applied.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most partitions a topic may have.
pub const MAX_PARTITIONS: u32 = 1 << 20;
/// The smallest and the largest segment, in bytes.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=2 << 30;
/// The most a record may be allowed to take, in bytes: what a segment can hold.
const RECORD_BYTES_LIMIT: u64 = 1 << 30;

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
    /// A single record or batch that is larger gets a segment of its own.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// The age at which the next segment is begun by the next append, however small the current
    /// one is; `None` for never. Default: 7 days.
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

    /// How long records are to be kept, by the broker's time of append. Default: for ever.
    ///
    /// Stored with the topic; nothing is deleted by it in this version.
    #[must_use]
    pub fn retention_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.retention_age = age.into();
        self
    }

    /// How many bytes each partition is to keep. Default: no limit.
    ///
    /// Stored with the topic; nothing is deleted by it in this version.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.retention_bytes = bytes.into();
        self
    }

    /// How many records each partition is to keep. Default: no limit.
    ///
    /// Stored with the topic; nothing is deleted by it in this version.
    #[must_use]
    pub fn retention_records(mut self, records: impl Into<Option<u64>>) -> Self {
        self.retention_records = records.into();
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
        if self.retention_age.is_some_and(|age| age.is_zero()) {
            return Err(Error::config("retention_age", "it is zero"));
        }
        Ok(())
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
