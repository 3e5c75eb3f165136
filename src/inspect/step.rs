//! One step of a repair. After each, power may fail: what it left can be read, and repaired again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::moved_bytes;
use super::quarantine::Quarantine;
use super::segment_check::{self, Run};
use crate::error::{Error, Result};
use crate::group::OffsetsCheck;
use crate::log::{Checkpoint, Gaps};
use crate::segment::{Segment, SegmentHeader, log_path};
use crate::storage::{Storage, checked_file, remove_tree};
use crate::topic_metadata::Metadata;

/// Something to be done.
#[derive(Debug)]
pub(super) enum Step {
    /// Copy a file or directory to the quarantine, if it is there.
    Keep(PathBuf),
    WriteGaps {
        dir: PathBuf,
        gaps: Gaps,
    },
    Rewrite(Rewrite),
    WriteCheckpoint {
        dir: PathBuf,
        checkpoint: Checkpoint,
    },
    WriteMetadata {
        dir: PathBuf,
        metadata: Metadata,
    },
    RewriteOffsets {
        dir: PathBuf,
        check: Box<OffsetsCheck>,
    },
    MakeDir(PathBuf),
    /// Remove a file, if it is there.
    Remove(PathBuf),
    /// Remove a topic's directory.
    RemoveTopic {
        topics: PathBuf,
        dir: PathBuf,
    },
    SyncDir(PathBuf),
}

/// A segment whose runs are to be segments of their own.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) dir: PathBuf,
    pub(super) base_offset: u64,
    pub(super) topic_id: u64,
    pub(super) header: SegmentHeader,
    pub(super) runs: Vec<Run>,
}

impl Step {
    pub(super) fn apply(
        self,
        storage: &Arc<dyn Storage>,
        quarantine: &mut Quarantine<'_>,
    ) -> Result<()> {
        match self {
            Self::Keep(path) => quarantine.keep(&path),
            Self::WriteGaps { dir, gaps } => gaps.store(&**storage, &dir),
            Self::Rewrite(rewrite) => rewrite.apply(storage),
            Self::WriteCheckpoint { dir, checkpoint } => checkpoint.store(&**storage, &dir),
            Self::WriteMetadata { dir, metadata } => metadata.store(&**storage, &dir),
            Self::RewriteOffsets { dir, check } => check.rewrite(&**storage, &dir),
            Self::MakeDir(path) => storage
                .create_dir_all(&path)
                .map_err(|error| Error::space("creating partition directory", &path, 0, error)),
            Self::Remove(path) => remove(&**storage, &path),
            Self::RemoveTopic { topics, dir } => remove_topic(&**storage, &topics, &dir),
            Self::SyncDir(dir) => sync_dir(&**storage, &dir),
        }
    }
}

impl Rewrite {
    /// Writes the last run first. Until the first takes the place of the segment, that says where all
    /// of them are; what is above the beginning of a segment behind it is not looked for in it.
    fn apply(&self, storage: &Arc<dyn Storage>) -> Result<()> {
        let segment = Segment::open(storage, &self.dir, self.base_offset, self.topic_id)?;
        for (place, run) in self.runs.iter().enumerate().rev() {
            let before = self.runs.iter().take(place).map(|run| run.max_timestamp).max();
            let header = SegmentHeader {
                base_offset: run.offsets.start,
                salt: storage.random(),
                max_timestamp_before: self.header.max_timestamp_before.max(before.unwrap_or(-1)),
                ..self.header
            };
            let mut bytes = Vec::with_capacity(moved_bytes(run));
            bytes.extend_from_slice(&header.encode());
            segment_check::transplant(&segment, run, header.checksum(), &mut bytes);
            let path = log_path(&self.dir, run.offsets.start);
            put(&**storage, &path, &bytes)?;
        }
        Ok(())
    }
}

/// Puts a file in the place of what is there, durably.
fn put(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut making = path.as_os_str().to_owned();
    making.push(checked_file::TEMPORARY);
    let making = PathBuf::from(making);
    let write = || {
        storage.write(&making, bytes)?.sync()?;
        storage.rename(&making, path)?;
        storage.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|error| Error::space("writing segment", path, bytes.len() as u64, error))
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<()> {
    match storage.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Error::io("removing", path, error)),
    }
}

fn remove_topic(storage: &dyn Storage, topics: &Path, dir: &Path) -> Result<()> {
    // Under this name the next open removes it, if this is interrupted.
    let doomed = topics.join(format!("~del-{:016x}", storage.random()));
    let go = || {
        storage.rename(dir, &doomed)?;
        storage.sync_dir(topics)?;
        remove_tree(storage, &doomed)
    };
    go().map_err(|error| Error::io("removing topic directory", dir, error))
}

fn sync_dir(storage: &dyn Storage, dir: &Path) -> Result<()> {
    storage.sync_dir(dir).map_err(|error| Error::io("syncing directory", dir, error))
}
