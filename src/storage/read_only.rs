//! A file system that is looked at and not changed.
//!
//! Whatever would change something is refused with the error a read-only file system gives. There
//! are no locks: whoever only looks neither keeps the owner out nor is kept out.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{DirEntry, LockGuard, Region, Space, Storage, StorageFile};

/// Another storage, to be read alone.
#[derive(Debug)]
pub(crate) struct ReadOnly(pub(crate) Arc<dyn Storage>);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for ReadOnly {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match self.0.list(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => refused(),
            listed => listed.map(drop),
        }
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(path)
    }

    fn create(&self, _path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        refused()
    }

    fn open(&self, _path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        refused()
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.0.read(path, max_bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Arc<Region>> {
        self.0.map(path)
    }

    fn write(&self, _path: &Path, _bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>> {
        refused()
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    /// There is nothing of ours to be made durable.
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _owner: &str) -> io::Result<Option<LockGuard>> {
        Ok(Some(Box::new(())))
    }

    fn space(&self, path: &Path) -> io::Result<Option<Space>> {
        self.0.space(path)
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}
