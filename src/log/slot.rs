//! A segment's place in the log: there whether or not the segment is mapped at the moment.
//!
//! A segment that is being written, or that was sealed and waits to be synced, is held open. Once
//! it is durable it is mapped only while somebody reads it, so what a log keeps open is bounded
//! by what is written and read, not by what is stored.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::listing::Found;
use crate::error::Result;
use crate::segment::{Segment, SparseIndex, Summary};
use crate::storage::{Storage, StorageFile, not_begun};
use crate::sync::{AtomicBool, Mutex};
#[cfg(test)]
use crate::tests::{Planted, is_planted};

/// One segment of a log.
#[derive(Debug)]
pub(crate) struct Slot {
    base_offset: u64,
    /// Whether the directory entry is on stable storage. Stored by the thread that synced the
    /// directory and loaded by the next one that syncs; the group commit puts them in order, so
    /// Relaxed is enough.
    entry_durable: AtomicBool,
    /// What the files take, in bytes; shared with the segment's writer while there is one. Relaxed: it
    /// publishes nothing but itself.
    file_bytes: Arc<AtomicU64>,
    /// When it was last appended to, in milliseconds of the wall clock; `NOT_KNOWN` until somebody
    /// asks, or it was rolled. Relaxed, as `file_bytes`.
    last_append: AtomicI64,
    /// The same by the monotonic clock, once it is known. Relaxed, as `file_bytes`.
    appended: AtomicI64,
    /// A leaf lock, held for a few instructions and while a segment is mapped.
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// The mapping, while it is to be kept.
    strong: Option<Arc<Segment>>,
    /// The mapping, as long as somebody else keeps it.
    weak: Weak<Segment>,
    /// The file, while bytes in it may not be durable.
    unsynced: Option<Arc<dyn StorageFile>>,
    /// Which bytes of the file are to be written anew before they are synced.
    found: Option<Range<u64>>,
    /// What the segment came to, once nothing will be appended to it any more and until it is
    /// sealed.
    rolled: Option<Summary>,
}

/// Stands for a time that was not looked for yet.
const NOT_KNOWN: i64 = i64::MIN;

impl Slot {
    /// A segment on disk whose bytes and entry are durable.
    pub(crate) fn stored(found: &Found) -> Self {
        Self::new(found.base_offset, Arc::new(AtomicU64::new(found.file_bytes())))
    }

    fn new(base_offset: u64, file_bytes: Arc<AtomicU64>) -> Self {
        let held =
            Held { strong: None, weak: Weak::new(), unsynced: None, found: None, rolled: None };
        Self {
            base_offset,
            entry_durable: AtomicBool::new(true),
            file_bytes,
            last_append: AtomicI64::new(NOT_KNOWN),
            appended: AtomicI64::new(NOT_KNOWN),
            held: Mutex::new(held),
        }
    }

    /// A segment on disk that will not be written again and may not be durable from the byte `from` on.
    pub(crate) fn recovered(
        found: &Found,
        file: Arc<dyn StorageFile>,
        from: u64,
        summary: Summary,
    ) -> Self {
        let slot = Self::stored(found);
        slot.last_append.store(summary.last_append, Ordering::Relaxed);
        slot.entry_durable.store(false, Ordering::Relaxed);
        {
            let mut held = slot.held.lock();
            held.unsynced = Some(file);
            held.found = Some(from..summary.log_bytes);
            held.rolled = Some(summary);
        }
        slot
    }

    /// A segment that is being written, in a new file.
    pub(crate) fn live(
        segment: &Arc<Segment>,
        file: &Arc<dyn StorageFile>,
        file_bytes: &Arc<AtomicU64>,
    ) -> Self {
        let slot = Self::new(segment.base_offset(), Arc::clone(file_bytes));
        slot.entry_durable.store(false, Ordering::Relaxed);
        slot.revive(segment, file);
        slot
    }

    /// Says that nothing will be appended any more, and what the segment came to.
    pub(crate) fn roll(&self, summary: Summary) {
        self.last_append.store(summary.last_append, Ordering::Relaxed);
        self.held.lock().rolled = Some(summary);
    }

    /// What its files take, in bytes.
    pub(crate) fn file_bytes(&self) -> &Arc<AtomicU64> {
        &self.file_bytes
    }

    /// Says what its files take, in bytes, and returns what they took before.
    pub(super) fn set_file_bytes(&self, bytes: u64) -> u64 {
        self.file_bytes.swap(bytes, Ordering::Relaxed)
    }

    /// When it was last appended to, in milliseconds of the monotonic clock.
    pub(super) fn appended(&self) -> Option<i64> {
        Some(self.appended.load(Ordering::Relaxed)).filter(|at| *at != NOT_KNOWN)
    }

    pub(super) fn set_appended(&self, at: i64) {
        self.appended.store(at, Ordering::Relaxed);
    }

