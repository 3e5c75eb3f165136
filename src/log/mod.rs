//! The log of one partition: a run of offsets in segments, unbroken but for what a repair had to
//! leave out.
//!
//! [`Log`] is what everybody shares and looks at without the append lock; [`LogWriter`] is what
//! the holder of that lock works with; [`LogCursor`] is a place to read from. Recovery happens in
//! [`open`].

mod ages;
mod aging;
mod checkpoint;
mod cursor;
mod flush;
mod gaps;
mod limit;
mod listing;
mod recovery;
mod resting;
mod retention;
mod sealing;
mod shared;
mod slot;
#[cfg(all(test, loom))]
mod tests;
mod writer;

pub(crate) use checkpoint::{CHECKPOINT_FILE, Checkpoint, RecoveryPoint};
pub(crate) use cursor::{Budget, LogCursor, RecordLocation};
pub(crate) use flush::FlushKind;
pub(crate) use gaps::{GAPS_FILE, Gap, Gaps};
pub(crate) use listing::{Found, Listing};
pub(crate) use recovery::{Around, Recovery, open};
pub(crate) use retention::Keep;
pub(crate) use shared::{Gate, Log, PartitionName};
pub(crate) use writer::{Appended, AtRest, Chores, Encoded, LogWriter, Sealing};
