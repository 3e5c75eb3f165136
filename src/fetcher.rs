//! Reading a changing set of partitions in turn, and sleeping until one of them has something.
//!
//! What readers and consumers have in common; called as Kafka's `Fetcher` is. Partitions stand in
//! one of three places. Those that may have something to read stand in a ring and are asked in
//! turn, so that a busy one cannot starve the others. Those that were found empty have a
//! registration in their partition and are not looked at until it rings, so that any number of idle
//! partitions costs a poll nothing. Those that are paused are not looked at at all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::assigned::Assigned;
use crate::batch::Batch;
use crate::calm::Calm;
use crate::error::{Error, Result};
use crate::log::{Budget, LogCursor};
use crate::merge::Merge;
use crate::partition::Partition;
use crate::topic_partition::TopicPartition;
use crate::wakefulness::Wakefulness;
use crate::waker::Waker;

/// The most partitions that stay in the ring though they are found empty: a look at each costs less
/// than leaving a registration and being rung.
const FEW: usize = 8;

/// How much one poll returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Limits {
    /// What a poll returns unless it is told otherwise.
    pub(crate) const DEFAULT: Self = Self { records: 500, bytes: 1 << 20 };

    pub(crate) fn validate(self) -> Result<()> {
        let field = match self {
            Self { records: 0, .. } => "max_records",
            Self { bytes: 0, .. } => "max_bytes",
            Self { .. } => return Ok(()),
        };
        Err(Error::config(field, "it is 0"))
    }
}

/// Reads partitions in turn. A partition is known by its place, which it has until it is removed.
#[derive(Debug)]
pub(crate) struct Fetcher {
    slots: Vec<Option<Assigned>>,
    /// Places that are not taken.
    free: Vec<usize>,
    places: HashMap<TopicPartition, usize>,
    /// Places of partitions that may have something to read, in the order they will be asked.
    ring: VecDeque<usize>,
    /// Places of partitions that are not asked for a while.
    left_alone: Vec<usize>,
    /// How many have a registration that has not rung.
    registered: usize,
    waker: Arc<Waker>,
    /// Tokens taken from `waker`; kept to be used again.
    rang: Vec<usize>,
    limits: Limits,
    merge: Option<Merge>,
    /// Places from which the last fetch returned records.
    touched: Vec<usize>,
    /// Gaps that were met and are to be told, each by a fetch of its own.
    untold: VecDeque<Error>,
    wakefulness: Wakefulness,
    calm: Calm,
}

