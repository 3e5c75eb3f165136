//! What each error says to a person.
//!
//! Lower case, without a final stop, and with what was being done to what: a message may stand inside
//! another.

use std::fmt;

use super::Error;
use crate::timestamp::Timestamp;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            Self::TopicFull { topic, limit } => {
                write!(f, "sending to topic {topic:?}: it is full, its limit is {limit}")
            }
            Self::NotAssigned { topic, partition } => {
                write!(f, "partition {partition} of topic {topic:?} is not read here")
            }
            Self::Gap { topic, partition, from, to } => write!(
                f,
                "offsets {from} to {to} of partition {partition} of topic {topic:?} are no longer there: they were deleted before they were read, or put aside as damaged"
            ),
            Self::OffsetOutOfRange { topic, partition, offset, earliest, latest } => write!(
                f,
                "offset {offset} lies outside partition {partition} of topic {topic:?}, which has {earliest} to {latest}"
            ),
            Self::ProducerClosed => write!(f, "the asynchronous producer is closed"),
            Self::BufferFull { topic, records, bytes } => write!(
                f,
                "sending to topic {topic:?}: {records} records of {bytes} bytes wait to be sent, and there was no room for another in time"
            ),
            Self::LargerThanBuffer { topic, bytes, buffer_bytes } => write!(
                f,
                "sending to topic {topic:?}: a record of {bytes} bytes is larger than the producer's buffer of {buffer_bytes}"
            ),
            Self::NotSent { unsent } => write!(f, "not everything was sent: {unsent}"),
            _ => self.fmt_of_files(f),
        }
    }
}

impl Error {
    /// The errors that tell of a directory, a file, or the process.
    fn fmt_of_files(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "directory {} is in use by process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "directory {} is in use by another broker", path.display())
            }
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
            Self::BrokerFull { path, max_bytes } => write!(
                f,
                "the topics in {} take the {max_bytes} bytes they may take together",
                path.display()
            ),
            Self::Poisoned { topic, partition, cause } => write!(
                f,
                "partition {partition} of topic {topic:?} takes no records since a sync failed ({cause}), reopen the broker"
            ),
            Self::NotSynced { path, source } => {
                write!(f, "{} could not be synced yet, and is not lost: {source}", path.display())
            }
            Self::ReadOnly { path } => {
                write!(f, "{} cannot be changed: it is there to be read alone", path.display())
            }
            Self::Forked { owner } => write!(
                f,
                "the broker belongs to process {owner}, of which this one is a forked child"
            ),
            Self::RemoteFileSystem { path, kind } => write!(
                f,
                "directory {} lies on {kind}, a file system of another machine",
                path.display()
            ),
            Self::Io { action, path, source } => {
                write!(f, "{action} {}: {source}", path.display())
            }
            _ => self.fmt_of_groups(f),
        }
    }

    /// The errors that tell of a group.
    fn fmt_of_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidGroupName { name, reason } => {
                write!(f, "{name:?} is not a group name: {reason}")
            }
            Self::UnknownGroup { group } => write!(f, "group {group:?} does not exist"),
            Self::GroupNotEmpty { group, members } => {
                write!(f, "group {group:?} has {members} members")
            }
            Self::InconsistentGroup { group, reason } => {
                write!(f, "joining group {group:?}: {reason}")
            }
            Self::Fenced { group, member, generation } => write!(
                f,
                "member {member:?} is no longer in group {group:?}, whose generation it knew was {generation}"
            ),
            Self::NoCommittedOffset { group, topic, partition } => write!(
                f,
                "group {group:?} has committed nothing in partition {partition} of topic {topic:?}, and has no place to start"
            ),
            Self::CommitBackwards { group, topic, partition, committed, offset } => write!(
                f,
                "committing offset {offset} for group {group:?} in partition {partition} of topic {topic:?}: it has {committed} already"
            ),
            Self::CommitMetadataTooLong { bytes, max_bytes } => {
                write!(f, "committing metadata of {bytes} bytes, {max_bytes} are possible")
            }
            Self::OffsetsPoisoned { cause } => write!(
                f,
                "nothing can be committed since a sync of the committed offsets failed ({cause}), reopen the broker"
            ),
            other => unreachable!("{other:?} has no message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn messages_name_what_was_being_done_to_what() {
        let path = PathBuf::from("data/t");
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let io = Error::io("mapping segment", &path, refused);
        assert_eq!(io.to_string(), "mapping segment data/t: permission denied");
        let read_only = Error::ReadOnly { path };
        assert_eq!(read_only.to_string(), "data/t cannot be changed: it is there to be read alone");
        let unknown = Error::UnknownGroup { group: "g".to_owned() };
        assert_eq!(unknown.to_string(), "group \"g\" does not exist");
        assert_eq!(Error::Closed.to_string(), "the broker is closed");
    }
}
