//! Up to where bytes above the recovery point are known to have been on stable storage.
//!
//! The durable mark says it of one segment, and of all before it. What does not check below is
//! damaged, and not torn.

use std::path::Path;

use super::listing::Found;
use crate::error::{Error, Result};
use crate::segment::log_path;
use crate::storage::durable_mark::DurableMark;

/// A place in a segment below which everything was on stable storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) position: u64,
    pub(super) next_offset: u64,
    /// The salt of the segment it was said of, if it was said of one.
    pub(super) salt: Option<u64>,
}

impl Limit {
    /// Up to where everything in a segment was on stable storage, if it is known to have been.
    /// `behind` is where the next segment begins.
    pub(super) fn of(
        found: &Found,
        mark: Option<&DurableMark>,
        behind: Option<u64>,
    ) -> Option<Self> {
        let mark = mark?;
        if found.base_offset == mark.base_offset {
            let salt = Some(mark.salt);
            return Some(Self { position: mark.position, next_offset: mark.next_offset, salt });
        }
        let next_offset = behind.filter(|_| found.base_offset < mark.base_offset)?;
        Some(Self { position: found.len, next_offset, salt: None })
    }
}

/// The durable mark, if it says more than the recovery point, which ends with `known`; and an error if
/// what it says can no longer be so. `salt` is that of the segment it names, if that can be read.
pub(super) fn check_mark(
    mark: Option<DurableMark>,
    known: u64,
    dir: &Path,
    segments: &[Found],
    salt: Option<u64>,
) -> Result<Option<DurableMark>> {
    let Some(mark) = mark.filter(|mark| mark.next_offset > known) else {
        return Ok(None);
    };
    let path = log_path(dir, mark.base_offset);
    if salt.is_some_and(|salt| salt != mark.salt) {
        // It is of another life, restored beside this log: it says nothing of it.
        return Ok(None);
    }
    let Some(segment) = segments.iter().find(|found| found.base_offset == mark.base_offset) else {
        return Err(Error::corrupt(&path, 0, "the segment with the durable mark is missing"));
    };
    if segment.len < mark.position {
        let detail =
            format!("the file ends below the durable mark, which is at byte {}", mark.position);
        return Err(Error::corrupt(&path, segment.len, detail));
    }
    Ok(Some(mark))
}
