//! Offsets that are missing for good: where a repair could not keep what had been there.
//!
//! The file `gaps` of a partition lists them. A log is an unbroken run of offsets but for these:
//! recovery passes from one segment to the next over a gap only if it is listed, and a cursor that
//! comes to one says so. It is written before anything is taken away, and never shortened.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::storage::checked_file::{self, Kind};

/// The name of the file in a partition's directory.
pub(crate) const GAPS_FILE: &str = "gaps";
/// What can be read back: a log with more than this has lost more than it holds.
const MAX_GAPS: usize = 30_000;
const KIND: Kind = Kind { magic: *b"FOREBAYG", version: 1 };

/// A run of offsets that are missing, from the first to just behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The gaps of one log, in order; no two touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    /// Those of the partition in `dir`.
    pub(crate) fn load(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let stored: Option<Self> = checked_file::read(storage, &dir.join(GAPS_FILE), KIND)?;
        let mut gaps = Self::default();
        // A file with a right checksum need not hold what was written by this library.
        for gap in stored.into_iter().flat_map(|stored| stored.0) {
            gaps.add(gap);
        }
        Ok(gaps)
    }

    /// Makes these the partition's, durably.
    pub(crate) fn store(&self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        if self.0.len() > MAX_GAPS {
            let detail = format!("{} gaps, one log may have {MAX_GAPS}", self.0.len());
            return Err(Error::corrupt(&dir.join(GAPS_FILE), 0, detail));
        }
        checked_file::replace(storage, &dir.join(GAPS_FILE), KIND, self)
    }

    /// Adds a gap, and joins it with those it touches.
    pub(crate) fn add(&mut self, gap: Gap) {
        if gap.from >= gap.to {
            return;
        }
        let touches = |one: &Gap| one.from <= gap.to && gap.from <= one.to;
        let from = self.0.iter().filter(|one| touches(one)).map(|one| one.from).min();
        let to = self.0.iter().filter(|one| touches(one)).map(|one| one.to).max();
        self.0.retain(|one| !touches(one));
        let joined = Gap {
            from: from.map_or(gap.from, |from| from.min(gap.from)),
            to: to.map_or(gap.to, |to| to.max(gap.to)),
        };
        let place = self.0.partition_point(|one| one.from < joined.from);
        self.0.insert(place, joined);
    }

    /// The gap that `offset` lies in.
    pub(crate) fn at(&self, offset: u64) -> Option<Gap> {
        let behind = self.0.partition_point(|gap| gap.from <= offset);
        let gap = self.0.get(behind.checked_sub(1)?)?;
        (offset < gap.to).then_some(*gap)
    }

    /// The first offset from `offset` on that lies in no gap.
    pub(crate) fn skip(&self, offset: u64) -> u64 {
        self.at(offset).map_or(offset, |gap| gap.to)
    }

    /// Whether every offset from `from` to `to` lies in a gap.
    pub(crate) fn covers(&self, from: u64, to: u64) -> bool {
        from >= to || self.skip(from) >= to
    }

    /// The offset behind the last gap.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |gap| gap.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    fn gaps(gaps: &[(u64, u64)]) -> Gaps {
        let mut all = Gaps::default();
        for (from, to) in gaps {
            all.add(Gap { from: *from, to: *to });
        }
        all
    }

    #[test]
    fn gaps_that_touch_are_one() {
        let one = Gap { from: 3, to: 12 };
        assert_eq!(gaps(&[(5, 9), (3, 5), (8, 12), (4, 4)]).0, [one]);
        let apart = gaps(&[(20, 30), (3, 5), (8, 12)]);
        assert_eq!(apart.0.len(), 3);
        assert!(apart.0.is_sorted_by_key(|gap| gap.from));
    }

    #[test]
    fn an_offset_is_in_a_gap_or_is_not() {
        let gaps = gaps(&[(3, 5), (8, 12)]);
        let skipped: Vec<_> = (0..14).map(|offset| gaps.skip(offset)).collect();
        assert_eq!(skipped, [0, 1, 2, 5, 5, 5, 6, 7, 12, 12, 12, 12, 12, 13]);
        assert!(gaps.covers(3, 5) && gaps.covers(4, 5) && gaps.covers(9, 9));
        assert!(!gaps.covers(3, 6) && !gaps.covers(2, 5));
        assert_eq!(gaps.end(), 12);
    }

    #[test]
    fn they_are_found_as_they_were_stored() {
        let (storage, dir) = (MemoryStorage::new(1), Path::new("/"));
        assert_eq!(Gaps::load(&storage, dir).expect("none"), Gaps::default());
        let stored = gaps(&[(3, 5), (8, 12)]);
        stored.store(&storage, dir).expect("store");
        assert_eq!(Gaps::load(&storage, dir).expect("load"), stored);
    }
}
