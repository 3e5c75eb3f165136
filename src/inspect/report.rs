//! What a verification came to.

use std::fmt;

use crate::finding::Finding;

/// What [`Broker::verify`](crate::Broker::verify) found.
///
/// Printing it gives one line for each finding, and one that counts what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How many topics there are.
    pub topics: u64,
    /// How many partitions.
    pub partitions: u64,
    /// How many segments.
    pub segments: u64,
    /// How many records were read and found whole.
    pub records: u64,
    /// How many index files.
    pub indexes: u64,
    /// How many groups have committed something.
    pub groups: u64,
    /// How many bytes of segments, indexes and committed offsets were read.
    pub bytes_read: u64,
    /// The process that has the directory open, as far as that can be told.
    pub owner: Option<u32>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing that was sent or committed is lost or hidden: what was found, if anything,
    /// [is harmless](crate::FindingKind::is_harmless).
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.kind.is_harmless())
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Self { topics, partitions, segments, records, groups, bytes_read, .. } = self;
        let verdict = if self.is_sound() { "sound" } else { "not sound" };
        writeln!(
            f,
            "{verdict}: {topics} topics, {partitions} partitions, {segments} segments, {records} records, \
             {groups} groups, {bytes_read} bytes read"
        )
    }
}