impl Fetcher {
    pub(crate) fn new(limits: Limits, merged: bool) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            ring: VecDeque::new(),
            left_alone: Vec::new(),
            registered: 0,
            waker: Arc::default(),
            rang: Vec::new(),
            limits,
            merge: merged.then(Merge::default),
            touched: Vec::new(),
            untold: VecDeque::new(),
            wakefulness: Wakefulness::default(),
            calm: Calm::default(),
        }
    }

    /// Where its partitions ring, and whoever else wants to wake it.
    pub(crate) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Reads a partition too, from `offset` on. Returns its place; `None` if it has one already.
    pub(crate) fn add(
        &mut self,
        name: TopicPartition,
        partition: &Arc<Partition>,
        offset: u64,
    ) -> Result<Option<usize>> {
        if self.places.contains_key(&name) {
            return Ok(None);
        }
        let cursor = LogCursor::new(Arc::clone(partition.log()), offset)?;
        Ok(Some(self.put(name, partition, cursor)))
    }

    /// As [`add`](Self::add), from where somebody left off: if records behind that place are gone, it
    /// is told, and reading begins where the log does.
    pub(crate) fn add_resumed(
        &mut self,
        name: TopicPartition,
        partition: &Arc<Partition>,
        offset: u64,
    ) -> Result<Option<usize>> {
        let log = partition.log();
        let mut to = offset;
        while offset < log.start_offset() {
            to = log.start_offset();
            match self.add(name.clone(), partition, to) {
                Err(Error::OffsetOutOfRange { .. }) => {}
                added => {
                    let (topic, partition) = (name.topic.to_string(), name.partition);
                    let place = added?;
                    self.untold.push_back(Error::Gap { topic, partition, from: offset, to });
                    return Ok(place);
                }
            }
        }
        self.add(name, partition, to)
    }

    fn put(
        &mut self,
        name: TopicPartition,
        partition: &Arc<Partition>,
        cursor: LogCursor,
    ) -> usize {
        let place = self.free.pop().unwrap_or(self.slots.len());
        self.places.insert(name.clone(), place);
        let partition = Arc::clone(partition);
        let slot = Some(Assigned { name, partition, cursor, registered: false, paused: false });
        match self.slots.get_mut(place) {
            Some(vacant) => *vacant = slot,
            None => self.slots.push(slot),
        }
        self.ring.push_back(place);
        place
    }

    /// Reads a partition no more.
    pub(crate) fn remove(&mut self, name: &TopicPartition) -> Option<usize> {
        let place = self.places.remove(name)?;
        let slot = self.slots.get_mut(place).and_then(Option::take)?;
        self.ring.retain(|one| *one != place);
        self.touched.retain(|one| *one != place);
        self.left_alone.retain(|one| *one != place);
        if slot.registered {
            slot.partition.unregister(&self.waker);
            self.registered -= 1;
        }
        if let Some(merge) = &mut self.merge {
            merge.forget(place);
        }
        // Whoever reads it next is told of what is gone.
        self.forget_gaps(name);
        self.free.push(place);
        Some(place)
    }

    /// Does not ask a partition that gives nothing but an error, until
    /// [`ask_again`](Self::ask_again).
    pub(crate) fn leave_alone(&mut self, name: &TopicPartition) {
        if let Some(place) = self.place(name)
            && self.ring.contains(&place)
        {
            self.ring.retain(|one| *one != place);
            self.left_alone.push(place);
        }
    }

    /// Asks partitions again that were left alone.
    pub(crate) fn ask_again(&mut self) {
        for place in std::mem::take(&mut self.left_alone) {
            if self.slot(place).is_some_and(|slot| !slot.paused) {
                self.ring.push_back(place);
            }
        }
    }

    fn forget_gaps(&mut self, name: &TopicPartition) {
        if !self.untold.is_empty() {
            self.untold.retain(|gap| {
                !matches!(gap, Error::Gap { topic, partition, .. }
                    if **topic == *name.topic && *partition == name.partition)
            });
        }
    }

    /// The place of a partition.
    pub(crate) fn place(&self, name: &TopicPartition) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The partitions it reads and their places, in no order.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, usize)> {
        self.places.iter().map(|(name, place)| (name, *place))
    }

    /// How many partitions the next fetch asks.
    #[cfg(test)]
    pub(crate) fn ring_len(&self) -> usize {
        self.ring.len()
    }

    /// Whether every partition it reads is known to have nothing.
    #[cfg(test)]
    pub(crate) fn is_ring_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn slot(&self, place: usize) -> Option<&Assigned> {
        self.slots.get(place)?.as_ref()
    }

    /// The name of the partition at a place.
    pub(crate) fn name(&self, place: usize) -> Option<&TopicPartition> {
        self.slot(place).map(|slot| &slot.name)
    }

    /// The partition at a place.
    pub(crate) fn partition(&self, place: usize) -> Option<&Arc<Partition>> {
        self.slot(place).map(|slot| &slot.partition)
    }

    /// The offset of the next record that will be returned from a place.
    pub(crate) fn position(&self, place: usize) -> Option<u64> {
        if let Some(from) = self.untold_from(place) {
            return Some(from);
        }
        let pending = self.merge.as_ref().and_then(|merge| merge.pending_offset(place));
        pending.or(self.slot(place).map(|slot| slot.cursor.offset()))
    }

    /// Where the gap begins that is to be told of a place before anything else.
    fn untold_from(&self, place: usize) -> Option<u64> {
        if self.untold.is_empty() {
            return None;
        }
        let name = self.name(place)?;
        self.untold.iter().find_map(|gap| match gap {
            Error::Gap { topic, partition, from, .. }
                if **topic == *name.topic && *partition == name.partition =>
            {
                Some(*from)
            }
            _ => None,
        })
    }

    /// Moves to another offset at a place.
    pub(crate) fn seek(&mut self, place: usize, offset: u64) -> Result<()> {
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
        slot.cursor.seek(offset)?;
        if std::mem::take(&mut slot.registered) {
            slot.partition.unregister(&self.waker);
            self.registered -= 1;
            self.ring.push_back(place);
        }
        let name = slot.name.clone();
        self.forget_gaps(&name);
        if let Some(merge) = &mut self.merge {
            merge.forget(place);
        }
        Ok(())
    }

    /// As [`seek`](Self::seek), to where somebody left off: if records behind that place are gone, it is
    /// told, and reading goes on where the log begins.
    pub(crate) fn seek_resumed(&mut self, place: usize, offset: u64) -> Result<()> {
        let Some(slot) = self.slot(place) else { return Ok(()) };
        let (name, log) = (slot.name.clone(), Arc::clone(slot.partition.log()));
        loop {
            let to = offset.max(log.start_offset());
            match self.seek(place, to) {
                // The log has just moved on.
                Err(Error::OffsetOutOfRange { .. }) if to < log.start_offset() => {}
                Ok(()) if to > offset => {
                    let (topic, partition) = (name.topic.to_string(), name.partition);
                    self.untold.push_back(Error::Gap { topic, partition, from: offset, to });
                    return Ok(());
                }
                result => return result,
            }
        }
    }

    /// Stops or goes on reading at a place.
    pub(crate) fn set_paused(&mut self, place: usize, paused: bool) {
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        if std::mem::replace(&mut slot.paused, paused) == paused {
            return;
        }
        self.left_alone.retain(|one| *one != place);
        if !paused {
            self.ring.push_back(place);
            return;
        }
        if std::mem::take(&mut slot.registered) {
            let partition = Arc::clone(&slot.partition);
            partition.unregister(&self.waker);
            self.registered -= 1;
        } else {
            self.ring.retain(|one| *one != place);
        }
        if let Some(merge) = &mut self.merge
            && let Some(offset) = merge.pending_offset(place)
        {
            // What was read ahead comes when reading goes on.
            merge.forget(place);
            if let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) {
                drop(slot.cursor.seek(offset));
            }
        }
    }

    pub(crate) fn is_paused(&self, place: usize) -> bool {
        self.slot(place).is_some_and(|slot| slot.paused)
    }

    /// Places from which the last fetch returned records, once.
    #[inline]
    pub(crate) fn take_touched(&mut self, touched: &mut Vec<usize>) {
        touched.append(&mut self.touched);
    }

    /// Returns records that are there, without waiting.
    #[inline]
    pub(crate) fn fetch(&mut self) -> Result<Batch> {
        self.touched.clear();
        if let Some(gap) = self.untold.pop_front() {
            return Err(gap);
        }
        self.take_rung();
        if self.ring.is_empty() {
            return Ok(Batch::default());
        }
        let batch = match self.merge.take() {
            Some(mut merge) => {
                let batch = self.gather_merged(&mut merge);
                self.merge = Some(merge);
                batch
            }
            None => self.gather(),
        };
        self.calm.found(batch.as_ref().map_or(0, Batch::len));
        batch
    }

    /// As [`fetch`](Self::fetch), for one who can wait: it holds still for a moment first, if that makes
    /// records come together.
    #[inline]
    pub(crate) fn fetch_calmly(&mut self) -> Result<Batch> {
        self.calm.hold();
        let batch = self.fetch();
        self.calm.held(batch.as_ref().is_ok_and(|batch| !batch.is_empty()));
        batch
    }

    /// Puts the partitions that rang back into the ring.
    #[inline]
    fn take_rung(&mut self) {
        if self.registered == 0 {
            return;
        }
        self.waker.take(&mut self.rang);
        for place in self.rang.drain(..) {
            // A place may have been given to another partition since: looking there does no harm.
            if let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut)
                && std::mem::take(&mut slot.registered)
            {
                self.registered -= 1;
                self.ring.push_back(place);
            }
        }
    }

    /// Asks every partition in the ring once, until the batch is full.
    #[inline]
    fn gather(&mut self) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut budget = Budget { records: self.limits.records, bytes: self.limits.bytes };
        for _ in 0..self.ring.len() {
            let Some(place) = self.ring.pop_front() else { break };
            let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { continue };
            let before = batch.len();
            let filled = slot.fill(&mut batch, &mut budget);
            if batch.len() > before {
                self.touched.push(place);
            }
            match filled {
                Ok(()) => {
                    let stays = batch.len() > before || self.ring.len() < FEW;
                    if stays || !slot.register(&self.waker, place) {
                        self.ring.push_back(place);
                    } else {
                        self.registered += 1;
                    }
                }
                Err(error) if batch.is_empty() => {
                    self.ring.push_back(place);
                    return Err(error);
                }
                Err(error) => {
                    // What was read before it comes first. But for a gap, the error is met again.
                    self.ring.push_front(place);
                    self.untold.extend(Some(error).filter(Error::is_gap));
                    break;
                }
            }
            if budget.is_spent() {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes the earliest record of all partitions, until the batch is full.
    fn gather_merged(&mut self, merge: &mut Merge) -> Result<Batch> {
        let slots = &mut self.slots;
        let mut gap = None;
        let mut fill = |place: usize, run: &mut Batch, budget: &mut Budget| {
            let Some(slot) = slots.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
            slot.fill(run, budget)
                .inspect_err(|error| gap = Some(error.clone()).filter(Error::is_gap))
        };
        for place in &self.ring {
            merge.refill(*place, |run, budget| fill(*place, run, budget))?;
        }
        let budget = Budget { records: self.limits.records, bytes: self.limits.bytes };
        let taken = merge.take(budget, fill)?;
        // Where records came before a gap, it is told after them.
        self.untold.extend(gap);
        Ok(taken)
    }

    /// Sleeps until there may be something to read, until somebody rings, or until `deadline`; without
    /// one, for as long as it takes. Returns `false` if it was the deadline.
    #[cold]
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> bool {
        let begun = Instant::now();
        let awake_until = deadline.map_or(Duration::MAX, |deadline| deadline - begun);
        if self.ring.len() <= FEW && self.spin(begun, self.wakefulness.get().min(awake_until)) {
            self.wakefulness.was_rewarded(begun.elapsed());
            return true;
        }
        self.register_ring();
        let rang = !self.ring.is_empty() || self.waker.wait(deadline);
        self.wakefulness.has_slept(begun.elapsed());
        if self.registered == 0 {
            // Nobody else takes away what others than partitions have rung.
            self.waker.take(&mut self.rang);
            self.rang.clear();
        }
        rang
    }

    /// Looks again and again whether there is something to read, for so long. Seldom enough to leave the
    /// cache line it looks at to whoever appends.
    fn spin(&self, begun: Instant, time: Duration) -> bool {
        loop {
            for _ in 0..4 {
                if self.has_more() {
                    return true;
                }
                for _ in 0..4 {
                    std::hint::spin_loop();
                }
            }
            if begun.elapsed() >= time {
                return false;
            }
        }
    }

    fn has_more(&self) -> bool {
        let has_more = |place: &usize| self.slot(*place).is_some_and(|slot| slot.cursor.has_more());
        self.ring.iter().any(has_more)
    }

    /// Leaves a registration in every partition of the ring that has nothing to read.
    fn register_ring(&mut self) {
        let (slots, waker) = (&mut self.slots, &self.waker);
        let registered = &mut self.registered;
        self.ring.retain(|place| {
            let Some(slot) = slots.get_mut(*place).and_then(Option::as_mut) else { return false };
            let is_registered = slot.register(waker, *place);
            *registered += usize::from(is_registered);
            !is_registered
        });
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        for slot in self.slots.iter().flatten().filter(|slot| slot.registered) {
            slot.partition.unregister(&self.waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broker, Record, TopicConfig};

    #[test]
    fn a_partition_that_was_left_alone_is_asked_again() {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
        let state = broker.inner.topic("t").expect("topic");
        let mut fetcher = Fetcher::new(Limits::DEFAULT, false);
        for number in 0..2 {
            topic.send(Record::new("x").partition(number)).expect("send");
            let partition = state.partition(number).expect("partition");
            fetcher.add(TopicPartition::new("t", number), partition, 0).expect("add");
        }
        fetcher.leave_alone(&TopicPartition::new("t", 0));
        fetcher.leave_alone(&TopicPartition::new("t", 1));
        assert!(fetcher.fetch().expect("fetch").is_empty());
        fetcher.remove(&TopicPartition::new("t", 1));
        fetcher.ask_again();
        fetcher.ask_again();
        assert_eq!(fetcher.fetch().expect("fetch").len(), 1);
        assert_eq!(fetcher.ring, [0]);
    }

    /// Symptom: a reader grew by a few bytes with each poll. Cause: what the last fetch returned records
    /// from was noted for consumers, and readers do not ask. Fix: a fetch forgets what the one before
    /// noted.
    #[test]
    fn what_was_noted_of_a_fetch_does_not_pile_up() {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        let state = broker.inner.topic("t").expect("topic");
        let mut fetcher = Fetcher::new(Limits::DEFAULT, false);
        let partition = state.partition(0).expect("partition");
        fetcher.add(TopicPartition::new("t", 0), partition, 0).expect("add");
        for _ in 0..100 {
            topic.send(Record::new("x")).expect("send");
            assert_eq!(fetcher.fetch().expect("fetch").len(), 1);
            assert_eq!(fetcher.touched, [0]);
        }
    }
}
