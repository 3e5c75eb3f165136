//! By which means a broker reads and writes its files.

/// What [`BrokerBuilder::file_access`](crate::BrokerBuilder::file_access) chooses: whether segments
/// are reached through memory mappings or through system calls.
///
/// A mapping is faster and can fail in one way only: by a signal that kills the process. So it is
/// used for stores only where every store has its block on the disk. What is promised is the same
/// for all of these, and a directory can be opened with another one each time.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// use forebay::{Broker, FileAccess};
///
/// // A host that would rather be slower than meet SIGBUS when somebody pulls the disk.
/// let broker = Broker::builder(path).file_access(FileAccess::Calls).open()?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileAccess {
    /// `Mapped` on ext4, xfs and tmpfs, where that was measured to be safe on a full disk, and
    /// `WriteCalls` everywhere else: on btrfs, zfs and bcachefs, which write each change to another
    /// place, and on what is not known.
    #[default]
    Auto,
    /// Records are stored and read through mappings.
    Mapped,
    /// Records are written with `pwrite`, one call an append, and read through a mapping.
    WriteCalls,
    /// Nothing is mapped: records are written with `pwrite`, and a segment that is read is copied
    /// into memory. A disk that cannot be read, or a file that somebody else cuts, is an error then
    /// and never a signal. Each segment that is written or read takes its size in memory.
    Calls,
}
