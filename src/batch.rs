//! Records as they are read: borrowed from the log, without copying.
//!
//! A batch holds the mappings its records lie in. The bytes stay as they are for as long as it
//! lives, even if the segment, the topic or the broker is gone by then.

use std::sync::Arc;

use crate::log::RecordLocation;
use crate::record::Record;
use crate::record_codec::Headers;
use crate::storage::View;
use crate::timestamp::Timestamp;

/// Records returned by one poll. Empty if there were none in time.
///
/// ```
/// # use std::time::Duration;
/// # use forebay::{Broker, Record, Start, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
/// let mut reader = broker.reader().topic("orders", Start::Earliest).open()?;
/// for record in &reader.poll(Duration::from_secs(1))? {
///     println!("{:?} {:?}", record.key(), record.value());
/// }
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "the records in it will not be returned again"]
pub struct Batch {
    sources: Vec<Source>,
    records: Vec<RecordLocation>,
}

/// A segment that records of a batch lie in.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) view: View,
}

impl Batch {
    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record at a place, counted from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<ConsumerRecord<'_>> {
        self.record(self.records.get(index)?)
    }

    /// The records, in the order they were read.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { batch: self, records: self.records.iter() }
    }

    #[inline]
    fn record<'a>(&'a self, location: &'a RecordLocation) -> Option<ConsumerRecord<'a>> {
        let source = self.sources.get(location.source as usize)?;
        Some(ConsumerRecord { source, location })
    }

    /// The number the next source will have.
    pub(crate) fn next_source(&self) -> u32 {
        u32::try_from(self.sources.len()).expect("a batch has fewer sources than records")
    }

    /// The records, for a cursor to add to, marked with [`next_source`](Self::next_source).
    pub(crate) fn records_mut(&mut self) -> &mut Vec<RecordLocation> {
        &mut self.records
    }

    /// Where the record at `index` lies, and in what.
    pub(crate) fn located(&self, index: usize) -> Option<(&RecordLocation, &Source)> {
        let location = self.records.get(index)?;
        Some((location, self.sources.get(location.source as usize)?))
    }

    /// The number of `source` in this batch, where it is added if it is not yet there.
    pub(crate) fn source_number(&mut self, source: &Source) -> u32 {
        let same = |one: &mut Source| one.view.join(&source.view);
        let number = self.sources.iter_mut().rposition(same).unwrap_or_else(|| {
            self.sources.push(source.clone());
            self.sources.len() - 1
        });
        u32::try_from(number).expect("a batch has fewer sources than records")
    }

    pub(crate) fn add_source(&mut self, source: Source) {
        self.sources.push(source);
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = ConsumerRecord<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The records of a [`Batch`], in the order they were read.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    batch: &'a Batch,
    records: std::slice::Iter<'a, RecordLocation>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        self.batch.record(self.records.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.batch.record(self.records.next_back()?)
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// A record that was read, borrowed from the batch it came in.
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Start;
///
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send(Record::new("paid").key("user-7").header("trace", "ab12"))?;
/// let batch = broker.reader().topic("orders", Start::Earliest).open()?.try_poll()?;
/// let record = batch.get(0).expect("one was sent");
/// assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 0, 0));
/// assert_eq!((record.key(), record.value()), (Some(&b"user-7"[..]), Some(&b"paid"[..])));
/// assert_eq!(record.header("trace"), Some(&b"ab12"[..]));
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConsumerRecord<'a> {
    source: &'a Source,
    location: &'a RecordLocation,
}

impl<'a> ConsumerRecord<'a> {
    /// The topic it was sent to.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        &self.source.topic
    }

    /// The partition it lies in.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.source.partition
    }

    /// Its offset in the partition.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.location.offset
    }

    /// The time it carries.
    #[inline]
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.location.timestamp)
    }

    /// Its key; `None` if it was sent without one.
    #[inline]
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.location.key.map(|span| span.of(&self.source.view))
    }

    /// Its value; `None` if it is a tombstone.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.location.value.map(|span| span.of(&self.source.view))
    }

    /// Its headers, in the order they were given.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        let bytes = self.location.headers.of(&self.source.view);
        Headers::new(bytes, self.location.header_count as usize)
    }

    /// The value of its last header of this name, which is the one that counts in Kafka's
    /// convention.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|header| header.name == name).last().map(|header| header.value)
    }

    /// What its parts take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        len(self.key()) + len(self.value()) + self.location.headers.of(&self.source.view).len()
    }

    /// A copy that borrows nothing.
    #[must_use]
    pub fn to_owned(&self) -> OwnedRecord {
        let header = |header: crate::Header<'_>| (header.name.to_owned(), header.value.to_vec());
        OwnedRecord {
            topic: Arc::clone(&self.source.topic),
            partition: self.partition(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: self.headers().map(header).collect(),
        }
    }
}

/// A record that was read, with its own copy of everything.
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Start;
///
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send(Record::new("paid").key("user-7"))?;
/// let batch = broker.reader().topic("orders", Start::Earliest).open()?.try_poll()?;
/// let kept: Vec<_> = batch.iter().map(|record| record.to_owned()).collect();
/// drop(batch);
/// let copy = orders.send(kept[0].as_record())?;
/// assert_eq!((copy.offset, copy.timestamp), (1, kept[0].timestamp));
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The topic it was sent to.
    pub topic: Arc<str>,
    /// The partition it lies in.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// The time it carries.
    pub timestamp: Timestamp,
    /// Its key; `None` if it was sent without one.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` if it is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in the order they were given.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl OwnedRecord {
    /// The record as it could be sent again, with its key, value, headers and timestamp, to
    /// whatever partition the key leads to.
    pub fn as_record(&self) -> Record<'_> {
        let mut record = Record::tombstone().timestamp(self.timestamp);
        record.key = self.key.as_deref();
        record.value = self.value.as_deref();
        for (name, value) in &self.headers {
            record = record.header(name, value);
        }
        record
    }
}
