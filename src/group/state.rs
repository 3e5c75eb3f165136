//! What a group knows: its members, the target, and who holds what. Worked with under the group's lock.
//!
//! The steps that change it; in which order, on which thread, and who is woken, is decided in
//! `coordinator.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::assignor::Assignor;
use super::member::{Member, MemberLink, Wanted};
use super::offset_store::{OffsetStore, TopicOffsets};
use super::pin::PinScope;
use super::plan::Plan;
#[cfg(test)]
use super::planted::Planted;
use super::subscription::MemberSubscription;
use crate::error::{Error, Result};
use crate::offset_and_metadata::OffsetAndMetadata;
use crate::topic::TopicShape;
use crate::topic_partition::TopicPartition;

/// Tells how a topic is at this moment, if there is one of that name.
pub(crate) type Shapes<'a> = &'a dyn Fn(&str) -> Option<TopicShape>;

/// Members, target and holders of a group; its lock guards them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) generation: u64,
    /// Counts what calls for another target.
    pub(super) version: u64,
    pub(super) assignor: Assignor,
    pub(super) assignor_name: Arc<str>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Who reads a partition.
    holders: HashMap<TopicPartition, Arc<str>>,
    /// Who is to read a partition.
    owners: HashMap<TopicPartition, Arc<str>>,
    /// The topics the target was made for.
    shapes: BTreeMap<Arc<str>, TopicShape>,
    /// What members with a name of their own had when they left.
    remembered: BTreeMap<Arc<str>, Vec<TopicPartition>>,
    #[cfg(test)]
    pub(super) planted: Planted,
}

/// How many names that nobody uses at the moment are remembered.
const MAX_REMEMBERED: usize = 1024;

/// Who wants to join.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) link: Arc<MemberLink>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) wanted: Wanted,
    /// With its name: the user's own is asked without a lock.
    pub(crate) assignor: (Assignor, Arc<str>),
    /// Whether it was a member before and was taken out.
    pub(crate) is_returning: bool,
    pub(crate) max_poll_interval: Option<Duration>,
    /// The time by the monotonic clock, in milliseconds.
    pub(crate) now: u64,
    /// Where the group is to begin, as far as that has not been decided when it joins, and the time in
    /// milliseconds since the Unix epoch.
    pub(crate) pins: Vec<(TopicOffsets, PinScope)>,
    pub(crate) at: i64,
}

impl Joining {
    /// When to look whether it polls.
    pub(super) fn look_at(&self) -> u64 {
        let interval = self.max_poll_interval;
        interval.map_or(u64::MAX, |interval| self.link.overdue_at(interval, self.now))
    }
}

/// A partition that a member has taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: u64,
    /// Where it is to start, if the group has committed something.
    pub(crate) committed: Option<OffsetAndMetadata>,
}

/// What is to be done when the lock has been given back: members to be woken, and what may be the
/// user's own to be dropped.
#[derive(Debug, Default)]
#[must_use = "they wait"]
pub(super) struct Calls {
    members: Vec<Arc<MemberLink>>,
    dropped: Vec<Assignor>,
}

impl Calls {
    pub(super) fn add(&mut self, member: &Member) {
        member.link.set_changed();
        self.members.push(Arc::clone(&member.link));
    }

    /// Wakes members up that have nothing to look at but the time.
    pub(super) fn wake<'a>(&mut self, members: impl Iterator<Item = &'a Member>) {
        self.members.extend(members.map(|member| Arc::clone(&member.link)));
    }

    pub(super) fn ring(self) {
        for link in self.members {
            link.ring();
        }
    }
}

