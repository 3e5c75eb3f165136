//! The one that appends to a segment: it lays frames into the mapping and keeps the index. Used under
//! the append lock of its partition.
//!
//! How it is made, or gone on with, stands in `begin`; how the file and its pages stay ahead of it, in `ahead`.

mod ahead;
mod begin;

pub(crate) use begin::{NewSegment, Reopening};

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::index::{IndexBuilder, Summary};
use super::pages::Pages;
use super::shared::Segment;
use crate::error::{Error, Result};
use crate::quota::Room;
use crate::record::Record;
use crate::storage::checksum::Checksum;
use crate::storage::frame::{self, APPEND_TIME, Filled, FrameHeader};
use crate::storage::{RegionWriter, Stage, StorageFile};
use crate::timestamp::Timestamp;

/// One append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) offset: u64,
    pub(crate) count: u32,
    /// Timestamp of the first record, and the largest one.
    pub(crate) timestamp: i64,
    pub(crate) newest: i64,
    pub(crate) attributes: u16,
    pub(crate) body_bytes: usize,
    /// The broker's time.
    pub(crate) now: i64,
}

impl Append {
    /// The timestamp one of its records carries.
    pub(crate) fn timestamp_of(&self, record: &Record<'_>, now: Timestamp) -> Timestamp {
        if self.attributes & APPEND_TIME != 0 {
            return Timestamp::from_millis(self.timestamp);
        }
        record.timestamp.unwrap_or(now)
    }
}

/// What a step leaves to be done when the append lock has been given back.
#[derive(Clone, Copy, Debug, Default)]
struct StepLeft {
    /// Whether pages are to be prepared.
    pages: bool,
    /// Whether the room for more is running out.
    is_tight: bool,
}

/// Appends to one segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    /// The segment's, which is kept here so that an append does not touch what readers count their
    /// references in.
    base_offset: u64,
    region: RegionWriter,
    file: Arc<dyn StorageFile>,
    /// Says whether there is room to grow.
    room: Room,
    /// What the segment's files take, in bytes, with room for its indexes: stored here and by whoever seals it, loaded by whoever
    /// deletes it. Relaxed: it publishes nothing but itself.
    file_bytes: Arc<AtomicU64>,
    /// How many records it may hold.
    max_records: u64,
    checksum: Checksum,
    index: IndexBuilder,
    next_offset: u64,
    last_append: i64,
    /// Where the next step is to be taken: growing the file or preparing pages. Never beyond the
    /// region's limit, so that one comparison covers both.
    step_at: usize,
    /// Who touches which pages, once there is something to be gained by it.
    pages: Option<Arc<Pages>>,
    /// How far ahead pages are to be ready, in bytes.
    ahead: usize,
    /// How much is appended in 20 ms, in bytes, and when and at which length of the segment
    /// that was looked at.
    reach: usize,
    looked: (Instant, usize),
    /// Whether syncs were rare when that was looked at, and how many there had been.
    is_calm: bool,
    syncs: u64,
    /// Whether pages are large.
    large_pages: bool,
    /// How far stores do not get in the way of whoever touches pages.
    secured: usize,
    /// What the last step left to be done, until it is taken.
    left: StepLeft,
    /// Whether the segment before this one filled up.
    busy: bool,
}

impl SegmentWriter {
    /// The segment, for readers to share.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// What its files take, in bytes.
    pub(crate) fn file_bytes(&self) -> &Arc<AtomicU64> {
        &self.file_bytes
    }

    /// How fast it is filled, for the next one to begin with.
    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    /// Whether its pages are large.
    pub(crate) fn large_pages(&self) -> bool {
        self.large_pages
    }

    /// Says when it was last appended to, in milliseconds of the wall clock, by whoever was there.
    pub(crate) fn set_last_append(&mut self, at: i64) {
        self.last_append = at;
    }

