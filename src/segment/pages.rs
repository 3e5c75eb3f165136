//! The pages of a segment that is being written, and who touches them before a store gets there.
//!
//! The first store to a page costs most of a microsecond, so a thread in the background has pages
//! ready ahead of the appender. Two threads that touch the same page at the same time put one of
//! them to sleep, which costs ten times as much. So both go by one mark, `claimed`: whoever moves
//! it owns what lies in between. An appender that meets a piece which the other is at touches the
//! next one instead of waiting: then two threads do the work of one.
//!
//! Pages come large or small. Large ones (2 MiB, where the file system has them) are ready in a
//! fifth of the time, but a sync writes them whole, however little of them was stored to. So a segment
//! that is written in one go gets large ones, and one that is synced again and again small ones.
//!
//! All of it is about speed alone. What may be stored to is said by the region's limit.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::storage::Region;

/// What no two threads are to touch at once, or a part of it: pages are not smaller.
const PAGE: usize = 4 << 10;
/// How many bytes are claimed at a time.
const PIECE: usize = 64 << 10;
/// The same where pages are large: one of them.
pub(super) const LARGE: usize = 2 << 20;
/// How many pieces the appender touches at the most while the other is at the one it needs.
const HELP: u32 = 2;
/// How often it looks whether the other is done after that.
const LOOKS: usize = 4096;
/// No piece.
const NONE: usize = usize::MAX;

/// What the appender and the background share.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Not kept alive by a job that waits.
    region: Weak<Region>,
    /// What lies below is touched, or is being touched by whoever moved the mark. Moved with Release
    /// after `busy_at` was set, loaded with Acquire before it is looked at.
    claimed: AtomicUsize,
    /// Where the piece begins that the background is at. Stored with Release after the piece is
    /// touched, which makes nothing visible: it is all hints, but it should not look done early.
    busy_at: AtomicUsize,
    /// How far the background is to get. Relaxed: a hint.
    target: AtomicUsize,
    /// From where on pages are large; `NONE` if none is. Relaxed: a hint.
    large_from: AtomicUsize,
    /// Whether a job is waiting or at work. Relaxed: two would do no harm.
    is_asked: AtomicBool,
}

impl Pages {
    /// Of a region of which what lies behind `touched` is not.
    /// They are large from its beginning if `large` says so.
    pub(super) fn new(region: &Arc<Region>, touched: usize, large: bool) -> Self {
        let claimed = touched.next_multiple_of(PAGE);
        Self {
            region: Arc::downgrade(region),
            claimed: AtomicUsize::new(claimed),
            busy_at: AtomicUsize::new(NONE),
            target: AtomicUsize::new(0),
            large_from: AtomicUsize::new(if large { 0 } else { NONE }),
            is_asked: AtomicBool::new(false),
        }
    }

    /// How far pages are ready or claimed.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Says whether pages are to be large from here on.
    pub(super) fn use_large(&self, region: &Region, large: bool) {
        if large == (self.large_from.load(Ordering::Relaxed) != NONE) {
            return;
        }
        // What is being claimed at this moment stays as it is.
        let claimed = self.claimed.load(Ordering::Relaxed);
        let start = (claimed + PIECE).next_multiple_of(LARGE);
        region.use_large_pages(start, large);
        self.large_from.store(if large { start } else { NONE }, Ordering::Relaxed);
    }

    /// The end of the piece that begins with `start`.
    fn piece(&self, start: usize) -> usize {
        let large_from = self.large_from.load(Ordering::Relaxed);
        if start >= large_from {
            return (start + 1).next_multiple_of(LARGE);
        }
        (start + PIECE).min(large_from)
    }

    /// Says how far pages are wanted, and whether somebody has to be told.
    pub(super) fn ask(&self, target: usize) -> bool {
        self.target.store(target, Ordering::Relaxed);
        !self.is_asked.swap(true, Ordering::Relaxed)
    }

    /// Has pages ready as far as is wanted, so that storing to them does not wait for it.
    pub(crate) fn prepare(&self) {
        // What is wanted meanwhile is asked for anew: other segments want their turn.
        let target = self.target.load(Ordering::Relaxed);
        loop {
            let start = self.claimed.load(Ordering::Relaxed);
            let end = self.piece(start).min(target);
            if start >= end {
                break;
            }
            let Some(region) = self.region.upgrade() else { break };
            self.busy_at.store(start, Ordering::Relaxed);
            if self.claim(start, end) {
                region.prepare(start..end);
            }
            self.busy_at.store(NONE, Ordering::Release);
        }
        self.is_asked.store(false, Ordering::Relaxed);
    }

