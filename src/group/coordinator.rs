//! A group: who is in it, who is to read what, and who does.
//!
//! The two are kept apart, as KIP-848 does it. The *target* says what each member is to read; it
//! is made anew, by the assignor, whenever members, their wishes or the topics change. Who *holds* a
//! partition reads it. A member lets go of what is no longer its own when it polls, and takes what
//! is, once nobody else holds it: so a partition never has two readers, those that stay where they
//! are never pause, and whoever takes one starts from what the one before had committed.
//!
//! The invariants it keeps, under one lock: a partition has at most one holder, who is a member; only
//! the holder commits; only the holder, or the end of its membership, lets go.
//!
//! The assignor may be the user's own and is called without the lock: whoever changes something
//! makes a target from what it sees, and it counts unless something else has changed since, in which
//! case whoever changed that makes the next one. Wakers are rung after the lock was given back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::assignor::{Assignor, check};
use super::description::{GroupState, MemberDescription};
use super::member::{Member, MemberLink, Wanted};
use super::offset_store::{Backwards, OffsetStore, TopicOffsets};
#[cfg(test)]
use super::planted::Planted;
use super::subscription::MemberSubscription;
use crate::error::{Error, Result};
use crate::offset_and_metadata::OffsetAndMetadata;
use crate::sync::{AtomicBool, Mutex};
use crate::topic::TopicShape;
use crate::topic_partition::TopicPartition;

/// Tells how a topic is at this moment, if there is one of that name.
pub(crate) type Shapes<'a> = &'a dyn Fn(&str) -> Option<TopicShape>;

/// A group with members, or one that had some.
#[derive(Debug)]
pub(crate) struct Group {
    name: Arc<str>,
    store: Arc<OffsetStore>,
    /// Comes before the offset store's lock, and before those of topics. No user code, no logging
    /// and no waking under it.
    state: Mutex<State>,
    /// Whether a member has joined that is to be taken out when it does not poll. Relaxed: a hint of
    /// when to take the lock and look.
    watched: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    /// Counts what calls for another target.
    version: u64,
    assignor: Assignor,
    members: BTreeMap<Arc<str>, Member>,
    /// Who reads a partition.
    holders: HashMap<TopicPartition, Arc<str>>,
    /// Who is to read a partition.
    owners: HashMap<TopicPartition, Arc<str>>,
    /// The topics the target was made for.
    shapes: BTreeMap<Arc<str>, TopicShape>,
    /// What members with a name of their own had when they left.
    remembered: BTreeMap<Arc<str>, Vec<TopicPartition>>,
    #[cfg(test)]
    planted: Planted,
}

/// How many names that nobody uses at the moment are remembered.
const MAX_REMEMBERED: usize = 1024;

/// Who wants to join.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) link: Arc<MemberLink>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) wanted: Wanted,
    pub(crate) assignor: Assignor,
    pub(crate) max_poll_interval: Option<Duration>,
}

/// A partition that a member has taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: u64,
    /// Where it is to start, if the group has committed something.
    pub(crate) committed: Option<OffsetAndMetadata>,
}

/// Members to be woken when the lock has been given back.
#[derive(Debug, Default)]
#[must_use = "they wait"]
struct Calls(Vec<Arc<MemberLink>>);

impl Calls {
    fn add(&mut self, member: &Member) {
        member.link.set_changed();
        self.0.push(Arc::clone(&member.link));
    }

    fn ring(self) {
        for link in self.0 {
            link.ring();
        }
    }
}

