//! Where to start reading, and which offset that is.

use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::timestamp::Timestamp;

/// Where to start reading a partition.
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::{Start, Timestamp};
///
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send(Record::new("old").timestamp(Timestamp::from_millis(1_000)))?;
/// orders.send(Record::new("new").timestamp(Timestamp::from_millis(2_000)))?;
/// let since = Start::Timestamp(Timestamp::from_millis(1_500));
/// let mut reader = broker.reader().partition("orders", 0, since).open()?;
/// assert_eq!(reader.position("orders", 0)?, 1);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is: only what is sent from now on.
    Latest,
    /// At this offset, which must lie in the log or just behind it.
    Offset(u64),
    /// At the first record that is not older; behind the last record if all are.
    Timestamp(Timestamp),
    /// Nowhere: it is an error if the group has not committed a place. For consumers alone.
    Error,
}

impl Start {
    /// The offset it stands for in `partition` at this moment.
    pub(crate) fn resolve(self, partition: &Partition) -> Result<u64> {
        let log = partition.log();
        log.check_gate()?;
        Ok(match self {
            Self::Earliest => log.start_offset(),
            Self::Latest => log.end_offset(),
            Self::Offset(offset) => offset,
            Self::Timestamp(timestamp) => {
                // What is appended during the search is newer than the search, and is not to be missed.
                let end = log.end_offset();
                log.first_not_older(timestamp.as_millis())?.map_or(end, |(offset, _)| offset)
            }
            Self::Error => return Err(Error::config("start", "Start::Error is not a place")),
        })
    }
}
