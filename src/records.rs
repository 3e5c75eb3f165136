//! A reader as an iterator: one record after the other, for as long as there are any to come.

use std::time::Duration;

use crate::batch::{Batch, OwnedRecord};
use crate::error::Result;
use crate::reader::Reader;
use crate::start::Start;

impl Reader {
    /// Returns one record after the other, each with its own copy, waiting for as long as it takes.
    ///
    /// The iterator ends after an error other than [`Error::Gap`](crate::Error::Gap), such as
    /// [`Error::Closed`](crate::Error::Closed) when the broker is closed.
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
                    self.ended = !error.is_gap();
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
