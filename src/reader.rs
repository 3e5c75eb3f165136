//! Reading without a group: the partitions one names, from where one says.
//!
//! A reader keeps its partitions in two sets. Those that may have something to read stand in a
//! ring and are asked in turn, so that a busy one cannot starve the others. Those that were found
//! empty have a registration in their partition and are not looked at until it rings, so that any
//! number of idle partitions costs a poll nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::{Batch, OwnedRecord, Source};
use crate::broker::{Broker, BrokerInner};
use crate::error::{Error, Result};
use crate::log::{Budget, LogCursor};
use crate::merge::Merge;
use crate::partition::Partition;
use crate::timestamp::Timestamp;
use crate::waker::Waker;

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
}

/// Describes a reader. Made by [`Broker::reader`].
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Start;
///
/// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
/// broker.create_topic("payments", TopicConfig::new())?;
/// let reader = broker
///     .reader()
///     .topic("orders", Start::Earliest)
///     .partition("payments", 0, Start::Latest)
///     .merge_by_timestamp()
///     .max_records(100)
///     .open()?;
/// # drop(reader);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct ReaderBuilder {
    broker: Arc<BrokerInner>,
    wanted: Vec<(String, Option<u32>, Start)>,
    limits: Limits,
    merge: bool,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    records: usize,
    bytes: usize,
}

/// Reads partitions in the order of their offsets, independently of all other readers.
///
/// Sends may go on meanwhile; a reader sees each record once it was written. Used by one thread at
/// a time; make as many readers as there are threads.
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, Record, Start, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send_batch(&[Record::new("one"), Record::new("two"), Record::new("three")])?;
///
/// let mut reader = broker.reader().partition("orders", 0, Start::Offset(1)).open()?;
/// let values: Vec<_> = reader.poll(Duration::from_secs(1))?
///     .iter().map(|record| record.value().unwrap_or_default().to_vec()).collect();
/// assert_eq!(values, [b"two".to_vec(), b"three".to_vec()]);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    /// Keeps the broker open.
    _broker: Arc<BrokerInner>,
    assigned: Vec<Assigned>,
    /// Places in `assigned` that may have something to read, in the order they will be asked.
    ring: VecDeque<usize>,
    waker: Arc<Waker>,
    /// Tokens taken from `waker`; kept to be used again.
    rang: Vec<usize>,
    limits: Limits,
    merge: Option<Merge>,
}

#[derive(Debug)]
struct Assigned {
    topic: Arc<str>,
    number: u32,
    partition: Arc<Partition>,
    cursor: LogCursor,
    /// Whether a registration was left in the partition and has not rung.
    registered: bool,
}

/// How often an empty ring is looked at again before the reader goes to sleep. A record that
/// follows closely is then met without the cost of sleeping and being woken, tens of microseconds.
const SPINS: u32 = 200;
/// The most partitions that are looked at that often.
const SPIN_PARTITIONS: usize = 8;

impl Broker {
    /// Starts to describe a reader.
    pub fn reader(&self) -> ReaderBuilder {
        ReaderBuilder {
            broker: Arc::clone(&self.inner),
            wanted: Vec::new(),
            limits: Limits { records: 500, bytes: 1 << 20 },
            merge: false,
        }
    }
}

impl ReaderBuilder {
    /// Reads one partition.
    pub fn partition(mut self, topic: &str, partition: u32, start: Start) -> Self {
        self.wanted.push((topic.to_owned(), Some(partition), start));
        self
    }

    /// Reads all partitions the topic has when the reader is opened.
    pub fn topic(mut self, topic: &str, start: Start) -> Self {
        self.wanted.push((topic.to_owned(), None, start));
        self
    }

    /// The most records one poll returns. Default: 500.
    pub fn max_records(mut self, records: usize) -> Self {
        self.limits.records = records;
        self
    }

