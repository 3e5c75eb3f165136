//! Records for one partition, laid out as they will lie in the log.
//!
//! The invariant it keeps: the body is what the records come to when they are encoded one behind the
//! other, each with its time counted from the first. Filled under the inbox's lock, then owned by
//! whoever drains.

use std::time::Instant;

use super::body::Body;
use super::fate::{Outcome, Promise};
use crate::error::Result;
use crate::log::Encoded;
use crate::record::Record;
use crate::record_codec::{self, Headers};
use crate::sent::Sent;
use crate::timestamp::Timestamp;

/// What is to be remembered of a record beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extra {
    pub(super) tag: u64,
    /// Whether the application chose the partition.
    pub(super) has_partition: bool,
}

/// What one record more comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    pub(super) index: u32,
    pub(super) bytes: usize,
}

/// Records that are appended together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) promise: Promise,
    pub(super) body: Body,
    pub(super) count: u32,
    largest: usize,
    first: Timestamp,
    newest: Timestamp,
    /// Whether its records are without timestamps of their own.
    pub(super) is_append_time: bool,
    /// Of the few records that need it, with their places, rising.
    extras: Vec<(u32, Extra)>,
    /// Which flush it is counted for.
    pub(super) epoch: u64,
    /// What the body took when it was used before, if it is one that is kept; else 0.
    pub(super) kept: usize,
    /// When it is to be sent although it is not full.
    pub(super) deadline: Option<Instant>,
    /// How often it could not be sent.
    pub(super) failures: u32,
    /// Since when its topic has no room for it.
    pub(super) full_since: Option<Instant>,
    /// Where it was appended and where that ends, while it waits to be synced.
    pub(super) appended: Option<(Outcome, u64)>,
    /// What became of its first records, if they are sent one by one.
    pub(super) each: Option<Vec<Result<Sent>>>,
}

impl Batch {
    pub(super) fn new(
        promise: Promise,
        (body, kept): (Body, usize),
        first: Timestamp,
        is_append_time: bool,
    ) -> Self {
        Self {
            promise,
            body,
            count: 0,
            largest: 0,
            first,
            newest: first,
            is_append_time,
            extras: Vec::new(),
            epoch: 0,
            kept,
            deadline: None,
            failures: 0,
            full_since: None,
            appended: None,
            each: None,
        }
    }

    /// What a record comes to that takes `bytes` without its distance in time.
    #[inline]
    pub(super) fn bytes_with(&self, bytes: usize, timestamp: Timestamp) -> usize {
        self.body.len() + bytes + record_codec::delta_bytes(self.delta(timestamp))
    }

    #[inline]
    fn delta(&self, timestamp: Timestamp) -> i64 {
        if self.is_append_time { 0 } else { timestamp.as_millis() - self.first.as_millis() }
    }

    /// Adds a record that takes `bytes` without its distance in time.
    #[inline]
    pub(super) fn push(
        &mut self,
        record: &Record<'_>,
        bytes: usize,
        timestamp: Timestamp,
        extra: Extra,
    ) -> Added {
        let before = self.held();
        let index = self.count;
        self.push_plain(record, bytes, timestamp);
        if extra != Extra::default() {
            self.extras.push((index, extra));
        }
        Added { index, bytes: self.held() - before }
    }

    /// As [`push`](Self::push), for a record of which nothing more is to be remembered. Returns what it
    /// takes.
    #[inline]
    pub(super) fn push_plain(
        &mut self,
        record: &Record<'_>,
        bytes: usize,
        timestamp: Timestamp,
    ) -> usize {
        let delta = self.delta(timestamp);
        let all = bytes + record_codec::delta_bytes(delta);
        record_codec::encode(record, delta, &mut self.body.add(all));
        self.count += 1;
        self.largest = self.largest.max(bytes);
        self.newest = self.newest.max(timestamp);
        all
    }

    /// What it takes in memory, in bytes.
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.body.len() + self.extras.len() * size_of::<(u32, Extra)>()
    }

    /// All of it, as the log takes it.
    pub(super) fn encoded(&self) -> Encoded<'_> {
        Encoded {
            body: self.body.as_slice(),
            count: self.count,
            largest: self.largest,
            timestamp: self.first.as_millis(),
            newest: self.newest.as_millis(),
            is_append_time: self.is_append_time,
        }
    }

    /// The records, as they could be sent one by one, with their times.
    pub(super) fn records(&self) -> impl Iterator<Item = (Record<'_>, Extra)> {
        let mut at = 0;
        let body = self.body.as_slice();
        let mut extras = self.extras.iter().peekable();
        (0..self.count).map_while(move |index| {
            let layout = record_codec::decode(body, at)?;
            at = layout.end;
            let mut record = Record::tombstone();
            record.key = layout.key.and_then(|range| body.get(range));
            record.value = layout.value.and_then(|range| body.get(range));
            let headers = body.get(layout.headers..).unwrap_or_default();
            record.headers.extend(Headers::new(headers, layout.header_count));
            let time = self.first.as_millis() + layout.timestamp_delta;
            record.timestamp = Some(Timestamp::from_millis(time));
            let extra = extras.next_if(|(place, _)| *place == index);
            Some((record, extra.map(|(_, extra)| *extra).unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_of_a_batch_as_they_went_in() {
        let time = Timestamp::from_millis;
        let promise = Promise::new(0, std::process::id());
        let mut batch = Batch::new(promise, (Body::default(), 0), time(1000), false);
        let full = Record::new("v").key("k").header("a", "1").header("b", "").header("c", "3");
        let tagged = Extra { tag: 7, has_partition: true };
        for (record, at, extra) in [
            (&Record::tombstone(), 1000, Extra::default()),
            (&full, 900, tagged),
            (&Record::new(""), 2000, Extra::default()),
        ] {
            let bytes = record_codec::encoded_bytes(record, 0);
            let expected = batch.bytes_with(bytes, time(at));
            batch.push(record, bytes, time(at), extra);
            assert_eq!(batch.body.len(), expected);
        }
        let found: Vec<_> = batch.records().collect();
        let times: Vec<_> = found.iter().map(|(record, _)| record.timestamp).collect();
        assert_eq!(times, [Some(time(1000)), Some(time(900)), Some(time(2000))]);
        assert_eq!((found[0].0.key, found[0].0.value), (None, None));
        assert_eq!((found[1].0.key, found[1].0.value), (full.key, full.value));
        assert_eq!(found[1].0.headers, full.headers);
        assert_eq!((found[1].1, found[2].1), (tagged, Extra::default()));
        assert_eq!(found[2].0.value, Some(&b""[..]));
        assert_eq!((batch.encoded().timestamp, batch.encoded().newest), (1000, 2000));
    }
}
