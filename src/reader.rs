//! Reading without a group: the partitions one names, from where one says.
//!
//! What a reader and a member of a group have in common is in `fetcher.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::broker::BrokerInner;
use crate::error::{Error, Result};
use crate::fetcher::{Fetcher, Limits};
use crate::start::Start;
use crate::topic_partition::TopicPartition;

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
    fetcher: Fetcher,
}

impl Reader {
    /// A reader that reads nothing yet.
    pub(crate) fn new(broker: Arc<BrokerInner>, limits: Limits, merged: bool) -> Self {
        Self { broker, fetcher: Fetcher::new(limits, merged) }
    }

    /// Reads one partition of a topic too, or all it has.
    pub(crate) fn assign(&mut self, name: &str, number: Option<u32>, start: Start) -> Result<()> {
        let topic = self.broker.topic(name)?;
        let numbers = match number {
            Some(number) => number..=number,
            None => 0..=topic.partition_count() - 1,
        };
        for number in numbers {
            let partition = topic.partition(number)?;
            let offset = start.resolve(partition)?;
            let name = TopicPartition::new(Arc::clone(topic.name()), number);
            if self.fetcher.add(name, partition, offset)?.is_none() {
                let reason =
                    format!("partition {number} of topic {:?} was given twice", topic.name());
                return Err(Error::config("partition", reason));
            }
        }
        Ok(())
    }

    /// Whether it has no partition to read.
    pub(crate) fn is_unassigned(&self) -> bool {
        self.fetcher.is_empty()
    }

    /// Returns records, waiting up to `timeout` for the first; an empty batch if there is none in
    /// time.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] if it would have to wait in a forked child, where nobody sends.
    /// [`Error::Closed`] when the broker was closed, [`Error::UnknownTopic`] when a topic it reads
    /// was deleted, [`Error::Gap`] when records it had not read were deleted: that is told once, and reading
    /// goes on behind them. [`Error::Corrupt`] when what follows is damaged, [`Error::Io`]. An error
    /// concerns one partition and, but for the gap, is met again when that is asked next; the others
    /// can be read in between, unless their records are to be merged with its own.
    pub fn poll(&mut self, timeout: Duration) -> Result<Batch> {
        if timeout.is_zero() {
            return self.try_poll();
        }
        let batch = self.fetcher.fetch_calmly()?;
        if !batch.is_empty() {
            return Ok(batch);
        }
        self.broker.check_owner()?;
        // A time too far off to be told is one that never comes.
        let deadline = Instant::now().checked_add(timeout);
        while self.fetcher.wait(deadline) {
            let batch = self.try_poll()?;
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !batch.is_empty() || late {
                return Ok(batch);
            }
        }
        Ok(Batch::default())
    }

    /// Returns records that are there, without waiting.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn try_poll(&mut self) -> Result<Batch> {
        self.fetcher.fetch()
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
    /// [`Error::NotAssigned`] if it does not read that partition, [`Error::OffsetOutOfRange`],
    /// [`Error::Closed`], [`Error::UnknownTopic`], [`Error::Corrupt`], [`Error::Io`]; the position
    /// then is what it was.
    pub fn seek(&mut self, topic: &str, partition: u32, start: Start) -> Result<()> {
        let place = self.place(topic, partition)?;
        let Some(partition) = self.fetcher.partition(place) else { return Ok(()) };
        let offset = start.resolve(partition)?;
        self.fetcher.seek(place, offset)
    }

    /// The offset of the next record it will return of a partition.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition.
    pub fn position(&self, topic: &str, partition: u32) -> Result<u64> {
        let position = self.fetcher.position(self.place(topic, partition)?);
        position.ok_or_else(|| not_assigned(topic, partition))
    }

    /// Returns nothing more of a partition until [`resume`](Self::resume); waiting for the others
    /// goes on.
    ///
    /// ```
    /// # use forebay::{Broker, Record, Start, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// let mut reader = broker.reader().topic("orders", Start::Earliest).open()?;
    /// reader.pause("orders", 0)?;
    /// assert!(reader.try_poll()?.is_empty());
    /// reader.resume("orders", 0)?;
    /// assert_eq!(reader.try_poll()?.len(), 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        let place = self.place(topic, partition)?;
        self.fetcher.set_paused(place, true);
        Ok(())
    }

    /// Goes on with a partition that was paused.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        let place = self.place(topic, partition)?;
        self.fetcher.set_paused(place, false);
        Ok(())
    }

    fn place(&self, topic: &str, partition: u32) -> Result<usize> {
        let place = self.fetcher.place(&TopicPartition::new(topic, partition));
        place.ok_or_else(|| not_assigned(topic, partition))
    }
}

#[cold]
fn not_assigned(topic: &str, partition: u32) -> Error {
    Error::NotAssigned { topic: topic.to_owned(), partition }
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
    fn many_idle_partitions_are_asked_once_though_the_reader_never_waits() {
        let broker = Broker::in_memory().expect("open");
        let config = TopicConfig::new().partitions(100);
        let topic = broker.create_topic("t", config).expect("create");
        let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
        assert!(reader.try_poll().expect("poll").is_empty());
        let asked = reader.fetcher.ring_len();
        assert!(asked < 10, "{asked} are asked again by each poll");
        for number in [3, 50, 99] {
            topic.send(Record::new("x").partition(number)).expect("send");
            let batch = reader.try_poll().expect("poll");
            assert_eq!(batch.get(0).expect("it is met").partition(), number);
        }
        for _ in 0..3 {
            assert!(reader.try_poll().expect("poll").is_empty());
        }
        assert!(reader.fetcher.ring_len() < 10, "those that rang are idle again");
        let wait = reader.poll(Duration::from_millis(1)).expect("poll");
        assert!(wait.is_empty() && reader.fetcher.is_ring_empty());
    }

    #[test]
    fn an_append_takes_registrations_away_and_rings() {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        let partition =
            Arc::clone(broker.inner.topic("t").expect("topic").partition(0).expect("partition"));
        let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
        assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
        assert!(reader.fetcher.is_ring_empty());
        topic.send(Record::new("x")).expect("send");
        assert_eq!(partition.waiting(), 0);
        assert_eq!(reader.try_poll().expect("poll").len(), 1);
        assert!(!reader.fetcher.is_ring_empty());
    }
}
