//! How a target is made: what goes into it, and the assignor's answer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::assignor::{Assignor, check};
use super::subscription::MemberSubscription;
use crate::topic::TopicShape;
use crate::topic_partition::TopicPartition;

/// What a target is made from.
pub(super) struct Plan {
    pub(super) version: u64,
    pub(super) assignor: Assignor,
    pub(super) members: Vec<MemberSubscription>,
    pub(super) wanted: Vec<Arc<str>>,
}

impl Plan {
    /// Who is to have what, in the order of members, and what is wrong with the user's assignor.
    pub(super) fn assign(
        &self,
        shapes: &BTreeMap<Arc<str>, TopicShape>,
    ) -> (Vec<Vec<TopicPartition>>, Option<String>) {
        let counts: BTreeMap<_, _> =
            shapes.iter().map(|(name, shape)| (Arc::clone(name), shape.partitions)).collect();
        let mut members = self.members.clone();
        for member in &mut members {
            member.topics.retain(|name| counts.contains_key(name));
        }
        let assign = || self.assignor.assign(&members, &counts);
        let trouble = match catch_unwind(AssertUnwindSafe(assign)) {
            Ok(assignment) => match check(&assignment, &members, &counts) {
                Ok(()) => return (assignment, None),
                Err(trouble) => trouble,
            },
            Err(_) => "it panicked".to_owned(),
        };
        let trouble = format!("assignor {:?}: {trouble}", self.assignor.name());
        (Assignor::default().assign(&members, &counts), Some(trouble))
    }
}