    /// The most bytes of records one poll returns; a single larger record is returned all the
    /// same. Default: 1 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Returns the records of all partitions as one stream, the earliest timestamp first. Default:
    /// partition by partition, in turn.
    ///
    /// Each partition's own order is kept, whatever its timestamps. The stream is ordered among
    /// the records that are there: a partition that is silent holds nobody up, so a record that is
    /// sent later with an earlier timestamp comes later.
    pub fn merge_by_timestamp(mut self) -> Self {
        self.merge = true;
        self
    }

    /// Opens the reader.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::OffsetOutOfRange`],
    /// [`Error::InvalidConfig`] if nothing or the same partition twice is to be read or a limit is
    /// 0, [`Error::Closed`], [`Error::Corrupt`], [`Error::Io`].
    pub fn open(self) -> Result<Reader> {
        if self.limits.records == 0 {
            return Err(Error::config("max_records", "it is 0"));
        }
        if self.limits.bytes == 0 {
            return Err(Error::config("max_bytes", "it is 0"));
        }
        let mut assigned = Vec::new();
        for (name, number, start) in &self.wanted {
            let topic = self.broker.topic(name)?;
            let numbers = match number {
                Some(number) => *number..=*number,
                None => 0..=topic.partition_count() - 1,
            };
            for number in numbers {
                let partition = Arc::clone(topic.partition(number)?);
                let cursor =
                    LogCursor::new(Arc::clone(partition.log()), resolve(&partition, *start)?)?;
                let topic = Arc::clone(topic.name());
                assigned.push(Assigned { topic, number, partition, cursor, registered: false });
            }
        }
        check_distinct(&assigned)?;
        Ok(Reader {
            ring: (0..assigned.len()).collect(),
            merge: self.merge.then(|| Merge::new(assigned.len())),
            _broker: self.broker,
            assigned,
            waker: Arc::default(),
            rang: Vec::new(),
            limits: self.limits,
        })
    }
}

fn check_distinct(assigned: &[Assigned]) -> Result<()> {
    if assigned.is_empty() {
        return Err(Error::config("partition", "a reader needs a partition to read"));
    }
    let mut names: Vec<_> = assigned.iter().map(|one| (&one.topic, one.number)).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
        Some((topic, number)) => Err(Error::config(
            "partition",
            format!("partition {number} of topic {topic:?} was given twice"),
        )),
        None => Ok(()),
    }
}

fn resolve(partition: &Partition, start: Start) -> Result<u64> {
    let log = partition.log();
    log.check_gate()?;
    Ok(match start {
        Start::Earliest => log.start_offset(),
        Start::Latest => log.end_offset(),
        Start::Offset(offset) => offset,
        Start::Timestamp(timestamp) => {
            // What is appended during the search is newer than the search, and is not to be missed.
            let end = log.end_offset();
            log.first_not_older(timestamp.as_millis())?.map_or(end, |(offset, _)| offset)
        }
    })
}

impl Reader {
    /// Returns records, waiting up to `timeout` for the first; an empty batch if there is none in
    /// time.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the broker was closed, [`Error::UnknownTopic`] when a topic it reads
    /// was deleted, [`Error::OffsetOutOfRange`] when the position is no longer in the log,
    /// [`Error::Corrupt`] when what follows is damaged, [`Error::Io`]. The error concerns one
    /// partition and is met again when that is asked next; the others can be read in between,
    /// unless their records are to be merged with its own.
    pub fn poll(&mut self, timeout: Duration) -> Result<Batch> {
        let batch = self.try_poll()?;
        if !batch.is_empty() || timeout.is_zero() {
            return Ok(batch);
        }
        // A time too far off to be told is one that never comes.
        self.wait(Instant::now().checked_add(timeout))
    }

