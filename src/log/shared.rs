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

use crate::error::{Error, Result};
use crate::segment::{Segment, SegmentHeader, Summary};
use crate::storage::Storage;
#[cfg(loom)]
use crate::sync::Planted;
use crate::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard, RwLock};

use super::checkpoint::{Checkpoint, RecoveryPoint};
use super::slot::Slot;
use crate::durability::Durability;

/// How many rolled segments may wait to be synced before appending waits for the disk.
const MAX_ROLLED: usize = 64;

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

/// The shared side of a partition's log.
#[derive(Debug)]
pub(crate) struct Log {
    name: PartitionName,
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    /// The segments in the order of their offsets. Written when one is added or removed, read when
    /// a reader passes from one to the next. Comes after the append lock; only slots' locks come
    /// after it.
    slots: RwLock<VecDeque<Arc<Slot>>>,
    /// The first offset that can be read. Stored with Release, loaded with Acquire.
    start_offset: AtomicU64,
    /// The offset the next record will get. Stored by the appender with Release after the record
    /// was published in its segment, loaded with Acquire: who sees it can read up to it.
    end_offset: AtomicU64,
    durability: Durability,
    /// A [`Gate`]. Stored with Release under the append lock, loaded with Acquire.
    gate: AtomicU8,
    /// Held by whoever seals segments, one at a time. Comes before `slots`.
    sealing: Mutex<()>,
    #[cfg(loom)]
    planted: std::sync::OnceLock<Planted>,
}

impl Log {
    /// A log with these segments, which ends with `end_offset` and is durable up to `synced`.
    pub(super) fn new(
        name: PartitionName,
        dir: &Path,
        storage: &Arc<dyn Storage>,
        slots: Vec<Slot>,
        offsets: Offsets,
    ) -> Self {
        let slots = slots.into_iter().map(Arc::new);
        Self {
            name,
            dir: dir.to_path_buf(),
            storage: Arc::clone(storage),
            slots: RwLock::new(slots.collect()),
            start_offset: AtomicU64::new(offsets.start),
            end_offset: AtomicU64::new(offsets.end),
            durability: Durability::new(offsets.synced),
            gate: AtomicU8::new(Gate::Open as u8),
            sealing: Mutex::new(()),
            #[cfg(loom)]
            planted: std::sync::OnceLock::new(),
        }
    }

    /// Has a bug from here on.
    #[cfg(loom)]
    pub(super) fn plant(&self, planted: Planted) {
        self.planted.set(planted).expect("one bug at a time");
    }

    /// The bug it has.
    #[cfg(loom)]
    pub(super) fn planted(&self) -> Planted {
        self.planted.get().copied().unwrap_or_default()
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
        self.slots.write().retain(|slot| slot.base_offset() != base_offset);
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
    }

    /// The error for a partition whose sync failed, if one did.
    #[inline]
    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.durability.poison() {
            None => Ok(()),
            Some(cause) => Err(self.poisoned(cause)),
        }
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
    fn sync_segments_to(&self, offset: u64) -> Result<()> {
        self.wait_for(offset, || self.write_out(offset))
    }

    fn wait_for(&self, offset: u64, sync: impl Fn() -> io::Result<u64>) -> Result<()> {
        self.durability.wait(offset, sync).map_err(|cause| {
            // The files of a deleted topic cannot be synced, and need not be.
            let deleted = self.gate.load(Ordering::Acquire) == Gate::Deleted as u8;
            if deleted { self.gate_error() } else { self.poisoned(cause) }
        })
    }

    /// Syncs what may not be durable below `end`, oldest first, and returns `end`. Called by one
    /// thread at a time.
    fn write_out(&self, end: u64) -> io::Result<u64> {
        let dirty = self.slots_in(self.durability.synced(), end);
        for slot in &dirty {
            if let Some(file) = slot.unsynced() {
                file.sync()?;
            }
        }
        if dirty.iter().any(|slot| slot.needs_entry()) {
            self.storage.sync_dir(&self.dir)?;
            for slot in &dirty {
                slot.entry_synced();
            }
        }
        Ok(end)
    }

