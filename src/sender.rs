//! Sending: choose a partition, append, and wait for as much durability as was asked for.
//!
//! What a record is refused for is looked at before a partition is chosen, the partition is chosen
//! before a lock is taken, and a batch is measured and given room in all its partitions before a
//! byte is written in any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::broker::BrokerInner;
use crate::error::{Error, Result};
use crate::housekeeping::{Patience, Waits};
use crate::log::Appended;
use crate::partitioned::{Choices, Partitioned};
use crate::partitioner::{Partitioner, crc32_partition, fnv1a_partition, murmur2_partition};
use crate::record::{MAX_HEADERS, Record};
use crate::sent::Sent;
use crate::storage::split_mix;
use crate::timestamp::Timestamp;
use crate::topic::TopicState;

/// What a send waits for.
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Acks;
///
/// let orders = broker.create_topic("orders", TopicConfig::new())?.acks(Acks::Synced);
/// orders.send(Record::new("paid"))?;
/// assert_eq!(orders.synced_offset(0)?, 1);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acks {
    /// Nothing but that the record is in the memory of an [`AsyncProducer`](crate::AsyncProducer),
    /// Kafka's 0: it survives nothing. What is known at once to be wrong with it is an error all the
    /// same.
    ///
    /// A send that is not asynchronous has no memory to accept a record into, so for
    /// [`Topic`](crate::Topic), [`Producer`](crate::Producer) and commits it means the same as
    /// `Written`.
    None,
    /// The record is in the page cache and visible to readers: it survives the death of the
    /// process, by `kill -9` or otherwise. A crash of the operating system or a power cut may
    /// take what was written since the last sync.
    #[default]
    Written,
    /// The record and all before it in its partition are on stable storage: it survives a power
    /// cut. Those who wait at the same time share one sync.
    Synced,
}

/// How many bytes go to one partition before [`Partitioner::Sticky`] moves on: what Kafka's
/// producer takes for a batch.
const STICKY_BYTES: u32 = 16 << 10;

/// What sending needs to know and to remember between sends.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) acks: Acks,
    pub(crate) partitioner: Partitioner,
    /// Counts sends, for `RoundRobin`, and is the state of `Random`. Relaxed: no order is promised
    /// between threads that share a sender.
    turn: AtomicU64,
    /// Where `Sticky` stays, as a number to be taken modulo the partitions, and how many bytes it
    /// has sent there. Relaxed, and two threads may lose an update to each other: it only makes
    /// the stay a little longer.
    sticky: AtomicU32,
    sticky_bytes: AtomicU32,
}

/// A clone has the same settings and makes its own choices.
impl Clone for Sender {
    fn clone(&self) -> Self {
        let seed = self.turn.fetch_add(1, Ordering::Relaxed);
        Self { acks: self.acks, partitioner: self.partitioner.clone(), ..Self::new(seed) }
    }
}

impl Sender {
    /// A sender with default settings; `seed` is where its choices begin.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self {
            acks: Acks::default(),
            partitioner: Partitioner::default(),
            turn: AtomicU64::new(split_mix(&mut state)),
            sticky: AtomicU32::new((split_mix(&mut state) >> 32) as u32),
            sticky_bytes: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn send(
        &self,
        broker: &BrokerInner,
        topic: &Arc<TopicState>,
        record: &Record<'_>,
        acks: Acks,
        waits: Waits,
    ) -> Result<Sent> {
        check(topic, record)?;
        let number = self.choose(record, topic.partition_count());
        let partition = topic.partition(number)?;
        let append = || partition.append(record, broker.clock());
        let Appended { offset, timestamp } = match append() {
            Ok(appended) => appended,
            Err(error) => when_there_is_room(broker, topic, error, waits, append)?,
        };
        if acks == Acks::Synced {
            partition.log().sync_to(offset + 1)?;
        }
        Ok(Sent { partition: number, offset, timestamp })
    }

