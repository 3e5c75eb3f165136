//! What a failed sync leaves for the next open: a file that says so.
//!
//! Pages whose write-back failed may count as clean from then on: a later sync, by whoever opens the
//! file next, would succeed without writing them. While the system runs they are still in the page
//! cache, where recovery finds them whole. So whoever finds this file writes what it keeps anew,
//! into fresh files, and syncs those. The file need not be durable: when the page cache is gone, so
//! is what it warns of.

use std::io;
use std::path::Path;

use crate::segment::log_path;
use crate::storage::{Storage, checked_file};

const FILE: &str = "poisoned";

/// Whether `name` is that of the file.
pub(super) fn is_mark(name: &str) -> bool {
    name == FILE
}

/// Leaves the file, as well as can be: the disk has just failed.
pub(super) fn leave(storage: &dyn Storage, dir: &Path, cause: &io::Error) {
    let text = format!("a sync failed: {cause}\n");
    if let Err(error) = storage.write(&dir.join(FILE), text.as_bytes()) {
        log::warn!("{}: that it is poisoned cannot be noted: {error}", dir.display());
    }
}

/// Removes the file, when everything was written anew.
pub(super) fn remove(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    storage.remove_file(&dir.join(FILE))
}

/// Writes a segment anew, durably: a copy of it takes its place.
pub(super) fn rewrite(storage: &dyn Storage, dir: &Path, base_offset: u64) -> io::Result<()> {
    let path = log_path(dir, base_offset);
    let mut copy = path.clone().into_os_string();
    copy.push(checked_file::TEMPORARY);
    let copy = Path::new(&copy);
    let region = storage.map(&path)?;
    let bytes = region.read(0..region.committed()).unwrap_or_default();
    let made = storage.write(copy, bytes).and_then(|file| file.sync());
    // A copy that was not made is in the way of the next attempt, and takes room.
    made.inspect_err(|_| drop(storage.remove_file(copy)))?;
    storage.rename(copy, &path)?;
    storage.sync_dir(dir)
}
