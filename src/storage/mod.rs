//! Bytes and files, knowing nothing of topics: the first of the two seams that make the broker
//! testable.
//!
//! [`Storage`] is what a broker asks of a file system. [`disk`] is the real one, [`memory`] keeps
//! everything on the heap for [`Broker::in_memory`](crate::Broker::in_memory), [`simulated`] adds
//! power cuts and failing operations to that. Opening, growing and syncing go through `dyn`; the
//! bytes of records do not, they go through a [`Region`], which is one type for all three.

pub(crate) mod checked_file;
pub(crate) mod checksum;
pub(crate) mod disk;
mod durable_image;
pub(crate) mod durable_mark;
pub(crate) mod file_system;
pub(crate) mod frame;
pub(crate) mod memory;
pub(crate) mod read_only;
mod region;
pub(crate) mod simulated;

use std::fmt::{self, Debug};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(crate) use region::{BY_CALL, ForkFlag, Region, RegionWriter, Stage, View};
use region::{read_at, write_at};

/// Whether a file can grow while it is mapped. Where it cannot, a segment gets all its blocks
/// when it is created.
pub(crate) const MAPPED_FILES_GROW: bool = cfg!(unix);

/// What [`Storage::list`] says about one name in a directory.
#[derive(Debug)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
    /// The file's length in bytes.
    pub(crate) len: u64,
}

/// How much room there is on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// Keeps a lock for as long as it lives.
pub(crate) type LockGuard = Box<dyn Debug + Send + Sync>;

/// What a broker asks of a file system.
pub(crate) trait Storage: Debug + Send + Sync {
    /// Creates the directory and those above it that are missing, and makes their entries durable.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates one directory that did not exist. Its entry is not yet durable.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// What the directory holds, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates an empty file that did not exist.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens a file that exists, to be written.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// The whole content of a small file; one longer than `max_bytes` is refused unread.
    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>>;
    /// The whole of a file, to be read, as it is now: if it grows, the rest is not seen.
    fn map(&self, path: &Path) -> io::Result<Arc<Region>>;
    /// Writes a whole file in place of what was there. Not atomic and not synced.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>>;
    /// Gives a file or directory another name in the same directory, replacing a file there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory that is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the directory's entries durable: files created in it, renamed in it, removed from it.
    /// A failure for which [`was_not_begun`] is true has done no harm.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock file, writing `owner` into it; `None` if another holds it.
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Option<LockGuard>>;
    /// How much room there is where `path` lies; `None` where that is not known or not limited.
    fn space(&self, path: &Path) -> io::Result<Option<Space>>;
    /// A number nobody can foresee, for salts and identities.
    fn random(&self) -> u64;
}

/// An open file.
pub(crate) trait StorageFile: Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Grows the file from its length `from` to `to` bytes, of zeros that have real blocks. On
    /// failure the file is as long as it was.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()>;
    /// Asks of a file that is still empty that what is written to it again stays in its place, where a
    /// file system would put it elsewhere: so that it can be written on a full disk. A wish, no more.
    fn keep_in_place(&self);
    /// Whether every byte of the file has a block on the disk.
    fn is_whole(&self) -> io::Result<bool>;
    /// Cuts the file to `len` bytes. Nobody may look at bytes beyond `len` again.
    fn trim(&self, len: u64) -> io::Result<()>;
    /// Makes every byte that was published in the file, and its length, durable.
    fn sync(&self) -> io::Result<()>;
    /// Overwrites bytes from `position` on; the file grows if it must.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes the bytes of `range` anew, as they are, so that the next sync takes them along even if
    /// they seem to be on stable storage.
    fn rewrite(&self, range: Range<u64>) -> io::Result<()>;
    /// Maps the file for its one writer: `committed` bytes are there to be read, what lies
    /// between them and the file's end may be stored to, `capacity` is how far it may grow.
    fn map_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter>;
    /// As [`map_writer`](Self::map_writer), for a file that is never stored to through a mapping: for
    /// one that must not end the process even if its blocks are shared with a copy of it.
    fn call_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter>;
}

/// A sync that was not begun, for want of something else than the disk: nothing that was written can
/// have been lost by it.
#[derive(Debug)]
struct NotBegun(io::Error);

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for NotBegun {}

/// Says of an error that it was met before a sync was begun.
pub(crate) fn not_begun(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), NotBegun(error))
}

/// Whether a sync failed before it was begun, so that it can be tried again.
pub(crate) fn was_not_begun(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotBegun>)
}

/// Removes a directory and everything in it.
pub(crate) fn remove_tree(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    for entry in storage.list(path)? {
        let child = path.join(&entry.name);
        if entry.is_dir {
            remove_tree(storage, &child)?;
        } else {
            storage.remove_file(&child)?;
        }
    }
    storage.remove_dir(path)
}

/// A number from a well-mixed sequence (splitmix64, Steele, Lea and Flood 2014).
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
