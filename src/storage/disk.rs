//! The real file system.
//!
//! The invariant it keeps: a file that is mapped for writing has real blocks for every byte that
//! may be stored to, so that a full disk is an error here and never a signal there. Where blocks do
//! not ensure that, files are written with system calls.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{
    DirEntry, LockGuard, Region, RegionWriter, Space, Storage, StorageFile, file_system, not_begun,
    read_at, write_at,
};
use crate::file_access::FileAccess;

/// Files and directories of the operating system.
#[derive(Debug)]
pub(crate) struct Disk {
    access: Access,
}

/// By which means segments are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Mapped,
    WriteCalls,
    Calls,
}

impl Disk {
    /// The disk that holds `dir`, or will, reached in this way.
    pub(crate) fn new(dir: &Path, access: FileAccess) -> io::Result<Self> {
        let access = match access {
            FileAccess::Mapped => Access::Mapped,
            FileAccess::Calls => Access::Calls,
            FileAccess::Auto if file_system::of(dir)?.stores_are_safe => Access::Mapped,
            FileAccess::Auto | FileAccess::WriteCalls => Access::WriteCalls,
        };
        Ok(Self { access })
    }

    fn file(&self, file: File) -> Arc<dyn StorageFile> {
        Arc::new(DiskFile { file: Arc::new(file), access: self.access })
    }
}

/// The standard library seeds its hash maps from the operating system's randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Storage for Disk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if path.is_dir() {
            // Whoever created it may have failed to make it durable.
            drop(self.sync_dir(parent.unwrap_or(Path::new("."))));
            return Ok(());
        }
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Replaced or removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir: metadata.is_dir(),
                len: metadata.len(),
            });
        }
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        if len > max_bytes {
            return Err(too_long(len, max_bytes));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Arc<Region>> {
        let file = File::open(path)?;
        if self.access == Access::Calls {
            Region::read_whole(&file)
        } else {
            Region::map_whole(&file)
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>> {
        check_file_size_limit(bytes.len() as u64)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all(bytes)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    /// Only Unix lets a directory be opened and synced; elsewhere the file system is trusted.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(path).map_err(not_begun)?.sync_all() } else { Ok(()) }
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Option<LockGuard>> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // Who owns it is a courtesy to whoever meets the lock: a full disk must not stop the open.
        let named = file.set_len(0).and_then(|()| check_file_size_limit(owner.len() as u64));
        let named = named.and_then(|()| file.rewind());
        drop(named.and_then(|()| file.write_all(owner.as_bytes())));
        Ok(Some(Box::new(Lock { file, pid: std::process::id() })))
    }

    fn space(&self, path: &Path) -> io::Result<Option<Space>> {
        space(path)
    }

    fn random(&self) -> u64 {
        random()
    }
}

/// Holds the lock, and gives it back in so many words: closing the file would not, while a forked
/// child has it open. The child itself gives nothing back.
#[derive(Debug)]
struct Lock {
    file: File,
    pid: u32,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            // If it fails, closing the file does the same unless there is a child.
            drop(self.file.unlock());
        }
    }
}

#[cfg(unix)]
fn space(path: &Path) -> io::Result<Option<Space>> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    // What is there for everybody, not what is kept for the superuser.
    Ok(Some(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) }))
}

#[cfg(not(unix))]
fn space(_path: &Path) -> io::Result<Option<Space>> {
    Ok(None)
}

/// Refuses a file longer than what its reader allows for.
pub(super) fn too_long(len: u64, max_bytes: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the file has {len} bytes, at most {max_bytes} were expected"),
    )
}

/// How much is written anew at a time.
const REWRITE_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct DiskFile {
    file: Arc<File>,
    access: Access,
}

