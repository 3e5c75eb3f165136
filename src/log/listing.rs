//! What stands in a partition's directory.

use std::path::Path;

use super::{checkpoint, gaps};
use crate::error::{Error, Result};
use crate::segment;
use crate::storage::{Storage, checked_file, durable_mark};

/// A `.log` file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) base_offset: u64,
    /// The file's length in bytes.
    pub(crate) len: u64,
    /// The length of its indexes.
    pub(crate) index_bytes: u64,
}

impl Found {
    /// What the segment takes on disk, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.len + self.index_bytes
    }
}

/// What a partition's directory holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The segments, by base offset.
    pub(crate) segments: Vec<Found>,
    pub(crate) has_durable_mark: bool,
    /// Whether there are indexes: then some segment was sealed.
    pub(crate) has_indexes: bool,
    /// What interrupted writes left behind.
    pub(crate) leftovers: Vec<String>,
    /// What no log puts there.
    pub(crate) strangers: Vec<String>,
}

impl Listing {
    pub(crate) fn of(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let entries = storage
            .list(dir)
            .map_err(|error| Error::io("listing partition directory", dir, error))?;
        let mut listing = Self::default();
        let mut indexes: Vec<(u64, u64)> = Vec::new();
        for entry in entries {
            if checked_file::is_leftover(&entry.name) {
                listing.leftovers.push(entry.name);
            } else if let Some(base_offset) = base_offset_of(&entry.name) {
                listing.segments.push(Found { base_offset, len: entry.len, index_bytes: 0 });
            } else if durable_mark::is_mark(&entry.name) {
                listing.has_durable_mark = true;
            } else if !entry.is_dir && segment::is_index(Path::new(&entry.name)) {
                listing.has_indexes = true;
                let name = Path::new(&entry.name).with_extension("log");
                let base_offset = name.to_str().and_then(base_offset_of);
                indexes.extend(base_offset.map(|base_offset| (base_offset, entry.len)));
            } else if entry.is_dir || !is_ours(&entry.name) {
                listing.strangers.push(entry.name);
            }
        }
        listing.segments.sort_unstable_by_key(|found| found.base_offset);
        for (base_offset, len) in indexes {
            let at = listing.segments.binary_search_by_key(&base_offset, |found| found.base_offset);
            if let Some(found) = at.ok().and_then(|at| listing.segments.get_mut(at)) {
                found.index_bytes += len;
            }
        }
        Ok(listing)
    }
}

fn base_offset_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn is_ours(name: &str) -> bool {
    checkpoint::is_checkpoint(name) || name == gaps::GAPS_FILE
}
