//! Staying ahead of the appender: the file grows before it is needed, and pages are touched.
//!
//! One comparison says whether an append has to come here at all: `step_at` is where the next of these steps is to
//! be taken.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::SegmentWriter;
use crate::error::{Error, Result};
use crate::segment::index::SparseIndex;
use crate::segment::pages::{LARGE, Pages};
use crate::storage::BY_CALL;

/// The blocks a new segment gets, so that a small topic stays small on disk.
pub(super) const FIRST_BYTES: usize = 16 << 10;
/// The most a segment grows by in one step. Up to there it doubles.
pub(super) const MAX_STEP: usize = 4 << 20;
/// From here on a segment has its pages touched ahead of the appender. Smaller ones are not worth
/// the memory.
const PREPARE_FROM: usize = 128 << 10;
/// How far ahead of the appender pages are touched: what it will have reached after this time if it goes on
/// as it does, and no more at a time, because whoever touches them takes a core away from others for as long;
const PREPARE_TIME: Duration = Duration::from_millis(20);
/// at least this;
pub(super) const PREPARE_LEAST: usize = 128 << 10;
/// at most this share of what the segment has come to (who has sent much is likely to send more), within
/// these bounds.
const PREPARE_SHARE: usize = 4;
pub(super) const PREPARE_MOST: (usize, usize) = (1 << 20, 4 << 20);
/// With more syncs than this for what a large page holds, pages are small.
const SYNCS_OF_LARGE: u64 = 4;

impl SegmentWriter {
    /// Makes sure that bytes up to `end` can be stored, and looks ahead.
    #[cold]
    pub(super) fn step(&mut self, end: usize) -> Result<()> {
        if end > self.region.limit() {
            self.grow(end)?;
        }
        if self.region.has_pages() {
            if end - self.region.committed() >= BY_CALL {
                // It is not stored to through the mapping.
                if let Some(pages) = &self.pages {
                    pages.pass(end);
                }
            } else if end >= self.prepare_from() {
                self.look_ahead(end);
            }
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

    pub(super) fn ask_for_pages(&mut self, target: usize) {
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

    pub(super) fn set_step(&mut self) {
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
}
