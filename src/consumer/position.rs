//! Where a consumer stands in its partitions: moving, pausing, and how far it is behind.

use std::collections::BTreeMap;

use super::core::Consumer;
use crate::error::{Error, Result};
use crate::start::Start;
use crate::timestamp::Timestamp;
use crate::topic_partition::TopicPartition;

impl Consumer {
    /// Goes on at another place in a partition it reads. Nothing is committed by that; what was
    /// returned and lies behind the place no longer counts as done, unless it was
    /// [marked](Consumer::mark).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// use forebay::Start;
    ///
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// assert_eq!(consumer.poll(Duration::from_secs(1))?.len(), 1);
    /// consumer.seek("orders", 0, Start::Offset(0))?;
    /// assert_eq!(consumer.poll(Duration::from_secs(1))?.len(), 1, "once more");
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition, [`Error::OffsetOutOfRange`],
    /// [`Error::InvalidConfig`] for [`Start::Error`], [`Error::UnknownTopic`], [`Error::Closed`],
    /// [`Error::Corrupt`], [`Error::Io`]; the position then is what it was.
    pub fn seek(&mut self, topic: &str, partition: u32, start: Start) -> Result<()> {
        self.settle_lent();
        self.place_unplaced(topic, partition, start)?;
        let place = self.place_of(topic, partition)?;
        self.seek_place(place, start)
    }

    /// Goes on at the first record there is, in every partition it reads.
    ///
    /// # Errors
    ///
    /// As [`seek`](Self::seek); partitions that were moved before the error stay moved.
    pub fn seek_to_earliest(&mut self) -> Result<()> {
        self.seek_all(Start::Earliest)
    }

    /// Goes on behind the last record there is, in every partition it reads.
    ///
    /// # Errors
    ///
    /// As [`seek_to_earliest`](Self::seek_to_earliest).
    pub fn seek_to_latest(&mut self) -> Result<()> {
        self.seek_all(Start::Latest)
    }

    /// Goes on at the first record that is not older, in every partition it reads; behind the last
    /// one where all are.
    ///
    /// # Errors
    ///
    /// As [`seek_to_earliest`](Self::seek_to_earliest).
    pub fn seek_to_timestamp(&mut self, timestamp: impl Into<Timestamp>) -> Result<()> {
        self.seek_all(Start::Timestamp(timestamp.into()))
    }

    fn seek_all(&mut self, start: Start) -> Result<()> {
        for name in self.assignment() {
            self.seek(&name.topic, name.partition, start)?;
        }
        Ok(())
    }

    fn seek_place(&mut self, place: usize, start: Start) -> Result<()> {
        let Some(partition) = self.fetcher.partition(place) else { return Ok(()) };
        let to = start.resolve(partition)?;
        let from = self.fetcher.position(place).unwrap_or(to);
        self.fetcher.seek(place, to)?;
        self.progress.sought(place, from, to);
        Ok(())
    }

    /// Gives a partition a place to start that has none, because nothing was committed there.
    fn place_unplaced(&mut self, topic: &str, partition: u32, start: Start) -> Result<()> {
        let is_it = |name: &TopicPartition| &*name.topic == topic && name.partition == partition;
        let Some(at) = self.unplaced.iter().position(|taken| is_it(&taken.partition)) else {
            return Ok(());
        };
        let state = self.broker.topic(topic)?;
        let found = state.partition(partition)?;
        let offset = start.resolve(found)?;
        let taken = self.unplaced.swap_remove(at);
        match self.fetcher.add(taken.partition.clone(), found, offset) {
            Ok(Some(place)) => self.progress.add(place, taken.topic_id, None),
            Ok(None) => {}
            Err(error) => {
                self.unplaced.push(taken);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The offset of the next record it will return of a partition.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition.
    pub fn position(&self, topic: &str, partition: u32) -> Result<u64> {
        let position = self.fetcher.position(self.place_of(topic, partition)?);
        position.ok_or_else(|| not_assigned(topic, partition))
    }

    /// How many records lie between its position and the end of each partition it reads. How many
    /// the group has not committed is told by [`describe_group`](crate::Broker::describe_group).
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// consumer.try_poll()?;
    /// orders.send(Record::new("paid"))?;
    /// assert_eq!(consumer.lag().values().sum::<u64>(), 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn lag(&self) -> BTreeMap<TopicPartition, u64> {
        let lag = |(name, place): (&TopicPartition, usize)| {
            let end = self.fetcher.partition(place)?.log().end_offset();
            Some((name.clone(), end.saturating_sub(self.fetcher.position(place)?)))
        };
        self.fetcher.partitions().filter_map(lag).collect()
    }

    /// Returns nothing more of a partition until [`resume`](Self::resume). It stays paused for as long
    /// as it stays with this consumer, through rebalances too.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        let place = self.place_of(topic, partition)?;
        self.fetcher.set_paused(place, true);
        Ok(())
    }

    /// Goes on with a partition that was paused.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if it does not read that partition.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        let place = self.place_of(topic, partition)?;
        self.fetcher.set_paused(place, false);
        Ok(())
    }

    /// Pauses every partition it reads at this moment.
    pub fn pause_all(&mut self) {
        self.set_all_paused(true);
    }

    /// Goes on with every partition that was paused.
    pub fn resume_all(&mut self) {
        self.set_all_paused(false);
    }

    fn set_all_paused(&mut self, paused: bool) {
        let places: Vec<_> = self.fetcher.partitions().map(|(_, place)| place).collect();
        for place in places {
            self.fetcher.set_paused(place, paused);
        }
    }

    /// The partitions that are paused, sorted.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        let mut paused: Vec<_> = self
            .fetcher
            .partitions()
            .filter(|(_, place)| self.fetcher.is_paused(*place))
            .map(|(name, _)| name.clone())
            .collect();
        paused.sort_unstable();
        paused
    }

    pub(super) fn place_of(&self, topic: &str, partition: u32) -> Result<usize> {
        let place = self.fetcher.place(&TopicPartition::new(topic, partition));
        place.ok_or_else(|| not_assigned(topic, partition))
    }
}

#[cold]
fn not_assigned(topic: &str, partition: u32) -> Error {
    Error::NotAssigned { topic: topic.to_owned(), partition }
}
