//! How a segment comes to be written: it is made, or gone on with.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::ahead::{FIRST_BYTES, MAX_STEP, PREPARE_LEAST, PREPARE_MOST};
use super::{SegmentWriter, StepLeft};
use crate::error::{Error, Result};
use crate::quota::Room;
use crate::segment::header::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::segment::index::{IndexBuilder, SparseIndex, Summary};
use crate::segment::shared::{Segment, log_path};
use crate::storage::{MAPPED_FILES_GROW, Storage, StorageFile};

/// What a new segment is made with.
#[derive(Debug)]
pub(crate) struct NewSegment {
    pub(crate) base_offset: u64,
    /// How large it may become.
    pub(crate) capacity: usize,
    /// How many records it may hold.
    pub(crate) max_records: u64,
    /// What its first frame takes.
    pub(crate) first_frame: usize,
    pub(crate) created: i64,
    pub(crate) max_timestamp_before: i64,
    pub(crate) topic_id: u64,
    pub(crate) index_interval: u64,
    /// Whether the one before it filled up, so that this one will too.
    pub(crate) busy: bool,
    /// Whether its pages are large from the beginning, as those of the one before it.
    pub(crate) large_pages: bool,
    /// How fast the one before it was filled.
    pub(crate) reach: usize,
    pub(crate) room: Room,
}

/// What a segment is gone on with.
#[derive(Debug)]
pub(crate) struct Reopening<'a> {
    pub(crate) base_offset: u64,
    pub(crate) capacity: usize,
    pub(crate) max_records: u64,
    pub(crate) summary: &'a Summary,
    pub(crate) index_interval: u64,
    pub(crate) room: Room,
    /// What its files take, in bytes.
    pub(crate) file_bytes: &'a Arc<AtomicU64>,
}

