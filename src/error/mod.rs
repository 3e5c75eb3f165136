//! The one error type: every failure says what was being done to which topic, partition or file.
//!
//! Written by hand rather than derived, because the messages are part of the promise. A message
//! is lower case and has no final stop, so that it can stand inside another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::on_full::TopicLimit;
use crate::timestamp::Timestamp;
use crate::unsent::Unsent;

mod io_error;
mod message;

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
    /// A batch has more records for one partition than a frame can count, or than the topic may hold
    /// ([`max_records`](crate::TopicConfig::max_records)).
    TooManyRecords {
        /// The topic.
        topic: String,
        /// How many records were given for one partition.
        count: usize,
        /// How many are possible.
        max: usize,
    },
    /// The topic has reached one of its limits, and none of what it holds may go.
    ///
    /// Nothing was sent. Sending works again when what is there was consumed or has expired.
    TopicFull {
        /// The topic.
        topic: String,
        /// The limit.
        limit: TopicLimit,
    },
    /// The topics of the broker together take what they may,
    /// [`max_total_bytes`](crate::BrokerBuilder::max_total_bytes).
    ///
    /// Nothing was sent. Sending works again when something was deleted.
    BrokerFull {
        /// The broker's directory.
        path: PathBuf,
        /// What they may take, in bytes.
        max_bytes: u64,
    },
    /// The partition is not one that this reader or consumer reads at this moment.
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// Records were deleted before they were read, or put aside by a [repair](crate::Broker::repair)
    /// because they were damaged. Told once; reading goes on at `to`.
    Gap {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset that was to be read next.
        from: u64,
        /// The first offset that can be read: that of the next record.
        to: u64,
    },
    /// The name cannot be that of a group.
    InvalidGroupName {
        /// The name that was given.
        name: String,
        /// Why it cannot be used.
        reason: &'static str,
    },
    /// No group of this name has members or has committed anything.
    UnknownGroup {
        /// The name asked for.
        group: String,
    },
    /// The group has members, and what was asked for needs one without.
    GroupNotEmpty {
        /// The group.
        group: String,
        /// How many members it has.
        members: usize,
    },
    /// A consumer cannot join the group because of what it has in common with the members there.
    InconsistentGroup {
        /// The group.
        group: String,
        /// What does not go together.
        reason: String,
    },
    /// The consumer is no longer a member of its group, and what it wanted to commit is refused.
    ///
    /// If it did not poll in time, its next poll joins anew. If another took its
    /// [static name](crate::ConsumerBuilder::static_member), its polls are this error from then on.
    Fenced {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// The last generation of the group in which it looked after its partitions.
        generation: u64,
    },
    /// The group has committed nothing in this partition, and the consumer was told not to choose a
    /// place itself ([`Start::Error`](crate::Start::Error)).
    NoCommittedOffset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The commit would move the group back, so that it would read records again.
    CommitBackwards {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What the group has committed.
        committed: u64,
        /// What was to be committed.
        offset: u64,
    },
    /// The text that was to be kept with a committed offset is too long.
    CommitMetadataTooLong {
        /// Its length, in bytes.
        bytes: usize,
        /// What is possible, in bytes.
        max_bytes: usize,
    },
    /// A sync of the committed offsets failed earlier; nothing can be committed until the broker is
    /// reopened. Reading goes on.
    OffsetsPoisoned {
        /// What the failed sync said.
        cause: Arc<io::Error>,
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
    /// What was to be made durable was written, and could not be synced for want of something else
    /// than a working disk: no file descriptor was left, or no room to write anew what an earlier
    /// process had left unsynced.
    ///
    /// Nothing is lost and nothing is poisoned. A record whose send ended so was appended: sending it
    /// again would send it twice, `flush` tries to sync again.
    NotSynced {
        /// The directory of the partition, or that of the committed offsets.
        path: PathBuf,
        /// What was missing.
        source: Arc<io::Error>,
    },
    /// The directory, or the broker, is there to be read alone.
    ///
    /// A directory that cannot be written to can be opened with
    /// [`read_only`](crate::BrokerBuilder::read_only).
    ReadOnly {
        /// The file or directory that was to be changed.
        path: PathBuf,
    },
    /// The process was forked, and this is the child: the broker belongs to the parent.
    Forked {
        /// The process that opened the broker.
        owner: u32,
    },
    /// The directory lies on a file system of another machine, where locks and syncs do not mean
    /// what they must.
    ///
    /// [`allow_remote_file_system`](crate::BrokerBuilder::allow_remote_file_system) opens it all the
    /// same.
    RemoteFileSystem {
        /// The directory.
        path: PathBuf,
        /// What kind of file system it is.
        kind: &'static str,
    },
    /// The asynchronous producer was closed, and takes no more records.
    ProducerClosed,
    /// The asynchronous producer holds as many records, or bytes, as it may, and there was no room for
    /// this one in time. Nothing was accepted.
    BufferFull {
        /// The topic the record was for.
        topic: String,
        /// How many records wait.
        records: usize,
        /// What they take in memory, in bytes.
        bytes: usize,
    },
    /// The record takes more memory than the asynchronous producer may hold at all. Nothing was
    /// accepted.
    LargerThanBuffer {
        /// The topic the record was for.
        topic: String,
        /// What it takes, in bytes.
        bytes: usize,
        /// What may be held, in bytes.
        buffer_bytes: usize,
    },
    /// The asynchronous producer could not send everything it had accepted, or not in time.
    NotSent {
        /// What was not sent, by topic.
        unsent: Unsent,
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
    /// Wraps what the operating system said.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            return Self::ReadOnly { path: path.to_path_buf() };
        }
        Self::Io { action, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// As [`Error::io`], for an operation that needed `bytes` more on the disk, telling a full disk
    /// from everything else.
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

    /// Whether it tells that there is no room for a record at this moment.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::TopicFull { .. } | Self::BrokerFull { .. } | Self::StorageFull { .. })
    }

    /// Whether it tells of records that are gone, once.
    pub(crate) fn is_gap(&self) -> bool {
        matches!(self, Self::Gap { .. })
    }

    pub(crate) fn corrupt(path: &Path, position: u64, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), position, detail: detail.into() }
    }

    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidConfig { field, reason: reason.into() }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. }
            | Self::NotSynced { source, .. }
            | Self::Poisoned { cause: source, .. }
            | Self::OffsetsPoisoned { cause: source } => Some(source.as_ref()),
            _ => None,
        }
    }
}
