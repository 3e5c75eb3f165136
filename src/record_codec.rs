//! How a record lies in the body of a frame.
//!
//! | field | present |
//! |---|---|
//! | flags: bit 0 value, bit 1 key, bit 2 headers, bit 3 timestamp delta; others reserved, 0 | always |
//! | timestamp less the frame's, zigzag varint | bit 3 |
//! | key length, varint | bit 1 |
//! | value length, varint | bit 0 |
//! | number of headers, varint | bit 2 |
//! | key | bit 1 |
//! | value | bit 0 |
//! | for each header: name length, varint; name, UTF-8; value length, varint; value | bit 2 |
//!
//! A varint is a number in groups of 7 bits, lowest first, the high bit set on all but the last.
//! A record of 100 bytes without key and headers takes 102.

use std::ops::Range;

use crate::record::{Header, Record};
use crate::storage::Stage;

const HAS_VALUE: u8 = 1 << 0;
const HAS_KEY: u8 = 1 << 1;
const HAS_HEADERS: u8 = 1 << 2;
const HAS_TIMESTAMP: u8 = 1 << 3;
const KNOWN_FLAGS: u8 = HAS_VALUE | HAS_KEY | HAS_HEADERS | HAS_TIMESTAMP;

/// What `record` takes in a body, `timestamp_delta` milliseconds after the frame's timestamp.
#[inline]
pub(crate) fn encoded_bytes(record: &Record<'_>, timestamp_delta: i64) -> usize {
    if let (Some(value), None, true, 0) =
        (record.value, record.key, record.headers.is_empty(), timestamp_delta)
    {
        return 1 + prefixed_bytes(value);
    }
    encoded_bytes_of_any(record, timestamp_delta)
}

fn encoded_bytes_of_any(record: &Record<'_>, timestamp_delta: i64) -> usize {
    let field = |bytes: Option<&[u8]>| bytes.map_or(0, prefixed_bytes);
    let headers = if record.headers.is_empty() { 0 } else { headers_bytes(&record.headers) };
    1 + delta_bytes(timestamp_delta) + field(record.key) + field(record.value) + headers
}

/// What of it is due to the distance in time.
#[inline]
pub(crate) fn delta_bytes(timestamp_delta: i64) -> usize {
    if timestamp_delta == 0 { 0 } else { varint_bytes(zigzag(timestamp_delta)) }
}

fn headers_bytes(headers: &[Header<'_>]) -> usize {
    let each =
        |header: &Header<'_>| prefixed_bytes(header.name.as_bytes()) + prefixed_bytes(header.value);
    varint_bytes(headers.len() as u64) + headers.iter().map(each).sum::<usize>()
}

#[inline]
fn prefixed_bytes(bytes: &[u8]) -> usize {
    varint_bytes(bytes.len() as u64) + bytes.len()
}

/// Where a record is laid: into a frame, or into a body that will be one later.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);
    fn put_byte(&mut self, byte: u8);
}

impl Put for Stage<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        Stage::put(self, bytes);
    }

    #[inline]
    fn put_byte(&mut self, byte: u8) {
        Stage::put_byte(self, byte);
    }
}

/// Writes `record`, exactly [`encoded_bytes`] bytes.
#[inline]
pub(crate) fn encode(record: &Record<'_>, timestamp_delta: i64, stage: &mut impl Put) {
    // What most records are: a value, and its length in one byte or two.
    if let (Some(value), None, true, 0) =
        (record.value, record.key, record.headers.is_empty(), timestamp_delta)
        && value.len() < 1 << 14
    {
        let length = value.len();
        let low = (length & 0x7f) as u8;
        if length < 0x80 {
            stage.put(&[HAS_VALUE, low]);
        } else {
            stage.put(&[HAS_VALUE, low | 0x80, (length >> 7) as u8]);
        }
        return stage.put(value);
    }
    encode_any(record, timestamp_delta, stage);
}

