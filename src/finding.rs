//! Something that is not as it should be in a directory: what it is, and in which file.

use std::fmt;
use std::path::PathBuf;

/// What kind of thing was found.
///
/// ```
/// use forebay::FindingKind;
///
/// assert!(FindingKind::Index.is_harmless());
/// assert!(!FindingKind::Damaged.is_harmless());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// Something else stands there than what was on stable storage, or than what must stand there.
    Damaged,
    /// A file or directory that must be there is not, or offsets are in no segment.
    Missing,
    /// The file is of a later version of this library.
    UnsupportedVersion,
    /// Bytes above what is known to have been on stable storage that are not a whole record: what a
    /// crash leaves. The next open cuts them, and what stands behind them.
    TornTail,
    /// An index is wrong, missing or of no segment. It is a cache: the log is read without it.
    Index,
    /// The durable mark cannot be believed. It only says how much is known not to be a torn tail.
    Mark,
    /// What an interrupted write, creation or deletion left. The next open removes it.
    Leftover,
    /// Something that no broker puts there. It is left alone.
    Stranger,
}

impl FindingKind {
    /// Whether nothing that was sent or committed is lost or hidden by it.
    #[must_use]
    pub fn is_harmless(self) -> bool {
        !matches!(self, Self::Damaged | Self::Missing | Self::UnsupportedVersion)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::UnsupportedVersion => "unsupported version",
            Self::TornTail => "torn tail",
            Self::Index => "index",
            Self::Mark => "durable mark",
            Self::Leftover => "leftover",
            Self::Stranger => "stranger",
        })
    }
}

/// Something that is not as it should be: made by [`Broker::verify`](crate::Broker::verify).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// Where in the file, in bytes from its start.
    pub position: u64,
    /// What kind of thing it is.
    pub kind: FindingKind,
    /// What was found there.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(
        kind: FindingKind,
        path: impl Into<PathBuf>,
        position: u64,
        detail: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), position, kind, detail: detail.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, position, kind, detail } = self;
        write!(f, "{}: byte {position}: {kind}: {detail}", path.display())
    }
}