    /// Returns records that are there, without waiting.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn try_poll(&mut self) -> Result<Batch> {
        self.take_rung();
        if self.ring.is_empty() {
            return Ok(Batch::default());
        }
        match self.merge.take() {
            Some(mut merge) => {
                let batch = self.gather_merged(&mut merge);
                self.merge = Some(merge);
                batch
            }
            None => self.gather(),
        }
    }

    /// Returns one record after the other, each with its own copy, waiting for as long as it takes.
    ///
    /// The iterator ends after an error, such as [`Error::Closed`] when the broker is closed.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// use forebay::Start;
    ///
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// let mut reader = broker.reader().topic("orders", Start::Earliest).open()?;
    /// for record in reader.iter().take(1) {
    ///     assert_eq!(record?.value.as_deref(), Some(&b"paid"[..]));
    /// }
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn iter(&mut self) -> Records<'_> {
        Records { reader: self, batch: Batch::default(), next: 0, ended: false }
    }

    /// Moves to another place in a partition it reads.
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// use forebay::Start;
    ///
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// let mut reader = broker.reader().topic("orders", Start::Latest).open()?;
    /// reader.seek("orders", 0, Start::Earliest)?;
    /// assert_eq!(reader.try_poll()?.len(), 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`] if it does not read that partition,
    /// [`Error::OffsetOutOfRange`], [`Error::Closed`], [`Error::UnknownTopic`],
    /// [`Error::Corrupt`], [`Error::Io`]; the position then is what it was.
    pub fn seek(&mut self, topic: &str, partition: u32, start: Start) -> Result<()> {
        let place = self.place(topic, partition)?;
        let Some(assigned) = self.assigned.get_mut(place) else {
            return Err(self.not_read(topic, partition));
        };
        assigned.cursor.seek(resolve(&assigned.partition, start)?)?;
        if let Some(merge) = &mut self.merge {
            merge.forget(place);
        }
        if assigned.registered {
            assigned.partition.unregister(&self.waker);
            assigned.registered = false;
            self.ring.push_back(place);
        }
        Ok(())
    }

    /// The offset of the next record it will return of a partition.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`] if it does not read that partition.
    pub fn position(&self, topic: &str, partition: u32) -> Result<u64> {
        let place = self.place(topic, partition)?;
        let pending = self.merge.as_ref().and_then(|merge| merge.pending_offset(place));
        let cursor = self.assigned.get(place).map(|assigned| assigned.cursor.offset());
        pending.or(cursor).ok_or_else(|| self.not_read(topic, partition))
    }

    fn place(&self, topic: &str, partition: u32) -> Result<usize> {
        let is_it = |one: &Assigned| &*one.topic == topic && one.number == partition;
        self.assigned.iter().position(is_it).ok_or_else(|| self.not_read(topic, partition))
    }

    #[cold]
    fn not_read(&self, topic: &str, partition: u32) -> Error {
        let partitions = self.assigned.iter().filter(|one| &*one.topic == topic).count();
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        Error::UnknownPartition { topic: topic.to_owned(), partition, partitions }
    }

    /// Puts the partitions that rang back into the ring.
    #[inline]
    fn take_rung(&mut self) {
        if self.ring.len() == self.assigned.len() {
            return;
        }
        self.waker.take(&mut self.rang);
        for place in self.rang.drain(..) {
            if let Some(assigned) = self.assigned.get_mut(place)
                && std::mem::take(&mut assigned.registered)
            {
                self.ring.push_back(place);
            }
        }
    }

    /// Asks every partition in the ring once, until the batch is full.
    fn gather(&mut self) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut budget = Budget { records: self.limits.records, bytes: self.limits.bytes };
        for _ in 0..self.ring.len() {
            let Some(place) = self.ring.pop_front() else { break };
            let Some(assigned) = self.assigned.get_mut(place) else { continue };
            match assigned.fill(&mut batch, &mut budget) {
                Ok(()) => self.ring.push_back(place),
                Err(error) if batch.is_empty() => {
                    self.ring.push_back(place);
                    return Err(error);
                }
                Err(_) => {
                    // What was read before it comes first; the error is met again by the next poll.
                    self.ring.push_front(place);
                    break;
                }
            }
            if budget.is_spent() {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes the earliest record of all partitions, until the batch is full.
    fn gather_merged(&mut self, merge: &mut Merge) -> Result<Batch> {
        let assigned = &mut self.assigned;
        for place in &self.ring {
            let Some(one) = assigned.get_mut(*place) else { continue };
            merge.refill(*place, |run, budget| one.fill(run, budget))?;
        }
        let budget = Budget { records: self.limits.records, bytes: self.limits.bytes };
        merge.take(budget, |place, run, budget| match assigned.get_mut(place) {
            Some(one) => one.fill(run, budget),
            None => Ok(()),
        })
    }

    /// Waits for records until `deadline`, or for as long as it takes without one.
    #[cold]
    fn wait(&mut self, deadline: Option<Instant>) -> Result<Batch> {
        if self.ring.len() <= SPIN_PARTITIONS {
            for _ in 0..SPINS {
                if self.has_more() {
                    return self.try_poll();
                }
                std::hint::spin_loop();
            }
        }
        loop {
            self.register_ring();
            if self.ring.is_empty() && !self.waker.wait(deadline) {
                return Ok(Batch::default());
            }
            let batch = self.try_poll()?;
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !batch.is_empty() || late {
                return Ok(batch);
            }
        }
    }

    fn has_more(&self) -> bool {
        let has_more =
            |place: &usize| self.assigned.get(*place).is_some_and(|one| one.cursor.has_more());
        self.ring.iter().any(has_more)
    }

    /// Leaves a registration in every partition of the ring that has nothing to read.
    fn register_ring(&mut self) {
        let (assigned, waker) = (&mut self.assigned, &self.waker);
        self.ring.retain(|place| {
            let Some(one) = assigned.get_mut(*place) else { return false };
            one.registered = one.partition.register(waker, *place, one.cursor.offset());
            !one.registered
        });
    }
}

impl Assigned {
    /// Adds what the partition has to `batch`, as far as `budget` goes.
    fn fill(&mut self, batch: &mut Batch, budget: &mut Budget) -> Result<()> {
        while !budget.is_spent() {
            let source = batch.next_source();
            let Some(segment) = self.cursor.fetch(source, budget, batch.records_mut())? else {
                return Ok(());
            };
            let topic = Arc::clone(&self.topic);
            batch.add_source(Source { topic, partition: self.number, segment });
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for assigned in self.assigned.iter().filter(|assigned| assigned.registered) {
            assigned.partition.unregister(&self.waker);
        }
    }
}

/// The records of a [`Reader`], for as long as there are any to come. Made by [`Reader::iter`].
///
/// It may be dropped at any time: what it has not returned is there for the next poll.
#[derive(Debug)]
pub struct Records<'a> {
    reader: &'a mut Reader,
    batch: Batch,
    next: usize,
    ended: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<OwnedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(record) = self.batch.get(self.next) {
                self.next += 1;
                return Some(Ok(record.to_owned()));
            }
            self.next = 0;
            match self.reader.poll(Duration::MAX) {
                Ok(batch) => self.batch = batch,
                Err(error) => {
                    self.batch = Batch::default();
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Drop for Records<'_> {
    /// What was polled and not returned is left for the next poll.
    fn drop(&mut self) {
        for record in self.batch.iter().skip(self.next).rev() {
            let to = Start::Offset(record.offset());
            if let Err(error) = self.reader.seek(record.topic(), record.partition(), to) {
                log::warn!("going back to offset {}: {error}", record.offset());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Record, TopicConfig};

    #[test]
    fn readers_that_come_and_go_leave_no_registration() {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        let partition =
            Arc::clone(broker.inner.topic("t").expect("topic").partition(0).expect("partition"));
        for _ in 0..100 {
            let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
            assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
            assert_eq!(partition.waiting(), 1);
            assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
            assert_eq!(partition.waiting(), 1, "one for each reader, however often it waits");
        }
        assert_eq!(partition.waiting(), 0);
    }

    #[test]
    fn an_append_takes_registrations_away_and_rings() {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        let partition =
            Arc::clone(broker.inner.topic("t").expect("topic").partition(0).expect("partition"));
        let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
        assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
        assert!(reader.ring.is_empty());
        topic.send(Record::new("x")).expect("send");
        assert_eq!(partition.waiting(), 0);
        assert_eq!(reader.try_poll().expect("poll").len(), 1);
        assert_eq!(reader.ring, [0]);
    }
}
