//! The one that appends to a segment: it lays frames into the mapping, grows the file ahead of
//! them, and keeps the index. Used under the append lock of its partition.

use std::path::Path;
use std::sync::Arc;

use super::{
    IndexBuilder, SEGMENT_HEADER_BYTES, Segment, SegmentHeader, SparseIndex, Summary, log_path,
};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::storage::frame::{self, APPEND_TIME, FrameHeader};
use crate::storage::{MAPPED_FILES_GROW, RegionWriter, Stage, Storage, StorageFile};
use crate::timestamp::Timestamp;

/// The blocks a new segment gets, so that a small topic stays small on disk.
const FIRST_BYTES: usize = 16 << 10;
/// The most a segment grows by in one step. Up to there it doubles.
const MAX_STEP: usize = 4 << 20;

/// What a new segment is made with.
#[derive(Debug)]
pub(crate) struct NewSegment {
    pub(crate) base_offset: u64,
    /// How large it may become.
    pub(crate) capacity: usize,
    /// What its first frame takes.
    pub(crate) first_frame: usize,
    pub(crate) created: i64,
    pub(crate) max_timestamp_before: i64,
    pub(crate) topic_id: u64,
    pub(crate) index_interval: u64,
}

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

/// Appends to one segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    region: RegionWriter,
    file: Arc<dyn StorageFile>,
    seed: u32,
    index: IndexBuilder,
    next_offset: u64,
    last_append: i64,
}

impl SegmentWriter {
    /// Creates the file and its first blocks. Its directory entry is not yet durable. If it fails,
    /// no file is left.
    pub(crate) fn create(storage: &Arc<dyn Storage>, dir: &Path, new: &NewSegment) -> Result<Self> {
        let path = log_path(dir, new.base_offset);
        let file = storage
            .create(&path)
            .map_err(|error| Error::space("creating segment", &path, FIRST_BYTES as u64, error))?;
        Self::fill_new(storage, &path, file, new).inspect_err(|_| {
            if let Err(error) = storage.remove_file(&path) {
                log::warn!("removing {} after it could not be filled: {error}", path.display());
            }
        })
    }

    fn fill_new(
        storage: &Arc<dyn Storage>,
        path: &Path,
        file: Arc<dyn StorageFile>,
        new: &NewSegment,
    ) -> Result<Self> {
        let needed = SEGMENT_HEADER_BYTES + new.first_frame;
        let first = if MAPPED_FILES_GROW { FIRST_BYTES.min(new.capacity) } else { new.capacity };
        let first = first.max(needed);
        file.allocate(0, first as u64)
            .map_err(|error| Error::space("allocating segment", path, first as u64, error))?;
        let mut region = file
            .map_writer(new.capacity, 0)
            .map_err(|error| Error::io("mapping segment", path, error))?;
        let header = SegmentHeader {
            base_offset: new.base_offset,
            salt: storage.random(),
            created: new.created,
            max_timestamp_before: new.max_timestamp_before,
            topic_id: new.topic_id,
        };
        let mut stage = region
            .stage(0, SEGMENT_HEADER_BYTES)
            .ok_or_else(|| Error::corrupt(path, 0, "the file is shorter than was allocated"))?;
        stage.put(&header.encode());
        region.publish(SEGMENT_HEADER_BYTES);
        let shared = Arc::clone(region.region());
        let index = Some(SparseIndex::default());
        let segment = Segment::new(storage, path.to_path_buf(), new.base_offset, shared, index)?;
        Ok(Self {
            seed: segment.seed,
            segment: Arc::new(segment),
            region,
            file,
            index: IndexBuilder::new(new.index_interval, -1),
            next_offset: new.base_offset,
            last_append: new.created,
        })
    }

