//! The shared side of a log: what everybody looks at without the append lock.
//!
//! The invariants it keeps: `end_offset` moves after a record was published in its segment, so that
//! who sees it can read up to it; syncing goes oldest segment first, and a segment's directory entry
//! is durable before anything in it is called so.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::quota::Quota;
use crate::segment::{Segment, SegmentHeader, Summary};
use crate::storage::durable_mark::{DurableMark, MarkFile};
use crate::storage::{Storage, was_not_begun};
#[cfg(loom)]
use crate::sync::Planted as Misordered;
use crate::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard, OwnLine, RwLock};
#[cfg(test)]
use crate::tests::{Planted, is_planted};

use super::ages::Ages;
use super::checkpoint::{RecoveryPoint, Sealed};
use super::gaps::{Gap, Gaps};
use super::slot::Slot;
use crate::durability::{Durability, WaitError};

/// Which partition a log is, for errors and messages.
#[derive(Clone, Debug)]
pub(crate) struct PartitionName {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: u64,
    pub(crate) partition: u32,
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Why a log takes and gives nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Gate {
    Open = 0,
    /// The broker was closed.
    Closed = 1,
    /// The topic was deleted.
    Deleted = 2,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Everything below it is on stable storage.
    pub(super) synced: u64,
}

/// What a log is made of.
#[derive(Debug)]
pub(super) struct NewLog<'a> {
    pub(super) name: PartitionName,
    pub(super) dir: &'a Path,
    pub(super) storage: &'a Arc<dyn Storage>,
    pub(super) slots: Vec<Slot>,
    pub(super) offsets: Offsets,
    pub(super) gaps: Gaps,
    pub(super) quota: Arc<Quota>,
    pub(super) opened: Moment,
}

/// The shared side of a partition's log.
#[derive(Debug)]
pub(crate) struct Log {
    name: PartitionName,
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    /// The segments in the order of their offsets. Written when one is added or removed, read when
    /// a reader passes from one to the next. Comes after the append lock; only slots' locks come
    /// after it.
    pub(super) slots: RwLock<VecDeque<Arc<Slot>>>,
    /// The first offset that can be read. Stored with Release, loaded with Acquire.
    start_offset: AtomicU64,
    /// The offset the next record will get. Stored by the appender with Release after the record
    /// was published in its segment, loaded with Acquire: who sees it can read up to it.
    end_offset: OwnLine<AtomicU64>,
    /// Offsets that no segment holds.
    gaps: Gaps,
    durability: Durability,
    /// What its segments and indexes take on disk.
    quota: Arc<Quota>,
    /// How old its segments are. A leaf lock, taken by whoever deletes what is too old.
    pub(super) ages: parking_lot::Mutex<Ages>,
    /// Where it is written down how far the log is durable; opened by the first sync. A leaf lock,
    /// taken by whoever syncs.
    mark: Mutex<Option<MarkFile>>,
    /// A [`Gate`]. Stored with Release under the append lock, loaded with Acquire.
    gate: AtomicU8,
    /// Held by whoever seals segments, one at a time. Comes before `slots`.
    pub(super) sealing: Mutex<Sealed>,
    #[cfg(loom)]
    planted: std::sync::OnceLock<Misordered>,
}

impl Log {
    /// A log with these segments, which ends with `end_offset` and is durable up to `synced`.
    pub(super) fn new(new: NewLog<'_>) -> Self {
        let NewLog { name, dir, storage, slots, offsets, gaps, quota, opened } = new;
        quota.charge(slots.iter().map(|slot| slot.file_bytes().load(Ordering::Relaxed)).sum());
        let slots = slots.into_iter().map(Arc::new);
        Self {
            name,
            dir: dir.to_path_buf(),
            storage: Arc::clone(storage),
            slots: RwLock::new(slots.collect()),
            start_offset: AtomicU64::new(offsets.start),
            end_offset: OwnLine(AtomicU64::new(offsets.end)),
            gaps,
            durability: Durability::new(offsets.synced),
            quota,
            ages: parking_lot::Mutex::new(Ages::new(opened, offsets.end)),
            mark: Mutex::default(),
            gate: AtomicU8::new(Gate::Open as u8),
            sealing: Mutex::default(),
            #[cfg(loom)]
            planted: std::sync::OnceLock::new(),
        }
    }

    /// Has a bug from here on.
    #[cfg(loom)]
    pub(super) fn plant(&self, planted: Misordered) {
        self.planted.set(planted).expect("one bug at a time");
    }

