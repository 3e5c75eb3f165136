//! The one error type: every failure says what was being done to which topic, partition or file.
//!
//! Written by hand rather than derived, because the messages are part of the promise. A message
//! is lower case and has no final stop, so that it can stand inside another.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::timestamp::Timestamp;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with what a person needs to mend it.
///
/// A call that returns an error about its input has changed nothing.
///
/// ```
/// use forebay::{Broker, Error, Record};
///
/// let broker = Broker::in_memory()?;
/// match broker.producer().send("nowhere", Record::new("lost")) {
///     Err(Error::UnknownTopic { topic }) => assert_eq!(topic, "nowhere"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another broker, in this process or another, owns the directory.
    Locked {
        /// The directory that was to be opened.
        path: PathBuf,
        /// The owner's process id, where it could be read.
        pid: Option<u32>,
    },
    /// The broker was closed.
    Closed,
    /// No topic of this name exists, or it was deleted while a handle to it was held.
    UnknownTopic {
        /// The name asked for.
        topic: String,
    },
    /// The topic has no partition of this number.
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many partitions the topic has; they are numbered from 0.
        partitions: u32,
    },
    /// A topic of this name exists already.
    TopicExists {
        /// The name.
        topic: String,
    },
    /// The name breaks Kafka's rule for topic names.
    InvalidTopicName {
        /// The name that was given.
        name: String,
        /// Which part of the rule it breaks.
        reason: &'static str,
    },
    /// A configuration value cannot be used.
    InvalidConfig {
        /// The field, as its setter is called.
        field: &'static str,
        /// Why the value cannot be used.
        reason: String,
    },
    /// The record, or the batch for one partition, is larger than the topic allows.
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// What it would take in the log, in bytes.
        bytes: u64,
        /// What the topic allows, in bytes.
        max_bytes: u64,
    },
    /// A record has more headers than [`MAX_HEADERS`](crate::MAX_HEADERS).
    TooManyHeaders {
        /// The topic.
        topic: String,
        /// How many headers the record has.
        count: usize,
        /// How many a record may have.
        max: usize,
    },
    /// The record's timestamp lies outside [`Timestamp::MIN`]`..=`[`Timestamp::MAX`].
    TimestampOutOfRange {
        /// The topic.
        topic: String,
        /// The timestamp that was given.
        timestamp: Timestamp,
    },
    /// A batch has more records for one partition than a frame can count.
    TooManyRecords {
        /// The topic.
        topic: String,
        /// How many records were given for one partition.
        count: usize,
        /// How many are possible.
        max: usize,
    },
    /// The position asked for lies outside the log.
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// The first offset that can be read.
        earliest: u64,
        /// The offset the next record will get: the last position that can be asked for.
        latest: u64,
    },
    /// A file's bytes are not what was written.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        position: u64,
        /// What was found there instead of what was expected.
        detail: String,
    },
    /// A file was written by a version of this crate that this one does not know.
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version found in it.
        found: u16,
        /// The newest version this crate reads.
        supported: u16,
    },
    /// The disk, or the process's file size limit, has no room for what was to be appended.
    ///
    /// Nothing was written. Reading goes on, and appending works again when there is room.
    StorageFull {
        /// The file or directory that was to grow.
        path: PathBuf,
        /// How many bytes were asked for.
        bytes: u64,
    },
    /// A sync of this partition failed earlier; it takes no more records until it is reopened.
    ///
    /// After a failed sync nobody knows what reached the disk, and a second sync may report a
    /// success that means nothing, so no sync is ever tried again.
    Poisoned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What the failed sync said.
        cause: Arc<io::Error>,
    },
    /// The operating system refused something.
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Wraps what the operating system said, telling a full disk from everything else.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// As [`Error::io`], for an operation that needed `bytes` more on the disk.
    pub(crate) fn space(action: &'static str, path: &Path, bytes: u64, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        if full {
            Self::StorageFull { path: path.to_path_buf(), bytes }
        } else {
            Self::io(action, path, source)
        }
    }

    pub(crate) fn corrupt(path: &Path, position: u64, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), position, detail: detail.into() }
    }

    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidConfig { field, reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "directory {} is in use by process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "directory {} is in use by another broker", path.display())
            }
            Self::Closed => write!(f, "the broker is closed"),
            Self::UnknownTopic { topic } => write!(f, "topic {topic:?} does not exist"),
            Self::UnknownPartition { topic, partition, partitions } => write!(
                f,
                "topic {topic:?} has no partition {partition}, it has {partitions}, numbered from 0"
            ),
            Self::TopicExists { topic } => write!(f, "topic {topic:?} exists already"),
            Self::InvalidTopicName { name, reason } => {
                write!(f, "{name:?} is not a topic name: {reason}")
            }
            Self::InvalidConfig { field, reason } => {
                write!(f, "configuration field {field} cannot be used: {reason}")
            }
            Self::RecordTooLarge { topic, bytes, max_bytes } => write!(
                f,
                "sending to topic {topic:?}: {bytes} bytes are more than the {max_bytes} it allows"
            ),
            Self::TooManyHeaders { topic, count, max } => {
                write!(f, "sending to topic {topic:?}: {count} headers, a record may have {max}")
            }
            Self::TimestampOutOfRange { topic, timestamp } => write!(
                f,
                "sending to topic {topic:?}: timestamp {timestamp} lies outside {} to {}",
                Timestamp::MIN,
                Timestamp::MAX
            ),
            Self::TooManyRecords { topic, count, max } => write!(
                f,
                "sending to topic {topic:?}: {count} records for one partition, a batch may have {max}"
            ),
            Self::OffsetOutOfRange { topic, partition, offset, earliest, latest } => write!(
                f,
                "offset {offset} lies outside partition {partition} of topic {topic:?}, which has {earliest} to {latest}"
            ),
            Self::Corrupt { path, position, detail } => {
                write!(f, "file {} is damaged at byte {position}: {detail}", path.display())
            }
            Self::UnsupportedVersion { path, found, supported } => write!(
                f,
                "file {} has format version {found}, this version reads up to {supported}",
                path.display()
            ),
            Self::StorageFull { path, bytes } => {
                write!(f, "no room for {bytes} more bytes for {}", path.display())
            }
            Self::Poisoned { topic, partition, cause } => write!(
                f,
                "partition {partition} of topic {topic:?} takes no records since a sync failed ({cause}), reopen the broker"
            ),
            Self::Io { action, path, source } => {
                write!(f, "{action} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Poisoned { cause: source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
