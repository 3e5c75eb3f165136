//! Everything in one topic's directory, read.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::judge::judge;
use super::partition_check::PartitionCheck;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};
use crate::log::Listing;
use crate::segment::{SegmentHeader, log_path};
use crate::storage::{Storage, checked_file};
use crate::topic_metadata::{METADATA_FILE, Metadata};

/// How often a partition is read anew of which files go away meanwhile.
pub(super) const TRIES: u32 = 5;

/// What one topic came to.
#[derive(Debug)]
pub(super) struct TopicCheck {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) findings: Vec<Finding>,
    /// Whether its metadata file is missing or damaged.
    pub(super) metadata_is_wrong: bool,
    /// Its identity, from the metadata or else from its segments, if they agree.
    pub(super) id: Option<u64>,
    /// How many partitions it has, or seems to have.
    pub(super) partitions: u32,
    /// Partitions whose directory is missing.
    pub(super) missing: Vec<u32>,
    /// Those that are there, if the topic's identity is known.
    pub(super) checks: Vec<(u32, PartitionCheck)>,
}

impl TopicCheck {
    /// Reads the topic of this name.
    pub(super) fn of(storage: &Arc<dyn Storage>, topics: &Path, name: &str) -> Result<Self> {
        let dir = topics.join(name);
        let mut check = Self {
            name: name.to_owned(),
            findings: Vec::new(),
            metadata_is_wrong: false,
            id: None,
            partitions: 0,
            missing: Vec::new(),
            checks: Vec::new(),
            dir,
        };
        let numbers = check.list(storage)?;
        check.read_metadata(storage, &numbers)?;
        let Some(id) = check.id else { return Ok(check) };
        for number in 0..check.partitions {
            check.read_partition(storage, number, id)?;
        }
        for number in numbers.range(check.partitions..) {
            let path = check.dir.join(number.to_string());
            let detail = "the topic has no partition of this number";
            check.findings.push(Finding::new(FindingKind::Stranger, path, 0, detail));
        }
        Ok(check)
    }

    /// The numbers of the partitions that are there.
    fn list(&mut self, storage: &Arc<dyn Storage>) -> Result<BTreeSet<u32>> {
        let entries = storage
            .list(&self.dir)
            .map_err(|error| Error::io("listing topic directory", &self.dir, error))?;
        let mut numbers = BTreeSet::new();
        for entry in entries {
            let number = entry.name.parse::<u32>().ok();
            let number = number.filter(|number| number.to_string() == entry.name && entry.is_dir);
            let (kind, detail) = if let Some(number) = number {
                numbers.insert(number);
                continue;
            } else if entry.name == METADATA_FILE {
                continue;
            } else if checked_file::is_leftover(&entry.name) {
                (FindingKind::Leftover, "an interrupted write left it")
            } else {
                (FindingKind::Stranger, "no broker puts it there")
            };
            self.findings.push(Finding::new(kind, self.dir.join(&entry.name), 0, detail));
        }
        Ok(numbers)
    }

    fn read_metadata(&mut self, storage: &Arc<dyn Storage>, numbers: &BTreeSet<u32>) -> Result<()> {
        let path = self.dir.join(METADATA_FILE);
        let loaded = Metadata::load(&**storage, &self.dir).map_err(|error| match error {
            // What the checksum covers is what was written; no broker would use it.
            Error::InvalidConfig { .. } => Error::corrupt(&path, 0, error.to_string()),
            error => error,
        });
        match judge(loaded)? {
            Ok(metadata) => {
                self.id = Some(metadata.id);
                self.partitions = metadata.config.partitions;
                return Ok(());
            }
            Err(wrong) if wrong.kind == FindingKind::UnsupportedVersion => {
                self.findings.push(wrong);
                return Ok(());
            }
            Err(wrong) => {
                let is_there = storage.read(&path, u64::MAX).is_ok();
                let kind = if is_there { FindingKind::Damaged } else { FindingKind::Missing };
                self.findings.push(Finding { kind, ..wrong });
            }
        }
        self.metadata_is_wrong = true;
        let contiguous = numbers.iter().zip(0..).take_while(|(number, at)| **number == *at);
        self.partitions = u32::try_from(contiguous.count()).unwrap_or(0);
        self.id = self.agreed_id(storage)?;
        Ok(())
    }

    /// The identity in the headers of all segments that can be read, if it is one.
    fn agreed_id(&self, storage: &Arc<dyn Storage>) -> Result<Option<u64>> {
        let mut ids = BTreeSet::new();
        for number in 0..self.partitions {
            let dir = self.dir.join(number.to_string());
            for found in Listing::of(&**storage, &dir)?.segments {
                let path = log_path(&dir, found.base_offset);
                let region = storage
                    .map(&path)
                    .map_err(|error| Error::io("reading segment", &path, error))?;
                let bytes = region.read(0..region.committed()).unwrap_or_default();
                let header = SegmentHeader::decode(bytes, &path, found.base_offset);
                ids.extend(header.ok().map(|header| header.topic_id));
            }
        }
        Ok(ids.first().copied().filter(|_| ids.len() == 1))
    }

    fn read_partition(&mut self, storage: &Arc<dyn Storage>, number: u32, id: u64) -> Result<()> {
        let dir = self.dir.join(number.to_string());
        let mut tries = 0..TRIES;
        loop {
            match PartitionCheck::of(storage, &dir, id) {
                Ok(check) if check.is_outdated(storage) && tries.next().is_some() => {}
                Ok(check) => {
                    self.checks.push((number, check));
                    return Ok(());
                }
                Err(Error::Io { path, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    if path == dir {
                        self.missing.push(number);
                        let detail = "the directory of a partition";
                        self.findings.push(Finding::new(FindingKind::Missing, dir, 0, detail));
                        return Ok(());
                    }
                    // Its broker has just deleted the file.
                    if tries.next().is_none() {
                        return Err(Error::Io { action: "reading segment", path, source });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