    fn claim(&self, start: usize, end: usize) -> bool {
        self.claimed.compare_exchange(start, end, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Says that what lies below `end` is not stored to page by page.
    pub(super) fn pass(&self, end: usize) {
        self.claimed.fetch_max(end.next_multiple_of(PAGE), Ordering::Release);
    }

    /// Says how far the appender may store from `start` on without meeting the background, and at
    /// least up to `end`. There are blocks up to `limit`.
    pub(super) fn secure(
        &self,
        region: &Region,
        Range { start, end }: Range<usize>,
        limit: usize,
    ) -> usize {
        let mut secured = start;
        let (mut looks, mut helped) = (0, 0);
        while secured < end {
            let claimed = self.claimed.load(Ordering::Acquire);
            let next = self.piece(claimed).min(limit);
            if claimed <= secured {
                // Nobody was here before.
                let next = next.max(end.next_multiple_of(PAGE)).min(limit);
                if self.claim(claimed, next) {
                    secured = next;
                }
                continue;
            }
            let free = claimed.min(self.busy_at.load(Ordering::Acquire));
            if free > secured {
                secured = free;
            } else if claimed < next && helped < HELP {
                if self.claim(claimed, next) {
                    region.prepare(claimed..next);
                    helped += 1;
                }
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                // It is asleep in the middle of it.
                secured = secured.saturating_add(PIECE).max(end);
            }
        }
        secured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RegionWriter;

    const MIB: usize = 1 << 20;

    fn region() -> Arc<Region> {
        let writer = RegionWriter::on_heap(16 * MIB, b"").expect("heap");
        Arc::clone(writer.region())
    }

    #[test]
    fn the_appender_owns_what_nobody_claimed() {
        let region = region();
        let pages = Pages::new(&region, 100, false);
        assert_eq!(pages.secure(&region, 100..300, 16 * MIB), PAGE, "the page it is in");
        assert_eq!(pages.secure(&region, PAGE..PAGE + 1, 16 * MIB), PAGE + PIECE);
        let far = 3 * PIECE + 5;
        assert_eq!(
            pages.secure(&region, PAGE + PIECE..far, 16 * MIB),
            far.next_multiple_of(PAGE),
            "a large record is one piece"
        );
        assert_eq!(
            pages.secure(&region, far..4 * PIECE, 4 * PIECE),
            4 * PIECE,
            "not beyond the blocks"
        );
    }

    #[test]
    fn the_background_goes_as_far_as_it_was_asked_and_the_appender_follows() {
        let region = region();
        let pages = Pages::new(&region, 0, false);
        pages.prepare();
        assert_eq!(pages.claimed(), 0, "nobody asked");
        assert!(pages.ask(3 * PIECE + 10), "somebody has to be told");
        assert!(!pages.ask(3 * PIECE + 10), "once");
        pages.prepare();
        assert_eq!(pages.claimed(), 3 * PIECE + 10);
        assert_eq!(pages.secure(&region, 0..1, 16 * MIB), 3 * PIECE + 10);
        assert!(pages.ask(4 * PIECE), "a job that is done can be asked for again");
    }

    #[test]
    fn an_appender_that_meets_the_background_helps_and_then_goes_on() {
        let region = region();
        let pages = Pages::new(&region, 0, false);
        // As a job that sleeps in the middle of the second piece.
        assert!(pages.claim(0, 2 * PIECE));
        pages.busy_at.store(PIECE, Ordering::Release);
        assert_eq!(pages.secure(&region, 0..1, 16 * MIB), PIECE, "what lies before it is ready");
        assert_eq!(pages.secure(&region, PIECE..PIECE + 1, 16 * MIB), 2 * PIECE);
        assert_eq!(pages.claimed(), 4 * PIECE, "two pieces were touched meanwhile");
        pages.busy_at.store(NONE, Ordering::Release);
        assert_eq!(pages.secure(&region, 2 * PIECE..2 * PIECE + 1, 16 * MIB), 4 * PIECE);
    }

    #[test]
    fn large_pages_begin_where_nobody_is() {
        let region = region();
        let pages = Pages::new(&region, 0, false);
        assert!(pages.claim(0, 5 * PIECE));
        pages.use_large(&region, true);
        assert_eq!(pages.piece(LARGE - PAGE), LARGE, "small ones go up to them");
        assert_eq!(pages.piece(LARGE), 2 * LARGE);
        assert_eq!(pages.piece(2 * LARGE - 1), 2 * LARGE);
        pages.use_large(&region, false);
        assert_eq!(pages.piece(LARGE), LARGE + PIECE);
        let pages = Pages::new(&region, 32, true);
        assert_eq!(pages.piece(pages.claimed()), LARGE, "from the beginning");
    }

    #[test]
    fn two_threads_never_own_the_same_bytes() {
        let region = region();
        let pages = Arc::new(Pages::new(&region, 0, false));
        let background = Arc::clone(&pages);
        let job = std::thread::spawn(move || {
            while background.claimed() < 16 * MIB {
                background.prepare();
                std::thread::yield_now();
            }
        });
        let mut at = 0;
        while at < 16 * MIB {
            pages.ask((at + MIB).min(16 * MIB));
            let secured = pages.secure(&region, at..at + 1, 16 * MIB);
            assert!(secured > at && secured <= 16 * MIB);
            assert!(pages.claimed() >= secured, "what may be stored to is owned");
            at = secured;
        }
        job.join().expect("thread");
    }
}
