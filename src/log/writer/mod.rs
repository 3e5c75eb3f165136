//! The appending side of a log, worked with under the partition's append lock.
//!
//! An append has two steps: one that may fail and changes nothing that can be seen, and one that
//! cannot fail. So a batch over several partitions can be prepared in all of them before it is
//! written in any.

mod rest;
mod segments;

pub(crate) use rest::AtRest;

use std::sync::Arc;

use super::checkpoint::Tail;
use super::flush::{Flush, FlushKind, FlushSchedule};
use super::resting::Resting;
use super::shared::Log;
use crate::config::{TimestampType, TopicConfig};
use crate::error::{Error, Result};
use crate::quota::Room;
use crate::record::Record;
use crate::record_codec;
use crate::record_quota::RecordQuota;
use crate::segment::{Append, Pages, SegmentWriter};
use crate::storage::Stage;
use crate::storage::frame::{APPEND_TIME, Filled, HEADER_BYTES, MAX_RECORDS, stride};
use crate::timestamp::Timestamp;

/// The most one frame may take: positions in a segment are 32 bits wide.
const MAX_FRAME_BYTES: usize = 1 << 30;

/// Where a record, or the first one of a batch, was put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) offset: u64,
    pub(crate) timestamp: Timestamp,
}

/// Appends to a log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Arc<Log>,
    config: Arc<TopicConfig>,
    room: Room,
    records: Arc<RecordQuota>,
    next_offset: u64,
    /// The offset below which records were granted; `u64::MAX` where they need not be.
    granted: u64,
    /// As long as the log ends at or below this offset, an append has nothing to ask but whether its
    /// bytes fit: records are granted, the segment holds them, and no flush is due. 0 without a
    /// segment. Set by [`set_smooth`](Self::set_smooth) whenever one of those changes.
    smooth_until: u64,
    /// The broker's time of the last append; with `AppendTime` no record gets an earlier one.
    last_append: i64,
    /// The largest timestamp of the whole log; right once `active` is open.
    max_timestamp: i64,
    active: Option<SegmentWriter>,
    /// When the current segment is old enough to be rolled, in milliseconds.
    roll_at: i64,
    /// Before this time it is rolled too, where records are deleted by their age: it was made in the
    /// future, since when the clock was set back, and must not wait until the clock comes there.
    roll_before: i64,
    tail: Tail,
    resting: Resting,
    /// What came to pass since [`take_chores`](Self::take_chores) was last asked: some of `ROLLED`,
    /// `TIGHT`, `NOT_SMOOTH` and `OPENED`.
    news: u8,
    flush: FlushSchedule,
}

/// A segment was rolled.
const ROLLED: u8 = 1;
/// Records are nearly as many as they may be.
const TIGHT: u8 = 2;
/// An append was not a smooth one.
const NOT_SMOOTH: u8 = 4;
/// A segment is open, where there was none before.
const OPENED: u8 = 8;
/// No segment holds more records: offsets in it are 32 bits wide.
const MAX_SEGMENT_RECORDS: u64 = 1 << 32;

impl LogWriter {
    pub(super) fn new(
        log: Arc<Log>,
        config: Arc<TopicConfig>,
        room: Room,
        records: Arc<RecordQuota>,
        tail: Tail,
    ) -> Self {
        let next_offset = log.end_offset();
        let mut writer = Self {
            flush: FlushSchedule::new(&config, next_offset),
            next_offset,
            log,
            config,
            room,
            records,
            granted: u64::MAX,
            smooth_until: 0,
            last_append: Timestamp::MIN.as_millis(),
            max_timestamp: -1,
            active: None,
            roll_at: i64::MAX,
            roll_before: i64::MIN,
            tail,
            resting: Resting::default(),
            news: 0,
        };
        writer.set_counting();
        writer
    }

