//! Deleting the beginning of a log, and when it is due.
//!
//! Records go by segments, oldest first. What is due is decided by a pure function of what is known of a
//! segment ([`Keep::is_due`]).
//!
//! First the new beginning is made durable, then the segments before it are forgotten, then their files
//! are removed, oldest first. A crash or a failure in between leaves files that nobody reads; they are
//! removed the next time. A reader that stands in one keeps its mapping until it moves on.

use std::io;
use std::sync::atomic::Ordering;

use super::checkpoint::Checkpoint;
use super::shared::Log;
use super::slot::Slot;
use super::writer::LogWriter;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::segment::{log_path, offset_path, time_path};

/// How many segments are deleted at once: others wait meanwhile to seal some.
const SLICE: usize = 64;

/// What a partition is to keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep {
    /// How long, in milliseconds.
    pub(crate) age: Option<i64>,
    /// How much at the least.
    pub(crate) bytes: Option<u64>,
    pub(crate) records: Option<u64>,
    /// Everything from this offset on, whatever the limits above say; without those, nothing else.
    pub(crate) consumed: Option<u64>,
    /// How long at the most, whatever was consumed, in milliseconds.
    pub(crate) hard_age: Option<i64>,
}

/// What is known of the oldest segment.
#[derive(Clone, Copy, Debug)]
struct Oldest {
    /// How long ago it was last appended to, in milliseconds.
    age: i64,
    /// Where it ends.
    next_offset: u64,
    /// What is there without it.
    bytes_behind: u64,
    records_behind: u64,
}

impl Keep {
    /// Whether the oldest segment is to go.
    fn is_due(&self, oldest: &Oldest) -> bool {
        if self.hard_age.is_some_and(|age| oldest.age >= age) {
            return true;
        }
        if self.consumed.is_some_and(|consumed| oldest.next_offset > consumed) {
            return false;
        }
        let has_limits = self.age.is_some() || self.bytes.is_some() || self.records.is_some();
        if !has_limits {
            return self.consumed.is_some();
        }
        self.age.is_some_and(|age| oldest.age >= age)
            || self.bytes.is_some_and(|bytes| oldest.bytes_behind >= bytes)
            || self.records.is_some_and(|records| oldest.records_behind >= records)
    }
}

/// A segment that can be deleted to make room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Droppable {
    /// When it was last appended to, by the wall clock in milliseconds.
    pub(crate) last_append: i64,
    /// Where it begins and ends.
    pub(crate) base_offset: u64,
    pub(crate) next_offset: u64,
    /// Whether it can only go when the one behind it is no longer written.
    pub(crate) is_before_live: bool,
}

impl LogWriter {
    /// What is being written, if it holds something.
    pub(crate) fn live(&self) -> Option<super::aging::Live> {
        let base_offset = self.active_base()?;
        Some(super::aging::Live { base_offset, last_append: self.last_append() })
    }

    /// Closes the segment that is being written, if it holds something below `offset`: a log begins
    /// where records are known to be durable.
    pub(crate) fn roll_below(&mut self, offset: u64) {
        if self.active_base().is_some_and(|base| base < offset) {
            self.close_active();
        }
        self.leave_clean_tail(offset);
    }
}

impl Log {
    /// The offset below which records are to be deleted now; where the log starts, if none are. There may
    /// be more when those are gone. Called after [`look`](Self::look).
    pub(crate) fn due_below(&self, keep: &Keep, now: Moment) -> u64 {
        let (start, end) = (self.start_offset(), self.end_offset());
        let first: Vec<_> = self.slots.read().iter().take(SLICE + 1).cloned().collect();
        let mut cut = start;
        let mut bytes = self.quota().used().saturating_sub(self.reserve());
        for (at, slot) in first.iter().take(SLICE).enumerate() {
            let next_offset = first.get(at + 1).map_or(end, |next| next.base_offset());
            bytes = bytes.saturating_sub(slot.file_bytes().load(Ordering::Relaxed));
            let age = now.monotonic.saturating_sub(self.appended(slot, next_offset));
            let records_behind = end.saturating_sub(next_offset);
            let oldest = Oldest { age, next_offset, bytes_behind: bytes, records_behind };
            if next_offset <= slot.base_offset() || !keep.is_due(&oldest) {
                break;
            }
            cut = next_offset;
        }
        cut.max(start)
    }

    /// How many of its bytes are there for records to come.
    fn reserve(&self) -> u64 {
        let slots = self.slots.read();
        let written = |slot: &Slot| match slot.rolled() {
            Some(summary) => Some(summary.log_bytes),
            None => Some(slot.live_segment()?.committed() as u64),
        };
        // Those that were not cut to what they hold stand at the end.
        let last = slots.iter().rev().map_while(|slot| {
            Some(slot.file_bytes().load(Ordering::Relaxed).saturating_sub(written(slot)?))
        });
        last.sum()
    }

