//! A place in a file where something else stands than was written.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;

/// A place in a file where something else stands than what was on stable storage there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file, in bytes from its start.
    pub position: u64,
    /// What was found there.
    pub detail: String,
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        let Damage { path, position, detail } = damage;
        Error::Corrupt { path, position, detail }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, position, detail } = self;
        write!(f, "file {} is damaged at byte {position}: {detail}", path.display())
    }
}
