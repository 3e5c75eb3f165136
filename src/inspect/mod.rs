//! A directory looked at without being opened: is everything in it as it was written, and if not, what
//! can be made of it.
//!
//! [`Directory`](directory::Directory) reads everything and changes nothing; its checks say what was found. A repair is a
//! [`Plan`](plan::Plan) made from the same checks, of steps that are carried out one after the other.
//! Each leaves a directory that can be read and repaired again: what is to be changed is copied to the
//! quarantine first, the gaps are written down next, then what is good is put in its place.

mod directory;
mod directory_plan;
mod index_check;
mod judge;
mod layout;
mod owner;
mod partition_check;
mod partition_plan;
mod plan;
mod quarantine;
mod repair;
mod report;
mod segment_check;
mod small_files;
mod step;
#[cfg(test)]
mod tests;
mod topic_check;
mod verify;

pub(crate) use repair::repair_locked;
pub use report::VerifyReport;
