//! Who has a directory open, told without taking its lock.

use std::path::Path;

/// The process that holds the lock in the file at `path`. What the file says is believed only if the
/// kernel says that somebody holds it.
#[cfg(target_os = "linux")]
pub(super) fn of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;

    let inode = std::fs::metadata(path).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let is_held = locks.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let kind = fields.next();
        let file = fields.nth(3).and_then(|file| file.rsplit(':').next()?.parse().ok());
        kind == Some("FLOCK") && file == Some(inode)
    });
    let owner = std::fs::read_to_string(path).ok()?;
    owner.trim().parse().ok().filter(|_| is_held)
}

/// Elsewhere it cannot be told.
#[cfg(not(target_os = "linux"))]
pub(super) fn of(_path: &Path) -> Option<u32> {
    None
}
