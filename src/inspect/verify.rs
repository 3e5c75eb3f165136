//! `Broker::verify`: everything is read, nothing is changed.

use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::owner;
use super::report::VerifyReport;
use super::topic_check::TopicCheck;
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::opening::LOCK_FILE;
use crate::storage::Storage;
use crate::storage::disk::Disk;
use crate::storage::read_only::ReadOnly;

impl Broker {
    /// Reads everything in a directory and compares it with its checksums, and one file with the
    /// others: topics, checkpoints, every record of every segment, indexes, what groups have committed.
    ///
    /// Nothing is created, locked or changed. Files are read with system calls, one segment at a time,
    /// which is held in memory.
    ///
    /// While a broker has the directory open, [`owner`](VerifyReport::owner) says so, and the report is
    /// of files that go on changing: what is being written at this moment can be found as a torn tail, or
    /// as an index that does not fit yet. For a verdict that holds, verify a directory that is closed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// use forebay::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::open(path)?;
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// broker.close()?;
    ///
    /// let report = Broker::verify(path)?;
    /// assert!(report.is_sound(), "{report}");
    /// assert_eq!((report.topics, report.records), (1, 1));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if something cannot be read at all. What is damaged is a finding, not an error.
    pub fn verify(dir: impl AsRef<Path>) -> Result<VerifyReport> {
        let dir = dir.as_ref();
        let disk = Disk::new(dir, FileAccess::Calls)
            .map_err(|error| Error::io("looking at the file system of", dir, error))?;
        let storage: Arc<dyn Storage> = Arc::new(ReadOnly(Arc::new(disk)));
        let mut report = verify(&Directory { storage: &storage, dir })?;
        report.owner = owner::of(&dir.join(LOCK_FILE));
        Ok(report)
    }
}

/// Reads everything in a directory.
pub(super) fn verify(directory: &Directory<'_>) -> Result<VerifyReport> {
    let mut report = VerifyReport { findings: directory.strangers()?, ..VerifyReport::default() };
    let (names, findings) = directory.topics()?;
    report.findings.extend(findings);
    for name in names {
        if let Some(topic) = directory.topic(&name)? {
            add_topic(&mut report, topic);
        }
    }
    let offsets = directory.offsets()?;
    report.groups = offsets.groups as u64;
    report.bytes_read += offsets.bytes;
    report.findings.extend(offsets.findings);
    Ok(report)
}

fn add_topic(report: &mut VerifyReport, topic: TopicCheck) {
    report.topics += 1;
    report.findings.extend(topic.findings);
    for (_, partition) in topic.checks {
        report.partitions += 1;
        report.segments += partition.segments.len() as u64;
        report.records += partition.records;
        report.indexes += partition.indexes;
        report.bytes_read += partition.bytes;
        report.findings.extend(partition.findings);
    }
}