    /// Goes on with a segment that ends with its file, at `summary.log_bytes`.
    pub(crate) fn reopen(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        base_offset: u64,
        capacity: usize,
        summary: &Summary,
        index_interval: u64,
    ) -> Result<Self> {
        let path = log_path(dir, base_offset);
        let committed = usize::try_from(summary.log_bytes).map_err(|_| {
            Error::corrupt(&path, summary.log_bytes, "the segment is too long to map")
        })?;
        let capacity = capacity.max(committed);
        let map = || {
            let file = storage.open(&path)?;
            if !MAPPED_FILES_GROW {
                file.allocate(summary.log_bytes, capacity as u64)?;
            }
            let region = file.map_writer(capacity, committed)?;
            Ok((file, region))
        };
        let (file, region) = map()
            .map_err(|error| Error::space("mapping segment", &path, capacity as u64, error))?;
        let shared = Arc::clone(region.region());
        let segment = Segment::new(storage, path, base_offset, shared, None)?;
        // A look-up now rather than at the first seek: from here on this writer adds to the index.
        let loaded = segment.load_index();
        *segment.index.write() = Some(loaded);
        Ok(Self {
            seed: segment.seed,
            segment: Arc::new(segment),
            region,
            file,
            index: IndexBuilder::new(index_interval, summary.max_timestamp),
            next_offset: summary.next_offset,
            last_append: summary.last_append,
        })
    }

    /// The segment, for readers to share.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The file, for syncing.
    pub(crate) fn file(&self) -> &Arc<dyn StorageFile> {
        &self.file
    }

    /// Whether a frame of `stride` bytes that starts with `offset` can still go into this segment.
    #[inline]
    pub(crate) fn has_room(&self, stride: usize, offset: u64) -> bool {
        stride <= self.region.capacity() - self.region.committed()
            && u32::try_from(offset - self.segment.base_offset()).is_ok()
    }

    /// Makes sure that `stride` more bytes can be stored. On failure nothing has changed.
    #[inline]
    pub(crate) fn reserve(&mut self, stride: usize) -> Result<()> {
        if stride <= self.region.limit() - self.region.committed() {
            return Ok(());
        }
        self.grow(stride)
    }

    #[cold]
    fn grow(&mut self, stride: usize) -> Result<()> {
        let limit = self.region.limit();
        let step = limit.clamp(FIRST_BYTES, MAX_STEP);
        let wanted = (limit + step).max(self.region.committed() + stride);
        let new_limit = wanted.min(self.region.capacity());
        self.file.allocate(limit as u64, new_limit as u64).map_err(|error| {
            Error::space("growing segment", self.segment.path(), (new_limit - limit) as u64, error)
        })?;
        self.region.set_limit(new_limit);
        Ok(())
    }

    /// Appends a frame, for which there is room and [`reserve`](Self::reserve)d space, and lets
    /// readers see it.
    #[inline]
    pub(crate) fn append(&mut self, append: &Append, fill: impl FnOnce(&mut Stage<'_>)) {
        debug_assert_eq!(append.offset, self.next_offset);
        let position = self.region.committed();
        let offset_delta = u32::try_from(append.offset - self.segment.base_offset())
            .expect("has_room() keeps offsets within 32 bits of the base offset");
        if let Some(entry) = self.index.entry(offset_delta, position, append.newest) {
            self.segment.index.write().get_or_insert_default().push(entry);
        }
        let header = FrameHeader {
            offset_delta,
            count: append.count,
            timestamp: append.timestamp,
            attributes: append.attributes,
        };
        let end =
            frame::write(&mut self.region, position, self.seed, &header, append.body_bytes, fill)
                .expect("reserve() made room for the frame");
        self.next_offset = append.offset + u64::from(append.count);
        self.last_append = append.now;
        self.region.publish(end);
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

    /// Sets how far apart index entries are from here on.
    pub(crate) fn set_index_interval(&mut self, bytes: u64) {
        self.index.interval = bytes;
    }
}

impl Segment {
    /// Cuts the file behind its last frame and writes its indexes. Both are conveniences: the
    /// segment can be read without them, so failures are only logged.
    pub(crate) fn finish(&self, file: &dyn StorageFile, summary: &Summary) {
        if let Err(error) = file.trim(summary.log_bytes) {
            log::warn!("trimming segment {}: {error}", self.path.display());
        }
        let index = self.index.read().clone().unwrap_or_else(|| self.load_index());
        if let Err(error) = index.store(&*self.storage, &self.path, self.header.salt, summary) {
            log::warn!("writing indexes of {}: {error}", self.path.display());
        }
    }
}
