//! Commits of records that are gone.
//!
//! A power cut may take away records that a group has read and committed. The rule: the group is moved
//! back to the end of the partition, durably, before anything is appended there; it reads whatever
//! is sent from then on. Left as it was, its commit would lie beyond the end, and what is sent in place
//! of what was lost would be skipped.

use std::sync::Arc;

use super::offset_store::{Backwards, OffsetStore};
use crate::error::Result;
use crate::timestamp::Timestamp;

/// A committed offset that was moved back to the end of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitRecovery {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// What the group had committed.
    pub committed: u64,
    /// The offset behind the last record that is there, which is what it has committed from now on.
    pub end_offset: u64,
}

/// Moves groups back that have committed beyond the end of a partition, which `end_of` tells. Called
/// before anything can be appended.
pub(crate) fn clamp_commits(
    store: &Arc<OffsetStore>,
    end_of: &dyn Fn(&str, u32) -> Option<u64>,
    now: Timestamp,
) -> Result<Vec<CommitRecovery>> {
    let (mut clamped, mut written) = (Vec::new(), None);
    for group in store.names() {
        let mut commits = store.group(&group).unwrap_or_default();
        for commit in &mut commits {
            let topic = Arc::clone(&commit.topic);
            commit.offsets.retain_mut(|(partition, committed)| {
                let end = end_of(&topic, *partition).filter(|end| *end < committed.offset);
                let Some(end_offset) = end else { return false };
                clamped.push(CommitRecovery {
                    group: group.to_string(),
                    topic: topic.to_string(),
                    partition: *partition,
                    committed: committed.offset,
                    end_offset,
                });
                committed.offset = end_offset;
                true
            });
        }
        commits.retain(|commit| !commit.offsets.is_empty());
        if !commits.is_empty() {
            written = Some(store.commit(&group, &commits, Backwards::Allow, now.as_millis())?);
        }
    }
    if let Some(written) = written {
        store.sync_to(written)?;
        store.follow_up();
    }
    Ok(clamped)
}
