//! The small files of a partition: checkpoint, durable mark, gaps. What they say, and whether that can be
//! believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::judge::judge;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};
use crate::log::{CHECKPOINT_FILE, Checkpoint, GAPS_FILE, Gaps, RecoveryPoint};
use crate::storage::Storage;
use crate::storage::durable_mark::{self, DurableMark};

/// No log comes near this offset; below it, sums of offsets do not overflow.
pub(super) const MAX_OFFSET: u64 = 1 << 62;

/// What the small files of a partition say.
#[derive(Debug)]
pub(super) struct SmallFiles {
    pub(super) dir: PathBuf,
    /// The recovery point and the log's start, if they are there and can be believed.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Whether the file is there and cannot be believed, or does not fit the segments.
    pub(super) checkpoint_is_wrong: bool,
    pub(super) gaps: Gaps,
    pub(super) gaps_are_wrong: bool,
    pub(super) mark: Mark,
}

/// The durable mark.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// There is none, or the file holds nothing yet.
    Absent,
    Sound(DurableMark),
    /// It is of a file that another has taken the place of, as a repair leaves it that was
    /// interrupted.
    Stale,
    /// It cannot be believed.
    Wrong,
}

impl SmallFiles {
    /// Reads those of the partition in `dir`, and adds what is found to `findings`.
    pub(super) fn load(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        findings: &mut Vec<Finding>,
    ) -> Result<Self> {
        let checkpoint = judge(Checkpoint::load(&**storage, dir).and_then(|found| match found {
            Some(found) if !found.is_possible() => {
                let detail = format!("numbers that no log has: {found:?}");
                Err(Error::corrupt(&dir.join(CHECKPOINT_FILE), 0, detail))
            }
            found => Ok(found),
        }))?;
        let gaps = judge(Gaps::load(&**storage, dir))?;
        let (checkpoint_is_wrong, gaps_are_wrong) = (checkpoint.is_err(), gaps.is_err());
        let checkpoint = checkpoint.map_err(|wrong| findings.push(wrong)).unwrap_or_default();
        let gaps = gaps.map_err(|wrong| findings.push(wrong)).unwrap_or_default();
        let mark = load_mark(storage, dir)?;
        let dir = dir.to_path_buf();
        Ok(Self { dir, checkpoint, checkpoint_is_wrong, gaps, gaps_are_wrong, mark })
    }

    /// The recovery point.
    pub(super) fn point(&self) -> Option<RecoveryPoint> {
        self.checkpoint?.recovery
    }

    /// The durable mark, if it can be believed.
    pub(super) fn mark(&self) -> Option<DurableMark> {
        if let Mark::Sound(mark) = self.mark { Some(mark) } else { None }
    }

    pub(super) fn checkpoint_path(&self) -> PathBuf {
        self.dir.join(CHECKPOINT_FILE)
    }

    pub(super) fn gaps_path(&self) -> PathBuf {
        self.dir.join(GAPS_FILE)
    }

    pub(super) fn mark_path(&self) -> PathBuf {
        durable_mark::path_in(&self.dir)
    }

    /// What is found of the mark.
    pub(super) fn mark_finding(&self) -> Option<Finding> {
        let (kind, detail) = match self.mark {
            Mark::Absent | Mark::Sound(_) => return None,
            Mark::Stale => (FindingKind::Damaged, "it is of a file that is no longer there"),
            Mark::Wrong => (FindingKind::Mark, "its checksum does not match, or it is not whole"),
        };
        Some(Finding::new(kind, self.mark_path(), 0, detail))
    }
}

fn load_mark(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Mark> {
    let mark = DurableMark::load(&**storage, dir)
        .map_err(|error| Error::io("reading durable mark in", dir, error))?;
    let is_possible =
        |mark: &DurableMark| mark.base_offset <= mark.next_offset && mark.next_offset <= MAX_OFFSET;
    if let Some(mark) = mark.filter(is_possible) {
        return Ok(Mark::Sound(mark));
    }
    let bytes = storage.read(&durable_mark::path_in(dir), 1 << 20).unwrap_or_default();
    Ok(if bytes.iter().all(|byte| *byte == 0) { Mark::Absent } else { Mark::Wrong })
}
