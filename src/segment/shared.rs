//! A segment as readers see it: frames to be walked, and an index to find the way.
//!
//! Nothing here changes a byte of the log. What is read is checked: a frame's checksum, that its
//! offset follows the one before it, and that an index entry points to the frame it names.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::record_codec;
use crate::storage::checksum::Checksum;
use crate::storage::frame::{self, Frame, NoFrame};
use crate::storage::{Region, Storage, View};

use super::header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::index::{IndexBuilder, IndexEntry, SparseIndex, Summary, stored_last_append};

/// The `.log` file of the segment that starts with `base_offset`.
pub(crate) fn log_path(dir: &Path, base_offset: u64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

/// A segment as readers see it.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    header: SegmentHeader,
    /// How its frames are checked.
    checksum: Checksum,
    region: Arc<Region>,
    storage: Arc<dyn Storage>,
    /// The sparse index; `None` until a sealed segment is first searched. Held for a push by the
    /// appender once every few kilobytes, and for a look-up by readers that seek. A leaf lock.
    index: RwLock<Option<SparseIndex>>,
    /// How often it was synced while it was written. Relaxed: only the number matters.
    syncs: AtomicU64,
}

/// One frame met on a walk, and where it was.
#[derive(Debug)]
pub(crate) struct At<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) position: usize,
    /// Offset of the frame's first record.
    pub(crate) offset: u64,
}

impl At<'_> {
    /// The offset behind the frame's last record.
    pub(crate) fn next_offset(&self) -> u64 {
        self.offset + u64::from(self.frame.header.count)
    }
}

/// Why and where a walk over frames ended.
#[derive(Debug)]
pub(crate) struct WalkEnd {
    pub(crate) position: usize,
    /// The offset behind the last frame that was met.
    pub(crate) next_offset: u64,
    /// `None` if the walk was told to stop.
    pub(crate) reason: Option<NoFrame>,
}

