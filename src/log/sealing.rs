//! Sealing: what happens to a segment that will not be written again.
//!
//! It is cut to its data, synced, its indexes are written, and the recovery point moves behind it.
//! One thread at a time seals a log, usually one that nobody waits for.

use std::sync::Arc;

use super::checkpoint::{Checkpoint, Sealed};
use super::shared::{Log, recovery_point};
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::segment::Summary;
use crate::sync::MutexGuard;
#[cfg(test)]
use crate::tests::{Planted, is_planted};

/// How many rolled segments may wait to be synced before appending waits for the disk.
const MAX_ROLLED: usize = 64;

impl Log {
    /// The segments that wait to be sealed, oldest first, and what they came to. They stand at the
    /// end, with none behind them but the one that is being written.
    fn waiting(&self) -> Vec<(Arc<Slot>, Summary)> {
        let slots = self.slots.read();
        let live = slots.back().is_some_and(|last| last.rolled().is_none());
        let mut waiting: Vec<_> = slots
            .iter()
            .rev()
            .skip(usize::from(live))
            .map_while(|slot| Some((Arc::clone(slot), slot.rolled()?)))
            .collect();
        waiting.reverse();
        waiting
    }

    /// Whether so many segments wait to be sealed that appending should wait for the disk.
    pub(super) fn is_far_behind(&self) -> bool {
        self.waiting().len() > MAX_ROLLED
    }

    /// Syncs and seals every segment that will not be written again, and moves the recovery point
    /// behind the last of them. Returns what went wrong without doing harm.
    pub(crate) fn seal_rolled(&self) -> Result<Vec<Error>> {
        #[cfg(loom)]
        if self.planted() == crate::sync::Planted::SealsUnlocked {
            return self.seal_locked(&mut Sealed::default());
        }
        let mut sealing = self.sealing.lock();
        self.seal_locked(&mut sealing)
    }

    /// As [`seal_rolled`](Self::seal_rolled), by one who holds `sealing`. If it returns `Ok`, the stored
    /// checkpoint covers every segment that was ever sealed.
    pub(super) fn seal_locked(&self, sealed: &mut Sealed) -> Result<Vec<Error>> {
        // Whoever deletes the topic has `sealing` too: while it is held, paths lead where they did.
        if self.is_deleted() {
            return Ok(Vec::new());
        }
        let mut troubles = Vec::new();
        let result = self.seal_each(sealed, &mut troubles);
        if let Some(recovery) = sealed.to_store {
            let checkpoint =
                Checkpoint { log_start: self.start_offset(), recovery: Some(recovery) };
            checkpoint.store(&**self.storage(), self.dir())?;
            sealed.to_store = None;
        }
        result.map(|()| troubles)
    }

    fn seal_each(&self, sealed: &mut Sealed, troubles: &mut Vec<Error>) -> Result<()> {
        for (slot, summary) in self.waiting() {
            let (index, trimmed) = slot.retire(&summary);
            #[cfg(test)]
            if is_planted(Planted::MovesTheRecoveryPointEarly) {
                let recovery = Some(recovery_point(slot.base_offset(), &summary));
                let checkpoint = Checkpoint { log_start: self.start_offset(), recovery };
                checkpoint.store(&**self.storage(), self.dir())?;
            }
            self.sync_segments_to(summary.next_offset)?;
            slot.sealed();
            sealed.to_store = Some(recovery_point(slot.base_offset(), &summary));
            let segment = self.segment(&slot)?;
            let stored = segment.store_index(index, &summary);
            // What was there before, and stays, is counted.
            let index_bytes = stored.as_ref().map_or(Some(0), |bytes| *bytes);
            if let (Ok(()), Some(index_bytes)) = (&trimmed, index_bytes) {
                let bytes = summary.log_bytes + index_bytes;
                self.quota().charge(bytes);
                self.quota().give_back(slot.set_file_bytes(bytes));
            }
            let path = segment.path();
            troubles.extend(
                trimmed.err().map(|error| Error::io("cutting the reserve of", path, error)),
            );
            troubles
                .extend(stored.err().map(|error| Error::io("writing the indexes of", path, error)));
        }
        Ok(())
    }

    /// Keeps every path in the directory from being used until it is dropped.
    pub(crate) fn hold_paths(&self) -> MutexGuard<'_, Sealed> {
        self.sealing.lock()
    }
}
