//! How partitions come to a consumer and go from it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::core::{Consumer, RebalanceListener};
use super::event::{ConsumerEvent, Rebalance};
use super::subscription::Subscription;
use crate::error::{Error, Result};
use crate::group::{Joining, MemberLink, PinScope, Taken, TopicOffsets, Wanted};
use crate::offset_and_metadata::OffsetAndMetadata;
use crate::sender::Acks;
use crate::start::Start;
use crate::topic::TopicState;
use crate::topic_partition::TopicPartition;

impl Consumer {
    /// Becomes a member of its group.
    pub(super) fn join(&mut self, is_returning: bool) -> Result<()> {
        self.broker.check_open()?;
        self.broker.groups().store().prepare()?;
        let now = self.broker.clock().now();
        self.broker.groups().expire(now)?;
        let wanted = self.wanted();
        // One that comes back was told of whatever there was when it came: all else is news.
        let pins = if is_returning { Vec::new() } else { self.pins(&wanted)? };
        let assignor = self.settings.assignor.clone();
        let assignor_name = assignor.name().into();
        let joining = Joining {
            link: Arc::clone(&self.link),
            instance: self.settings.instance.clone(),
            wanted,
            assignor: (assignor, assignor_name),
            is_returning,
            max_poll_interval: self.settings.max_poll_interval,
            now: self.broker.clock().monotonic(),
            pins,
            at: now.as_millis(),
        };
        let broker = &self.broker;
        let shapes = |name: &str| broker.shape(name);
        self.link.set_idle(broker.clock().monotonic());
        let group = broker.groups().join(&self.settings.group, joining, &shapes)?;
        self.group = Some(group);
        self.sync_pins()
    }

    /// Has where the group begins on stable storage, if that is what commits wait for: by whomever it
    /// was decided.
    fn sync_pins(&self) -> Result<()> {
        if self.settings.acks == Acks::Synced && self.decides_start() {
            self.broker.groups().store().flush()?;
        }
        Ok(())
    }

    /// Whether the group is to begin elsewhere than at the beginning.
    fn decides_start(&self) -> bool {
        matches!(self.settings.start, Start::Latest | Start::Timestamp(_))
    }

    /// Takes its partitions without a poll. What is wrong with one of them the first poll says.
    pub(super) fn take_at_once(&mut self) -> Result<()> {
        let result = self.reconcile();
        if self.unplaced.is_empty() {
            return result;
        }
        self.complained = false;
        Ok(())
    }

    /// What it subscribes to, in names of topics that exist.
    fn wanted(&mut self) -> Wanted {
        match &self.settings.subscription {
            Subscription::Nothing => Wanted::Partitions(Vec::new()),
            Subscription::Partitions(partitions) => Wanted::Partitions(partitions.clone()),
            Subscription::Topics(names) => {
                Wanted::Topics { names: names.clone(), is_pattern: false }
            }
            Subscription::Pattern(pattern) => {
                let mut names = self.broker.topic_names();
                names.retain(|name| pattern.matches(name));
                self.matched.clone_from(&names);
                Wanted::Topics { names, is_pattern: true }
            }
        }
    }

    /// Where the group has committed nothing, and is not to begin at the beginning: decides where it
    /// does begin, once for all its members to come. Otherwise a member that ends before its first
    /// commit would leave the next one to begin later, and what lies between would be skipped.
    fn pins(&self, wanted: &Wanted) -> Result<Vec<(TopicOffsets, PinScope)>> {
        let mut pins = Vec::new();
        if !self.decides_start() {
            return Ok(pins);
        }
        let start = self.settings.start;
        match wanted {
            Wanted::Topics { names, .. } => {
                for name in names {
                    let Ok(topic) = self.broker.topic(name) else { continue };
                    let store = self.broker.groups().store();
                    if !store.has_topic(&self.settings.group, name, topic.shape().id) {
                        let places = places(&topic, 0..topic.partition_count(), start)?;
                        pins.push((places, PinScope::Topic));
                    }
                }
            }
            Wanted::Partitions(partitions) => {
                for one in partitions {
                    let Ok(topic) = self.broker.topic(&one.topic) else { continue };
                    let places = places(&topic, one.partition..one.partition + 1, start)?;
                    pins.push((places, PinScope::Partitions));
                }
            }
        }
        Ok(pins)
    }

    /// Lets go of what is no longer its own, and takes what is.
    #[cold]
    pub(super) fn reconcile(&mut self) -> Result<()> {
        // Whatever changes from here on is said again.
        self.link.clear_changed();
        // What did not come to its end is gone on with by the next poll.
        self.reconcile_now().inspect_err(|_| self.link.set_changed())
    }