    /// How long ago the record at `offset`, or one behind it in its segment, was appended, in
    /// milliseconds. Called after [`look`](Self::look).
    pub(crate) fn age_of(&self, offset: u64, now: Moment) -> Option<i64> {
        let (slot, behind) = self.slot_of(offset).filter(|_| offset < self.end_offset())?;
        let behind = behind.unwrap_or_else(|| self.end_offset());
        Some(now.monotonic.saturating_sub(self.appended(&slot, behind)))
    }

    /// The oldest segment, if another one is behind it, so that its file can go.
    pub(crate) fn oldest_droppable(&self) -> Option<Droppable> {
        let slots = self.slots.read();
        let (oldest, next) = (slots.front().cloned()?, slots.get(1).cloned()?);
        let is_before_live = next.rolled().is_none() && slots.len() == 2;
        drop(slots);
        let (base_offset, next_offset) = (oldest.base_offset(), next.base_offset());
        if is_before_live && next_offset == self.end_offset() {
            // Nothing was appended to that one yet, so it cannot take its place.
            return None;
        }
        let last_append = self.last_append(&oldest, next_offset, i64::MIN + 1);
        Some(Droppable { last_append, base_offset, next_offset, is_before_live })
    }

    /// When its only segment was begun, by the wall clock in milliseconds, if it has one that holds
    /// something.
    pub(crate) fn only_segment(&self) -> Option<i64> {
        let slots = self.slots.read();
        let only = slots.front().filter(|_| slots.len() == 1).cloned()?;
        drop(slots);
        let holds_something = only.base_offset().max(self.start_offset()) < self.end_offset();
        let created = self.segment(&only).ok().map(|segment| segment.header().created);
        created.filter(|_| holds_something)
    }

    /// Whether segments lie wholly before the log's beginning and can be removed: one that had to stay
    /// because it was the last, or what a deletion left that failed or was interrupted.
    pub(crate) fn has_leftovers(&self) -> bool {
        let slots = self.slots.read();
        let start = self.start_offset();
        match (slots.front(), slots.get(1)) {
            (Some(_), Some(second)) => {
                second.base_offset() <= start && (slots.len() > 2 || !second.is_live())
            }
            (Some(only), None) => {
                only.base_offset() < start && start == self.end_offset() && !only.is_live()
            }
            _ => false,
        }
    }

    /// Deletes the records below `offset`, durably, and returns where the log begins. The segment that is
    /// being written must not hold any of them.
    pub(crate) fn delete_below(&self, offset_wanted: u64) -> Result<u64> {
        let mut sealing = self.hold_paths();
        self.check_gate()?;
        let start = self.start_offset();
        if offset_wanted <= start && !self.has_leftovers() {
            return Ok(start);
        }
        self.seal_locked(&mut sealing)?;
        let (storage, dir) = (&**self.storage(), self.dir());
        let Some(mut checkpoint) = Checkpoint::load(storage, dir)? else { return Ok(start) };
        // Without a recovery point, all of it was deleted before.
        let (mut offset, mut keep) = (start, None);
        if let Some(point) = checkpoint.recovery {
            // What lies behind the recovery point, if anything does, is a gap that a repair has left.
            offset = offset_wanted.min(point.next_offset).max(start);
            // If nothing is left, the log is one that begins here and has no segment yet.
            let is_all =
                offset == self.end_offset() && self.holds_nothing_behind(point.base_offset);
            keep = Some(point.base_offset).filter(|_| !is_all);
            if offset > start || is_all {
                checkpoint.log_start = offset;
                checkpoint.recovery = checkpoint.recovery.filter(|_| !is_all);
                checkpoint.store(storage, dir)?;
                #[cfg(loom)]
                if self.planted() == crate::sync::Planted::ForgetsEarly {
                    self.forget_below(offset, Some(point.base_offset));
                }
                self.set_start_offset(offset);
            }
        }
        let doomed = self.forget_below(offset, keep);
        for (at, slot) in doomed.iter().enumerate() {
            let log = log_path(dir, slot.base_offset());
            for path in [offset_path(&log), time_path(&log), log] {
                match storage.remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        // What is left is there to be removed the next time.
                        self.remember(doomed.get(at..).unwrap_or_default());
                        return Err(Error::io("removing segment", &path, error));
                    }
                    _ => {}
                }
            }
            // Only now: others may take the room at once.
            self.quota().give_back(slot.file_bytes().load(Ordering::Relaxed));
        }
        if !doomed.is_empty() {
            storage
                .sync_dir(dir)
                .map_err(|error| Error::io("syncing partition directory", dir, error))?;
        }
        Ok(offset)
    }
}
