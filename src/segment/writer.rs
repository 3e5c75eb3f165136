//! The one that appends to a segment: it lays frames into the mapping, grows the file ahead of
//! them, and keeps the index. Used under the append lock of its partition.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::header::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::index::{IndexBuilder, SparseIndex, Summary};
use super::pages::{LARGE, Pages};
use super::shared::{Segment, log_path};
use crate::error::{Error, Result};
use crate::quota::Room;
use crate::record::Record;
use crate::storage::checksum::Checksum;
use crate::storage::frame::{self, APPEND_TIME, Filled, FrameHeader};
use crate::storage::{MAPPED_FILES_GROW, RegionWriter, Stage, Storage, StorageFile};
use crate::timestamp::Timestamp;

/// The blocks a new segment gets, so that a small topic stays small on disk.
const FIRST_BYTES: usize = 16 << 10;
/// The most a segment grows by in one step. Up to there it doubles.
const MAX_STEP: usize = 4 << 20;
/// From here on a segment has its pages touched ahead of the appender. Smaller ones are not worth
/// the memory.
const PREPARE_FROM: usize = 128 << 10;
/// How far ahead of the appender pages are touched: what it will have reached after this time if it goes on
/// as it does, and no more at a time, because whoever touches them takes a core away from others for as long;
const PREPARE_TIME: Duration = Duration::from_millis(20);
/// at least this;
const PREPARE_LEAST: usize = 128 << 10;
/// at most this share of what the segment has come to (who has sent much is likely to send more), within
/// these bounds.
const PREPARE_SHARE: usize = 4;
const PREPARE_MOST: (usize, usize) = (1 << 20, 4 << 20);
/// With more syncs than this for what a large page holds, pages are small.
const SYNCS_OF_LARGE: u64 = 4;

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
    /// How much is appended in [`PREPARE_TIME`], in bytes, and when and at which length of the segment
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

    /// Makes sure that bytes up to `end` can be stored, and looks ahead.
    #[cold]
    fn step(&mut self, end: usize) -> Result<()> {
        if end > self.region.limit() {
            self.grow(end)?;
        }
        if end >= self.prepare_from() && self.region.has_pages() {
            self.look_ahead(end);
        }
        self.set_step();
        Ok(())
    }

    /// Asks for pages ahead of `end`, and sees to it that nobody is in the way of what lies before it.
    fn look_ahead(&mut self, end: usize) {
        let ahead = self.ahead;
        if self.pages.as_ref().is_none_or(|pages| pages.claimed() < end + ahead) {
            let ahead = self.choose_how_far();
            if end + 2 * ahead > self.region.limit() {
                // Without room ahead there is less to prepare; room for the frame there is.
                drop(self.grow(end + 2 * ahead));
            }
            self.choose_page_size();
            self.ask_for_pages(end + 2 * ahead);
        }
        let start = self.region.committed().max(self.secured);
        if let Some(pages) = &self.pages {
            let limit = self.region.limit();
            self.secured = pages.secure(self.region.region(), start..end, limit);
        }
    }

    /// From where on pages are touched ahead.
    fn prepare_from(&self) -> usize {
        if self.busy { 0 } else { PREPARE_FROM }
    }

    /// Works out how far ahead pages are to be ready, by how fast the segment was filled lately.
    fn choose_how_far(&mut self) -> usize {
        let (now, end) = (Instant::now(), self.region.committed());
        let (since, from) = self.looked;
        let time = now - since;
        if end - from >= PREPARE_MOST.0 || time >= PREPARE_TIME {
            let reach = (end - from) as u128 * PREPARE_TIME.as_nanos() / time.as_nanos().max(1);
            self.reach = usize::try_from(reach).unwrap_or(usize::MAX);
            self.looked = (now, end);
            let syncs = self.segment.syncs();
            self.is_calm = (syncs - self.syncs) * LARGE as u64
                <= SYNCS_OF_LARGE * (end - from).max(LARGE / 2) as u64;
            self.syncs = syncs;
        }
        let (least, most) = PREPARE_MOST;
        let most = if self.busy { most } else { (end / PREPARE_SHARE).clamp(least, most) };
        self.ahead = self.reach.clamp(PREPARE_LEAST, most);
        self.ahead
    }

    fn ask_for_pages(&mut self, target: usize) {
        let region = self.region.region();
        let touched = self.region.committed();
        let large = self.busy && self.large_pages;
        let pages = self.pages.get_or_insert_with(|| Arc::new(Pages::new(region, touched, large)));
        if pages.ask(target.min(self.region.limit())) {
            self.left.pages = true;
        }
    }

    /// Large pages where one is soon filled, unless a sync would often write much more than there is to be
    /// written.
    fn choose_page_size(&mut self) {
        // One that is slowed down for a moment goes on as it was.
        let enough = if self.large_pages { LARGE / 8 } else { LARGE / 2 };
        self.large_pages = self.reach >= enough && self.is_calm;
        if let Some(pages) = &self.pages {
            pages.use_large(self.region.region(), self.large_pages);
        }
    }

    fn set_step(&mut self) {
        let limit = self.region.limit();
        self.step_at = if self.region.has_pages() {
            self.secured.max(self.prepare_from()).min(limit)
        } else {
            limit
        };
    }

    /// Grows the file to at least `end`, or as far as the segment may grow.
    fn grow(&mut self, end: usize) -> Result<()> {
        let limit = self.region.limit();
        let step = limit.clamp(FIRST_BYTES, MAX_STEP);
        let wanted = (limit + step).max(end);
        // Large pages need all their blocks.
        let unit = if wanted >= LARGE { LARGE } else { 1 };
        let wanted = wanted.next_multiple_of(unit).min(self.region.capacity());
        // Where a step does not fit, what is needed may.
        let needed = end.next_multiple_of(FIRST_BYTES).min(wanted);
        let result = match self.grow_to(wanted) {
            Err(_) if needed < wanted && limit < needed => self.grow_to(needed),
            other => other,
        };
        self.left.is_tight |= self.room.quota.is_tight();
        result
    }

    fn grow_to(&mut self, new_limit: usize) -> Result<()> {
        let limit = self.region.limit();
        let Some(bytes) = new_limit.checked_sub(limit).filter(|bytes| *bytes > 0) else {
            return Ok(());
        };
        let taken = bytes as u64 + SparseIndex::bytes_for(bytes as u64, self.index.interval());
        self.room.take(taken)?;
        self.file.allocate(limit as u64, new_limit as u64).map_err(|error| {
            self.room.quota.give_back(taken);
            Error::space("growing segment", self.segment.path(), bytes as u64, error)
        })?;
        self.file_bytes.fetch_add(taken, Ordering::Relaxed);
        self.region.set_limit(new_limit);
        Ok(())
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

/// Whether a file holds more than an attempt to make a segment leaves behind: a frame, or what is not
/// known. It may be another's, if directories were moved under the feet of a broker.
fn holds_records(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<bool> {
    let region = storage.map(path)?;
    let bytes = region.read(0..region.committed()).unwrap_or_default();
    let length = bytes.get(SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 4).unwrap_or_default();
    Ok(length.iter().any(|byte| *byte != 0))
}