    fn reconcile_now(&mut self) -> Result<()> {
        self.broker.check_open()?;
        self.fetcher.ask_again();
        self.follow_pattern();
        let group = match self.group.clone() {
            Some(group) => group,
            None if self.link.is_superseded() => return self.lose(),
            None => return self.rejoin(),
        };
        let revoked = match group.to_release(&self.link) {
            Err(Error::Fenced { .. }) => return self.lose(),
            revoked => revoked?,
        };
        if !revoked.is_empty() {
            self.finish_with(&revoked);
        }
        let (generation, taken) = match group.exchange(&self.link, &revoked) {
            Err(Error::Fenced { .. }) => return self.lose(),
            exchanged => exchanged?,
        };
        self.generation = generation;
        self.changes += 1;
        self.forget(&revoked);
        let assigned: Vec<_> = taken.iter().map(|taken| taken.partition.clone()).collect();
        self.unplaced.extend(taken);
        if !assigned.is_empty() || !revoked.is_empty() {
            self.tell(|| {
                let (assigned, revoked) = (assigned.clone(), revoked.clone());
                let lost = Vec::new();
                ConsumerEvent::Rebalanced(Rebalance { generation, assigned, revoked, lost })
            });
        }
        self.to_announce.extend(assigned);
        if self.to_announce.is_empty() {
            return Ok(());
        }
        let placed = self.place_taken();
        let assigned = self.to_announce.clone();
        self.call(|listener, consumer| listener.assigned(consumer, &assigned));
        self.to_announce.clear();
        placed
    }

