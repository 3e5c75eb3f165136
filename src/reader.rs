//! Reading without a group: the partitions one names, from where one says.
//!
//! A reader keeps its partitions in two sets. Those that may have something to read stand in a
//! ring and are asked in turn, so that a busy one cannot starve the others. Those that were found
//! empty have a registration in their partition and are not looked at until it rings, so that any
//! number of idle partitions costs a poll nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Source};
use crate::broker::BrokerInner;
use crate::error::{Error, Result};
use crate::log::{Budget, LogCursor};
use crate::merge::Merge;
use crate::partition::Partition;
use crate::start::Start;
use crate::waker::Waker;

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
    /// Also keeps the broker open.
    broker: Arc<BrokerInner>,
    assigned: Vec<Assigned>,
    /// Where in `assigned` a partition stands.
    places: HashMap<(Arc<str>, u32), usize>,
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

/// How much one poll returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Reader {
    /// A reader that reads nothing yet.
    pub(crate) fn new(broker: Arc<BrokerInner>, limits: Limits, merged: bool) -> Self {
        Self {
            broker,
            assigned: Vec::new(),
            places: HashMap::new(),
            ring: VecDeque::new(),
            waker: Arc::default(),
            rang: Vec::new(),
            limits,
            merge: merged.then(Merge::default),
        }
    }

    /// Reads one partition of a topic too, or all it has.
    pub(crate) fn assign(&mut self, name: &str, number: Option<u32>, start: Start) -> Result<()> {
        let topic = self.broker.topic(name)?;
        let numbers = match number {
            Some(number) => number..=number,
            None => 0..=topic.partition_count() - 1,
        };
        for number in numbers {
            let partition = Arc::clone(topic.partition(number)?);
            let place = self.assigned.len();
            if self.places.insert((Arc::clone(topic.name()), number), place).is_some() {
                let reason = format!("partition {number} of topic {name:?} was given twice");
                return Err(Error::config("partition", reason));
            }
            let cursor = LogCursor::new(Arc::clone(partition.log()), start.resolve(&partition)?)?;
            let topic = Arc::clone(topic.name());
            self.ring.push_back(place);
            self.assigned.push(Assigned { topic, number, partition, cursor, registered: false });
        }
        Ok(())
    }

    /// Whether it has no partition to read.
    pub(crate) fn is_unassigned(&self) -> bool {
        self.assigned.is_empty()
    }

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
        assigned.cursor.seek(start.resolve(&assigned.partition)?)?;
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
        let place = self.places.get(&(Arc::from(topic), partition)).copied();
        place.ok_or_else(|| self.not_read(topic, partition))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broker, Record, TopicConfig};

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
    fn nobody_is_registered_where_there_is_something_to_read() {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        let state = broker.inner.topic("t").expect("topic");
        let partition = state.partition(0).expect("partition");
        let waker = Arc::default();
        topic.send(Record::new("x")).expect("send");
        assert!(!partition.register(&waker, 7, 0), "the record is there");
        assert!(partition.register(&waker, 7, 1));
        topic.send(Record::new("y")).expect("send");
        let mut rang = Vec::new();
        waker.take(&mut rang);
        assert_eq!(rang, [7]);
        broker.close().expect("close");
        assert!(!partition.register(&waker, 7, 2), "the news of the close is there");
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
