//! A part of a region that is known to be committed.
#![expect(unsafe_code, reason = "memory shared between one writer and many readers")]

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use super::shared::Region;

/// What was committed of a region at some moment, to be read without looking again how far its
/// writer has come: that number changes with every append, and a core that looks at it takes the cache
/// line it lies in away from the writer's.
#[derive(Clone)]
pub(crate) struct View {
    base: NonNull<u8>,
    /// Never more than was committed when the view was made, and so never more than is.
    end: usize,
    /// Keeps the memory.
    region: Arc<Region>,
}

// SAFETY: a view gives access to bytes below `committed` alone, which no longer change, and the region
// that owns them is `Send` and `Sync` itself.
unsafe impl Send for View {}
// SAFETY: as for `Send`.
unsafe impl Sync for View {}

impl View {
    /// What is committed of `region` by now.
    pub(crate) fn new(region: &Arc<Region>) -> Self {
        Self { base: region.base, end: region.committed(), region: Arc::clone(region) }
    }

    /// The bytes of `range`, or `None` where it reaches beyond what the view shows.
    #[inline]
    pub(crate) fn read(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.end {
            return None;
        }
        #[cfg(loom)]
        self.region.tracks.load(range.clone());
        // SAFETY: `start <= end <= committed <= capacity`, so the offset stays in the memory.
        let start = unsafe { self.base.as_ptr().add(range.start) };
        // SAFETY: the range lies below what `committed` was when `new` loaded it with Acquire: its bytes
        // were stored before, and never change again. They live as long as the region, which `self`
        // keeps.
        Some(unsafe { std::slice::from_raw_parts(start, range.end - range.start) })
    }

    /// All the bytes it shows.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.read(0..self.end).unwrap_or_default()
    }

    /// Takes what `other` shows too, if that is of the same region, and says whether it is.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        let is_same = Arc::ptr_eq(&self.region, &other.region);
        if is_same {
            self.end = self.end.max(other.end);
        }
        is_same
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::RegionWriter;
    use super::*;

    #[test]
    fn a_view_shows_what_was_committed_when_it_was_made_and_outlives_the_rest() {
        let mut writer = RegionWriter::on_heap(64, b"head").expect("heap");
        let early = View::new(writer.region());
        writer.stage(4, 4).expect("room").put(b"tail");
        assert_eq!(View::new(writer.region()).bytes(), b"head", "what is staged is not seen");
        writer.publish(8).expect("memory");
        let late = View::new(writer.region());
        drop(writer);
        assert_eq!((early.bytes(), early.read(0..5)), (&b"head"[..], None));
        assert_eq!((late.bytes(), late.read(4..8)), (&b"headtail"[..], Some(&b"tail"[..])));
        let backwards = Range { start: 3, end: 2 };
        assert_eq!(late.read(backwards), None);
    }

    #[test]
    fn views_of_one_region_join_and_those_of_two_do_not() {
        let mut writer = RegionWriter::on_heap(64, b"head").expect("heap");
        let mut view = View::new(writer.region());
        writer.stage(4, 4).expect("room").put(b"tail");
        writer.publish(8).expect("memory");
        assert!(view.join(&View::new(writer.region())));
        assert_eq!(view.bytes(), b"headtail");
        let other = RegionWriter::on_heap(64, b"other bytes").expect("heap");
        assert!(!view.join(&View::new(other.region())));
        assert_eq!(view.bytes(), b"headtail");
    }
}
