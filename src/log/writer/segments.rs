//! Which segment the next record goes to: the one that is written, one that is gone on with, or a new one.

use super::{LogWriter, MAX_SEGMENT_RECORDS, OPENED, ROLLED};
use crate::error::{Error, Result};
use crate::log::checkpoint::Tail;
use crate::log::shared::{Gate, recovery_point, running_max};
use crate::log::slot::Slot;
use crate::segment::{NewSegment, Reopening, SEGMENT_HEADER_BYTES, SegmentWriter};
use crate::timestamp::Timestamp;

impl LogWriter {
    /// Opens the segment the next frame of `stride` bytes goes to.
    #[cold]
    pub(super) fn next_segment(&mut self, stride: usize, now: Timestamp) -> Result<()> {
        if self.active.is_none() {
            self.resume(now)?;
            let is_young = self.is_young(now);
            if let Some(active) = &mut self.active
                && active.has_room(stride, self.next_offset)
                && is_young
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
        let reopening = Reopening {
            base_offset: last.base_offset,
            capacity,
            max_records: self.segment_records(),
            summary: &summary,
            index_interval: interval,
            room: self.room.clone(),
            file_bytes: slot.file_bytes(),
        };
        let active = SegmentWriter::reopen(storage, dir, &reopening)?;
        self.max_timestamp = running_max(active.segment().header(), last.max_timestamp);
        slot.revive(active.segment(), active.file());
        let known = slot.known_last_append();
        self.active = Some(active);
        self.tail = Tail::Empty;
        self.set_roll_time();
        if !self.is_young(now)
            && let Some(active) = &mut self.active
            && let Some(last_append) = known.or_else(|| active.segment().stored_last_append())
        {
            // It is not gone on with, and stays as old as it is.
            active.set_last_append(last_append);
        }
        self.opened();
        Ok(())
    }

    /// Says that a segment is open.
    fn opened(&mut self) {
        if self.resting.opened() {
            self.news |= OPENED;
        }
    }

    /// Works out when the current segment is old enough to be rolled.
    pub(super) fn set_roll_time(&mut self) {
        let created = self.active.as_ref().map(|active| active.segment().header().created);
        let age = self.config.segment_lifetime();
        let age = age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        self.roll_at = match (created, age) {
            (Some(created), Some(age)) => created.saturating_add(age),
            _ => i64::MAX,
        };
        let is_kept_by_age = self.config.retention_age.or(self.config.max_age).is_some();
        self.roll_before = created.filter(|_| is_kept_by_age).unwrap_or(i64::MIN);
    }

    /// Whether the current segment is gone on with, by its age.
    #[inline]
    pub(super) fn is_young(&self, now: Timestamp) -> bool {
        (self.roll_before..self.roll_at).contains(&now.as_millis())
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
            max_records: self.segment_records(),
            first_frame: stride,
            created: now.as_millis(),
            max_timestamp_before: self.max_timestamp,
            topic_id: log.name().topic_id,
            index_interval: self.config.index_interval_bytes,
            busy: self.active.as_ref().is_some_and(|full| !full.has_room(stride, self.next_offset)),
            large_pages: self.active.as_ref().is_some_and(SegmentWriter::large_pages),
            reach: self.active.as_ref().map_or(0, SegmentWriter::reach),
            room: self.room.clone(),
        };
        let active = SegmentWriter::create(log.storage(), log.dir(), &new)?;
        let slot = Slot::live(active.segment(), active.file(), active.file_bytes());
        let full = self.active.replace(active);
        if full.is_some() {
            self.news |= ROLLED;
        }
        let full = full.map(|full| (full.segment().base_offset(), full.summary()));
        log.add_slot(slot, full);
        self.set_roll_time();
        self.opened();
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
        self.set_smooth();
        self.tail = Tail::Empty;
        Ok(())
    }

    fn capacity(&self, stride: usize) -> usize {
        let configured = usize::try_from(self.config.segment_capacity()).unwrap_or(usize::MAX);
        configured.max(SEGMENT_HEADER_BYTES + stride)
    }

    fn segment_records(&self) -> u64 {
        self.config.segment_records().min(MAX_SEGMENT_RECORDS)
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
    pub(in crate::log) fn active_base(&self) -> Option<u64> {
        let active = self.active.as_ref().filter(|active| !active.is_empty())?;
        Some(active.segment().base_offset())
    }

    /// Does not go on with a segment of an earlier broker that holds something below `offset`.
    pub(in crate::log) fn leave_clean_tail(&mut self, offset: u64) {
        if let Tail::Clean(point) = self.tail
            && point.base_offset < offset
        {
            self.tail = Tail::Sealed(point);
        }
        self.resting.delete_below(offset);
    }

    /// Writes no more to the segment that is being written; it waits to be sealed.
    pub(in crate::log) fn close_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        self.set_smooth();
        let (base_offset, summary) = (active.segment().base_offset(), active.summary());
        self.tail = Tail::Sealed(recovery_point(base_offset, &summary));
        if let Some((slot, _)) = self.log.slot_of(base_offset) {
            slot.roll(summary);
        }
    }
}