impl State {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    pub(super) fn add(&mut self, group: &str, joining: Joining, calls: &mut Calls) -> Result<()> {
        let inconsistent =
            |reason: String| Error::InconsistentGroup { group: group.to_owned(), reason };
        let Joining { link, instance, wanted, assignor, max_poll_interval, .. } = joining;
        let (assignor, assignor_name) = assignor;
        let namesake = self.members.values().find(|member| {
            instance.is_some() && member.instance == instance && member.link.id() != link.id()
        });
        let namesake = namesake.map(|member| Arc::clone(member.link.id()));
        let manual = matches!(wanted, Wanted::Partitions(_));
        let others =
            self.members.values().filter(|member| Some(member.link.id()) != namesake.as_ref());
        if let Some(namesake) = &namesake
            && joining.is_returning
        {
            // Another has taken its name since it was taken out.
            link.supersede();
            let member = namesake.to_string();
            return Err(Error::Fenced { group: group.to_owned(), member, generation: 0 });
        }
        if let Some(other) = others.clone().next() {
            if manual != other.is_manual() {
                let reason = "some members subscribe to topics, others name their partitions";
                return Err(inconsistent(reason.to_owned()));
            }
            if !manual && assignor_name != self.assignor_name {
                let (given, present) = (&assignor_name, &self.assignor_name);
                let reason =
                    format!("it uses the assignor {given:?}, the members there {present:?}");
                return Err(inconsistent(reason));
            }
        }
        if let Wanted::Partitions(partitions) = &wanted {
            let taken = |other: &&Member| match &other.wanted {
                Wanted::Partitions(theirs) => partitions.iter().any(|one| theirs.contains(one)),
                Wanted::Topics { .. } => false,
            };
            if let Some(other) = others.clone().find(taken) {
                let reason = format!("member {:?} reads some of its partitions", other.link.id());
                return Err(inconsistent(reason));
            }
        }
        if let Some(namesake) = namesake {
            if let Some(member) = self.members.get(&namesake) {
                member.link.supersede();
            }
            self.remove(&namesake, calls);
        }
        let remembered =
            instance.as_ref().and_then(|name| self.remembered.remove(name)).unwrap_or_default();
        calls.dropped.push(std::mem::replace(&mut self.assignor, assignor));
        self.assignor_name = assignor_name;
        self.version += 1;
        let member = Member {
            link: Arc::clone(&link),
            instance,
            wanted,
            max_poll_interval,
            remembered,
            target: BTreeSet::new(),
            held: BTreeMap::new(),
        };
        self.members.insert(Arc::clone(link.id()), member);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &Arc<str>, calls: &mut Calls) {
        let Some(member) = self.members.remove(id) else { return };
        self.version += 1;
        member.link.set_changed();
        for partition in member.held.keys() {
            self.let_go(partition, calls);
        }
        calls.add(&member);
        if self.members.is_empty() {
            self.remembered.clear();
        } else if let Some(instance) = member.instance {
            if self.remembered.len() >= MAX_REMEMBERED {
                self.remembered.clear();
            }
            self.remembered.insert(instance, member.target.into_iter().collect());
        }
    }

    /// Takes a partition from a member that holds it.
    pub(super) fn release(&mut self, id: &Arc<str>, partition: &TopicPartition, calls: &mut Calls) {
        let Some(member) = self.members.get_mut(id) else { return };
        if member.held.remove(partition).is_some() {
            self.let_go(partition, calls);
        }
    }

    /// Says that nobody holds a partition any more, to whom it concerns.
    fn let_go(&mut self, partition: &TopicPartition, calls: &mut Calls) {
        self.holders.remove(partition);
        if let Some(owner) = self.owners.get(partition).and_then(|id| self.members.get(id)) {
            calls.add(owner);
        }
    }

    /// Gives a member what is its own and nobody holds.
    pub(super) fn take(&mut self, group: &str, store: &OffsetStore, id: &Arc<str>) -> Vec<Taken> {
        let Some(member) = self.members.get_mut(id) else { return Vec::new() };
        let mut taken = Vec::new();
        for partition in &member.target {
            let Some(shape) = self.shapes.get(&partition.topic) else { continue };
            let is_held = self.holders.contains_key(partition);
            #[cfg(test)]
            let is_held = is_held
                && (self.planted != Planted::StartsEarly || member.held.contains_key(partition));
            if is_held {
                continue;
            }
            self.holders.insert(partition.clone(), Arc::clone(id));
            member.held.insert(partition.clone(), shape.id);
            let (topic, topic_id) = (&partition.topic, shape.id);
            let committed = store.committed_in(group, topic, topic_id, partition.partition);
            #[cfg(test)]
            let committed = committed.filter(|_| self.planted != Planted::ForgetsTheCommit);
            taken.push(Taken { partition: partition.clone(), topic_id, committed });
        }
        taken
    }

    /// Whether this topic, and no other of its name, is there.
    pub(super) fn is_there(&self, topic: &str, id: u64) -> bool {
        self.shapes.get(topic).is_some_and(|shape| shape.id == id)
    }

    /// Whether the group reads a topic, or has a member who will when it looks.
    pub(super) fn has_begun(&self, topic: &str, id: u64) -> bool {
        self.is_there(topic, id)
            || self.members.values().any(|member| match &member.wanted {
                Wanted::Topics { names, is_pattern } => {
                    *is_pattern || names.iter().any(|name| **name == *topic)
                }
                Wanted::Partitions(_) => false,
            })
    }