    /// The bug it has.
    #[cfg(loom)]
    pub(super) fn planted(&self) -> Misordered {
        self.planted.get().copied().unwrap_or_default()
    }

    /// What its segments and indexes take on disk.
    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    pub(super) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The partition's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn name(&self) -> &PartitionName {
        &self.name
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> u64 {
        self.start_offset.load(Ordering::Acquire)
    }

    /// The offset the next record will get.
    #[inline]
    pub(crate) fn end_offset(&self) -> u64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Lets readers know of records up to `end_offset`, which were published in their segment. Called
    /// under the append lock.
    #[inline]
    pub(super) fn set_end_offset(&self, end_offset: u64) {
        self.end_offset.store(end_offset, Ordering::Release);
    }

    /// Adds the segment that is appended to from here on, and says what the one before it came to.
    /// Called under the append lock.
    pub(super) fn add_slot(&self, slot: Slot, full: Option<(u64, Summary)>) {
        let mut slots = self.slots.write();
        debug_assert!(slots.back().is_none_or(|last| last.base_offset() < slot.base_offset()));
        if let Some((base_offset, summary)) = full
            && let Some(full) = slots.back().filter(|last| last.base_offset() == base_offset)
        {
            full.roll(summary);
        }
        slots.push_back(Arc::new(slot));
    }

    /// Forgets a segment that holds nothing. Called under the append lock.
    pub(super) fn remove_slot(&self, base_offset: u64) {
        self.slots.write().retain(|slot| {
            let stays = slot.base_offset() != base_offset;
            if !stays {
                self.quota.give_back(slot.file_bytes().load(Ordering::Relaxed));
            }
            stays
        });
    }

    /// The segment of a slot, mapped now if it is not.
    pub(super) fn segment(&self, slot: &Slot) -> Result<Arc<Segment>> {
        slot.segment(&self.storage, &self.dir, self.name.topic_id)
    }

    /// The offset below which everything is on stable storage.
    pub(crate) fn synced_offset(&self) -> u64 {
        self.durability.synced()
    }

    /// How many segments it has.
    pub(crate) fn segment_count(&self) -> usize {
        self.slots.read().len()
    }

    /// What its segments take on disk, in bytes, preallocated space included.
    pub(crate) fn bytes_on_disk(&self) -> Result<u64> {
        let entries = self
            .storage
            .list(&self.dir)
            .map_err(|error| Error::io("listing partition directory", &self.dir, error))?;
        let is_log = |name: &str| Path::new(name).extension().is_some_and(|end| end == "log");
        Ok(entries.iter().filter(|entry| is_log(&entry.name)).map(|entry| entry.len).sum())
    }

    /// The error for a log that was closed or deleted.
    #[inline]
    pub(crate) fn check_gate(&self) -> Result<()> {
        if self.gate.load(Ordering::Acquire) == Gate::Open as u8 {
            return Ok(());
        }
        Err(self.gate_error())
    }

    #[cold]
    fn gate_error(&self) -> Error {
        if self.gate.load(Ordering::Acquire) == Gate::Deleted as u8 {
            return Error::UnknownTopic { topic: self.name.topic.to_string() };
        }
        Error::Closed
    }

    /// Says whether records are taken and given, by one who holds the append lock.
    pub(crate) fn set_gate(&self, gate: Gate) {
        self.gate.store(gate as u8, Ordering::Release);
        self.durability.ring();
    }

