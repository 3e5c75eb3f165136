//! The appending side of a log, worked with under the partition's append lock.
//!
//! An append has two steps: one that may fail and changes nothing that can be seen, and one that
//! cannot fail. So a batch over several partitions can be prepared in all of them before it is
//! written in any.

use std::sync::Arc;

use super::checkpoint::Tail;
use super::flush::{Flush, FlushKind, FlushSchedule};
use super::shared::{Gate, Log, recovery_point, running_max};
use super::slot::Slot;
use crate::admission::Admission;
use crate::config::{TimestampType, TopicConfig};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::record_codec;
use crate::segment::{Append, NewSegment, Pages, SEGMENT_HEADER_BYTES, SegmentWriter};
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
    admission: Arc<Admission>,
    next_offset: u64,
    /// The broker's time of the last append; with `AppendTime` no record gets an earlier one.
    last_append: i64,
    /// The largest timestamp of the whole log; right once `active` is open.
    max_timestamp: i64,
    active: Option<SegmentWriter>,
    /// When the current segment is old enough to be rolled, in milliseconds.
    roll_at: i64,
    tail: Tail,
    /// Whether a segment was rolled since [`take_chores`](Self::take_chores) was last asked.
    rolled: bool,
    flush: FlushSchedule,
}

impl LogWriter {
    pub(super) fn new(
        log: Arc<Log>,
        config: Arc<TopicConfig>,
        admission: Arc<Admission>,
        tail: Tail,
    ) -> Self {
        let next_offset = log.end_offset();
        Self {
            flush: FlushSchedule::new(&config, next_offset),
            next_offset,
            log,
            config,
            admission,
            last_append: Timestamp::MIN.as_millis(),
            max_timestamp: -1,
            active: None,
            roll_at: i64::MAX,
            tail,
            rolled: false,
        }
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Uses other settings from the next append on.
    pub(crate) fn set_config(&mut self, config: Arc<TopicConfig>) {
        if let Some(active) = &mut self.active {
            active.set_index_interval(config.index_interval_bytes);
        }
        self.config = config;
        self.set_roll_time();
        self.flush.set(&self.config, self.next_offset);
    }

    /// Says that a flush begins that was asked for some time ago: what comes from here on asks for
    /// another.
    pub(crate) fn flush_begins(&mut self, kind: FlushKind) {
        self.flush.begins(kind, &self.config, self.next_offset);
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
        self.prepare(body_bytes, now)?;
        let append = Append {
            offset: self.next_offset,
            count: 1,
            timestamp,
            newest: timestamp,
            attributes,
            body_bytes,
            now: now.as_millis(),
        };
        let filled = self.fill(&append, |stage| record_codec::encode(record, 0, stage));
        self.publish(&append, &filled)?;
        Ok(Appended { offset: append.offset, timestamp: Timestamp::from_millis(timestamp) })
    }

    /// Measures a batch for this partition, and refuses one it will not take. Changes nothing.
    pub(crate) fn measure_batch(&self, records: &[&Record<'_>], now: Timestamp) -> Result<Append> {
        let topic = || self.log.name().topic.to_string();
        let Some(first) = records.first() else {
            unreachable!("a partition gets a batch only if it gets a record");
        };
        if records.len() > MAX_RECORDS {
            return Err(Error::TooManyRecords {
                topic: topic(),
                count: records.len(),
                max: MAX_RECORDS,
            });
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
            count: u32::try_from(records.len()).expect("MAX_RECORDS is below 2^32"),
            timestamp,
            newest,
            attributes,
            body_bytes,
            now: now.as_millis(),
        })
    }

    /// Makes room for what [`measure_batch`](Self::measure_batch) has measured.
    pub(crate) fn prepare_batch(&mut self, append: &Append, now: Timestamp) -> Result<()> {
        self.prepare(append.body_bytes, now)
    }

    /// Writes a batch that was measured and prepared, so that nobody can see it yet.
    pub(crate) fn fill_batch(
        &mut self,
        append: &Append,
        records: &[&Record<'_>],
        now: Timestamp,
    ) -> Result<Filled> {
        let filled = self.fill(append, |stage| {
            for record in records {
                let own = append.timestamp_of(record, now).as_millis();
                record_codec::encode(record, own - append.timestamp, stage);
            }
        });
        self.active_mut().write_ahead(append)?;
        Ok(filled)
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
    fn prepare(&mut self, body_bytes: usize, now: Timestamp) -> Result<()> {
        self.log.check_gate()?;
        self.log.check_poison()?;
        let stride = stride(HEADER_BYTES + body_bytes);
        if let Some(active) = &mut self.active
            && active.has_room(stride, self.next_offset)
            && now.as_millis() < self.roll_at
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

    #[inline]
    fn publish(&mut self, append: &Append, filled: &Filled) -> Result<()> {
        self.active_mut().publish(append, filled)?;
        self.next_offset += u64::from(append.count);
        self.last_append = self.last_append.max(append.now);
        self.max_timestamp = self.max_timestamp.max(append.newest);
        self.log.set_end_offset(self.next_offset);
        Ok(())
    }

    /// Opens the segment the next frame of `stride` bytes goes to.
    #[cold]
    fn next_segment(&mut self, stride: usize, now: Timestamp) -> Result<()> {
        if self.active.is_none() {
            self.resume(now)?;
            if let Some(active) = &mut self.active
                && active.has_room(stride, self.next_offset)
                && now.as_millis() < self.roll_at
            {
                return active.reserve(stride);
            }
        }
        self.roll(stride, now)
    }

    /// Goes on where an earlier broker closed, if it closed cleanly.
    fn resume(&mut self, now: Timestamp) -> Result<()> {
        let log = &self.log;
        let last = match &self.tail {
            Tail::Empty => return Ok(()),
            Tail::Sealed(last) => {
                let Some((slot, _)) = log.slot_of(last.base_offset) else { return Ok(()) };
                let segment = log.segment(&slot)?;
                self.max_timestamp = running_max(segment.header(), last.max_timestamp);
                return Ok(());
            }
            Tail::Clean(last) => *last,
        };
        let Some((slot, _)) = log.slot_of(last.base_offset) else { return Ok(()) };
        let summary = crate::segment::Summary {
            log_bytes: last.position,
            next_offset: last.next_offset,
            max_timestamp: last.max_timestamp,
            last_append: now.as_millis(),
        };
        let interval = self.config.index_interval_bytes;
        let capacity = self.capacity(0);
        let (storage, dir) = (log.storage(), log.dir());
        let (base_offset, admission) = (last.base_offset, &self.admission);
        let active = SegmentWriter::reopen(
            storage,
            dir,
            base_offset,
            capacity,
            &summary,
            interval,
            admission,
        )?;
        self.max_timestamp = running_max(active.segment().header(), last.max_timestamp);
        slot.revive(active.segment(), active.file());
        self.active = Some(active);
        self.tail = Tail::Empty;
        self.set_roll_time();
        Ok(())
    }

    /// Works out when the current segment is old enough to be rolled.
    fn set_roll_time(&mut self) {
        let created = self.active.as_ref().map(|active| active.segment().header().created);
        let age =
            self.config.segment_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        self.roll_at = match (created, age) {
            (Some(created), Some(age)) => created.saturating_add(age),
            _ => i64::MAX,
        };
    }

    /// Begins a new segment. On failure the current one stays as it is.
    fn roll(&mut self, stride: usize, now: Timestamp) -> Result<()> {
        if self.active.as_ref().is_some_and(SegmentWriter::is_empty) {
            self.discard_empty()?;
        }
        let log = &self.log;
        let new = NewSegment {
            base_offset: self.next_offset,
            capacity: self.capacity(stride),
            first_frame: stride,
            created: now.as_millis(),
            max_timestamp_before: self.max_timestamp,
            topic_id: log.name().topic_id,
            index_interval: self.config.index_interval_bytes,
            busy: self.active.as_ref().is_some_and(|full| !full.has_room(stride, self.next_offset)),
            admission: Arc::clone(&self.admission),
        };
        let active = SegmentWriter::create(log.storage(), log.dir(), &new)?;
        let slot = Slot::live(active.segment(), active.file());
        let full = self.active.replace(active);
        self.rolled |= full.is_some();
        let full = full.map(|full| (full.segment().base_offset(), full.summary()));
        log.add_slot(slot, full);
        self.set_roll_time();
        Ok(())
    }

    /// Gives up a segment that was begun for a record that then was not appended. The next one has
    /// its name.
    fn discard_empty(&mut self) -> Result<()> {
        let Some(empty) = &self.active else { return Ok(()) };
        let (base_offset, path) = (empty.segment().base_offset(), empty.segment().path());
        self.log
            .storage()
            .remove_file(path)
            .map_err(|error| Error::io("removing an empty segment", path, error))?;
        self.log.remove_slot(base_offset);
        self.active = None;
        self.tail = Tail::Empty;
        Ok(())
    }

    fn capacity(&self, stride: usize) -> usize {
        let configured = usize::try_from(self.config.segment_bytes).unwrap_or(usize::MAX);
        configured.max(SEGMENT_HEADER_BYTES + stride)
    }

    /// What the last append left to be done, once.
    #[inline]
    pub(crate) fn take_chores(&mut self) -> Option<Chores> {
        let pages = self.active.as_mut().and_then(SegmentWriter::take_pages);
        let flush_is_due = self.flush.is_due(self.next_offset);
        if pages.is_none() && !self.rolled && !flush_is_due {
            return None;
        }
        let flush = if flush_is_due {
            self.flush.take(&self.config, self.next_offset)
        } else {
            Flush::default()
        };
        Some(Chores { pages, sealing: self.take_rolled(), flush })
    }

    fn take_rolled(&mut self) -> Option<Sealing> {
        if !std::mem::take(&mut self.rolled) {
            return None;
        }
        Some(if self.log.is_far_behind() { Sealing::Caller } else { Sealing::Background })
    }

    /// Takes no more appends.
    pub(crate) fn shut(&mut self, gate: Gate) {
        self.log.set_gate(gate);
        if self.active.as_ref().is_some_and(SegmentWriter::is_empty) {
            // It must never hold the recovery point, because it may have to go. What cannot be
            // removed here is removed by recovery; a deleted topic's goes with its directory.
            if gate == Gate::Closed {
                drop(self.discard_empty());
            }
            return;
        }
        self.close_active();
    }

    /// Where the segment that is being written begins, if there is one that holds something.
    pub(super) fn active_base(&self) -> Option<u64> {
        let active = self.active.as_ref().filter(|active| !active.is_empty())?;
        Some(active.segment().base_offset())
    }

    /// Writes no more to the segment that is being written; it waits to be sealed.
    pub(super) fn close_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        let (base_offset, summary) = (active.segment().base_offset(), active.summary());
        self.tail = Tail::Sealed(recovery_point(base_offset, &summary));
        if let Some((slot, _)) = self.log.slot_of(base_offset) {
            slot.roll(summary);
        }
    }
}

/// What an append leaves to be done when the append lock has been given back.
#[derive(Debug)]
pub(crate) struct Chores {
    /// Pages to be prepared.
    pub(crate) pages: Option<Pages>,
    /// Whether there is a segment to be sealed, and by whom.
    pub(crate) sealing: Option<Sealing>,
    /// Whether the log is to be synced, and when.
    pub(crate) flush: Flush,
}

/// Who is to seal rolled segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    Background,
    /// The disk is far behind: who appends waits for it.
    Caller,
}
