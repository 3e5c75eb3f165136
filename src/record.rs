//! A record as it is sent: it borrows what it is given, so that a send copies once, into the log.

use smallvec::SmallVec;

use crate::timestamp::Timestamp;

/// The most headers a record may have.
pub const MAX_HEADERS: usize = 1024;

/// A named piece of metadata on a record. Names may repeat and values may be any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: &'a [u8],
}

/// A record to be sent: a value, and optionally a key, headers, a timestamp and a partition.
///
/// It borrows its parts, and up to two headers need no allocation.
///
/// ```
/// use forebay::{Record, Timestamp};
///
/// let record = Record::new("paid")
///     .key("user-7")
///     .header("trace", "ab12")
///     .timestamp(Timestamp::from_millis(1_700_000_000_000));
/// # let _ = record;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a record does nothing until it is sent"]
pub struct Record<'a> {
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) partition: Option<u32>,
    pub(crate) headers: SmallVec<[Header<'a>; 2]>,
}

impl<'a> Record<'a> {
    /// A record with a value; an empty value is a value.
    #[inline]
    pub fn new<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Self {
        Self { value: Some(value.as_ref()), ..Self::default() }
    }

    /// A record without a value. With a key it says, in Kafka's convention, that what was known
    /// under the key is gone.
    ///
    /// ```
    /// # use forebay::Record;
    /// let forget = Record::tombstone().key("user-7");
    /// # let _ = forget;
    /// ```
    #[inline]
    pub fn tombstone() -> Self {
        Self::default()
    }

    /// The key. Records of one topic with the same key go to the same partition, as long as the
    /// number of partitions stays the same. An empty key is a key.
    #[inline]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Adds a header behind those it has.
    #[inline]
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push(Header { name, value: value.as_ref() });
        self
    }

    /// The time of the record. Default: the time of the send. A topic with
    /// [`TimestampType::AppendTime`](crate::TimestampType::AppendTime) replaces it.
    #[inline]
    pub fn timestamp(mut self, timestamp: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }

    /// The partition it goes to, whatever its key. Default: the partitioner decides.
    #[inline]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Whether it has a key, for partitioners and other code that is handed a record.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The key it was given.
    #[must_use]
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value it was given.
    #[must_use]
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        self.value
    }
}