    /// Whether the pages of the segment being written are large.
    #[cfg(test)]
    pub(crate) fn large_pages(&self) -> bool {
        self.active.as_ref().is_some_and(SegmentWriter::large_pages)
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Uses other settings from the next append on.
    pub(crate) fn set_config(&mut self, config: Arc<TopicConfig>) {
        if let Some(active) = &mut self.active {
            let max_records = config.segment_records().min(MAX_SEGMENT_RECORDS);
            active.set_limits(config.index_interval_bytes, max_records);
        }
        self.config = config;
        self.set_counting();
        self.set_roll_time();
        self.flush.set(&self.config, self.next_offset);
        self.set_smooth();
    }

    /// Works out as far as where appends are smooth.
    fn set_smooth(&mut self) {
        self.smooth_until = match &self.active {
            Some(active) => {
                self.granted.min(active.records_end()).min(self.flush.at().saturating_sub(1))
            }
            None => 0,
        };
    }

    /// Begins or ends to count records.
    fn set_counting(&mut self) {
        let partition = self.log.name().partition;
        if self.config.counts_records() == (self.granted != u64::MAX) {
            return;
        }
        if self.config.counts_records() {
            self.granted = self.next_offset;
            self.records.join(partition, self.log.start_offset(), self.next_offset);
        } else {
            self.records.leave(partition, self.granted);
            self.granted = u64::MAX;
        }
    }

    /// Asks for so many records more to be appended.
    #[cold]
    fn grant(&mut self, records: u32) -> Result<()> {
        let wanted = self.next_offset + u64::from(records);
        self.records.take(wanted - self.granted)?;
        self.granted = wanted;
        if self.records.is_tight() {
            self.news |= TIGHT;
        }
        Ok(())
    }

    /// Gives back what was granted for records that then were not appended.
    #[cold]
    pub(crate) fn give_back(&mut self) {
        if self.granted != u64::MAX {
            self.records.give_back(self.granted - self.next_offset);
            self.granted = self.next_offset;
            self.set_smooth();
        }
    }

    /// When something was last appended, by the wall clock in milliseconds.
    pub(super) fn last_append(&self) -> i64 {
        self.active.as_ref().map_or(self.last_append, |active| active.summary().last_append)
    }

    /// Says that a flush begins that was asked for some time ago: what comes from here on asks for
    /// another.
    pub(crate) fn flush_begins(&mut self, kind: FlushKind) {
        self.flush.begins(kind, &self.config, self.next_offset);
        self.set_smooth();
    }

    /// Appends one record.
    #[inline]
    pub(crate) fn append(&mut self, record: &Record<'_>, now: Timestamp) -> Result<Appended> {
        let (timestamp, attributes) = self.stamp(record, now);
        let body_bytes = record_codec::encoded_bytes(record, 0);
        if (HEADER_BYTES + body_bytes) as u64 > self.config.max_record_bytes {
            return Err(
                self.too_large((HEADER_BYTES + body_bytes) as u64, self.config.max_record_bytes)
            );
        }
        self.prepare(body_bytes, 1, now)?;
        let append = Append {
            offset: self.next_offset,
            count: 1,
            timestamp,
            newest: timestamp,
            attributes,
            body_bytes,
            now: now.as_millis(),
        };
        self.append_frame(&append, |stage| record_codec::encode(record, 0, stage))?;
        Ok(Appended { offset: append.offset, timestamp: Timestamp::from_millis(timestamp) })
    }

    /// Measures a batch for this partition, and refuses one it will not take. Changes nothing.
    pub(crate) fn measure_batch<'a, 'r: 'a>(
        &self,
        records: impl ExactSizeIterator<Item = &'a Record<'r>> + Clone,
        now: Timestamp,
    ) -> Result<Append> {
        let count = records.len();
        let Some(first) = records.clone().next() else {
            unreachable!("a partition gets a batch only if it gets a record");
        };
        if count > MAX_RECORDS {
            let topic = self.log.name().topic.to_string();
            return Err(Error::TooManyRecords { topic, count, max: MAX_RECORDS });
        }
        let (timestamp, attributes) = self.stamp(first, now);
        let (mut newest, mut body_bytes) = (timestamp, 0);
        for record in records {
            let (own, _) = self.stamp(record, now);
            let bytes = record_codec::encoded_bytes(record, own - timestamp);
            if (HEADER_BYTES + bytes) as u64 > self.config.max_record_bytes {
                return Err(
                    self.too_large((HEADER_BYTES + bytes) as u64, self.config.max_record_bytes)
                );
            }
            body_bytes += bytes;
            newest = newest.max(own);
        }
        if HEADER_BYTES + body_bytes > MAX_FRAME_BYTES {
            return Err(self.too_large((HEADER_BYTES + body_bytes) as u64, MAX_FRAME_BYTES as u64));
        }
        Ok(Append {
            offset: self.next_offset,
            count: u32::try_from(count).expect("MAX_RECORDS is below 2^32"),
            timestamp,
            newest,
            attributes,
            body_bytes,
            now: now.as_millis(),
        })
    }

    /// Makes room for what [`measure_batch`](Self::measure_batch) has measured.
    pub(crate) fn prepare_batch(&mut self, append: &Append, now: Timestamp) -> Result<()> {
        self.prepare(append.body_bytes, append.count, now)
    }

