//! What kind of file system a directory lies on, and what that means for stores into a mapping.
//!
//! On a file system that writes every change to another place on the disk (btrfs, zfs, bcachefs), a
//! store into a mapped page needs a free block even where the file has one already. If there is none
//! the process is killed by SIGBUS; a system call returns an error instead. So files are written
//! through a mapping only where that was measured to be safe, and with `pwrite` everywhere else.

use std::io;
use std::path::Path;

/// What is known of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// As a person calls it.
    pub(crate) name: &'static str,
    /// Whether a store into a mapped page that has a block never fails.
    pub(crate) stores_are_safe: bool,
    /// Whether it lies on another machine: then locks, mappings and syncs do not mean what they must.
    pub(crate) is_remote: bool,
}

const fn safe(name: &'static str) -> FileSystem {
    FileSystem { name, stores_are_safe: true, is_remote: false }
}

const fn copying(name: &'static str) -> FileSystem {
    FileSystem { name, stores_are_safe: false, is_remote: false }
}

const fn remote(name: &'static str) -> FileSystem {
    FileSystem { name, stores_are_safe: false, is_remote: true }
}

/// What `statfs` calls them (the kernel's `include/uapi/linux/magic.h` and each file system's own).
#[cfg(any(target_os = "linux", test))]
const KNOWN: &[(u32, FileSystem)] = &[
    (0x0000_ef53, safe("ext4")),
    (0x5846_5342, safe("xfs")),
    (0x0102_1994, safe("tmpfs")),
    (0x8584_58f6, safe("ramfs")),
    (0x9123_683e, copying("btrfs")),
    (0x2fc1_2fc1, copying("zfs")),
    (0xca45_1a4e, copying("bcachefs")),
    (0xf2f5_2010, copying("f2fs")),
    (0x794c_7630, copying("overlayfs")),
    (0x6573_5546, copying("fuse")),
    (0x0000_6969, remote("nfs")),
    (0x0000_517b, remote("smb")),
    (0xff53_4d42, remote("cifs")),
    (0xfe53_4d42, remote("smb2")),
    (0x5346_414f, remote("afs")),
    (0x7375_7245, remote("coda")),
    (0x0000_564c, remote("ncp")),
    (0x00c3_6400, remote("ceph")),
    (0x0102_1997, remote("9p")),
    (0x0bd0_0bd0, remote("lustre")),
    (0x4750_4653, remote("gpfs")),
];

/// What the file system with this magic number is.
#[cfg(any(target_os = "linux", test))]
fn by_magic(magic: u32) -> FileSystem {
    let known = KNOWN.iter().find(|(known, _)| *known == magic);
    known.map_or(copying("an unknown file system"), |(_, known)| *known)
}

/// The file system that holds `path`, or will once it is created.
#[cfg(target_os = "linux")]
pub(crate) fn of(path: &Path) -> io::Result<FileSystem> {
    let mut at = path;
    loop {
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match rustix::fs::statfs(here) {
            // The number is 32 bits wide, and some platforms say it in a wider, signed type.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "its width differs"
            )]
            Ok(found) => return Ok(by_magic(found.f_type as u32)),
            Err(rustix::io::Errno::NOENT) => match at.parent() {
                Some(parent) => at = parent,
                None => return Err(io::ErrorKind::NotFound.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// Elsewhere nothing is known: Windows' file systems write in place, others may not.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_path: &Path) -> io::Result<FileSystem> {
    Ok(if cfg!(windows) { safe("a local file system") } else { copying("a local file system") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_measured_is_written_through_a_mapping() {
        let safe: Vec<_> = KNOWN
            .iter()
            .filter(|(_, known)| known.stores_are_safe)
            .map(|(_, it)| it.name)
            .collect();
        assert_eq!(safe, ["ext4", "xfs", "tmpfs", "ramfs"]);
        assert!(!by_magic(0x9123_683e).stores_are_safe, "btrfs");
        assert!(!by_magic(0x1234_5678).stores_are_safe, "one nobody knows");
    }

    #[test]
    fn what_lies_on_another_machine_is_known_by_its_number() {
        for magic in [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400] {
            assert!(by_magic(magic).is_remote, "{magic:x}");
        }
        assert!(!by_magic(0xef53).is_remote);
    }

    #[test]
    fn a_directory_that_does_not_exist_yet_lies_where_its_parent_does() {
        let here = of(Path::new(".")).expect("here");
        assert_eq!(of(Path::new("no/such/directory")).expect("there"), here);
        assert_eq!(of(Path::new("")).expect("here"), here);
    }
}