    /// Whether nothing has been appended to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.next_offset == self.segment.base_offset()
    }

    /// The file, for syncing.
    pub(crate) fn file(&self) -> &Arc<dyn StorageFile> {
        &self.file
    }

    /// Whether a frame of `stride` bytes that starts with `offset` can still go into this segment.
    #[inline]
    pub(crate) fn has_room(&self, stride: usize, offset: u64) -> bool {
        stride <= self.region.capacity() - self.region.committed()
            && offset - self.segment.base_offset() < self.max_records
    }

    /// The offset behind the last record it may hold.
    pub(crate) fn records_end(&self) -> u64 {
        self.segment.base_offset().saturating_add(self.max_records)
    }

    /// Whether `stride` more bytes can be stored as it is.
    #[inline]
    pub(crate) fn is_reserved(&self, stride: usize) -> bool {
        self.region.committed() + stride <= self.step_at
    }

    /// Makes sure that `stride` more bytes can be stored. On failure nothing has changed.
    #[inline]
    pub(crate) fn reserve(&mut self, stride: usize) -> Result<()> {
        if self.is_reserved(stride) {
            return Ok(());
        }
        self.step(self.region.committed() + stride)
    }

    /// What the last steps left to be done, once: pages to be prepared, and whether the room for more is
    /// running out.
    #[inline]
    pub(crate) fn take_left(&mut self) -> Option<(Option<Arc<Pages>>, bool)> {
        if !self.left.pages && !self.left.is_tight {
            return None;
        }
        let StepLeft { pages, is_tight } = std::mem::take(&mut self.left);
        Some((self.pages.clone().filter(|_| pages), is_tight))
    }

    /// Writes a frame, for which there is room and [`reserve`](Self::reserve)d space, but for its
    /// length. Nothing can be seen of it.
    #[inline]
    pub(crate) fn fill(&mut self, append: &Append, fill: impl FnOnce(&mut Stage<'_>)) -> Filled {
        debug_assert_eq!(append.offset, self.next_offset);
        let header = FrameHeader {
            offset_delta: self.offset_delta(append),
            count: append.count,
            timestamp: append.timestamp,
            attributes: append.attributes,
        };
        let position = self.region.committed();
        frame::fill(&mut self.region, position, self.checksum, &header, append.body_bytes, fill)
            .expect("reserve() made room for the frame")
    }

    /// Writes a frame, for which there is room and [`reserve`](Self::reserve)d space, and lets readers see
    /// it. If that fails, nothing has changed.
    #[inline]
    pub(crate) fn append(
        &mut self,
        append: &Append,
        fill: impl FnOnce(&mut Stage<'_>),
    ) -> Result<()> {
        debug_assert_eq!(append.offset, self.next_offset);
        let offset_delta = self.offset_delta(append);
        let header = FrameHeader {
            offset_delta,
            count: append.count,
            timestamp: append.timestamp,
            attributes: append.attributes,
        };
        let position = self.region.committed();
        let written =
            frame::append(&mut self.region, self.checksum, &header, append.body_bytes, fill)
                .expect("reserve() made room for the frame");
        if let Err(error) = written {
            return Err(self.not_written(append, error));
        }
        self.appended(append, offset_delta, position);
        Ok(())
    }

    /// Notes that a frame was appended at `position`.
    #[inline]
    fn appended(&mut self, append: &Append, offset_delta: u32, position: usize) {
        if let Some(entry) = self.index.entry(offset_delta, position, append.newest) {
            self.segment.add_entry(entry);
        }
        self.next_offset = append.offset + u64::from(append.count);
        self.last_append = append.now;
    }

    /// Does what can fail about a frame that was filled, where a file is written with system calls.
    pub(crate) fn write_ahead(&mut self, append: &Append) -> Result<()> {
        self.region.write_ahead().map_err(|error| self.not_written(append, error))
    }

    /// Finishes a frame that was filled, and lets readers see it. If that fails, nothing has changed.
    #[inline]
    pub(crate) fn publish(&mut self, append: &Append, filled: &Filled) -> Result<()> {
        let position = self.region.committed();
        let end = filled.finish(&mut self.region);
        if let Err(error) = self.region.publish(end) {
            return Err(self.not_written(append, error));
        }
        self.appended(append, self.offset_delta(append), position);
        Ok(())
    }

    #[inline]
    fn offset_delta(&self, append: &Append) -> u32 {
        u32::try_from(append.offset - self.base_offset)
            .expect("has_room() keeps offsets within 32 bits of the base offset")
    }

    #[cold]
    fn not_written(&self, append: &Append, error: io::Error) -> Error {
        let bytes = append.body_bytes as u64;
        Error::space("writing to segment", self.segment.path(), bytes, error)
    }

    /// Has a bug from here on.
    #[cfg(loom)]
    pub(crate) fn plant(&mut self, planted: crate::sync::Planted) {
        self.region.plant(planted);
    }

    /// What is known of the segment as a whole, with `last_append` for its age.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            log_bytes: self.region.committed() as u64,
            next_offset: self.next_offset,
            max_timestamp: self.index.max_timestamp,
            last_append: self.last_append,
        }
    }

    /// Sets how far apart index entries are, and how many records it may hold, from here on.
    pub(crate) fn set_limits(&mut self, index_interval: u64, max_records: u64) {
        self.index.set_interval(index_interval);
        self.max_records = max_records;
    }
}
