//! The real file system.
//!
//! The invariant it keeps: a file that is mapped for writing has real blocks for every byte that
//! may be stored to, so that a full disk is an error here and never a signal there.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::{DirEntry, LockGuard, Region, RegionWriter, Storage, StorageFile};

/// Files and directories of the operating system.
#[derive(Debug)]
pub(crate) struct Disk;

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
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(DiskFile(file)))
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

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>> {
        check_file_size_limit(bytes.len() as u64)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all(bytes)?;
        Ok(Arc::new(DiskFile(file)))
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
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
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
        Ok(Some(Box::new(file)))
    }

    /// The standard library seeds its hash maps from the operating system's randomness.
    fn random(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

/// Refuses a file longer than what its reader allows for.
pub(super) fn too_long(len: u64, max_bytes: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the file has {len} bytes, at most {max_bytes} were expected"),
    )
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        check_file_size_limit(to)?;
        allocate(&self.0, from, to).inspect_err(|_| {
            // A part may have been allocated. Nothing is mapped there yet, so it can go again;
            // if it cannot, the file is longer than its data, which recovery allows for.
            drop(self.0.set_len(from));
        })
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        let len = usize::try_from(self.len()?).map_err(io::Error::other)?;
        RegionWriter::map(&self.0, capacity, committed, len.min(capacity))
    }

    fn map_reader(&self) -> io::Result<Arc<Region>> {
        Region::map_whole(&self.0)
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    loop {
        match fallocate(file, FallocateFlags::empty(), from, to - from) {
            Err(Errno::INTR) => {}
            // Never a bare ftruncate instead: a sparse file would kill us at the first store.
            Err(Errno::OPNOTSUPP) => return write_zeros(file, from, to),
            other => return Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    write_zeros(file, from, to)
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

    #[test]
    fn allocated_space_is_zero_and_has_real_blocks() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        let file = Disk.create(&path).expect("create");
        file.allocate(0, 1 << 20).expect("allocate");
        assert_eq!(Disk.read(&path, 1 << 20).expect("read"), vec![0; 1 << 20]);
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
        assert!(Disk.read(&path, 9).is_err());
        assert_eq!(Disk.read(&path, 10).expect("read"), [1; 10]);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("LOCK");
        let first = Disk.lock(&path, "1").expect("lock");
        assert!(first.is_some());
        assert!(Disk.lock(&path, "2").expect("lock").is_none());
        drop(first);
        assert!(Disk.lock(&path, "2").expect("lock").is_some());
    }
}
