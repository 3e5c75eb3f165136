//! Lets loom see who touches which bytes, since it does not watch plain memory.

use std::ops::Range;

use loom::cell::UnsafeCell;

/// Frames and headers begin and end at multiples of this.
const GRAIN: usize = 4;
/// How many bytes are watched: a segment's header and a few short frames.
const WATCHED: usize = 256;

/// One cell for each grain from the start of a region.
#[derive(Debug)]
pub(in crate::storage::region) struct Tracks(Vec<UnsafeCell<()>>);

impl Tracks {
    pub(in crate::storage::region) fn new(capacity: usize) -> Self {
        let count = capacity.min(WATCHED).div_ceil(GRAIN);
        Self((0..count).map(|_| UnsafeCell::new(())).collect())
    }

    fn cells(&self, range: Range<usize>) -> &[UnsafeCell<()>] {
        let end = range.end.div_ceil(GRAIN).min(self.0.len());
        self.0.get(range.start / GRAIN..end).unwrap_or_default()
    }

    pub(in crate::storage::region) fn load(&self, range: Range<usize>) {
        self.cells(range).iter().for_each(|cell| cell.with(|_| ()));
    }

    pub(in crate::storage::region) fn store(&self, range: Range<usize>) {
        self.cells(range).iter().for_each(|cell| cell.with_mut(|_| ()));
    }
}