    /// What of these beginnings has not been decided.
    pub(super) fn undecided(
        &self,
        pins: Vec<(TopicOffsets, PinScope)>,
    ) -> Vec<(TopicOffsets, PinScope)> {
        let undecided = |(mut start, scope): (TopicOffsets, PinScope)| {
            if scope == PinScope::Topic && self.has_begun(&start.topic, start.id) {
                return None;
            }
            if scope == PinScope::Partitions {
                let topic = Arc::clone(&start.topic);
                start.offsets.retain(|(number, _)| {
                    !self.is_owned(&TopicPartition::new(Arc::clone(&topic), *number))
                });
            }
            Some((start, scope))
        };
        pins.into_iter().filter_map(undecided).collect()
    }

    /// Whether a partition is somebody's.
    pub(super) fn is_owned(&self, partition: &TopicPartition) -> bool {
        let names = |member: &Member| match &member.wanted {
            Wanted::Partitions(theirs) => theirs.contains(partition),
            Wanted::Topics { .. } => false,
        };
        self.owners.contains_key(partition)
            || self.holders.contains_key(partition)
            || self.members.values().any(names)
    }

    /// Whether a member may go on with a partition it holds: it is still its own, and the topic is
    /// the one it was.
    pub(super) fn may_keep(&self, member: &Member, held: &TopicPartition) -> bool {
        let topic_id = self.shapes.get(&held.topic).map(|shape| shape.id);
        member.target.contains(held) && member.held.get(held).copied() == topic_id
    }

    pub(super) fn plan(&self) -> Plan {
        let subscribers = self.members.values().filter(|member| !member.is_manual());
        let members: Vec<_> = subscribers
            .map(|member| MemberSubscription {
                member: Arc::clone(member.link.id()),
                topics: member.topics().to_vec(),
                owned: member.target.iter().cloned().collect(),
                remembered: member.remembered.clone(),
            })
            .collect();
        let mut wanted: Vec<_> =
            members.iter().flat_map(|member| &member.topics).map(Arc::clone).collect();
        for member in self.members.values() {
            if let Wanted::Partitions(partitions) = &member.wanted {
                wanted.extend(partitions.iter().map(|partition| Arc::clone(&partition.topic)));
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        Plan { version: self.version, assignor: self.assignor.clone(), members, wanted }
    }

    /// Makes this the target, and calls those whom it concerns.
    pub(super) fn aim(
        &mut self,
        members: &[MemberSubscription],
        assignment: Vec<Vec<TopicPartition>>,
        shapes: BTreeMap<Arc<str>, TopicShape>,
        calls: &mut Calls,
    ) {
        self.generation += 1;
        self.shapes = shapes;
        for (member, target) in members.iter().zip(assignment) {
            if let Some(member) = self.members.get_mut(&member.member) {
                member.target = target.into_iter().collect();
                member.remembered.clear();
            }
        }
        self.owners.clear();
        for (id, member) in &mut self.members {
            if let Wanted::Partitions(partitions) = &member.wanted {
                let exists = |one: &&TopicPartition| {
                    let shape = self.shapes.get(&one.topic);
                    shape.is_some_and(|shape| one.partition < shape.partitions)
                };
                member.target = partitions.iter().filter(exists).cloned().collect();
            }
            let owned = member.target.iter().map(|partition| (partition.clone(), Arc::clone(id)));
            self.owners.extend(owned);
        }
        for member in self.members.values() {
            let has_to_release = member.held.keys().any(|held| !self.may_keep(member, held));
            let is_free = |one: &TopicPartition| !self.holders.contains_key(one);
            if has_to_release || member.target.iter().any(is_free) {
                calls.add(member);
            }
        }
    }

    pub(super) fn note_topics(&mut self, shapes: Shapes<'_>, calls: &mut Calls) -> bool {
        let is_pattern =
            |member: &&Member| matches!(member.wanted, Wanted::Topics { is_pattern: true, .. });
        for member in self.members.values().filter(is_pattern) {
            calls.add(member);
        }
        let wanted = self.plan().wanted;
        let is_changed = wanted.iter().any(|name| shapes(name) != self.shapes.get(name).copied());
        if is_changed {
            self.version += 1;
        }
        is_changed
    }
}
