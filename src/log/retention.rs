//! Deleting the beginning of a log.
//!
//! First the new beginning is made durable, then the segments before it are forgotten, then their files
//! are removed, oldest first. A crash in between leaves files that nobody reads; they are removed
//! the next time. A reader that stands in one keeps its mapping until it moves on.

use std::io;

use super::checkpoint::Checkpoint;
use super::shared::Log;
use super::writer::LogWriter;
use crate::error::{Error, Result};
use crate::segment::{log_path, offset_path, time_path};

impl LogWriter {
    /// Closes the segment that is being written, if it holds something below `offset`: a log begins
    /// where records are known to be durable.
    pub(crate) fn roll_below(&mut self, offset: u64) {
        if self.active_base().is_some_and(|base| base < offset) {
            self.close_active();
        }
    }
}

impl Log {
    /// Deletes the records below `offset`, durably, and returns where the log begins. Its last segment
    /// stays on disk in any case. The segment that is being written must not hold any of them.
    pub(crate) fn delete_below(&self, offset: u64) -> Result<u64> {
        let mut sealing = self.hold_paths();
        self.check_gate()?;
        if offset <= self.start_offset() {
            return Ok(self.start_offset());
        }
        self.seal_locked(&mut sealing)?;
        let (storage, dir) = (&**self.storage(), self.dir());
        let Some(mut checkpoint) = Checkpoint::load(storage, dir)? else {
            return Ok(self.start_offset());
        };
        let Some(point) = checkpoint.recovery else { return Ok(self.start_offset()) };
        // What lies behind the recovery point, if anything does, is a gap that a repair has left.
        let offset = offset.min(point.next_offset);
        checkpoint.log_start = offset;
        checkpoint.store(storage, dir)?;
        #[cfg(loom)]
        if self.planted() == crate::sync::Planted::ForgetsEarly {
            self.forget_below(offset, point.base_offset);
        }
        self.set_start_offset(offset);
        let doomed = self.forget_below(offset, point.base_offset);
        for base_offset in &doomed {
            let log = log_path(dir, *base_offset);
            for path in [offset_path(&log), time_path(&log), log] {
                match storage.remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io("removing segment", &path, error));
                    }
                    _ => {}
                }
            }
        }
        if !doomed.is_empty() {
            storage
                .sync_dir(dir)
                .map_err(|error| Error::io("syncing partition directory", dir, error))?;
        }
        Ok(offset)
    }
}
