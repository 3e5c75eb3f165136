//! The log of one partition: an unbroken run of offsets in segments.
//!
//! [`Log`] is what everybody shares and looks at without the append lock; [`LogWriter`] is what
//! the holder of that lock works with; [`LogCursor`] is a place to read from. Recovery happens in
//! [`open`].

mod checkpoint;
mod cursor;
mod flush;
mod limit;
mod listing;
mod recovery;
mod retention;
mod sealing;
mod shared;
mod slot;
#[cfg(all(test, loom))]
mod tests;
mod writer;

pub(crate) use cursor::{Budget, LogCursor, RecordLocation};
pub(crate) use flush::Flush;
pub(crate) use recovery::{Around, Recovery, open};
pub(crate) use shared::{Gate, Log, PartitionName};
pub(crate) use writer::{Appended, Chores, LogWriter, Sealing};
