//! A record with its own copy of everything, on its way to a topic: what a channel can carry and what
//! is handed back when it could not be sent.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::record::Record;
use crate::timestamp::Timestamp;

/// A record to be sent that owns its parts and names its topic, for
/// [`AsyncProducer::input`](crate::AsyncProducer::input).
///
/// ```
/// use forebay::OutgoingRecord;
///
/// let record = OutgoingRecord::new("orders", "paid").key("user-7").header("trace", "ab12").tag(7);
/// assert_eq!((&*record.topic, record.tag), ("orders", 7));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a record does nothing until it is sent"]
pub struct OutgoingRecord {
    /// The topic it goes to.
    pub topic: Arc<str>,
    /// Its key; `None` for a record without.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its time. `None`: the time at which the producer takes it.
    pub timestamp: Option<Timestamp>,
    /// The partition it goes to. `None`: the partitioner decides.
    pub partition: Option<u32>,
    /// A number of the application's own, which is handed back with what became of the record and is
    /// not stored.
    pub tag: u64,
    /// Dropped when it is met: whoever flushes has an eye on it. Such a record is not sent.
    pub(super) marker: Option<Sender<()>>,
}

impl OutgoingRecord {
    /// A record with a value.
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::tombstone(topic) }
    }

    /// A record without a value.
    pub fn tombstone(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
            partition: None,
            tag: 0,
            marker: None,
        }
    }

    /// A copy of a borrowed record.
    pub(super) fn copy_of(topic: &str, record: &Record<'_>) -> Self {
        Self {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), header.value.to_vec()))
                .collect(),
            timestamp: record.timestamp,
            partition: record.partition,
            ..Self::tombstone(topic)
        }
    }

    /// What tells whoever holds the other end of `marker` that all before it was taken.
    pub(super) fn marking(marker: Sender<()>) -> Self {
        Self { marker: Some(marker), ..Self::tombstone("") }
    }

    /// The key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header behind those it has.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The time of the record. Default: the time at which the producer takes it.
    pub fn timestamp(mut self, timestamp: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }

    /// The partition it goes to, whatever its key. Default: the partitioner decides.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// A number that is handed back with what became of the record. Default: 0.
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// The same record, borrowed, for any of the sends.
    pub fn as_record(&self) -> Record<'_> {
        let mut record = Record::tombstone();
        record.key = self.key.as_deref();
        record.value = self.value.as_deref();
        record.timestamp = self.timestamp;
        record.partition = self.partition;
        for (name, value) in &self.headers {
            record = record.header(name, value);
        }
        record
    }
}
