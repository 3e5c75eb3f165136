//! A broker's directory, read as a whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::quarantine::QUARANTINE_DIR;
use super::topic_check::{TRIES, TopicCheck};
use crate::broker::{OFFSETS_DIR, TOPICS_DIR};
use crate::config::check_topic_name;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};
use crate::group::OffsetsCheck;
use crate::opening::LOCK_FILE;
use crate::storage::Storage;
use crate::topic::is_unfinished;

/// A directory to be read.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    pub(super) storage: &'a Arc<dyn Storage>,
    pub(super) dir: &'a Path,
}

impl Directory<'_> {
    /// What stands in the directory itself and should not.
    pub(super) fn strangers(&self) -> Result<Vec<Finding>> {
        let entries = self
            .storage
            .list(self.dir)
            .map_err(|error| Error::io("listing directory", self.dir, error))?;
        let ours = [LOCK_FILE, TOPICS_DIR, OFFSETS_DIR, QUARANTINE_DIR];
        let stranger = |name: &str| {
            let detail = "no broker puts it there";
            Finding::new(FindingKind::Stranger, self.dir.join(name), 0, detail)
        };
        let names = entries.iter().map(|entry| entry.name.as_str());
        Ok(names.filter(|name| !ours.contains(name)).map(stranger).collect())
    }

    /// The names of the topics, sorted, and what else is found beside them.
    pub(super) fn topics(&self) -> Result<(Vec<String>, Vec<Finding>)> {
        let topics = self.topics_dir();
        let entries = match self.storage.list(&topics) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|error| Error::io("listing directory", &topics, error))?,
        };
        let (mut names, mut findings) = (Vec::new(), Vec::new());
        for entry in entries {
            let (kind, detail) = if is_unfinished(&entry.name) {
                (FindingKind::Leftover, "a topic was being made or deleted")
            } else if entry.is_dir && check_topic_name(&entry.name).is_ok() {
                names.push(entry.name);
                continue;
            } else {
                (FindingKind::Stranger, "it is not a topic")
            };
            findings.push(Finding::new(kind, topics.join(&entry.name), 0, detail));
        }
        names.sort_unstable();
        Ok((names, findings))
    }

    /// Reads one topic; `None` if it is gone.
    pub(super) fn topic(&self, name: &str) -> Result<Option<TopicCheck>> {
        let topics = self.topics_dir();
        match TopicCheck::of(self.storage, &topics, name) {
            Err(Error::Io { path, source, .. })
                if source.kind() == io::ErrorKind::NotFound && path == topics.join(name) =>
            {
                Ok(None)
            }
            check => check.map(Some),
        }
    }

    /// Reads what groups have committed.
    pub(super) fn offsets(&self) -> Result<OffsetsCheck> {
        let mut tries = 0..TRIES;
        loop {
            match OffsetsCheck::of(&**self.storage, &self.offsets_dir()) {
                // Its broker has just given the file up.
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {}
                check => return check,
            }
        }
    }

    pub(super) fn topics_dir(&self) -> PathBuf {
        self.dir.join(TOPICS_DIR)
    }

    pub(super) fn offsets_dir(&self) -> PathBuf {
        self.dir.join(OFFSETS_DIR)
    }
}