    pub(crate) fn send_batch(
        &self,
        broker: &BrokerInner,
        topic: &Arc<TopicState>,
        records: &[Record<'_>],
        acks: Acks,
        waits: Waits,
    ) -> Result<Vec<Sent>> {
        let partitions = topic.partition_count();
        let is_only_one = partitions == 1 && !matches!(self.partitioner, Partitioner::Custom(_));
        let mut choices = Choices::default();
        for record in records {
            check(topic, record)?;
            let number = if is_only_one {
                record.partition.unwrap_or(0)
            } else {
                self.choose(record, partitions)
            };
            if !choices.is_last(number) {
                topic.partition(number)?;
            }
            choices.push(number);
        }
        let batch = Partitioned::new(records, choices);
        let append = || batch.append(topic, broker.clock());
        let (appends, now) = match append() {
            Ok(appended) => appended,
            Err(error) => when_there_is_room(broker, topic, error, waits, append)?,
        };
        if acks == Acks::Synced {
            batch.sync(topic, &appends)?;
        }
        Ok(batch.places(&appends, now))
    }

    /// The partition of a record, if its number is below `partitions`; the caller checks.
    #[inline]
    pub(crate) fn choose(&self, record: &Record<'_>, partitions: u32) -> u32 {
        if let Some(partition) = record.partition {
            return partition;
        }
        match (&self.partitioner, record.key) {
            (Partitioner::Custom(custom), _) => custom.choose(record, partitions),
            _ if partitions == 1 => 0,
            (Partitioner::Murmur2, Some(key)) => murmur2_partition(key, partitions),
            (Partitioner::Fnv1a, Some(key)) => fnv1a_partition(key, partitions),
            (Partitioner::Crc32, Some(key)) => crc32_partition(key, partitions),
            (Partitioner::RoundRobin, _) => {
                (self.turn.fetch_add(1, Ordering::Relaxed) % u64::from(partitions)) as u32
            }
            (Partitioner::Random, _) => self.random() % partitions,
            _ => self.stick(record) % partitions,
        }
    }

    fn random(&self) -> u32 {
        let mut state = self.turn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (split_mix(&mut state) >> 32) as u32
    }

    #[inline]
    fn stick(&self, record: &Record<'_>) -> u32 {
        let bytes = record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len) + 32;
        let bytes = u32::try_from(bytes).unwrap_or(STICKY_BYTES);
        let sent = self.sticky_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if sent < STICKY_BYTES {
            self.sticky_bytes.store(sent, Ordering::Relaxed);
            return self.sticky.load(Ordering::Relaxed);
        }
        let stayed = self.sticky.load(Ordering::Relaxed);
        self.sticky.store(self.random(), Ordering::Relaxed);
        self.sticky_bytes.store(0, Ordering::Relaxed);
        stayed
    }
}

/// Appends what was refused once there is room for it, if the topic is to wait for that or to make it.
#[cold]
fn when_there_is_room<T>(
    broker: &BrokerInner,
    topic: &Arc<TopicState>,
    mut error: Error,
    waits: Waits,
    append: impl Fn() -> Result<T>,
) -> Result<T> {
    let mut patience = Patience::new(waits);
    while error.is_full() {
        broker.house().make_room(topic, error, &mut patience)?;
        match append() {
            Ok(appended) => return Ok(appended),
            Err(again) => error = again,
        }
    }
    Err(error)
}

/// Refuses what no partition would take, before a partition is chosen.
#[inline]
pub(crate) fn check(topic: &TopicState, record: &Record<'_>) -> Result<()> {
    let is_timely = record.timestamp.is_none_or(Timestamp::is_valid);
    if record.headers.len() <= MAX_HEADERS && is_timely {
        return Ok(());
    }
    Err(refusal(topic, record))
}

/// Why no partition would take a record.
#[cold]
fn refusal(topic: &TopicState, record: &Record<'_>) -> Error {
    let (topic, count) = (topic.name().to_string(), record.headers.len());
    match record.timestamp {
        Some(timestamp) if count <= MAX_HEADERS => Error::TimestampOutOfRange { topic, timestamp },
        _ => Error::TooManyHeaders { topic, count, max: MAX_HEADERS },
    }
}
