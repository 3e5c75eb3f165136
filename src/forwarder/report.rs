//! What a forwarder leaves when it has stopped, and why it did.

use std::collections::BTreeMap;
use std::fmt;

use super::stats::ForwarderStats;
use crate::error::Error;
use crate::topic_partition::TopicPartition;

/// Why a forwarder has stopped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// [`stop`](crate::Forwarder::stop) was called, or it was dropped.
    Asked,
    /// Records could not be delivered, and were to stop it
    /// ([`WhenExhausted::Stop`](crate::WhenExhausted::Stop)).
    Exhausted {
        /// Their partition.
        partition: TopicPartition,
        /// The offset of the first of them: forwarding goes on there.
        offset: u64,
        /// How often that was tried.
        attempts: u32,
        /// What the sink said last.
        error: String,
    },
    /// A record could neither be delivered nor be put aside.
    DeadLetter {
        /// Its partition.
        partition: TopicPartition,
        /// Its offset: forwarding goes on there.
        offset: u64,
        /// What putting it aside met.
        error: Error,
    },
    /// Reading or committing met this.
    Failed(Error),
    /// A thread of the forwarder panicked.
    Panicked(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("it was asked to"),
            Self::Exhausted { partition, offset, attempts, error } => write!(
                f,
                "delivering what begins at offset {offset} of {partition} failed {attempts} times: {error}"
            ),
            Self::DeadLetter { partition, offset, error } => {
                write!(f, "putting offset {offset} of {partition} aside: {error}")
            }
            Self::Failed(error) => write!(f, "{error}"),
            Self::Panicked(message) => write!(f, "its thread panicked: {message}"),
        }
    }
}

/// What a forwarder has come to. Returned by [`Forwarder::stop`](crate::Forwarder::stop) and
/// [`Forwarder::wait`](crate::Forwarder::wait).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForwarderReport {
    /// Why it stopped.
    pub reason: StopReason,
    /// What it had done, in numbers.
    pub stats: ForwarderStats,
    /// The offset at which forwarding goes on in each partition it had, as far as is committed.
    pub committed: BTreeMap<TopicPartition, u64>,
    /// Records that were delivered, or put aside, and could not be committed: they come again.
    pub uncommitted: u64,
    /// Records that were read and not given to the sink: they come to the next forwarder.
    pub undelivered: u64,
    /// Batches the sink had not returned from in time. They come again, whatever becomes of them.
    pub in_sink: Vec<InSink>,
    /// What the last commit met, if it failed.
    pub commit_error: Option<Error>,
    /// Whether it left its group in time. If not, its thread ends, and leaves, by itself later.
    pub finished: bool,
}

/// A batch the sink had not returned from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InSink {
    /// Its partition.
    pub partition: TopicPartition,
    /// The offset of its first record.
    pub from: u64,
    /// The offset behind its last record.
    pub to: u64,
}

impl fmt::Display for ForwarderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (delivered, left) = (self.stats.delivered_records, self.undelivered);
        write!(f, "{delivered} records were delivered, {left} were read and not delivered")?;
        for InSink { partition, from, to } in &self.in_sink {
            write!(f, ", offsets {from} to {to} of {partition} are still in the sink")?;
        }
        if let Some(error) = &self.commit_error {
            write!(f, ", {} are delivered and not committed: {error}", self.uncommitted)?;
        }
        write!(f, "; it stopped because: {}", self.reason)
    }
}