impl DiskFile {
    /// Up to where the file may be written, which is to grow to `capacity`.
    fn limit(&self, capacity: usize) -> io::Result<usize> {
        let len = usize::try_from(self.len()?).map_err(io::Error::other)?;
        Ok(len.min(capacity))
    }
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        check_file_size_limit(to)?;
        allocate(&self.file, from, to, self.access).inspect_err(|_| {
            // A part may have been allocated. Nothing is mapped there yet, so it can go again;
            // if it cannot, the file is longer than its data, which recovery allows for.
            drop(self.file.set_len(from));
        })
    }

    fn keep_in_place(&self) {
        #[cfg(target_os = "linux")]
        if self.access != Access::Mapped {
            use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
            // btrfs knows it, others refuse: nothing is lost either way.
            if let Ok(flags) = ioctl_getflags(&self.file) {
                let _ignored = ioctl_setflags(&self.file, flags | IFlags::NOCOW);
            }
        }
    }

    fn is_whole(&self) -> io::Result<bool> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let found = self.file.metadata()?;
            // The unit is 512 bytes, whatever the file system's own is.
            Ok(found.blocks().saturating_mul(512) >= found.len())
        }
        #[cfg(not(unix))]
        Ok(true)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        check_file_size_limit(position + bytes.len() as u64)?;
        write_at(&self.file, bytes, position)
    }

    fn rewrite(&self, range: Range<u64>) -> io::Result<()> {
        let mut buffer = vec![0; REWRITE_BYTES];
        let mut position = range.start;
        while position < range.end {
            let bytes = usize::try_from(range.end - position).unwrap_or(REWRITE_BYTES);
            let piece = buffer.get_mut(..bytes.min(REWRITE_BYTES)).unwrap_or_default();
            read_at(&self.file, piece, position)?;
            write_at(&self.file, piece, position)?;
            position += piece.len() as u64;
        }
        Ok(())
    }

    fn map_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        if self.access != Access::Mapped {
            return self.call_writer(capacity, committed);
        }
        RegionWriter::map(&self.file, capacity, committed, self.limit(capacity)?)
    }

    fn call_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        let mapped = self.access != Access::Calls;
        let limit = self.limit(capacity)?;
        RegionWriter::with_calls(&self.file, capacity, committed, limit, mapped)
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, to: u64, access: Access) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    loop {
        match fallocate(file, FallocateFlags::empty(), from, to - from) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return grow(file, from, to, access),
            other => return Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, from: u64, to: u64, access: Access) -> io::Result<()> {
    grow(file, from, to, access)
}

/// Grows a file where blocks cannot be asked for. Never a bare length where it is stored to through
/// a mapping: a sparse file would kill us at the first store.
fn grow(file: &File, from: u64, to: u64, access: Access) -> io::Result<()> {
    if access == Access::Mapped { write_zeros(file, from, to) } else { file.set_len(to) }
}

/// The way to real blocks that works everywhere.
fn write_zeros(mut file: &File, from: u64, to: u64) -> io::Result<()> {
    const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
    file.seek(io::SeekFrom::Start(from))?;
    let mut left = to - from;
    while left > 0 {
        let step = left.min(ZEROS.len() as u64);
        let zeros = usize::try_from(step).ok().and_then(|step| ZEROS.get(..step));
        file.write_all(zeros.expect("a step is at most the length of ZEROS"))?;
        left -= step;
    }
    Ok(())
}

/// A process that grows a file beyond `RLIMIT_FSIZE` is killed by SIGXFSZ, so the limit is looked
/// at first and met with the error the signal stands for.
#[cfg(unix)]
fn check_file_size_limit(len: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| len > limit) {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_file_size_limit(_len: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk { access: Access::Mapped }
    }

    #[test]
    fn allocated_space_is_zero_and_has_real_blocks() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        let file = disk().create(&path).expect("create");
        file.allocate(0, 1 << 20).expect("allocate");
        assert_eq!(disk().read(&path, 1 << 20).expect("read"), vec![0; 1 << 20]);
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            assert!(fs::metadata(&path).expect("metadata").blocks() * 512 >= 1 << 20);
        }
    }

    #[test]
    fn zeros_written_in_place_of_fallocate_reach_the_length_asked_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, b"abc").expect("write");
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        write_zeros(&file, 3, 40_000).expect("zeros");
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 40_000);
        assert_eq!(&bytes[..4], b"abc\0");
    }

    #[test]
    fn a_file_longer_than_allowed_is_refused_unread() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, [1; 10]).expect("write");
        assert!(disk().read(&path, 9).is_err());
        assert_eq!(disk().read(&path, 10).expect("read"), [1; 10]);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("LOCK");
        let first = disk().lock(&path, "1").expect("lock");
        assert!(first.is_some());
        assert!(disk().lock(&path, "2").expect("lock").is_none());
        drop(first);
        assert!(disk().lock(&path, "2").expect("lock").is_some());
    }
}
