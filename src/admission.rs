//! Whether a broker takes records: not while the disk is nearly full, and not in a forked child.
//!
//! The invariant it keeps: an append takes no block while fewer than the reserve are free, so that
//! what must still work on a full disk (commits, closing, what a reflinked file needs to be written)
//! finds room. One load says that all is well; everything else is looked at only when it is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{ForkFlag, Space, Storage};

/// The reserve, if none is set: this many bytes, or this share of a file system that is small.
const DEFAULT_RESERVE: u64 = 64 << 20;
const DEFAULT_SHARE: u64 = 50;

/// Says whether records are taken.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Up while all is well. Put down when the reserve is touched, and found down by a forked child.
    is_open: ForkFlag,
    /// The process that opened the broker.
    owner: u32,
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// How many bytes are to stay free; `None` for the default.
    min_free: Option<u64>,
}

impl Admission {
    /// For the broker of `dir`, opened by this process.
    pub(crate) fn new(storage: &Arc<dyn Storage>, dir: &Path, min_free: Option<u64>) -> Self {
        Self {
            is_open: ForkFlag::raised(),
            owner: std::process::id(),
            storage: Arc::clone(storage),
            dir: dir.to_path_buf(),
            min_free,
        }
    }

    /// The error for a broker that takes no records at this moment.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_open.is_up() { Ok(()) } else { self.look_again() }
    }

    #[cold]
    fn look_again(&self) -> Result<()> {
        self.check_owner()?;
        self.check_room(0)
    }

    /// The error for a forked child.
    #[inline]
    pub(crate) fn check_owner(&self) -> Result<()> {
        if self.is_open.is_up() { Ok(()) } else { self.check_process() }
    }

    /// As [`check_owner`](Self::check_owner), where a child is not found out by the flag too.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.owner == std::process::id() {
            return Ok(());
        }
        Err(Error::Forked { owner: self.owner })
    }

    /// The error for a disk on which `bytes` more would touch the reserve.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        if self.min_free == Some(0) {
            return Ok(());
        }
        // What cannot be measured is met when it is used.
        let Ok(Some(space)) = self.storage.space(&self.dir) else { return Ok(()) };
        let is_well = space.free >= self.reserve(space);
        if self.is_open.is_up() != is_well {
            self.is_open.set(is_well);
        }
        if is_well && space.free - self.reserve(space) >= bytes {
            return Ok(());
        }
        Err(Error::StorageFull { path: self.dir.clone(), bytes })
    }

    /// Looks how much room there is, for appends that need none of their own.
    pub(crate) fn measure(&self) {
        drop(self.check_room(0));
    }

    fn reserve(&self, space: Space) -> u64 {
        self.min_free.unwrap_or_else(|| DEFAULT_RESERVE.min(space.total / DEFAULT_SHARE))
    }
}