impl SegmentWriter {
    /// Creates the file and its first blocks. Its directory entry is not yet durable. If it fails,
    /// no file is left.
    pub(crate) fn create(storage: &Arc<dyn Storage>, dir: &Path, new: &NewSegment) -> Result<Self> {
        let path = log_path(dir, new.base_offset);
        let create = || match storage.create(&path) {
            // No record has this offset, so the file is what an attempt that failed left behind.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if holds_records(storage, &path)? {
                    let detail = "a segment with records stands where the next one is to be made";
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, detail));
                }
                storage.remove_file(&path)?;
                storage.create(&path)
            }
            other => other,
        };
        let file = create()
            .map_err(|error| Error::space("creating segment", &path, FIRST_BYTES as u64, error))?;
        // If it cannot be removed, the next attempt or recovery does it.
        Self::fill_new(storage, &path, file, new).inspect_err(|_| drop(storage.remove_file(&path)))
    }

    fn fill_new(
        storage: &Arc<dyn Storage>,
        path: &Path,
        file: Arc<dyn StorageFile>,
        new: &NewSegment,
    ) -> Result<Self> {
        let needed = SEGMENT_HEADER_BYTES + new.first_frame;
        let first = if new.busy { MAX_STEP } else { FIRST_BYTES };
        let first = if MAPPED_FILES_GROW { first.min(new.capacity) } else { new.capacity };
        let first = first.max(needed);
        // Where all of it does not fit, what is needed may.
        let fitting = [first, FIRST_BYTES.min(first).max(needed), needed];
        let with_index = |bytes: usize| {
            let bytes = bytes as u64;
            bytes + SparseIndex::EMPTY_BYTES + SparseIndex::bytes_for(bytes, new.index_interval)
        };
        let take = |bytes: usize| new.room.take(with_index(bytes)).map(|()| bytes);
        let mut first = take(first);
        for less in fitting.into_iter().skip(1).filter(|_| MAPPED_FILES_GROW) {
            first = first.or_else(|_| take(less));
        }
        let first = first?;
        let taken = with_index(first);
        let mut writer = Self::lay_out(storage, path, file, new, first)
            .inspect_err(|_| new.room.quota.give_back(taken))?;
        writer.file_bytes.store(taken, Ordering::Relaxed);
        if new.busy && writer.region.has_pages() {
            writer.ahead = writer.reach.clamp(PREPARE_LEAST, PREPARE_MOST.1);
            writer.ask_for_pages(2 * writer.ahead);
        }
        writer.set_step();
        Ok(writer)
    }

    /// Makes a segment in a new file of `first` bytes.
    fn lay_out(
        storage: &Arc<dyn Storage>,
        path: &Path,
        file: Arc<dyn StorageFile>,
        new: &NewSegment,
        first: usize,
    ) -> Result<Self> {
        file.allocate(0, first as u64)
            .map_err(|error| Error::space("allocating segment", path, first as u64, error))?;
        let mut region = file
            .map_writer(new.capacity, 0)
            .map_err(|error| Error::io("mapping segment", path, error))?;
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            base_offset: new.base_offset,
            salt: storage.random(),
            created: new.created,
            max_timestamp_before: new.max_timestamp_before,
            topic_id: new.topic_id,
        };
        if new.busy && new.large_pages && region.has_pages() {
            region.region().use_large_pages(0, true);
        }
        let mut stage = region
            .stage(0, SEGMENT_HEADER_BYTES)
            .ok_or_else(|| Error::corrupt(path, 0, "the file is shorter than was allocated"))?;
        stage.put(&header.encode());
        region
            .publish(SEGMENT_HEADER_BYTES)
            .map_err(|error| Error::space("writing to segment", path, 0, error))?;
        let shared = Arc::clone(region.region());
        let index = Some(SparseIndex::default());
        let segment = Segment::new(storage, path.to_path_buf(), new.base_offset, shared, index)?;
        Ok(Self {
            checksum: segment.checksum(),
            base_offset: segment.base_offset(),
            segment: Arc::new(segment),
            region,
            file,
            room: new.room.clone(),
            file_bytes: Arc::default(),
            large_pages: new.large_pages,
            syncs: 0,
            is_calm: true,
            max_records: new.max_records,
            index: IndexBuilder::new(new.index_interval, -1),
            next_offset: new.base_offset,
            last_append: new.created,
            step_at: 0,
            pages: None,
            ahead: PREPARE_LEAST,
            reach: new.reach,
            looked: (Instant::now(), 0),
            secured: 0,
            left: StepLeft::default(),
            busy: new.busy,
        })
    }

    /// Goes on with a segment that ends with its file, at `summary.log_bytes`.
    pub(crate) fn reopen(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        reopening: &Reopening<'_>,
    ) -> Result<Self> {
        let Reopening { base_offset, summary, .. } = *reopening;
        let path = log_path(dir, base_offset);
        let committed = usize::try_from(summary.log_bytes).map_err(|_| {
            Error::corrupt(&path, summary.log_bytes, "the segment is too long to map")
        })?;
        let capacity = reopening.capacity.max(committed);
        let room = reopening.room.clone();
        let growth = if MAPPED_FILES_GROW { 0 } else { (capacity - committed) as u64 };
        room.take(growth)?;
        let map = || {
            let file = storage.open(&path)?;
            if growth > 0 {
                file.allocate(summary.log_bytes, capacity as u64)?;
            }
            let region = file.map_writer(capacity, committed)?;
            Ok((file, region))
        };
        let (file, region) = map()
            .inspect_err(|_| room.quota.give_back(growth))
            .map_err(|error| Error::space("mapping segment", &path, capacity as u64, error))?;
        reopening.file_bytes.fetch_add(growth, Ordering::Relaxed);
        let shared = Arc::clone(region.region());
        let segment = Segment::new(storage, path, base_offset, shared, None)?;
        // A look-up now rather than at the first seek: from here on this writer adds to the index.
        segment.keep_index();
        let mut writer = Self {
            checksum: segment.checksum(),
            base_offset: segment.base_offset(),
            segment: Arc::new(segment),
            region,
            file,
            room,
            file_bytes: Arc::clone(reopening.file_bytes),
            large_pages: false,
            syncs: 0,
            is_calm: true,
            max_records: reopening.max_records,
            index: IndexBuilder::new(reopening.index_interval, summary.max_timestamp),
            next_offset: summary.next_offset,
            last_append: summary.last_append,
            step_at: 0,
            pages: None,
            ahead: PREPARE_LEAST,
            reach: 0,
            looked: (Instant::now(), committed),
            secured: 0,
            left: StepLeft::default(),
            busy: false,
        };
        writer.set_step();
        Ok(writer)
    }
}

/// Whether a file holds more than an attempt to make a segment leaves behind: a frame, or what is not
/// known. It may be another's, if directories were moved under the feet of a broker.
fn holds_records(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<bool> {
    let region = storage.map(path)?;
    let bytes = region.read(0..region.committed()).unwrap_or_default();
    let length = bytes.get(SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 4).unwrap_or_default();
    Ok(length.iter().any(|byte| *byte != 0))
}
