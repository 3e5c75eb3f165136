//! File systems of their own for a test: made in a file, mounted, and unmounted whatever happens.
//!
//! All of this needs root. What cannot be made is said with `SKIPPED` and is no failure.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    /// Its size, near the smallest it can be made with.
    fn mebibytes(self) -> u32 {
        match self {
            Self::Tmpfs => 48,
            Self::Ext4 => 96,
            Self::Xfs => 320,
            Self::Btrfs => 256,
        }
    }

    /// The command that makes it in a file, without the file's name.
    fn make(self) -> &'static [&'static str] {
        match self {
            Self::Tmpfs => &[],
            Self::Ext4 => &["mkfs.ext4", "-q", "-F", "-m0"],
            Self::Xfs => &["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f"],
        }
    }
}

/// Something that is mounted for as long as this value lives.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    /// Removed when nothing is mounted in it any more.
    _base: TempDir,
}

impl Mounted {
    /// An empty file system of this kind; `None`, and a word about it, where none can be made.
    pub fn new(kind: Kind) -> Option<Self> {
        if !is_root() {
            println!("SKIPPED: {kind:?}: mounting needs root");
            return None;
        }
        let base = tempfile::tempdir().expect("temporary directory");
        let at = base.path().join("mounted");
        fs::create_dir(&at).expect("create directory");
        let size = format!("{}M", kind.mebibytes());
        let mounted = if let Some((tool, options)) = kind.make().split_first() {
            let image = base.path().join("image");
            let file = File::create(&image).expect("create image");
            file.set_len(u64::from(kind.mebibytes()) << 20).expect("set length");
            match Command::new(tool).args(options).arg(&image).output() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    println!("SKIPPED: {kind:?}: there is no {tool}");
                    return None;
                }
                made => check(&made.expect("run"), tool),
            }
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).output()
        } else {
            let options = format!("size={size}");
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).output()
        };
        let mounted = mounted.expect("run mount");
        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr);
            println!("SKIPPED: {kind:?}: this system does not mount it: {}", said.trim());
            return None;
        }
        Some(Self { at, _base: base })
    }

    /// What is in `dir`, to be read only.
    pub fn read_only(dir: &Path) -> Self {
        let base = tempfile::tempdir().expect("temporary directory");
        let at = base.path().join("mounted");
        fs::create_dir(&at).expect("create directory");
        run(Command::new("mount").arg("--bind").arg(dir).arg(&at));
        let mounted = Self { at, _base: base };
        run(Command::new("mount").args(["-o", "remount,ro,bind"]).arg(&mounted.at));
        mounted
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Takes all but about `leave` bytes with a file of this name.
    pub fn reserve(&self, name: &str, leave: u64) -> PathBuf {
        let path = self.at.join(name);
        let file = File::create(&path).expect("create");
        let mut bytes = free_bytes(&self.at).saturating_sub(leave);
        // Btrfs tells of more than it gives to one file.
        while let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            assert!(error == rustix::io::Errno::NOSPC && bytes > 4 << 20, "{error}");
            bytes -= 4 << 20;
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a child that was left behind by a panic must not keep it.
        let ended = Command::new("umount").arg("-l").arg(&self.at).status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.at.display());
        }
    }
}

/// What the file system of `path` says is free.
pub fn free_bytes(path: &Path) -> u64 {
    let space = statvfs(path).expect("statvfs");
    space.f_bavail * space.f_frsize
}

/// Whether this process may mount.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs a command that has to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    check(&output, &format!("{command:?}"));
}

fn check(output: &std::process::Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {} {said}", output.status);
}

/// Writes to a file of this name until not one byte more goes anywhere in the file system.
pub fn drown(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).expect("create");
    let block = vec![0x5a; 1 << 20];
    // What is written is given blocks when it is synced, and there may be some left then.
    for _ in 0..4 {
        let mut length = block.len();
        while length > 0 {
            match file.write(&block[..length]) {
                Ok(written) if written > 0 => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => length /= 4,
            }
        }
        drop(file.sync_all());
    }
}
