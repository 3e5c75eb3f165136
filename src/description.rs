//! What a broker tells about itself: plain values, taken at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::TopicConfig;
use crate::damage::Damage;
use crate::error::Result;
use crate::group::CommitRecovery;
use crate::log::{Log, Recovery};
use crate::repair_report::RepairReport;

/// What was found when a broker was opened whose directory had not been closed cleanly.
///
/// ```
/// # use forebay::Broker;
/// # let broker = Broker::in_memory()?;
/// for partition in &broker.recovery_report().partitions {
///     println!(
///         "{}/{} ends at {}, {} bytes were cut",
///         partition.topic, partition.partition, partition.end_offset, partition.bytes_cut
///     );
/// }
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The partitions that had to be read, by topic and number.
    pub partitions: Vec<PartitionRecovery>,
    /// What groups had committed beyond the end of a partition, because a power cut took records away
    /// that they had read. Each was moved back to that end: the group reads what is sent from now on.
    pub commits: Vec<CommitRecovery>,
    /// What was repaired before, with [`RecoveryMode::Salvage`](crate::RecoveryMode::Salvage); `None` if
    /// there was nothing to repair.
    pub salvaged: Option<RepairReport>,
}

/// What recovery came to in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionRecovery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset from which records were read and checked; what lies below it was known to be
    /// on stable storage.
    pub from_offset: u64,
    /// The offset behind the last record that was kept.
    pub end_offset: u64,
    /// How many records were read and found whole.
    pub records_kept: u64,
    /// How many bytes behind that record held something and were cut.
    pub bytes_cut: u64,
    /// How many segments behind the cut were removed.
    pub segments_removed: usize,
    /// What stood where the log was cut; `None` if it simply ended.
    pub reason: Option<String>,
    /// What is damaged although it was on stable storage. Nothing of it was cut; reading it is
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    pub damage: Vec<Damage>,
    /// How long it took.
    pub duration: Duration,
}

/// What [`Broker::describe_topic`](crate::Broker::describe_topic) tells about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
    /// What it takes, and who has not read it yet.
    pub usage: TopicUsage,
}

/// What a topic takes, beside its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicUsage {
    /// What its segments and indexes take on disk, in bytes, reserved space included: what
    /// [`max_bytes`](TopicConfig::max_bytes) limits.
    pub bytes: u64,
    /// How many records can be read.
    pub records: u64,
    /// How many of them some group of [`consumed_by`](TopicConfig::consumed_by) has not committed; all, if
    /// there are no such groups. What [`max_records`](TopicConfig::max_records) limits.
    pub unconsumed: u64,
    /// How many each of these groups has not committed.
    pub lag: BTreeMap<String, u64>,
}

/// The state of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: u32,
    /// The first offset that can be read.
    pub earliest_offset: u64,
    /// The offset the next record will get.
    pub latest_offset: u64,
    /// The offset below which every record is on stable storage.
    pub synced_offset: u64,
    /// How many segments it has.
    pub segments: usize,
    /// What its segments take on disk, in bytes, preallocated space included.
    pub bytes: u64,
}

impl PartitionDescription {
    /// The state of the partition with this log and number.
    pub(crate) fn of(log: &Log, partition: u32) -> Result<Self> {
        log.check_gate()?;
        Ok(Self {
            partition,
            earliest_offset: log.start_offset(),
            latest_offset: log.end_offset(),
            synced_offset: log.synced_offset(),
            segments: log.segment_count(),
            bytes: log.bytes_on_disk()?,
        })
    }
}

impl PartitionRecovery {
    /// What recovery came to in a partition of `topic`.
    pub(crate) fn of(topic: &str, partition: u32, recovery: Recovery) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            from_offset: recovery.from_offset,
            end_offset: recovery.end_offset,
            records_kept: recovery.records_kept,
            bytes_cut: recovery.bytes_cut,
            segments_removed: recovery.segments_removed,
            reason: recovery.reason,
            damage: recovery.damage,
            duration: recovery.duration,
        }
    }
}