impl Group {
    pub(crate) fn new(name: Arc<str>, store: Arc<OffsetStore>) -> Self {
        Self { name, store, state: Mutex::new(State::default()), watched: AtomicBool::new(false) }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[cfg(test)]
    pub(super) fn plant(&self, planted: Planted) {
        self.state.lock().planted = planted;
    }

    #[cfg(test)]
    pub(crate) fn planted(&self) -> Planted {
        self.state.lock().planted
    }

    /// Whether this member is in it.
    pub(crate) fn is_member(&self, link: &MemberLink) -> bool {
        self.state.lock().members.contains_key(link.id())
    }

    /// How many members it has.
    pub(super) fn member_count(&self) -> usize {
        self.state.lock().members.len()
    }

    /// Its generation, its assignor if it uses one, its members, and whether every partition is where it
    /// belongs.
    pub(crate) fn describe(&self) -> (u64, Option<String>, Vec<MemberDescription>, GroupState) {
        let state = self.state.lock();
        let assignor = state.members.values().any(|member| !member.is_manual());
        let members: Vec<_> = state.members.values().map(Member::describe).collect();
        let is_stable = members.iter().all(|member| member.assignment == member.target);
        let phase = match (members.is_empty(), is_stable) {
            (true, _) => GroupState::Empty,
            (false, true) => GroupState::Stable,
            (false, false) => GroupState::Rebalancing,
        };
        let assignor = assignor.then(|| state.assignor.name().to_owned());
        (state.generation, assignor, members, phase)
    }

    /// Adds a member. It has a share after the next [`rebalance`](Self::rebalance).
    pub(crate) fn join(&self, joining: Joining) -> Result<()> {
        let mut calls = Calls::default();
        if joining.max_poll_interval.is_some() {
            self.watched.store(true, Ordering::Relaxed);
        }
        let result = self.state.lock().add(&self.name, joining, &mut calls);
        calls.ring();
        result
    }

    /// Takes a member out; whatever it reads is free. Nothing happens if it is not in it.
    pub(crate) fn leave(&self, link: &MemberLink) {
        let mut calls = Calls::default();
        self.state.lock().remove(link.id(), &mut calls);
        calls.ring();
    }

    /// Makes a target for the members and topics as they are.
    pub(crate) fn rebalance(&self, shapes: Shapes<'_>) {
        let plan = self.state.lock().plan();
        let topics: BTreeMap<_, _> =
            plan.wanted.iter().filter_map(|name| Some((Arc::clone(name), shapes(name)?))).collect();
        let (assignment, trouble) = plan.assign(&topics);
        let mut calls = Calls::default();
        {
            let mut state = self.state.lock();
            // Whoever changed something since makes the next target.
            if state.version == plan.version {
                state.aim(&plan.members, assignment, topics, &mut calls);
            }
        }
        calls.ring();
        if let Some(trouble) = trouble {
            log::error!(
                "group {}: {trouble}; its partitions are shared out by {}",
                self.name,
                Assignor::default().name()
            );
        }
    }

    /// Says that topics may have changed. Returns whether that calls for another target.
    pub(crate) fn topics_changed(&self, shapes: Shapes<'_>) -> bool {
        let mut calls = Calls::default();
        let is_changed = self.state.lock().note_topics(shapes, &mut calls);
        calls.ring();
        is_changed
    }

    /// Tells every member that there is something to look at.
    pub(crate) fn call_all(&self) {
        let mut calls = Calls::default();
        for member in self.state.lock().members.values() {
            calls.add(member);
        }
        calls.ring();
    }

    /// Says that a member wants these topics, which are sorted, instead of those before.
    pub(crate) fn want(&self, link: &MemberLink, names: Vec<Arc<str>>) -> Result<()> {
        let mut state = self.state.lock();
        state.version += 1;
        let member = state.members.get_mut(link.id());
        let member = member.ok_or_else(|| self.fenced(link))?;
        member.wanted = Wanted::Topics { names, is_pattern: true };
        Ok(())
    }

    /// What a member has to let go of. Says no more of changes until the next one.
    pub(crate) fn to_release(&self, link: &MemberLink) -> Result<Vec<TopicPartition>> {
        let state = self.state.lock();
        link.clear_changed();
        let member = state.members.get(link.id());
        let member = member.ok_or_else(|| self.fenced(link))?;
        Ok(member.held.keys().filter(|held| !state.may_keep(member, held)).cloned().collect())
    }

    /// Lets go of partitions, and takes those that are the member's and nobody else's any more.
    /// Returns the generation, too.
    pub(crate) fn exchange(
        &self,
        link: &MemberLink,
        released: &[TopicPartition],
    ) -> Result<(u64, Vec<Taken>)> {
        let mut calls = Calls::default();
        let taken = {
            let mut state = self.state.lock();
            if !state.members.contains_key(link.id()) {
                return Err(self.fenced(link));
            }
            let generation = state.generation;
            link.set_generation(generation);
            for partition in released {
                state.release(link.id(), partition, &mut calls);
            }
            (generation, state.take(&self.name, &self.store, link.id()))
        };
        calls.ring();
        Ok(taken)
    }

    /// Commits for a member, all of it or nothing; it must hold every one of the partitions.
    /// Returns what the offset store is to be synced to if that is wanted.
    pub(crate) fn commit(
        &self,
        link: &MemberLink,
        commits: &[TopicOffsets],
        backwards: Backwards,
        at: i64,
    ) -> Result<u64> {
        let state = self.state.lock();
        #[cfg(test)]
        if state.planted == Planted::ForgetsToFence {
            return self.store.commit(&self.name, commits, backwards, at);
        }
        let member = state.members.get(link.id());
        let member = member.ok_or_else(|| self.fenced(link))?;
        for commit in commits {
            for (partition, _) in &commit.offsets {
                let held = TopicPartition::new(Arc::clone(&commit.topic), *partition);
                if member.held.get(&held) != Some(&commit.id) {
                    let (topic, partition) = (commit.topic.to_string(), *partition);
                    return Err(Error::NotAssigned { topic, partition });
                }
            }
        }
        let written = self.store.commit(&self.name, commits, backwards, at);
        drop(state);
        self.store.follow_up();
        written
    }

    /// Whether some member is to be taken out when it does not poll.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Takes out members that have not polled in time, by the monotonic clock in milliseconds.
    /// Returns whether there were any, and when to look again, if ever.
    pub(crate) fn evict_overdue(&self, now: u64) -> (bool, Option<u64>) {
        let mut calls = Calls::default();
        let mut state = self.state.lock();
        let overdue: Vec<_> = state
            .members
            .values()
            .filter(|member| member.overdue_at(now).is_some_and(|at| at <= now))
            .map(|member| Arc::clone(member.link.id()))
            .collect();
        for id in &overdue {
            state.remove(id, &mut calls);
        }
        let next = state.members.values().filter_map(|member| member.overdue_at(now)).min();
        drop(state);
        calls.ring();
        (!overdue.is_empty(), next)
    }

    fn fenced(&self, link: &MemberLink) -> Error {
        let (group, member) = (self.name.to_string(), link.id().to_string());
        Error::Fenced { group, member, generation: link.generation() }
    }
}

/// What a target is made from.
struct Plan {
    version: u64,
    assignor: Assignor,
    members: Vec<MemberSubscription>,
    wanted: Vec<Arc<str>>,
}

impl Plan {
    /// Who is to have what, in the order of members, and what is wrong with the user's assignor.
    fn assign(
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

impl State {
    fn add(&mut self, group: &str, joining: Joining, calls: &mut Calls) -> Result<()> {
        let inconsistent =
            |reason: String| Error::InconsistentGroup { group: group.to_owned(), reason };
        let Joining { link, instance, wanted, assignor, max_poll_interval } = joining;
        let namesake = self.members.values().find(|member| {
            instance.is_some() && member.instance == instance && member.link.id() != link.id()
        });
        let namesake = namesake.map(|member| Arc::clone(member.link.id()));
        let manual = matches!(wanted, Wanted::Partitions(_));
        let others =
            self.members.values().filter(|member| Some(member.link.id()) != namesake.as_ref());
        if let Some(other) = others.clone().next() {
            if manual != other.is_manual() {
                let reason = "some members subscribe to topics, others name their partitions";
                return Err(inconsistent(reason.to_owned()));
            }
            if !manual && assignor.name() != self.assignor.name() {
                let (given, present) = (assignor.name(), self.assignor.name());
                let reason =
                    format!("it uses the assignor {given:?}, the members there {present:?}");
                return Err(inconsistent(reason));
            }
        }
        if let Wanted::Partitions(partitions) = &wanted {
            let taken = |other: &&Member| partitions.iter().any(|one| other.target.contains(one));
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
        self.assignor = assignor;
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

    fn remove(&mut self, id: &Arc<str>, calls: &mut Calls) {
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
    fn release(&mut self, id: &Arc<str>, partition: &TopicPartition, calls: &mut Calls) {
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
    fn take(&mut self, group: &str, store: &OffsetStore, id: &Arc<str>) -> Vec<Taken> {
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

    /// Whether a member may go on with a partition it holds: it is still its own, and the topic is
    /// the one it was.
    fn may_keep(&self, member: &Member, held: &TopicPartition) -> bool {
        let topic_id = self.shapes.get(&held.topic).map(|shape| shape.id);
        member.target.contains(held) && member.held.get(held).copied() == topic_id
    }

    fn plan(&self) -> Plan {
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
    fn aim(
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

    fn note_topics(&mut self, shapes: Shapes<'_>, calls: &mut Calls) -> bool {
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
