//! Sending: choose a partition, append, and wait for as much durability as was asked for.
//!
//! What a record is refused for is looked at before a partition is chosen, the partition is chosen
//! before a lock is taken, and a batch is measured and given room in all its partitions before a
//! byte is written in any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::broker::BrokerInner;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::housekeeping::{Patience, Waits};
use crate::log::Appended;
use crate::partition::Partition;
use crate::partitioner::{Partitioner, crc32_partition, fnv1a_partition, murmur2_partition};
use crate::record::{MAX_HEADERS, Record};
use crate::segment::Append;
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

/// Where a record was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition.
    pub partition: u32,
    /// The offset in it; [`Sent::UNKNOWN_OFFSET`] if an [`AsyncProducer`](crate::AsyncProducer) was not
    /// to wait for it.
    pub offset: u64,
    /// The timestamp it carries.
    pub timestamp: Timestamp,
}

impl Sent {
    /// What stands for the offset of a record that an [`AsyncProducer`](crate::AsyncProducer) with
    /// [`Acks::None`] has accepted and not yet appended, Kafka's -1. No record has it.
    pub const UNKNOWN_OFFSET: u64 = u64::MAX;
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
        let mut numbers = Vec::with_capacity(records.len());
        for record in records {
            check(topic, record)?;
            let number = self.choose(record, partitions);
            topic.partition(number)?;
            numbers.push(number);
        }
        let batch = Batch::sort(records, &numbers);
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
    if record.headers.len() > MAX_HEADERS {
        let (topic, count) = (topic.name().to_string(), record.headers.len());
        return Err(Error::TooManyHeaders { topic, count, max: MAX_HEADERS });
    }
    if let Some(timestamp) = record.timestamp
        && !timestamp.is_valid()
    {
        return Err(Error::TimestampOutOfRange { topic: topic.name().to_string(), timestamp });
    }
    Ok(())
}

/// The records of a batch by partition, partitions rising and records in the order given.
struct Batch<'a, 'r> {
    groups: Vec<(u32, Vec<&'a Record<'r>>)>,
    numbers: &'a [u32],
}

impl<'a, 'r> Batch<'a, 'r> {
    fn sort(records: &'a [Record<'r>], numbers: &'a [u32]) -> Self {
        if let Some(only) = numbers.first().filter(|first| numbers.iter().all(|one| one == *first))
        {
            return Self { groups: vec![(*only, records.iter().collect())], numbers };
        }
        let mut present: Vec<u32> = numbers.to_vec();
        present.sort_unstable();
        present.dedup();
        let mut groups: Vec<(u32, Vec<&Record<'_>>)> =
            present.into_iter().map(|number| (number, Vec::new())).collect();
        for (record, number) in records.iter().zip(numbers) {
            let group = groups.binary_search_by_key(number, |(number, _)| *number);
            if let Some((_, group)) = group.ok().and_then(|at| groups.get_mut(at)) {
                group.push(record);
            }
        }
        Self { groups, numbers }
    }

    /// Takes all append locks, makes room everywhere, and only then writes.
    fn append(&self, topic: &TopicState, clock: &Clock) -> Result<(Vec<Append>, Timestamp)> {
        let mut locked = Vec::with_capacity(self.groups.len());
        for (number, records) in &self.groups {
            let partition = topic.partition(*number)?;
            locked.push((partition, records, partition.lock_to_append()?));
        }
        let now = clock.now();
        let mut appends = Vec::with_capacity(locked.len());
        for (_, records, appender) in &locked {
            appends.push(appender.writer.measure_batch(records, now)?);
        }
        let mut each = locked.iter_mut().zip(&appends);
        let refused = each.find_map(|((_, _, appender), append)| {
            appender.writer.prepare_batch(append, now).err()
        });
        if let Some(error) = refused {
            for (_, _, appender) in &mut locked {
                appender.writer.give_back();
            }
            return Err(error);
        }
        let mut filled = Vec::with_capacity(locked.len());
        for ((_, records, appender), append) in locked.iter_mut().zip(&appends) {
            filled.push(appender.writer.fill_batch(append, records, now)?);
        }
        let mut result = Ok(());
        for (place, (((partition, _, appender), append), filled)) in
            locked.iter_mut().zip(&appends).zip(&filled).enumerate()
        {
            if let Err(error) = appender.writer.publish_batch(append, filled) {
                // Where files are mapped this does not happen. If others were published already,
                // what became of the batch is for recovery to find out.
                result = Err(if place == 0 { error } else { partition.log().give_up(&error) });
                break;
            }
        }
        let left: Vec<_> = locked
            .into_iter()
            .map(|(partition, _, appender)| (partition, Partition::unlock(appender)))
            .collect();
        for (partition, left) in left {
            if let Some(left) = left {
                partition.follow_up(left);
            }
        }
        result?;
        Ok((appends, now))
    }

    /// Where each record went, in the order they were given.
    fn places(&self, appends: &[Append], now: Timestamp) -> Vec<Sent> {
        if let ([(partition, records)], [append]) = (&self.groups[..], appends) {
            let place = |(record, offset): (&&Record<'_>, u64)| Sent {
                partition: *partition,
                offset,
                timestamp: append.timestamp_of(record, now),
            };
            return records.iter().zip(append.offset..).map(place).collect();
        }
        let mut left: Vec<_> = self
            .groups
            .iter()
            .zip(appends)
            .map(|((_, records), append)| (records.iter(), append, append.offset..))
            .collect();
        let place = |number: &u32| {
            let at = self.groups.binary_search_by_key(number, |(number, _)| *number).ok()?;
            let (records, append, offsets) = left.get_mut(at)?;
            let timestamp = append.timestamp_of(records.next()?, now);
            Some(Sent { partition: *number, offset: offsets.next()?, timestamp })
        };
        self.numbers.iter().map_while(place).collect()
    }

    /// Waits until all of it is on stable storage.
    fn sync(&self, topic: &TopicState, appends: &[Append]) -> Result<()> {
        for ((number, _), append) in self.groups.iter().zip(appends) {
            let end = append.offset + u64::from(append.count);
            topic.partition(*number)?.log().sync_to(end)?;
        }
        Ok(())
    }
}