/// As [`encode`], for a record of any kind.
fn encode_any(record: &Record<'_>, timestamp_delta: i64, stage: &mut impl Put) {
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    stage.put_byte(
        flag(record.value.is_some(), HAS_VALUE)
            | flag(record.key.is_some(), HAS_KEY)
            | flag(!record.headers.is_empty(), HAS_HEADERS)
            | flag(timestamp_delta != 0, HAS_TIMESTAMP),
    );
    if timestamp_delta != 0 {
        put_varint(stage, zigzag(timestamp_delta));
    }
    if let Some(key) = record.key {
        put_varint(stage, key.len() as u64);
    }
    if let Some(value) = record.value {
        put_varint(stage, value.len() as u64);
    }
    if !record.headers.is_empty() {
        put_varint(stage, record.headers.len() as u64);
    }
    if let Some(key) = record.key {
        stage.put(key);
    }
    if let Some(value) = record.value {
        stage.put(value);
    }
    for header in &record.headers {
        put_varint(stage, header.name.len() as u64);
        stage.put(header.name.as_bytes());
        put_varint(stage, header.value.len() as u64);
        stage.put(header.value);
    }
}

/// Where the parts of a record lie in the bytes it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
    /// Number of headers and where the first begins.
    pub(crate) header_count: usize,
    pub(crate) headers: usize,
    /// Where the next record begins.
    pub(crate) end: usize,
}

/// Finds the parts of the record at `start` of `body`, or `None` if that is not a record. Every
/// range lies in `body` and header names are UTF-8.
#[expect(clippy::inline_always, reason = "left to chance, replaying is a tenth slower at times")]
#[inline(always)]
pub(crate) fn decode(body: &[u8], start: usize) -> Option<Layout> {
    let mut cursor = Cursor { bytes: body, at: start };
    let flags = cursor.byte()?;
    if flags == HAS_VALUE {
        // What most records are.
        let length = cursor.length()?;
        let value = Some(cursor.range(length)?);
        let at = cursor.at;
        let (key, header_count) = (None, 0);
        return Some(Layout { timestamp_delta: 0, key, value, header_count, headers: at, end: at });
    }
    decode_any(flags, cursor)
}

/// Finds the parts of a record of which `cursor` has passed the flags.
#[inline]
fn decode_any(flags: u8, mut cursor: Cursor<'_>) -> Option<Layout> {
    if flags & !KNOWN_FLAGS != 0 {
        return None;
    }
    let timestamp_delta = match flags & HAS_TIMESTAMP {
        0 => 0,
        _ => unzigzag(cursor.varint()?),
    };
    let key_bytes = cursor.length_if(flags & HAS_KEY != 0)?;
    let value_bytes = cursor.length_if(flags & HAS_VALUE != 0)?;
    let header_count = cursor.length_if(flags & HAS_HEADERS != 0)?.unwrap_or(0);
    let key = cursor.range_if(key_bytes)?;
    let value = cursor.range_if(value_bytes)?;
    let headers = cursor.at;
    for _ in 0..header_count {
        cursor.header()?;
    }
    Some(Layout { timestamp_delta, key, value, header_count, headers, end: cursor.at })
}