    /// Says that it was appended to since.
    pub(super) fn forget_appended(&self) {
        self.appended.store(NOT_KNOWN, Ordering::Relaxed);
    }

    /// When it was last appended to, in milliseconds of the wall clock, found out by `find` if that is
    /// not known.
    pub(super) fn last_append(&self, find: impl FnOnce() -> i64) -> i64 {
        let known = self.last_append.load(Ordering::Relaxed);
        if known != NOT_KNOWN {
            return known;
        }
        let found = find();
        self.last_append.store(found, Ordering::Relaxed);
        found
    }

    /// When it was last appended to, in milliseconds of the wall clock, if that is known.
    pub(super) fn known_last_append(&self) -> Option<i64> {
        Some(self.last_append.load(Ordering::Relaxed)).filter(|known| *known != NOT_KNOWN)
    }

    /// What the segment came to, if it waits to be sealed.
    pub(crate) fn rolled(&self) -> Option<Summary> {
        self.held.lock().rolled
    }

    /// Goes on writing the segment.
    pub(crate) fn revive(&self, segment: &Arc<Segment>, file: &Arc<dyn StorageFile>) {
        let mut held = self.held.lock();
        held.strong = Some(Arc::clone(segment));
        held.unsynced = Some(Arc::clone(file));
    }

    pub(crate) fn base_offset(&self) -> u64 {
        self.base_offset
    }

    /// The segment, mapped now if it is not.
    pub(crate) fn segment(
        &self,
        storage: &Arc<dyn Storage>,
        dir: &Path,
        topic_id: u64,
    ) -> Result<Arc<Segment>> {
        let mut held = self.held.lock();
        if let Some(segment) = held.strong.clone().or_else(|| held.weak.upgrade()) {
            return Ok(segment);
        }
        let segment = Arc::new(Segment::open(storage, dir, self.base_offset, topic_id)?);
        held.weak = Arc::downgrade(&segment);
        Ok(segment)
    }

    /// Whether it is being written.
    pub(crate) fn is_live(&self) -> bool {
        let held = self.held.lock();
        held.rolled.is_none() && held.strong.is_some()
    }

    /// The segment, if it is being written.
    pub(crate) fn live_segment(&self) -> Option<Arc<Segment>> {
        let held = self.held.lock();
        if held.rolled.is_some() { None } else { held.strong.clone() }
    }

    /// Makes what the file holds durable, if it may not be. Called by one thread at a time.
    ///
    /// What was found in it at open is written anew before: if a sync of whoever wrote it failed, its
    /// pages count as clean, and would not be written by another sync. They are in the page cache
    /// still, since they were read there; the bytes stay the same, so a power cut meanwhile does no
    /// harm.
    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        if is_planted(Planted::SkipsTheSync) {
            return Ok(());
        }
        let (file, found) = {
            let held = self.held.lock();
            let Some(file) = &held.unsynced else { return Ok(()) };
            if let Some(segment) = &held.strong {
                segment.count_sync();
            }
            (Arc::clone(file), held.found.clone())
        };
        #[cfg(test)]
        let found = found.filter(|_| !is_planted(Planted::BelievesTheNextSync));
        if let Some(found) = found {
            file.rewrite(found).map_err(not_begun)?;
            self.held.lock().found = None;
        }
        file.sync()
    }

    /// Whether the directory entry still has to be made durable.
    pub(crate) fn needs_entry(&self) -> bool {
        !self.entry_durable.load(Ordering::Relaxed)
    }

    /// Says that the directory was synced.
    pub(crate) fn entry_synced(&self) {
        self.entry_durable.store(true, Ordering::Relaxed);
    }

    /// Cuts the file of a rolled segment behind its last frame, and lets its mapping go unless
    /// somebody else keeps it. Returns its index, and whether it could be cut.
    ///
    /// The mapping goes before the file is synced: taking dirty pages out of a mapping one by one
    /// interrupts every thread of the process for each, giving up the mapping does so once. The
    /// cut comes before that, so that whoever maps the file anew never sees beyond it.
    pub(crate) fn retire(&self, summary: &Summary) -> (Option<SparseIndex>, io::Result<()>) {
        let mut held = self.held.lock();
        // Without the first mapping it was cut before, or is not to be: others may map all of it.
        let Some(segment) = held.strong.take() else { return (None, Ok(())) };
        let trimmed = held.unsynced.as_ref().map_or(Ok(()), |file| file.trim(summary.log_bytes));
        held.weak = Arc::downgrade(&segment);
        (segment.copy_index(), trimmed)
    }

    /// Says that the segment is on stable storage and will not be written again.
    pub(crate) fn sealed(&self) {
        let mut held = self.held.lock();
        held.unsynced = None;
        held.rolled = None;
    }
}
