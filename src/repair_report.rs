//! What a repair does to a directory, and what it has to leave out.

use std::fmt;
use std::path::PathBuf;

/// Whether [`Broker::repair`](crate::Broker::repair) changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Says what would be done, and changes nothing.
    DryRun,
    /// Does it.
    Apply,
}

/// What a repair did, or would do.
///
/// Printing it gives one line for each thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was done, in order.
    pub actions: Vec<RepairAction>,
    /// The offsets that are in no segment any more.
    pub gaps: Vec<RepairedGap>,
    /// Where copies of the files are as they were found; `None` if there was nothing to copy, or
    /// nothing was changed.
    pub quarantine: Option<PathBuf>,
}

/// One thing a repair did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairAction {
    /// The file or directory.
    pub path: PathBuf,
    /// What was done to it, and why.
    pub what: String,
}

/// Offsets of a partition that are in no segment any more. Whoever reads there is told by
/// [`Error::Gap`](crate::Error::Gap), and goes on at `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedGap {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset that is gone.
    pub from: u64,
    /// The offset behind the last one that is gone.
    pub to: u64,
}

impl RepairReport {
    /// Whether there was nothing to repair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.gaps.is_empty()
    }
}

impl RepairAction {
    pub(crate) fn new(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

impl RepairedGap {
    pub(crate) fn new(topic: &str, partition: u32, from: u64, to: u64) -> Self {
        Self { topic: topic.to_owned(), partition, from, to }
    }
}

impl fmt::Display for RepairAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl fmt::Display for RepairedGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, from, to } = self;
        write!(f, "{topic}/{partition}: offsets {from} to {} are gone", to.saturating_sub(1))
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        for gap in &self.gaps {
            writeln!(f, "{gap}")?;
        }
        match &self.quarantine {
            Some(path) => writeln!(f, "what was found is kept in {}", path.display()),
            None if self.is_empty() => writeln!(f, "nothing was found to repair"),
            None => Ok(()),
        }
    }
}