    /// The slots that hold offsets from `start` to `end`.
    fn slots_in(&self, start: u64, end: u64) -> Vec<Arc<Slot>> {
        let slots = self.slots.read();
        let first = place_of(&slots, start).unwrap_or(0);
        let reach = slots.iter().skip(first).take_while(|slot| slot.base_offset() < end);
        reach.map(Arc::clone).collect()
    }

    /// The segments that wait to be sealed, oldest first, and what they came to. They stand at the
    /// end, with none behind them but the one that is being written.
    fn waiting(&self) -> Vec<(Arc<Slot>, Summary)> {
        let slots = self.slots.read();
        let live = slots.back().is_some_and(|last| last.rolled().is_none());
        let mut waiting: Vec<_> = slots
            .iter()
            .rev()
            .skip(usize::from(live))
            .map_while(|slot| Some((Arc::clone(slot), slot.rolled()?)))
            .collect();
        waiting.reverse();
        waiting
    }

    /// Whether so many segments wait to be sealed that appending should wait for the disk.
    pub(super) fn is_far_behind(&self) -> bool {
        self.waiting().len() > MAX_ROLLED
    }

    /// Syncs and seals every segment that will not be written again, and moves the recovery point
    /// behind the last of them. Returns what went wrong without doing harm.
    pub(crate) fn seal_rolled(&self) -> Result<Vec<Error>> {
        #[cfg(loom)]
        if self.planted() == Planted::SealsUnlocked {
            return self.seal_waiting();
        }
        let sealing = self.sealing.lock();
        self.seal_locked(&sealing)
    }

    /// As [`seal_rolled`](Self::seal_rolled), by one who holds `sealing`.
    pub(super) fn seal_locked(&self, _sealing: &MutexGuard<'_, ()>) -> Result<Vec<Error>> {
        self.seal_waiting()
    }

    fn seal_waiting(&self) -> Result<Vec<Error>> {
        // Whoever deletes the topic has `sealing` too: while it is held, paths lead where they did.
        if self.gate.load(Ordering::Acquire) == Gate::Deleted as u8 {
            return Ok(Vec::new());
        }
        let (mut last, mut troubles) = (None, Vec::new());
        let result = self.seal_each(&mut last, &mut troubles);
        if let Some(recovery) = last {
            let checkpoint =
                Checkpoint { log_start: self.start_offset(), recovery: Some(recovery) };
            checkpoint.store(&*self.storage, &self.dir)?;
        }
        result.map(|()| troubles)
    }

    fn seal_each(&self, last: &mut Option<RecoveryPoint>, troubles: &mut Vec<Error>) -> Result<()> {
        for (slot, summary) in self.waiting() {
            let (index, trimmed) = slot.retire(&summary);
            self.sync_segments_to(summary.next_offset)?;
            slot.sealed();
            *last = Some(recovery_point(slot.base_offset(), &summary));
            let segment = self.segment(&slot)?;
            let stored = segment.store_index(index, &summary);
            let path = segment.path();
            troubles.extend(
                trimmed.err().map(|error| Error::io("cutting the reserve of", path, error)),
            );
            troubles
                .extend(stored.err().map(|error| Error::io("writing the indexes of", path, error)));
        }
        Ok(())
    }

    /// Says where the log begins from here on. Called under `sealing`, when that is durable.
    pub(super) fn set_start_offset(&self, offset: u64) {
        self.start_offset.store(offset, Ordering::Release);
    }

    /// Forgets the segments that lie wholly below `offset` and before the one that begins with
    /// `keep`, and returns where they begin, oldest first.
    pub(super) fn forget_below(&self, offset: u64, keep: u64) -> Vec<u64> {
        let mut slots = self.slots.write();
        let mut forgotten = Vec::new();
        while let (Some(first), Some(second)) = (slots.front(), slots.get(1))
            && second.base_offset() <= offset
            && first.base_offset() < keep
        {
            forgotten.push(first.base_offset());
            slots.pop_front();
        }
        forgotten
    }

    /// Keeps every path in the directory from being used until it is dropped.
    pub(crate) fn hold_paths(&self) -> MutexGuard<'_, ()> {
        self.sealing.lock()
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
    fn first_base(&self) -> Option<u64> {
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
