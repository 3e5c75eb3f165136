//! Consumer groups: who reads which partition, and how far each group has come.
//!
//! [`Groups`] finds a [`Group`] by name; the group knows its members and their partitions
//! (`coordinator.rs`); an [`Assignor`] shares partitions out, as a pure function; the
//! [`OffsetStore`] keeps what was committed.

mod assignor;
mod chains;
mod claims;
mod clamp;
mod coordinator;
mod description;
mod entry;
mod member;
mod numbers;
mod offset_file;
mod offset_files;
mod offset_store;
mod offsets_check;
mod pin;
mod plan;
#[cfg(test)]
mod planted;
mod registry;
mod state;
mod sticky;
mod stored_offsets;
mod subscription;
#[cfg(test)]
mod tests;

pub use assignor::{Assignor, CustomAssignor};
pub use clamp::CommitRecovery;
pub(crate) use clamp::clamp_commits;
pub(crate) use coordinator::Group;
pub use description::{GroupDescription, GroupOffset, GroupState, MemberDescription};
pub(crate) use member::{GROUP_TOKEN, MemberLink, Wanted};
pub(crate) use offset_store::{Backwards, OffsetStore, TopicOffsets};
pub(crate) use offsets_check::OffsetsCheck;
pub(crate) use pin::PinScope;
#[cfg(test)]
pub(crate) use planted::Planted;
pub(crate) use registry::{Groups, check_group_name};
pub(crate) use state::{Joining, Taken};
pub use subscription::MemberSubscription;
