//! A segment: one `.log` file with a run of offsets, and the two indexes that belong to it.
//!
//! [`Segment`] is what readers share. It is one type whether the file is being written or was
//! sealed long ago: its region says how far it may be read. [`SegmentWriter`] is the one that
//! appends.

mod header;
mod index;
mod pages;
mod shared;
mod writer;

pub(crate) use header::{SEGMENT_HEADER_BYTES, SegmentHeader};
pub(crate) use index::{SparseIndex, Summary, files_of, is_index, offset_path, time_path};
pub(crate) use pages::Pages;
pub(crate) use shared::{DEFAULT_INDEX_INTERVAL, Scan, Segment, log_path};
pub(crate) use writer::{Append, NewSegment, Reopening, SegmentWriter};
