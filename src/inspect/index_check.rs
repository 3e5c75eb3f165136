//! The indexes of a segment, compared with what the segment holds.

use std::path::{Path, PathBuf};

use super::segment_check::SegmentCheck;
use crate::error::{Error, Result};
use crate::log::Found;
use crate::segment::{Segment, SparseIndex, files_of, is_index, log_path, offset_path, time_path};
use crate::storage::Storage;

/// What the indexes of one segment came to.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    /// How many files there are.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Those that are wrong.
    pub(super) wrong: Vec<PathBuf>,
}

/// Compares the index files of a segment with what was found in it.
pub(super) fn check(storage: &dyn Storage, segment: &Segment, check: &SegmentCheck) -> Indexes {
    let salt = segment.header().salt;
    let files = files_of(storage, segment.path(), salt);
    let mut indexes = Indexes { files: files.len() as u64, ..Indexes::default() };
    indexes.bytes = files.iter().map(|(_, _, bytes)| bytes).sum();
    let unsound: Vec<_> =
        files.iter().filter(|(_, is_sound, _)| !is_sound).map(|(path, ..)| path.clone()).collect();
    if !unsound.is_empty() {
        indexes.wrong = unsound;
        return indexes;
    }
    // One alone is not used, and is no harm; of a segment that is damaged nothing is compared.
    if files.len() == 2 && check.damage.is_empty() && !fits(storage, segment, check) {
        indexes.wrong = files.into_iter().map(|(path, ..)| path).collect();
    }
    indexes
}

/// Whether two index files that are sound in themselves say what the segment holds.
fn fits(storage: &dyn Storage, segment: &Segment, check: &SegmentCheck) -> bool {
    let Some((index, summary)) = SparseIndex::load(storage, segment.path(), segment.header().salt)
    else {
        return false;
    };
    let end = check.runs.last().map_or(0, |run| run.bytes.end as u64);
    let Some(next_offset) = check.next_offset() else { return false };
    // One that ends before the log does is of an earlier close: the segment was gone on with.
    if summary.log_bytes > end || summary.next_offset > next_offset {
        return false;
    }
    let newest = check.runs.iter().map(|run| run.max_timestamp).max().unwrap_or(-1);
    let is_whole = summary.log_bytes == end;
    if is_whole && (summary.next_offset != next_offset || summary.max_timestamp != newest) {
        return false;
    }
    index.is_part_of(&segment.full_index())
}

/// The index files in `dir` that belong to no segment there.
pub(super) fn strangers(
    storage: &dyn Storage,
    dir: &Path,
    segments: &[Found],
) -> Result<Vec<PathBuf>> {
    let entries =
        storage.list(dir).map_err(|error| Error::io("listing partition directory", dir, error))?;
    let indexes = entries.iter().map(|entry| dir.join(&entry.name)).filter(|path| is_index(path));
    let belongs = |path: &PathBuf| {
        segments.iter().any(|found| {
            let log = log_path(dir, found.base_offset);
            *path == offset_path(&log) || *path == time_path(&log)
        })
    };
    Ok(indexes.filter(|path| !belongs(path)).collect())
}
