//! The recovery point of a partition: up to where its log is known to be on stable storage.
//!
//! Written when a segment has been sealed and synced, and when the broker is closed. What lies
//! below it was durable, so damage there is reported and never cut. What lies above it is read
//! when the partition is opened, and cut at the first frame that is not whole. A log that ends
//! exactly here was closed cleanly and needs no reading: this file is also the clean-shutdown
//! mark, and since it claims nothing about what follows, it cannot be one left behind.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::storage::Storage;
use crate::storage::checked_file::{self, Kind};

/// The name of the file in a partition's directory.
pub(crate) const CHECKPOINT_FILE: &str = "checkpoint";
const KIND: Kind = Kind { magic: *b"FOREBAYC", version: 1 };

/// What is known to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The first offset that can be read.
    pub(crate) log_start: u64,
    /// `None` until the first segment has been synced.
    pub(crate) recovery: Option<RecoveryPoint>,
}

/// A place in the log below which everything is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryPoint {
    /// The segment it lies in.
    pub(crate) base_offset: u64,
    /// Bytes from the start of that segment.
    pub(crate) position: u64,
    /// The offset of the record that would start there.
    pub(crate) next_offset: u64,
    /// The largest timestamp in that segment below it, or -1.
    pub(crate) max_timestamp: i64,
}

/// What sealing leaves for the next one who seals.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// The recovery point, while it stands in no checkpoint: storing one may have failed.
    pub(super) to_store: Option<RecoveryPoint>,
}

/// Where the next append goes.
#[derive(Debug)]
pub(super) enum Tail {
    /// The log has no segment.
    Empty,
    /// The last segment ends here and can be gone on with.
    Clean(RecoveryPoint),
    /// The last segment ends here and is not to be written again.
    Sealed(RecoveryPoint),
}

/// No log comes near this offset; below it, sums of offsets do not overflow.
const MAX_OFFSET: u64 = 1 << 62;

impl Checkpoint {
    /// Whether a log can have these numbers. Those of a sound file can; a file that only has a right
    /// checksum must not lead to more damage.
    pub(crate) fn is_possible(&self) -> bool {
        let Some(point) = &self.recovery else { return self.log_start <= MAX_OFFSET };
        let header = SEGMENT_HEADER_BYTES as u64;
        let covered = point.next_offset.checked_sub(point.base_offset);
        self.log_start <= point.next_offset
            && point.next_offset <= MAX_OFFSET
            && covered.is_some_and(|covered| covered <= 1 << 32)
            && (header..=u64::from(u32::MAX)).contains(&point.position)
            && point.position.is_multiple_of(4)
            && (point.position == header) == (covered == Some(0))
    }

    /// What the partition in `dir` has, or `None` where it has none yet.
    pub(crate) fn load(storage: &dyn Storage, dir: &Path) -> Result<Option<Self>> {
        checked_file::read(storage, &dir.join(CHECKPOINT_FILE), KIND)
    }

    /// Makes this the partition's, durably.
    pub(crate) fn store(&self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        checked_file::replace(storage, &dir.join(CHECKPOINT_FILE), KIND, self)
    }
}

/// Whether `name` is a checkpoint's, or one's that was being written.
pub(crate) fn is_checkpoint(name: &str) -> bool {
    name == CHECKPOINT_FILE
}