impl Segment {
    /// Opens the segment of a file that is not being written, of the topic with this identity.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        base_offset: u64,
        topic_id: u64,
    ) -> Result<Self> {
        let path = log_path(dir, base_offset);
        let region =
            storage.map(&path).map_err(|error| Error::io("mapping segment", &path, error))?;
        let segment = Self::new(storage, path, base_offset, region, None)?;
        if segment.header.topic_id != topic_id {
            return Err(segment.corrupt(0, "the segment is another topic's"));
        }
        Ok(segment)
    }

    pub(super) fn new(
        storage: &Arc<dyn Storage>,
        path: PathBuf,
        base_offset: u64,
        region: Arc<Region>,
        index: Option<SparseIndex>,
    ) -> Result<Self> {
        let head = region.read(0..region.committed().min(SEGMENT_HEADER_BYTES)).unwrap_or_default();
        let header = SegmentHeader::decode(head, &path, base_offset)?;
        let checksum = header.checksum();
        let storage = Arc::clone(storage);
        let (index, syncs) = (RwLock::new(index), AtomicU64::new(0));
        Ok(Self { path, header, checksum, region, storage, index, syncs })
    }

    /// The `.log` file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How its frames are checked.
    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Says that it is synced once more while it is written.
    pub(crate) fn count_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was synced while it was written.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn base_offset(&self) -> u64 {
        self.header.base_offset
    }

    /// How far the segment can be read.
    pub(crate) fn committed(&self) -> usize {
        self.region.committed()
    }

    /// The bytes from `start` to `end`, or fewer where fewer are there.
    #[inline]
    pub(crate) fn bytes(&self, start: usize, end: usize) -> &[u8] {
        let end = end.min(self.region.committed());
        self.region.read(start..end).unwrap_or_default()
    }

    /// What can be read of it by now.
    pub(crate) fn view(&self) -> View {
        View::new(&self.region)
    }

    /// The frame at `position`, in a segment read up to `committed`.
    #[inline]
    pub(crate) fn frame_at(&self, position: usize, committed: usize) -> Result<Frame<'_>, NoFrame> {
        self.frame_in(self.bytes(position, committed))
    }

    /// The frame at the start of `bytes`, which are this segment's.
    #[inline]
    pub(crate) fn frame_in<'a>(&self, bytes: &'a [u8]) -> Result<Frame<'a>, NoFrame> {
        frame::read(bytes, self.checksum)
    }

    /// The error for what was found at `position` in place of a frame.
    #[cold]
    pub(crate) fn corrupt(&self, position: usize, detail: impl Into<String>) -> Error {
        Error::corrupt(&self.path, position as u64, detail)
    }

    /// Visits the frames from `position`, the first of which has `offset` for its first record,
    /// until there is none or `visit` breaks. A frame whose offset does not follow ends the walk
    /// as an invalid one does.
    pub(crate) fn walk(
        &self,
        position: usize,
        offset: u64,
        mut visit: impl FnMut(&At<'_>) -> ControlFlow<()>,
    ) -> WalkEnd {
        let committed = self.region.committed();
        let (mut position, mut next_offset) = (position, offset);
        loop {
            let frame = match self.frame_at(position, committed) {
                Ok(frame) => frame,
                Err(reason) => return WalkEnd { position, next_offset, reason: Some(reason) },
            };
            let offset = self.base_offset() + u64::from(frame.header.offset_delta);
            if offset != next_offset {
                let detail = format!("a frame with offset {offset} where {next_offset} follows");
                let reason = Some(NoFrame::Invalid(detail));
                return WalkEnd { position, next_offset, reason };
            }
            let at = At { frame, position, offset };
            if visit(&at).is_break() {
                return WalkEnd { position, next_offset, reason: None };
            }
            next_offset = at.next_offset();
            position += at.frame.stride;
        }
    }

    /// A frame at or before the one that holds `offset`: its position and its first offset.
    pub(crate) fn floor_offset(&self, offset: u64) -> (usize, u64) {
        let delta = u32::try_from(offset.saturating_sub(self.base_offset())).unwrap_or(u32::MAX);
        self.checked_entry(|index| index.floor_offset(delta))
    }

    /// Where the frame ends that holds the record before `offset`, if one ends there.
    pub(crate) fn position_behind(&self, offset: u64) -> Option<usize> {
        let (position, at) = self.floor_offset(offset.checked_sub(1)?);
        let mut found = None;
        self.walk(position, at, |at| {
            if at.next_offset() < offset {
                return ControlFlow::Continue(());
            }
            found = Some(at.position + at.frame.stride).filter(|_| at.next_offset() == offset);
            ControlFlow::Break(())
        });
        found
    }

    /// The first record from `start` on that is not older than `timestamp`: its offset and its time.
    pub(crate) fn first_not_older(&self, timestamp: i64, start: u64) -> Result<Option<(u64, i64)>> {
        let (position, offset) = self.checked_entry(|index| index.floor_timestamp(timestamp));
        let mut found = Ok(None);
        let end = self.walk(position, offset, |at| {
            found = self.first_in_frame(at, timestamp, start);
            if matches!(found, Ok(None)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match end.reason {
            Some(NoFrame::Invalid(detail)) => Err(self.corrupt(end.position, detail)),
            _ => found,
        }
    }

    fn first_in_frame(
        &self,
        at: &At<'_>,
        timestamp: i64,
        start: u64,
    ) -> Result<Option<(u64, i64)>> {
        let mut position = 0;
        for offset in at.offset..at.next_offset() {
            let record = record_codec::decode(at.frame.body, position)
                .ok_or_else(|| self.corrupt(at.position, "a frame holds what is not a record"))?;
            let time = at.frame.header.timestamp.saturating_add(record.timestamp_delta);
            if time >= timestamp && offset >= start {
                return Ok(Some((offset, time)));
            }
            position = record.end;
        }
        Ok(None)
    }

    /// Adds an entry for a frame that is about to be appended.
    pub(super) fn add_entry(&self, entry: IndexEntry) {
        self.index.write().get_or_insert_default().push(entry);
    }

    /// Has the index in memory from here on, so that entries can be added to it.
    pub(super) fn keep_index(&self) {
        let index = self.load_index();
        *self.index.write() = Some(index);
    }

    /// The index as it is in memory, if it is.
    pub(crate) fn copy_index(&self) -> Option<SparseIndex> {
        self.index.read().clone()
    }

    /// Writes the index files, of `index` or of what the log says, and returns what they take, in bytes;
    /// `None` if they were there. They are a convenience: the segment can be read without them.
    pub(crate) fn store_index(
        &self,
        index: Option<SparseIndex>,
        summary: &Summary,
    ) -> io::Result<Option<u64>> {
        let index = match index {
            Some(index) => index,
            None if self.has_stored_index() => return Ok(None),
            None => self.load_index(),
        };
        index.store(&*self.storage, &self.path, self.header.salt, summary).map(Some)
    }

    /// When it was last appended to, by what its index says, in milliseconds of the wall clock; `None`
    /// where that is not known.
    pub(crate) fn stored_last_append(&self) -> Option<i64> {
        stored_last_append(&*self.storage, &self.path, self.header.salt)
    }

    /// Whether index files of the whole log are there.
    pub(crate) fn has_stored_index(&self) -> bool {
        self.stored_index().is_some()
    }

    fn stored_index(&self) -> Option<SparseIndex> {
        let stored = SparseIndex::load(&*self.storage, &self.path, self.header.salt);
        let (index, summary) = stored?;
        (summary.log_bytes == self.committed() as u64).then_some(index)
    }

    /// Asks the index, and believes it only if the frame it points to is there.
    fn checked_entry(&self, ask: impl Fn(&SparseIndex) -> Option<IndexEntry>) -> (usize, u64) {
        if self.index.read().is_none() {
            let index = self.load_index();
            self.index.write().get_or_insert(index);
        }
        let start = (SEGMENT_HEADER_BYTES, self.base_offset());
        let answer = self.index.read().as_ref().and_then(&ask);
        let Some(entry) = answer else { return start };
        let position = entry.position as usize;
        match self.frame_at(position, self.region.committed()) {
            Ok(frame) if frame.header.offset_delta == entry.offset_delta => {
                (position, self.base_offset() + u64::from(entry.offset_delta))
            }
            // The log behind the entry is what it is; whoever walks there is told. But an index
            // that points between frames is wrong, and the log alone is right.
            _ => start,
        }
    }

    fn load_index(&self) -> SparseIndex {
        self.stored_index().unwrap_or_else(|| {
            self.scan(SEGMENT_HEADER_BYTES, self.base_offset(), -1, DEFAULT_INDEX_INTERVAL).index
        })
    }

    /// Whether what a frame of this segment holds are records, and nothing else.
    pub(crate) fn holds_records(frame: &Frame<'_>) -> bool {
        newest_in(frame).is_some()
    }

    /// As [`scan`](Self::scan), without an index, and only as far as the frame that holds `stop`.
    pub(crate) fn scan_until(&self, position: usize, offset: u64, stop: u64) -> Scan {
        self.scan_frames(position, offset, stop, IndexBuilder::new(u64::MAX, -1))
    }

    /// An index with an entry for each frame.
    pub(crate) fn full_index(&self) -> SparseIndex {
        self.scan(SEGMENT_HEADER_BYTES, self.base_offset(), -1, 0).index
    }

    /// Reads all frames from `position` on, the first of which has `offset`, and says what is
    /// there. `max_timestamp` is the largest one before it.
    pub(crate) fn scan(
        &self,
        position: usize,
        offset: u64,
        max_timestamp: i64,
        index_interval: u64,
    ) -> Scan {
        let index = IndexBuilder::new(index_interval, max_timestamp);
        self.scan_frames(position, offset, u64::MAX, index)
    }

    fn scan_frames(
        &self,
        position: usize,
        offset: u64,
        stop: u64,
        mut index: IndexBuilder,
    ) -> Scan {
        let mut malformed = None;
        let mut records = 0;
        let end = self.walk(position, offset, |at| {
            if at.next_offset() > stop {
                return ControlFlow::Break(());
            }
            let Some(newest) = newest_in(&at.frame) else {
                malformed = Some(NoFrame::Invalid("a frame holds what is not a record".to_owned()));
                return ControlFlow::Break(());
            };
            index.note(at.frame.header.offset_delta, at.position, newest);
            records += u64::from(at.frame.header.count);
            ControlFlow::Continue(())
        });
        Scan {
            position: end.position,
            next_offset: end.next_offset,
            max_timestamp: index.max_timestamp,
            reason: malformed.or(end.reason).unwrap_or(NoFrame::End),
            index: index.index,
            records,
        }
    }
}

/// How far apart the entries of an index are that is rebuilt for a look-up.
pub(crate) const DEFAULT_INDEX_INTERVAL: u64 = 4 << 10;

/// The largest timestamp in a frame, or `None` if what it holds are not records.
fn newest_in(frame: &Frame<'_>) -> Option<i64> {
    let (mut start, mut newest) = (0, i64::MIN);
    for _ in 0..frame.header.count {
        let record = record_codec::decode(frame.body, start)?;
        newest = newest.max(frame.header.timestamp.saturating_add(record.timestamp_delta));
        start = record.end;
    }
    (start == frame.body.len()).then_some(newest)
}

/// What was found by reading a segment.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the last whole frame ends.
    pub(crate) position: usize,
    pub(crate) next_offset: u64,
    pub(crate) max_timestamp: i64,
    /// What stands at `position`.
    pub(crate) reason: NoFrame,
    pub(crate) index: SparseIndex,
    /// How many records were read.
    pub(crate) records: u64,
}
