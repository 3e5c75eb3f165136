//! A consumer as an iterator: one record after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::Consumer;
use super::lent::Lent;
use crate::batch::{Batch, OwnedRecord};
use crate::error::Result;
use crate::topic_partition::TopicPartition;

impl Consumer {
    /// Returns one record after the other, each with its own copy, waiting for as long as it takes.
    ///
    /// A record counts as done when the next one is asked for. The iterator ends when the consumer is
    /// [woken up](crate::Wakeup::wakeup), and after an error other than
    /// [`Error::Gap`](crate::Error::Gap).
    ///
    /// ```
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send_batch(&[Record::new("one"), Record::new("two"), Record::new("three")])?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// let mut records = consumer.iter();
    /// while let Some(record) = records.next() {
    ///     records.commit()?;
    ///     if record?.value.as_deref() == Some(b"two") {
    ///         break;
    ///     }
    /// }
    /// drop(records);
    /// assert_eq!(consumer.committed("orders", 0)?.map(|committed| committed.offset), Some(2));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn iter(&mut self) -> ConsumerRecords<'_> {
        ConsumerRecords { consumer: self, ended: false }
    }

    /// Goes back to the first of the records in `batch` from `next` on, in each partition that is
    /// still read and was not moved since.
    pub(super) fn hand_back(&mut self, batch: &Batch, next: usize) {
        let mut firsts: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        for record in batch.iter().skip(next) {
            let name = TopicPartition::new(record.topic(), record.partition());
            firsts.entry(name).or_insert(record.offset());
        }
        for (name, offset) in firsts {
            let Some(place) = self.fetcher.place(&name) else { continue };
            if self.fetcher.position(place).is_some_and(|position| position > offset)
                && let Err(error) = self.fetcher.seek_resumed(place, offset)
            {
                log::warn!("going back to offset {offset} of {name}: {error}");
            }
        }
    }

    /// Takes back what an iterator has left that was forgotten.
    #[inline]
    pub(super) fn settle_lent(&mut self) {
        if !self.lent.is_empty() {
            self.take_back();
        }
    }

    /// Polls for records that are handed on one by one and count as done one by one.
    pub(super) fn poll_singly(&mut self) -> Result<Batch> {
        let batch = self.poll(Duration::MAX)?;
        let fetcher = &self.fetcher;
        self.progress.untouch(|place| fetcher.position(place));
        Ok(batch)
    }

    /// Takes back what an iterator was given and did not return. What it returned last is done with if
    /// the application commits or polls.
    #[cold]
    pub(super) fn take_back(&mut self) {
        let Lent { batch, next, handed } = std::mem::take(&mut self.lent);
        self.hand_back(&batch, next);
        if let Some((name, _)) = handed
            && let Some(place) = self.fetcher.place(&name)
        {
            self.progress.touched_mut().push(place);
        }
    }
}

/// The records of a [`Consumer`]. Made by [`Consumer::iter`].
///
/// It may be dropped at any time: what it has not returned is there for the next poll.
#[derive(Debug)]
pub struct ConsumerRecords<'a> {
    consumer: &'a mut Consumer,
    ended: bool,
}

impl ConsumerRecords<'_> {
    /// Commits all records that were returned, the last one too.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit`].
    pub fn commit(&mut self) -> Result<()> {
        self.finish();
        self.consumer.commit_finished()
    }

    /// Says that the record that was returned last is done with.
    fn finish(&mut self) {
        if let Some((name, offset)) = self.consumer.lent.handed.take()
            && let Some(place) = self.consumer.fetcher.place(&name)
        {
            self.consumer.progress.finish_to(place, offset + 1);
        }
    }
}

impl Iterator for ConsumerRecords<'_> {
    type Item = Result<OwnedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.finish();
        while !self.ended {
            let lent = &mut self.consumer.lent;
            if let Some(record) = lent.batch.get(lent.next) {
                lent.next += 1;
                let record = record.to_owned();
                let name = TopicPartition::new(record.topic.clone(), record.partition);
                lent.handed = Some((name, record.offset));
                return Some(Ok(record));
            }
            *lent = Lent::default();
            match self.consumer.poll_singly() {
                Ok(batch) => {
                    self.ended = batch.is_empty();
                    self.consumer.lent.batch = batch;
                }
                Err(error) => {
                    self.ended = !error.is_gap();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Drop for ConsumerRecords<'_> {
    fn drop(&mut self) {
        self.consumer.take_back();
    }
}