/// The headers of a record, in the order they were given. Made by
/// [`ConsumerRecord::headers`](crate::ConsumerRecord::headers).
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Start;
///
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send(Record::new("paid").header("trace", "ab12").header("trace", "cd34"))?;
/// let batch = broker.reader().topic("orders", Start::Earliest).open()?.try_poll()?;
/// let headers = batch.get(0).expect("one was sent").headers();
/// assert_eq!(headers.map(|header| header.value).collect::<Vec<_>>(), [b"ab12", b"cd34"]);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Headers<'a> {
    /// `count` headers at the start of `bytes`, which [`decode`] has found to be sound.
    pub(crate) fn new(bytes: &'a [u8], count: usize) -> Self {
        Self { cursor: Cursor { bytes, at: 0 }, left: count }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.cursor.header()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Takes fields from the front of bytes that may be anything.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group {
                return None;
            }
            number |= group << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    #[inline]
    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    #[inline]
    #[expect(clippy::option_option, reason = "malformed, absent and present are three outcomes")]
    fn length_if(&mut self, present: bool) -> Option<Option<usize>> {
        if present { self.length().map(Some) } else { Some(None) }
    }

    #[inline]
    fn range(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length)?;
        if end > self.bytes.len() {
            return None;
        }
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    #[inline]
    #[expect(clippy::option_option, reason = "malformed, absent and present are three outcomes")]
    fn range_if(&mut self, length: Option<usize>) -> Option<Option<Range<usize>>> {
        match length {
            Some(length) => self.range(length).map(Some),
            None => Some(None),
        }
    }

    fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let range = self.range(length)?;
        self.bytes.get(range)
    }

    fn header(&mut self) -> Option<Header<'a>> {
        let name = std::str::from_utf8(self.prefixed()?).ok()?;
        Some(Header { name, value: self.prefixed()? })
    }
}

#[inline]
fn varint_bytes(number: u64) -> usize {
    if number < 0x80 {
        return 1;
    }
    (64 - number.leading_zeros() as usize).div_ceil(7)
}

#[inline]
fn put_varint(stage: &mut impl Put, mut number: u64) {
    while number >= 0x80 {
        stage.put_byte((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    stage.put_byte(number as u8);
}

/// Small numbers of either sign as small numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline]
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::RegionWriter;

    fn encoded(record: &Record<'_>, delta: i64) -> Vec<u8> {
        let bytes = encoded_bytes(record, delta);
        let mut writer = RegionWriter::on_heap(bytes, b"").expect("heap");
        let mut stage = writer.stage(0, bytes).expect("room");
        encode(record, delta, &mut stage);
        stage.bytes(0).to_vec()
    }

    #[test]
    fn a_value_of_100_bytes_takes_102() {
        assert_eq!(encoded_bytes(&Record::new(&[0; 100]), 0), 102);
    }

    #[test]
    fn the_layout_is_the_one_in_the_table() {
        let record = Record::new("v").key("ke").header("n", "x");
        assert_eq!(encoded(&record, -2), b"\x0f\x03\x02\x01\x01kev\x01n\x01x");
        assert_eq!(encoded(&Record::tombstone(), 0), b"\0");
    }

    #[test]
    fn absent_and_empty_are_told_apart() {
        let absent = decode(&encoded(&Record::tombstone(), 0), 0).expect("sound");
        assert_eq!((absent.key, absent.value), (None, None));
        let empty = decode(&encoded(&Record::new("").key(""), 0), 0).expect("sound");
        assert_eq!((empty.key, empty.value), (Some(3..3), Some(3..3)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            headers in proptest::collection::vec((".{0,5}", proptest::collection::vec(any::<u8>(), 0..9)), 0..4),
            delta in any::<i64>(),
        ) {
            let mut record = Record::tombstone();
            record.value = value.as_deref();
            record.key = key.as_deref();
            for (name, value) in &headers {
                record = record.header(name, value);
            }
            let bytes = encoded(&record, delta);
            let layout = decode(&bytes, 0).expect("sound");
            prop_assert_eq!(layout.end, bytes.len());
            prop_assert_eq!(layout.timestamp_delta, delta);
            prop_assert_eq!(layout.key.map(|range| &bytes[range]), record.key);
            prop_assert_eq!(layout.value.map(|range| &bytes[range]), record.value);
            let found: Vec<_> = Headers::new(&bytes[layout.headers..], layout.header_count).collect();
            prop_assert_eq!(&found[..], &record.headers[..]);
        }

        #[test]
        fn any_bytes_are_a_record_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(layout) = decode(&bytes, 0) {
                prop_assert!(layout.end <= bytes.len());
                prop_assert_eq!(Headers::new(&bytes[layout.headers..], layout.header_count).count(), layout.header_count);
            }
        }
    }
}
