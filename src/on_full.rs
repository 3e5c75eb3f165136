//! What a topic that is full does with the next record, and which of its limits it has reached.

use std::fmt;
use std::time::Duration;

/// What a send does when its topic has reached a limit: [`max_bytes`](crate::TopicConfig::max_bytes),
/// [`max_records`](crate::TopicConfig::max_records), [`max_age`](crate::TopicConfig::max_age), the
/// broker's [`max_total_bytes`](crate::BrokerBuilder::max_total_bytes) or the disk's reserve,
/// [`min_free_bytes`](crate::BrokerBuilder::min_free_bytes).
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, Error, OnFull, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let config = TopicConfig::new()
///     .max_records(2)
///     .on_full(OnFull::Block { timeout: Duration::from_millis(5) });
/// let spikes = broker.create_topic("spikes", config)?;
/// spikes.send_batch(&[Record::new("one"), Record::new("two")])?;
/// // Nobody makes room within 5 ms.
/// assert!(matches!(spikes.send(Record::new("three")), Err(Error::TopicFull { .. })));
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFull {
    /// The send fails at once, with the error that names the limit.
    #[default]
    Reject,
    /// The send waits until there is room, for at most so long, and then fails with the error that
    /// names the limit. No lock is held meanwhile.
    Block {
        /// How long one send waits at the most.
        timeout: Duration,
    },
    /// The oldest records go, read or not, until there is room; whoever had not read them is told by
    /// [`Error::Gap`](crate::Error::Gap). The send waits while they are deleted. They go by
    /// segments: all of a partition's, where all lie in one.
    DropOldest,
}

/// A limit of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicLimit {
    /// [`max_bytes`](crate::TopicConfig::max_bytes).
    Bytes(u64),
    /// [`max_records`](crate::TopicConfig::max_records).
    Records(u64),
    /// [`max_age`](crate::TopicConfig::max_age): the oldest record is older.
    Age(Duration),
}

impl fmt::Display for TopicLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Records(records) => write!(f, "{records} records"),
            Self::Age(age) => write!(f, "records of an age of {age:?}"),
        }
    }
}
