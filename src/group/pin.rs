//! Where a group begins, decided once.
//!
//! A group that is not to begin at the beginning has its place committed when it first meets a topic.
//! Otherwise a member that ends before its first commit would leave the next one to begin later, and
//! what lies between would be skipped. What a member reads already has been decided.

use std::sync::Arc;

use super::offset_store::{Backwards, OffsetStore, TopicOffsets};
use crate::error::Result;

/// What it is that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinScope {
    /// A topic. If the group has committed anything in it, or reads it, it has begun.
    Topic,
    /// Partitions, each by itself, that a member names. One that is somebody's has begun.
    Partitions,
    /// Partitions that the member holds who asks.
    Held,
}

/// Commits these places where the group has committed none; those of a topic all or not at all.
pub(super) fn pin(
    store: &Arc<OffsetStore>,
    group: &str,
    mut start: TopicOffsets,
    scope: PinScope,
    at: i64,
) -> Result<()> {
    let committed = store.committed(group, &start.topic, start.id);
    if scope == PinScope::Topic && !committed.is_empty() {
        return Ok(());
    }
    start.offsets.retain(|(number, _)| committed.iter().all(|(present, _)| present != number));
    store.commit(group, &[start], Backwards::Keep, at).map(|_| ())
}