    /// The error for a partition whose sync failed, if one did.
    #[inline]
    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.durability.poison() {
            None => Ok(()),
            Some(cause) => Err(self.poisoned(cause)),
        }
    }

    /// Takes no more records, because bytes that were to be written are known to be missing, and
    /// returns the error that says so.
    #[cold]
    pub(crate) fn give_up(&self, error: &Error) -> Error {
        let cause = Arc::new(io::Error::other(error.to_string()));
        self.durability.give_up(Arc::clone(&cause));
        self.poisoned(cause)
    }

    #[cold]
    fn poisoned(&self, cause: Arc<io::Error>) -> Error {
        let (topic, partition) = (self.name.topic.to_string(), self.name.partition);
        Error::Poisoned { topic, partition, cause }
    }

    /// The error for an offset that is not in the log.
    #[cold]
    pub(crate) fn out_of_range(&self, offset: u64) -> Error {
        Error::OffsetOutOfRange {
            topic: self.name.topic.to_string(),
            partition: self.name.partition,
            offset,
            earliest: self.start_offset(),
            latest: self.end_offset(),
        }
    }

    /// Waits until every record below `offset` is on stable storage, and takes those behind it along
    /// for whoever waits for them.
    pub(crate) fn sync_to(&self, offset: u64) -> Result<()> {
        self.wait_for(offset, || self.write_out(self.end_offset()))
    }

    /// Waits until the segments below `offset`, where one ends, are on stable storage. The segment
    /// being written is left alone: syncing it would slow its appender down for nobody's good.
    pub(super) fn sync_segments_to(&self, offset: u64) -> Result<()> {
        self.wait_for(offset, || self.write_out(offset))
    }

    /// Waits until every record below `offset` is on stable storage, by whomever it is synced, for at
    /// most `timeout`. Returns the offset below which all are.
    pub(crate) fn wait_synced(&self, offset: u64, timeout: Duration) -> Result<u64> {
        let is_over = || self.check_gate().is_err();
        let synced = self.durability.wait_for_others(offset, timeout, is_over);
        let synced = synced.map_err(|cause| self.poisoned(cause))?;
        if synced < offset {
            self.check_gate()?;
        }
        Ok(synced)
    }

    fn wait_for(&self, offset: u64, sync: impl Fn() -> io::Result<u64>) -> Result<()> {
        self.durability.wait(offset, sync).map_err(|error| match error {
            // The files of a deleted topic cannot be synced, and need not be.
            _ if self.is_deleted() => self.gate_error(),
            WaitError::Poisoned(cause) => self.poisoned(cause),
            WaitError::NotBegun(error) => {
                Error::NotSynced { path: self.dir.clone(), source: Arc::new(error) }
            }
        })
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.gate.load(Ordering::Acquire) == Gate::Deleted as u8
    }

    /// Syncs what may not be durable below `end`, oldest first, and returns `end`. Called by one
    /// thread at a time.
    fn write_out(&self, end: u64) -> io::Result<u64> {
        let dirty = self.slots_in(self.durability.synced(), end);
        let mark = dirty.last().and_then(|last| mark_in(last, end));
        let mut file = mark.and_then(|_| self.mark_file());
        for slot in &dirty {
            slot.sync()?;
        }
        let needs_entry = dirty.iter().any(|slot| slot.needs_entry());
        #[cfg(test)]
        let needs_entry = needs_entry && !is_planted(Planted::SkipsTheDirectorySync);
        if needs_entry {
            match self.storage.sync_dir(&self.dir) {
                // The mark may have taken the last descriptor, and can be done without.
                Err(error) if was_not_begun(&error) && file.is_some() => {
                    if let Some(mut file) = file.take() {
                        *file = None;
                    }
                    self.storage.sync_dir(&self.dir)?;
                }
                synced => synced?,
            }
            for slot in &dirty {
                slot.entry_synced();
            }
        }
        // Without it, damage to what was just synced could be taken for a torn tail: no more.
        // The directory may be another topic's by now, if this one was deleted when the file was opened.
        if let (Some(mark), Some(Some(file))) = (mark, file.as_deref_mut())
            && !self.is_deleted()
        {
            drop(file.put(&mark));
        }
        Ok(end)
    }

    /// The file marks are kept in, made now if it was not there.
    fn mark_file(&self) -> Option<MutexGuard<'_, Option<MarkFile>>> {
        let mut mark = self.mark.lock();
        if mark.is_none() {
            *mark = MarkFile::open(&*self.storage, &self.dir).ok();
        }
        Some(mark).filter(|mark| mark.is_some())
    }

    /// The slots that hold offsets from `start` to `end`.
    fn slots_in(&self, start: u64, end: u64) -> Vec<Arc<Slot>> {
        let slots = self.slots.read();
        let first = place_of(&slots, start).unwrap_or(0);
        let reach = slots.iter().skip(first).take_while(|slot| slot.base_offset() < end);
        reach.map(Arc::clone).collect()
    }

    /// Says where the log begins from here on. Called under `sealing`, when that is durable.
    pub(super) fn set_start_offset(&self, offset: u64) {
        self.start_offset.store(offset, Ordering::Release);
    }

    /// Whether the segment that begins with `base_offset` is the last, and is not being written.
    pub(super) fn holds_nothing_behind(&self, base_offset: u64) -> bool {
        let last = self.slots.read().back().cloned();
        last.is_some_and(|last| last.base_offset() == base_offset && !last.is_live())
    }

    /// Forgets the segments that lie wholly below `offset`, and returns them, oldest first.
    /// The one that begins with `keep` stays, and those behind it; without `keep` all go that begin below.
    /// Their bytes are counted until their files are gone.
    pub(super) fn forget_below(&self, offset: u64, keep: Option<u64>) -> Vec<Arc<Slot>> {
        let mut slots = self.slots.write();
        let mut forgotten = Vec::new();
        let is_passed = |first: &Slot, second: Option<&Arc<Slot>>| match keep {
            None => first.base_offset() < offset,
            Some(keep) => {
                first.base_offset() < keep
                    && second.is_some_and(|second| second.base_offset() <= offset)
            }
        };
        while let Some(first) = slots.front()
            && is_passed(first, slots.get(1))
        {
            forgotten.extend(slots.pop_front());
        }
        forgotten
    }

    /// Takes back segments that were forgotten and could not be removed, oldest first.
    pub(super) fn remember(&self, forgotten: &[Arc<Slot>]) {
        let mut slots = self.slots.write();
        for slot in forgotten.iter().rev() {
            slots.push_front(Arc::clone(slot));
        }
    }

    /// The gap that `offset` lies in, if a repair left one there.
    pub(super) fn gap_at(&self, offset: u64) -> Option<Gap> {
        self.gaps.at(offset)
    }

    /// The slot that holds `offset`, and the base offset of the one behind it.
    pub(super) fn slot_of(&self, offset: u64) -> Option<(Arc<Slot>, Option<u64>)> {
        let slots = self.slots.read();
        let place = place_of(&slots, offset)?;
        let next = slots.get(place + 1).map(|next| next.base_offset());
        Some((Arc::clone(slots.get(place)?), next))
    }

    /// The first record that is not older than `timestamp`: its offset and its time. Costs a
    /// binary search over segments and one over an index.
    pub(crate) fn first_not_older(&self, timestamp: i64) -> Result<Option<(u64, i64)>> {
        loop {
            let first = self.first_base();
            let found = self.search_not_older(timestamp);
            // Segments are counted from the first. If that was deleted meanwhile, others were looked at.
            if self.first_base() == first {
                return found;
            }
        }
    }

    /// Where the first segment begins.
    pub(crate) fn first_base(&self) -> Option<u64> {
        self.slots.read().front().map(|first| first.base_offset())
    }

    fn search_not_older(&self, timestamp: i64) -> Result<Option<(u64, i64)>> {
        let (start, end) = (self.start_offset(), self.end_offset());
        // A segment's header says how new the records before it are, so the records looked for
        // begin in the segment before the first whose header says they have been passed.
        let slot_at = |place| self.slots.read().get(place).map(Arc::clone);
        let (mut low, mut high) = (0, self.segment_count().saturating_sub(1));
        while low < high {
            let middle = low.midpoint(high);
            let Some(behind) = slot_at(middle + 1) else { break };
            if self.segment(&behind)?.header().max_timestamp_before >= timestamp {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // Records that are gone may have raised that mark; then the search goes on behind.
        for place in low.. {
            let Some(slot) = slot_at(place) else { break };
            if let Some(found) = self.segment(&slot)?.first_not_older(timestamp, start)? {
                return Ok(Some(found).filter(|(offset, _)| *offset < end));
            }
        }
        Ok(None)
    }
}

/// What is to be said when `end` is durable, which lies in the segment of this slot. Nothing is
/// said of one that waits to be sealed: the recovery point is about to say it.
fn mark_in(slot: &Slot, end: u64) -> Option<DurableMark> {
    let segment = slot.live_segment()?;
    let (base_offset, salt) = (segment.base_offset(), segment.header().salt);
    let position = segment.position_behind(end)? as u64;
    Some(DurableMark { base_offset, salt, position, next_offset: end })
}

/// The place of the last segment that begins at or before `offset`.
fn place_of(slots: &VecDeque<Arc<Slot>>, offset: u64) -> Option<usize> {
    slots.partition_point(|slot| slot.base_offset() <= offset).checked_sub(1)
}

pub(super) fn recovery_point(base_offset: u64, summary: &Summary) -> RecoveryPoint {
    RecoveryPoint {
        base_offset,
        position: summary.log_bytes,
        next_offset: summary.next_offset,
        max_timestamp: summary.max_timestamp,
    }
}

/// The largest timestamp up to the end of a segment, whose own largest is `max_timestamp`.
pub(super) fn running_max(header: &SegmentHeader, max_timestamp: i64) -> i64 {
    header.max_timestamp_before.max(max_timestamp)
}
