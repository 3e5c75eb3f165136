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

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::assignor::Assignor;
use super::description::{GroupState, MemberDescription};
use super::member::{Member, MemberLink, Wanted};
use super::offset_store::{Backwards, OffsetStore, TopicOffsets};
use super::pin::pin;
#[cfg(test)]
use super::planted::Planted;
use super::state::{Calls, Joining, Shapes, State, Taken};
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Mutex};
use crate::topic_partition::TopicPartition;

/// A group with members, or one that had some.
#[derive(Debug)]
pub(crate) struct Group {
    name: Arc<str>,
    store: Arc<OffsetStore>,
    /// Comes before the offset store's lock, and before those of topics. No user code, no logging
    /// and no waking under it.
    state: Mutex<State>,
    /// When to look for members that have not polled in time, by the monotonic clock in milliseconds:
    /// nobody is late before that. Stored under the lock; Relaxed, because who loads it too early
    /// just looks once more.
    look_at: AtomicU64,
}

impl Group {
    pub(crate) fn new(name: Arc<str>, store: Arc<OffsetStore>, generation: u64) -> Self {
        let state = Mutex::new(State::new(generation));
        Self { name, store, state, look_at: AtomicU64::new(u64::MAX) }
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
        let assignor = assignor.then(|| state.assignor_name.to_string());
        (state.generation, assignor, members, phase)
    }

    /// Adds a member. It has a share after the next [`rebalance`](Self::rebalance).
    ///
    /// Where the group is to begin is decided under the same lock: not if the member is refused, and
    /// before anybody takes a partition.
    pub(crate) fn join(&self, mut joining: Joining) -> Result<()> {
        let mut calls = Calls::default();
        let result = {
            let mut state = self.state.lock();
            let look_at = joining.look_at();
            let pins = state.undecided(std::mem::take(&mut joining.pins));
            let (id, at) = (Arc::clone(joining.link.id()), joining.at);
            let result = state.add(&self.name, joining, &mut calls).and_then(|()| {
                let pin = |(start, scope)| pin(&self.store, &self.name, start, scope, at);
                let pinned = pins.into_iter().try_for_each(pin);
                pinned.inspect_err(|_| state.remove(&id, &mut calls))
            });
            if result.is_ok() && look_at < self.look_at.load(Ordering::Relaxed) {
                // Whoever sleeps has to wake up earlier than it meant to.
                self.look_at.store(look_at, Ordering::Relaxed);
                calls.wake(state.members.values());
            }
            result
        };
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
        let member = state.members.get_mut(link.id());
        let member = member.ok_or_else(|| self.fenced(link))?;
        member.wanted = Wanted::Topics { names, is_pattern: true };
        // Whoever makes a target now has to make another; it is for the caller to see to that.
        state.version += 1;
        Ok(())
    }

    /// What a member has to let go of. It has cleared its flag before, and looked at nothing since.
    pub(crate) fn to_release(&self, link: &MemberLink) -> Result<Vec<TopicPartition>> {
        let state = self.state.lock();
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
        // Who has not polled since a topic was deleted has nothing left to commit in it.
        let is_there = |commit: &TopicOffsets| state.is_there(&commit.topic, commit.id);
        let commits = match commits.iter().find(|commit| !is_there(commit)) {
            None => Cow::Borrowed(commits),
            Some(_) if backwards == Backwards::Keep => {
                commits.iter().filter(|commit| is_there(commit)).cloned().collect()
            }
            Some(TopicOffsets { topic, offsets, .. }) => {
                let partition = offsets.first().map_or(0, |(partition, _)| *partition);
                return Err(Error::NotAssigned { topic: topic.to_string(), partition });
            }
        };
        for commit in commits.iter() {
            for (partition, _) in &commit.offsets {
                let held = TopicPartition::new(Arc::clone(&commit.topic), *partition);
                if member.held.get(&held) != Some(&commit.id) {
                    let (topic, partition) = (commit.topic.to_string(), *partition);
                    return Err(Error::NotAssigned { topic, partition });
                }
            }
        }
        let written = self.store.commit(&self.name, &commits, backwards, at);
        drop(state);
        self.store.follow_up();
        written
    }

    /// When to look for members that have not polled in time, by the monotonic clock in milliseconds.
    #[inline]
    pub(crate) fn look_at(&self) -> u64 {
        self.look_at.load(Ordering::Relaxed)
    }

    /// Takes out members that have not polled in time, by the monotonic clock in milliseconds.
    /// Returns whether there were any.
    pub(crate) fn evict_overdue(&self, now: u64) -> bool {
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
        self.look_at.store(next.unwrap_or(u64::MAX), Ordering::Relaxed);
        drop(state);
        calls.ring();
        !overdue.is_empty()
    }

    /// How often its partitions were shared out.
    pub(super) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    fn fenced(&self, link: &MemberLink) -> Error {
        let (group, member) = (self.name.to_string(), link.id().to_string());
        Error::Fenced { group, member, generation: link.generation() }
    }
}