    /// Writes a batch that was measured and prepared, so that nobody can see it yet.
    pub(crate) fn fill_batch<'a, 'r: 'a>(
        &mut self,
        append: &Append,
        records: impl Iterator<Item = &'a Record<'r>>,
        now: Timestamp,
    ) -> Result<Filled> {
        let filled = self.fill(append, |stage| encode_all(append, records, now, stage));
        self.active_mut().write_ahead(append)?;
        Ok(filled)
    }

    /// Appends a batch.
    pub(crate) fn append_batch<'a, 'r: 'a>(
        &mut self,
        records: impl ExactSizeIterator<Item = &'a Record<'r>> + Clone,
        now: Timestamp,
    ) -> Result<Append> {
        let append = self.measure_batch(records.clone(), now)?;
        self.prepare_batch(&append, now)?;
        self.append_frame(&append, |stage| encode_all(&append, records, now, stage))?;
        Ok(append)
    }

    /// Lets readers see a batch that was filled.
    pub(crate) fn publish_batch(&mut self, append: &Append, filled: &Filled) -> Result<()> {
        self.publish(append, filled)
    }

    /// The record's timestamp in milliseconds, and the attributes that go with it.
    #[inline]
    fn stamp(&self, record: &Record<'_>, now: Timestamp) -> (i64, u16) {
        match self.config.timestamp_type {
            TimestampType::CreateTime => (record.timestamp.unwrap_or(now).as_millis(), 0),
            TimestampType::AppendTime => (now.as_millis().max(self.last_append), APPEND_TIME),
        }
    }

    #[cold]
    fn too_large(&self, bytes: u64, max_bytes: u64) -> Error {
        Error::RecordTooLarge { topic: self.log.name().topic.to_string(), bytes, max_bytes }
    }

    /// Makes sure that a frame can be appended, rolling or growing if need be. Changes nothing
    /// that a reader could see, and on failure nothing at all.
    #[inline]
    fn prepare(&mut self, body_bytes: usize, records: u32, now: Timestamp) -> Result<()> {
        self.log.check_gate()?;
        self.log.check_poison()?;
        let stride = stride(HEADER_BYTES + body_bytes);
        if self.next_offset + u64::from(records) <= self.smooth_until
            && self.is_young(now)
            && self.active.as_ref().is_some_and(|active| active.is_reserved(stride))
        {
            return Ok(());
        }
        self.prepare_more(stride, records, now)
    }

    /// As [`prepare`](Self::prepare), where more has to be looked at.
    #[cold]
    fn prepare_more(&mut self, stride: usize, records: u32, now: Timestamp) -> Result<()> {
        self.news |= NOT_SMOOTH;
        let needs_grant = self.next_offset + u64::from(records) > self.granted;
        if needs_grant {
            self.grant(records)?;
        }
        let result = self.make_room(stride, now);
        if result.is_err() && needs_grant {
            self.give_back();
        }
        self.set_smooth();
        result
    }

    fn make_room(&mut self, stride: usize, now: Timestamp) -> Result<()> {
        let is_young = self.is_young(now);
        if let Some(active) = &mut self.active
            && active.has_room(stride, self.next_offset)
            && is_young
        {
            return active.reserve(stride);
        }
        self.next_segment(stride, now)
    }

    #[inline]
    fn active_mut(&mut self) -> &mut SegmentWriter {
        self.active.as_mut().expect("prepare() opened a segment")
    }

    #[inline]
    fn fill(&mut self, append: &Append, fill: impl FnOnce(&mut Stage<'_>)) -> Filled {
        #[cfg(loom)]
        self.misbehave(append);
        self.active_mut().fill(append, fill)
    }

    /// Does what is planted.
    #[cfg(loom)]
    fn misbehave(&mut self, append: &Append) {
        let planted = self.log.planted();
        self.active_mut().plant(planted);
        if planted == crate::sync::Planted::EndsEarly {
            self.log.set_end_offset(self.next_offset + u64::from(append.count));
        }
    }

    /// Writes a frame for which room was prepared, and lets readers see it.
    #[inline]
    fn append_frame(&mut self, append: &Append, fill: impl FnOnce(&mut Stage<'_>)) -> Result<()> {
        #[cfg(loom)]
        self.misbehave(append);
        self.active_mut().append(append, fill)?;
        self.appended(append);
        Ok(())
    }

    #[inline]
    fn publish(&mut self, append: &Append, filled: &Filled) -> Result<()> {
        self.active_mut().publish(append, filled)?;
        self.appended(append);
        Ok(())
    }

    /// Says that the log has grown.
    #[inline]
    fn appended(&mut self, append: &Append) {
        self.next_offset += u64::from(append.count);
        self.last_append = self.last_append.max(append.now);
        self.max_timestamp = self.max_timestamp.max(append.newest);
        self.log.set_end_offset(self.next_offset);
    }

    /// What the last append left to be done, once.
    #[inline]
    pub(crate) fn take_chores(&mut self) -> Option<Chores> {
        if self.news == 0 {
            return None;
        }
        self.take_news()
    }

    #[cold]
    fn take_news(&mut self) -> Option<Chores> {
        let left = self.active.as_mut().and_then(SegmentWriter::take_left);
        let flush_is_due = self.flush.is_due(self.next_offset);
        if left.is_none() && self.news == NOT_SMOOTH && !flush_is_due {
            self.news = 0;
            return None;
        }
        let flush = if flush_is_due {
            let flush = self.flush.take(&self.config, self.next_offset);
            self.set_smooth();
            flush
        } else {
            Flush::default()
        };
        let news = std::mem::take(&mut self.news);
        let (pages, room_is_tight) = left.unwrap_or_default();
        let is_tight = news & TIGHT != 0 || room_is_tight;
        let has_opened = news & OPENED != 0;
        Some(Chores { pages, sealing: self.sealing(news), flush, is_tight, has_opened })
    }

    fn sealing(&self, news: u8) -> Option<Sealing> {
        if news & ROLLED == 0 {
            return None;
        }
        Some(if self.log.is_far_behind() { Sealing::Caller } else { Sealing::Background })
    }

    /// Appends records that lie in a body already, as one frame: a copy and a checksum.
    ///
    /// `None`, and nothing has changed, if the topic was altered since they were laid there, so that
    /// their timestamps are not what it wants or one of them may be too large for it. They are then
    /// to be appended one by one.
    pub(crate) fn append_encoded(
        &mut self,
        encoded: &Encoded<'_>,
        now: Timestamp,
    ) -> Result<Option<Appended>> {
        let is_append_time = self.config.timestamp_type == TimestampType::AppendTime;
        if encoded.is_append_time != is_append_time
            || (HEADER_BYTES + encoded.largest) as u64 > self.config.max_record_bytes
        {
            return Ok(None);
        }
        let body_bytes = encoded.body.len();
        if HEADER_BYTES + body_bytes > MAX_FRAME_BYTES {
            return Err(self.too_large((HEADER_BYTES + body_bytes) as u64, MAX_FRAME_BYTES as u64));
        }
        let (timestamp, newest, attributes) = if is_append_time {
            let time = now.as_millis().max(self.last_append);
            (time, time, APPEND_TIME)
        } else {
            (encoded.timestamp, encoded.newest, 0)
        };
        self.prepare(body_bytes, encoded.count, now)?;
        let append = Append {
            offset: self.next_offset,
            count: encoded.count,
            timestamp,
            newest,
            attributes,
            body_bytes,
            now: now.as_millis(),
        };
        self.append_frame(&append, |stage| stage.put(encoded.body))?;
        let timestamp = Timestamp::from_millis(timestamp);
        Ok(Some(Appended { offset: append.offset, timestamp }))
    }
}

/// Lays out the records of a batch, one behind the other.
#[inline]
fn encode_all<'a, 'r: 'a>(
    append: &Append,
    records: impl Iterator<Item = &'a Record<'r>>,
    now: Timestamp,
    stage: &mut Stage<'_>,
) {
    for record in records {
        let own = append.timestamp_of(record, now).as_millis();
        record_codec::encode(record, own - append.timestamp, stage);
    }
}

/// Records laid out by [`record_codec::encode`], one behind the other.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) count: u32,
    /// What the largest takes if its timestamp is that of the frame, in bytes.
    pub(crate) largest: usize,
    /// Timestamp of the first record, and the largest one, in milliseconds.
    pub(crate) timestamp: i64,
    pub(crate) newest: i64,
    /// Whether they are without timestamps of their own, for a topic that gives them one.
    pub(crate) is_append_time: bool,
}

/// What an append leaves to be done when the append lock has been given back.
#[derive(Debug)]
pub(crate) struct Chores {
    /// Pages to be prepared.
    pub(crate) pages: Option<Arc<Pages>>,
    /// Whether there is a segment to be sealed, and by whom.
    pub(crate) sealing: Option<Sealing>,
    /// Whether the log is to be synced, and when.
    pub(crate) flush: Flush,
    /// Whether the topic is nearly full.
    pub(crate) is_tight: bool,
    /// Whether a segment is open where there was none before.
    pub(crate) has_opened: bool,
}

/// Who is to seal rolled segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    Background,
    /// The disk is far behind: who appends waits for it.
    Caller,
}