    /// Wants topics that have come to match, and no longer those that are gone.
    fn follow_pattern(&mut self) {
        let (Subscription::Pattern(pattern), Some(group)) =
            (&self.settings.subscription, &self.group)
        else {
            return;
        };
        let mut names = self.broker.topic_names();
        let link = &self.link;
        let matching = || names.retain(|name| pattern.matches(name));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(matching)) {
            link.set_changed();
            resume_unwind(panic);
        }
        if names == self.matched {
            return;
        }
        self.matched.clone_from(&names);
        // One that is no longer a member finds out by itself.
        if group.want(&self.link, names).is_ok() {
            let broker = &self.broker;
            group.rebalance(&|name| broker.shape(name));
        }
    }

    /// Commits and tells before partitions are let go of. Until that is done nobody else reads them.
    fn finish_with(&mut self, revoked: &[TopicPartition]) {
        if let Some((_, done)) = self.settings.auto_commit
            && let Err(error) = self.commit_done(done)
        {
            // What was done is done again by the next owner.
            self.told(error);
        }
        self.call(|listener, consumer| listener.revoked(consumer, revoked));
    }

    /// Reads these partitions no more.
    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(place) = self.fetcher.remove(partition) {
                self.progress.remove(place);
            }
        }
        self.unplaced.retain(|taken| !partitions.contains(&taken.partition));
        self.to_announce.retain(|one| !partitions.contains(one));
    }

    /// Is no longer a member, and becomes one again.
    fn lose(&mut self) -> Result<()> {
        let was_member = self.group.take().is_some();
        self.changes += 1;
        let mut lost = self.assignment();
        lost.extend(self.unplaced.iter().map(|taken| taken.partition.clone()));
        lost.sort_unstable();
        self.forget(&lost);
        let generation = self.generation;
        if was_member {
            self.tell(|| {
                let lost = lost.clone();
                ConsumerEvent::Rebalanced(Rebalance { generation, lost, ..Rebalance::default() })
            });
            self.call(|listener, consumer| listener.lost(consumer, &lost));
        }
        if self.link.is_superseded() {
            // To come back would be to throw out the one that took the name.
            self.link.set_changed();
            let (group, member) = (self.settings.group.to_string(), self.link.id().to_string());
            return Err(Error::Fenced { group, member, generation });
        }
        self.rejoin()
    }

    /// Becomes a member under another name, which has something to do at once.
    fn rejoin(&mut self) -> Result<()> {
        let id = self.broker.groups().member_id(self.settings.instance.as_deref());
        self.link = Arc::new(MemberLink::new(id, Arc::clone(self.fetcher.waker())));
        self.join(true)?;
        self.link.set_polling();
        self.reconcile()
    }

    /// Begins to read partitions it holds. One that has no place to start is met again by the poll
    /// after the next, and the others can be read in between.
    pub(super) fn place_taken(&mut self) -> Result<()> {
        let mut trouble = None;
        for taken in std::mem::take(&mut self.unplaced) {
            if let Err(error) = self.place(&taken) {
                self.unplaced.push(taken);
                trouble.get_or_insert(error);
            }
        }
        match trouble {
            Some(error) if !std::mem::replace(&mut self.complained, true) => Err(error),
            _ => {
                self.complained = false;
                Ok(())
            }
        }
    }

    fn place(&mut self, taken: &Taken) -> Result<()> {
        let name = &taken.partition;
        let topic = match self.broker.topic(&name.topic) {
            Ok(topic) if topic.shape().id == taken.topic_id => topic,
            // It was deleted meanwhile; the group will say so.
            Ok(_) | Err(Error::UnknownTopic { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let partition = topic.partition(name.partition)?;
        let committed = taken.committed.as_ref().map(|committed| committed.offset);
        let place = match (committed, self.settings.start) {
            (Some(offset), _) => self.fetcher.add_resumed(name.clone(), partition, offset)?,
            (None, Start::Error) => {
                let (group, topic) = (self.settings.group.to_string(), name.topic.to_string());
                let partition = name.partition;
                return Err(Error::NoCommittedOffset { group, topic, partition });
            }
            (None, Start::Offset(offset)) => self.fetcher.add(name.clone(), partition, offset)?,
            (None, _) => {
                // Where the group knows the topic and not this partition, or the topic has come to
                // match, all of it is news; any other beginning was decided when the group began.
                // That it is known now has to be written down, too.
                if self.decides_start() {
                    let numbers = name.partition..name.partition + 1;
                    let at = self.broker.clock().now().as_millis();
                    let begin = places(&topic, numbers, Start::Earliest)?;
                    self.broker.groups().pin_held(&self.settings.group, begin, at)?;
                    self.sync_pins()?;
                }
                let start = partition.log().start_offset();
                self.fetcher.add_resumed(name.clone(), partition, start)?
            }
        };
        if let Some(place) = place {
            self.progress.add(place, taken.topic_id, committed);
        }
        Ok(())
    }

    /// Calls the listener with the consumer, if there is one and this is not from within.
    fn call(&mut self, work: impl FnOnce(&mut dyn RebalanceListener, &mut Self)) {
        let Some(mut listener) = self.listener.take() else { return };
        self.in_listener = true;
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut *listener, self)));
        self.in_listener = false;
        self.listener = Some(listener);
        if let Err(panic) = result {
            // Letting go and announcing are tried again by the next poll.
            self.link.set_changed();
            resume_unwind(panic);
        }
    }

    /// Leaves the group: commits what is done if that is to be done by itself, tells, and lets go.
    ///
    /// What the last poll returned counts as done only if it was committed before by
    /// [`commit`](Self::commit): whether the application is through with it nobody else can know.
    ///
    /// Dropping a consumer does the same, but does not call the listener and says nothing of
    /// failures.
    ///
    /// # Errors
    ///
    /// What the commit met; the consumer has left all the same.
    pub fn close(mut self) -> Result<()> {
        self.broker.check_owner()?;
        self.settle_lent();
        let result = self.commit_on_leave();
        let assignment = self.assignment();
        let is_lost = self.group.as_ref().is_none_or(|group| !group.is_member(&self.link));
        if !assignment.is_empty() {
            self.call(|listener, consumer| {
                if is_lost {
                    listener.lost(consumer, &assignment);
                } else {
                    listener.revoked(consumer, &assignment);
                }
            });
        }
        self.leave();
        result
    }

    fn commit_on_leave(&mut self) -> Result<()> {
        match self.settings.auto_commit {
            Some((_, done)) if self.group.is_some() => self.commit_done(done),
            _ => Ok(()),
        }
    }

    /// Writes down of topics that have come since it joined, and that it may not even have looked at,
    /// that the group was there before them.
    fn pin_news(&self) -> Result<()> {
        if !self.decides_start() {
            return Ok(());
        }
        let names = match &self.settings.subscription {
            Subscription::Topics(names) => names.clone(),
            Subscription::Pattern(pattern) => {
                let mut names = self.broker.topic_names();
                let matching = || names.retain(|name| pattern.matches(name));
                // Without an answer it stays as it is.
                if catch_unwind(AssertUnwindSafe(matching)).is_err() {
                    return Ok(());
                }
                names
            }
            Subscription::Partitions(_) | Subscription::Nothing => return Ok(()),
        };
        let groups = self.broker.groups();
        for name in names {
            let Ok(topic) = self.broker.topic(&name) else { continue };
            if !groups.store().has_topic(&self.settings.group, &name, topic.shape().id) {
                let at = self.broker.clock().now().as_millis();
                let begin = places(&topic, 0..topic.partition_count(), Start::Earliest)?;
                groups.pin_held(&self.settings.group, begin, at)?;
            }
        }
        self.sync_pins()
    }

    fn leave(&mut self) {
        // The member is the parent's. A forked child only lets its copy of it go.
        if self.broker.check_owner().is_err() {
            self.group = None;
        }
        if self.group.is_some()
            && let Err(error) = self.pin_news()
        {
            log::warn!("group {}: where it begins in a topic: {error}", self.settings.group);
        }
        if let Some(group) = self.group.take() {
            let broker = &self.broker;
            let now = broker.clock().now();
            broker.groups().leave(&group, &self.link, &|name| broker.shape(name), now);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // What was not committed is read again.
        drop(self.commit_on_leave());
        self.leave();
    }
}

/// Where `start` is in these partitions of a topic at this moment.
fn places(topic: &TopicState, numbers: Range<u32>, start: Start) -> Result<TopicOffsets> {
    let place = |number: u32| {
        let offset = start.resolve(topic.partition(number)?)?;
        Ok((number, OffsetAndMetadata::from(offset)))
    };
    let offsets = numbers.map(place).collect::<Result<Vec<_>>>()?;
    Ok(TopicOffsets { topic: Arc::clone(topic.name()), id: topic.shape().id, offsets })
}
