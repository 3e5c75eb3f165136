//! Committing: saying how far the group has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::core::Consumer;
use super::progress::Done;
use crate::batch::ConsumerRecord;
use crate::error::{Error, Result};
use crate::group::{Backwards, TopicOffsets};
use crate::offset_and_metadata::{MAX_COMMIT_METADATA_BYTES, OffsetAndMetadata};
use crate::sender::Acks;
use crate::topic_partition::TopicPartition;

impl Consumer {
    /// Commits all records that were returned: the application says that it is done with them.
    ///
    /// A text that was committed with an offset goes when another offset is committed.
    ///
    /// A commit is durable as a record sent with [`Acks::Written`] is, or as
    /// [`commit_acks`](crate::ConsumerBuilder::commit_acks) says. It never moves the group back.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] if this is no longer a member of its group: the records will be, or were,
    /// returned to another. [`Error::OffsetsPoisoned`], [`Error::StorageFull`], [`Error::Io`],
    /// [`Error::Closed`]. Nothing was committed then, except that a commit which could not be synced
    /// may have been.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_with(self.settings.acks)
    }

    /// As [`commit`](Self::commit), waiting for `acks` whatever the consumer is set to.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit_with(&mut self, acks: Acks) -> Result<()> {
        self.settle_lent();
        let fetcher = &self.fetcher;
        self.progress.finish(|place| fetcher.position(place));
        self.commit_progress(Done::Finished, acks)
    }

    /// Commits what is finished, while an iterator goes on.
    pub(super) fn commit_finished(&mut self) -> Result<()> {
        self.commit_progress(Done::Finished, self.settings.acks)
    }

    /// Says that the application is done with a record, and with all before it in its partition; as
    /// sarama's `MarkOffset`. Nothing is committed until [`commit_marked`](Self::commit_marked), or
    /// until [`auto_commit_marked`](crate::ConsumerBuilder::auto_commit_marked) does it. A mark is not
    /// taken back by a seek.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send_batch(&[Record::new("good"), Record::new("bad"), Record::new("good")])?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// let batch = consumer.poll(Duration::from_secs(1))?;
    /// for record in batch.iter().take_while(|record| record.value() == Some(b"good")) {
    ///     consumer.mark(&record)?;
    /// }
    /// consumer.commit_marked()?;
    /// assert_eq!(consumer.committed("orders", 0)?.map(|committed| committed.offset), Some(1));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if the record's partition has gone to another member, or the record
    /// was not returned since it came here.
    pub fn mark(&mut self, record: &ConsumerRecord<'_>) -> Result<()> {
        self.mark_offset(record.topic(), record.partition(), record.offset())
    }

    /// As [`mark`](Self::mark), for a record that was copied.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn mark_offset(&mut self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        self.settle_lent();
        let place = self.place_of(topic, partition)?;
        let position = self.fetcher.position(place).unwrap_or(0);
        if self.progress.mark(place, position, offset) {
            return Ok(());
        }
        Err(Error::NotAssigned { topic: topic.to_owned(), partition })
    }

    /// Commits what was marked.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_marked(&mut self) -> Result<()> {
        self.settle_lent();
        self.commit_progress(Done::Marked, self.settings.acks)
    }

    /// Commits these offsets, all of them or none: for each partition that of the next record to
    /// read, and a text to be kept with it if there is one. They may lie anywhere up to the end of the
    /// log, beyond what was returned too; the application knows what it is done with.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send_batch(&[Record::new("one"), Record::new("two")])?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// let batch = consumer.poll(Duration::from_secs(1))?;
    /// consumer.commit_offsets([(("orders", 0), (1, "batch 7"))])?;
    /// let committed = consumer.committed("orders", 0)?.unwrap_or_default();
    /// assert_eq!((committed.offset, committed.metadata.as_str()), (1, "batch 7"));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), and [`Error::NotAssigned`] for a partition it does not read,
    /// [`Error::OffsetOutOfRange`] for an offset beyond the end of the log,
    /// [`Error::CommitBackwards`] for one below what is committed,
    /// [`Error::CommitMetadataTooLong`].
    pub fn commit_offsets<P, O>(&mut self, offsets: impl IntoIterator<Item = (P, O)>) -> Result<()>
    where
        P: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        self.commit_given(offsets, Backwards::Refuse)
    }

    /// As [`commit_offsets`](Self::commit_offsets), and moves the group back where that is asked
    /// for: what lies between no longer counts as done, and will be read again by whoever reads the
    /// partition next. This consumer goes on where it is, unless it [seeks](Self::seek).
    ///
    /// # Errors
    ///
    /// As there, but for [`Error::CommitBackwards`].
    pub fn rewind_offsets<P, O>(&mut self, offsets: impl IntoIterator<Item = (P, O)>) -> Result<()>
    where
        P: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        self.commit_given(offsets, Backwards::Allow)
    }

    fn commit_given<P, O>(
        &mut self,
        offsets: impl IntoIterator<Item = (P, O)>,
        backwards: Backwards,
    ) -> Result<()>
    where
        P: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        self.settle_lent();
        let mut placed = Vec::new();
        for (name, offset) in offsets {
            let (name, offset): (TopicPartition, OffsetAndMetadata) = (name.into(), offset.into());
            let bytes = offset.metadata.len();
            if bytes > MAX_COMMIT_METADATA_BYTES {
                let max_bytes = MAX_COMMIT_METADATA_BYTES;
                return Err(Error::CommitMetadataTooLong { bytes, max_bytes });
            }
            let place = self.place_of(&name.topic, name.partition)?;
            if let Some(partition) = self.fetcher.partition(place)
                && offset.offset > partition.log().end_offset()
            {
                return Err(partition.log().out_of_range(offset.offset));
            }
            placed.push((place, offset));
        }
        self.commit_places(&placed, backwards, self.settings.acks)
    }

    /// What the group has committed in a partition, by whomever; `None` if nothing.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::Closed`].
    pub fn committed(&self, topic: &str, partition: u32) -> Result<Option<OffsetAndMetadata>> {
        let state = self.broker.topic(topic)?;
        state.partition(partition)?;
        let store = self.broker.groups().store();
        Ok(store.committed_in(&self.settings.group, topic, state.shape().id, partition))
    }

    /// Commits, if there is something, when the interval has passed.
    pub(super) fn auto_commit_if_due(&mut self) -> Result<()> {
        let Some((interval, done)) = self.settings.auto_commit else { return Ok(()) };
        if !self.progress.is_ahead(done) {
            return Ok(());
        }
        let now = self.broker.clock().monotonic();
        if self.commit_at == u64::MAX {
            self.commit_at = now.saturating_add(millis(interval));
        }
        if now < self.commit_at {
            return Ok(());
        }
        let result = self.commit_done(done);
        // A failure is told once in a while, and records are read in between.
        let interval = if result.is_ok() { interval } else { interval.max(RETRY) };
        self.commit_at = now.saturating_add(millis(interval));
        match result {
            // It is found out, and dealt with, by whoever looks at the membership.
            Err(Error::Fenced { .. }) => Ok(()),
            result => result,
        }
    }

    /// Commits what is done.
    pub(super) fn commit_done(&mut self, done: Done) -> Result<()> {
        self.commit_progress(done, self.settings.acks)
    }

    fn commit_progress(&mut self, done: Done, acks: Acks) -> Result<()> {
        let wanted = self.progress.uncommitted(done);
        let placed: Vec<_> = wanted.into_iter().map(|(at, offset)| (at, offset.into())).collect();
        self.commit_places(&placed, Backwards::Keep, acks)
    }

    fn commit_places(
        &mut self,
        placed: &[(usize, OffsetAndMetadata)],
        backwards: Backwards,
        acks: Acks,
    ) -> Result<()> {
        self.broker.check_open()?;
        let Some(group) = &self.group else {
            let (group, member) = (self.settings.group.to_string(), self.link.id().to_string());
            return Err(Error::Fenced { group, member, generation: self.generation });
        };
        let commits = self.by_topic(placed);
        let at = self.broker.clock().now().as_millis();
        let written = group.commit(&self.link, &commits, backwards, at)?;
        self.broker.room_keeper().consumed();
        for (place, offset) in placed {
            match backwards {
                Backwards::Allow => self.progress.rewound(*place, offset.offset),
                _ => self.progress.committed(*place, offset.offset),
            }
        }
        match acks {
            Acks::Synced => self.broker.groups().store().sync_to(written),
            _ => Ok(()),
        }
    }

    fn by_topic(&self, placed: &[(usize, OffsetAndMetadata)]) -> Vec<TopicOffsets> {
        let mut commits: Vec<TopicOffsets> = Vec::with_capacity(1);
        let mut topics: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for (place, offset) in placed {
            let (Some(name), Some(id)) =
                (self.fetcher.name(*place), self.progress.topic_id(*place))
            else {
                continue;
            };
            let at = *topics.entry(&name.topic).or_insert_with(|| {
                let topic = Arc::clone(&name.topic);
                commits.push(TopicOffsets { topic, id, offsets: Vec::new() });
                commits.len() - 1
            });
            if let Some(commit) = commits.get_mut(at) {
                commit.offsets.push((name.partition, offset.clone()));
            }
        }
        commits
    }
}

/// How long an automatic commit that failed is not tried again, at the least.
const RETRY: Duration = Duration::from_secs(5);

fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}
