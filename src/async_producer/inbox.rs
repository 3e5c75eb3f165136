//! What a producer holds in memory, and who is at work on it: all under one lock.
//!
//! The invariants it keeps: one thread at a time has the turn to drain (`is_draining`), so that order
//! within a partition is the order of acceptance; a lane that has something to be sent and is not put
//! off is in `ready`; whoever gives the turn back looks at `ready` in the same critical section, so
//! that nothing is left lying. The lock is held for a few instructions and the copy of one record; it
//! comes before a topic's settings and is no other's successor.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::batch::{Batch, Extra};
use super::epochs::Epochs;
use super::fate::{Fate, Outcome, Promise};
use super::lane::Lane;
use super::spares::Spares;
use super::ticket::Ticket;
use super::topics::Topics;
use crate::partition::Partition;
use crate::record::Record;
use crate::sender::Acks;
use crate::sent::Sent;
use crate::timestamp::Timestamp;
use crate::topic::TopicState;
use crate::unsent::{Unsent, UnsentTopic};

/// How much of the buffer is kept to be used again when it is empty, and at most.
const SPARE_SHARE: usize = 4;
const SPARE_BYTES: usize = 4 << 20;

/// A batch in the hands of whoever drains.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) lane: usize,
    pub(super) partition: Arc<Partition>,
    pub(super) batch: Batch,
    pub(super) verdict: Verdict,
}

/// What came of trying to send a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was not tried, because one before it has to be tried again.
    Untried,
    /// It is to be tried again when so much time has passed.
    Again(Duration),
    Done(Outcome),
}

/// Whether the worker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    Awake,
    /// Until this moment, or until it is woken.
    Until(Option<Instant>),
}

/// What a producer holds.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) topics: Topics,
    pub(super) lanes: Vec<Option<Lane>>,
    free: Vec<usize>,
    /// Lanes with something to be sent at once.
    pub(super) ready: VecDeque<usize>,
    /// When lanes are to be looked at; entries that are no longer their lane's are passed over.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    pub(super) is_draining: bool,
    /// Room for the jobs of the next turn, kept.
    pub(super) jobs: Vec<Job>,
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) epochs: Epochs,
    spares: Spares,
    /// By topic, how many records were given up and not yet told of.
    pub(super) failed: BTreeMap<Arc<str>, u64>,
    pub(super) sleep: Sleep,
    /// How many threads wait for room, and for something to be done.
    pub(super) waiting_for_room: usize,
    pub(super) waiting_for_end: usize,
    /// Set when the producer closes: until when batches are tried again.
    pub(super) closing: Option<Instant>,
    /// Whether the thread that takes records from the input runs.
    pub(super) has_input: bool,
    pub(super) has_ended: bool,
    /// Threads that must not wait here: the worker, the one behind the input unless it is for room for
    /// a record from there, and one that has the turn and calls user code.
    pub(super) worker: Option<ThreadId>,
    pub(super) input: Option<ThreadId>,
    pub(super) caller: Option<ThreadId>,
}

impl Inbox {
    /// An empty one that is to hold up to `buffer_bytes`.
    pub(super) fn new(buffer_bytes: usize) -> Self {
        Self {
            topics: Topics::default(),
            lanes: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            is_draining: false,
            jobs: Vec::new(),
            records: 0,
            bytes: 0,
            epochs: Epochs::default(),
            spares: Spares::new((buffer_bytes / SPARE_SHARE).min(SPARE_BYTES)),
            failed: BTreeMap::new(),
            sleep: Sleep::Awake,
            waiting_for_room: 0,
            waiting_for_end: 0,
            closing: None,
            has_input: false,
            has_ended: false,
            worker: None,
            input: None,
            caller: None,
        }
    }

    fn lane(&self, number: usize) -> Option<&Lane> {
        self.lanes.get(number)?.as_ref()
    }

    fn lane_mut(&mut self, number: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(number)?.as_mut()
    }

    /// Whether nothing waits and nobody is at work.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.records == 0 && !self.is_draining
    }

    /// Whether the calling thread is one that all others would wait for.
    pub(super) fn must_not_wait(&self) -> bool {
        let this = Some(std::thread::current().id());
        [self.worker, self.input, self.caller].contains(&this)
    }

    /// Adds a topic that was resolved.
    pub(super) fn add_topic(&mut self, state: Arc<TopicState>) {
        for orphan in self.topics.add(state) {
            if let Some(lane) = self.lane_mut(orphan) {
                lane.is_orphan = true;
            }
            self.remove_if_gone(orphan);
        }
    }

    fn remove_if_gone(&mut self, number: usize) {
        if let Some(place) = self.lanes.get_mut(number)
            && place.as_ref().is_some_and(Lane::is_gone)
        {
            *place = None;
            self.free.push(number);
        }
    }

    /// Whether the partition of a lane takes records.
    #[inline]
    pub(super) fn is_open(&self, lane: usize) -> bool {
        self.lane(lane).is_some_and(|lane| lane.partition.log().check_gate().is_ok())
    }

    /// The partition of a lane.
    #[inline]
    pub(super) fn partition(&self, lane: usize) -> Option<Arc<Partition>> {
        Some(Arc::clone(&self.lane(lane)?.partition))
    }

    /// The lane of a partition of the topic at `at`.
    #[inline]
    pub(super) fn lane_of(&mut self, at: usize, partition: u32) -> Option<usize> {
        let topic = self.topics.get(at)?;
        match topic.lanes.get(partition as usize) {
            Some(Some(lane)) => Some(*lane),
            _ => self.add_lane(at, partition),
        }
    }

    #[cold]
    fn add_lane(&mut self, at: usize, number: u32) -> Option<usize> {
        let topic = self.topics.get_mut(at)?;
        let lane = Lane::new(topic.state.partition(number).ok()?);
        let place = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(None);
            self.lanes.len() - 1
        });
        if topic.lanes.len() <= number as usize {
            topic.lanes.resize(number as usize + 1, None);
        }
        *topic.lanes.get_mut(number as usize)? = Some(place);
        *self.lanes.get_mut(place)? = Some(lane);
        Some(place)
    }

    /// Puts a record into the open batch of a lane, which is closed and another one opened if it would
    /// become larger than `batch_bytes` or was for other timestamps. Returns its ticket, and whether a
    /// batch is full.
    #[inline]
    pub(super) fn put(&mut self, lane: usize, put: &Put<'_, '_>) -> Option<(Ticket, bool)> {
        let found = self.lanes.get_mut(lane)?.as_mut()?;
        let has_room = found.open.as_ref().is_some_and(|open| {
            open.is_append_time == put.is_append_time
                && open.bytes_with(put.bytes, put.timestamp) <= put.batch_bytes
        });
        if !has_room {
            found.close_open();
            self.open_batch(lane, put);
        }
        let found = self.lanes.get_mut(lane)?.as_mut()?;
        let batch = found.open.as_mut()?;
        let added = batch.push(put.record, put.bytes, put.timestamp, put.extra);
        found.records += 1;
        self.records += 1;
        self.bytes += added.bytes;
        let ticket = if put.acks == Acks::None {
            let (partition, timestamp) = (put.partition, put.timestamp);
            Ticket::known(Sent { partition, offset: Sent::UNKNOWN_OFFSET, timestamp })
        } else {
            Ticket::waiting(Arc::clone(batch.promise.fate()), added.index, put.timestamp)
        };
        let is_full =
            batch.count as usize >= put.batch_records || batch.body.len() >= put.batch_bytes;
        if is_full {
            found.close_open();
        }
        Some((ticket, is_full || !has_room && found.has_more()))
    }

    fn open_batch(&mut self, number: usize, put: &Put<'_, '_>) {
        let promise = Promise::new(put.partition, put.owner);
        let body = self.spares.take();
        let mut batch = Batch::new(promise, body, put.timestamp, put.is_append_time);
        batch.epoch = self.epochs.open();
        if !put.linger.is_zero() {
            let now = Instant::now();
            batch.deadline = now.checked_add(put.linger);
        }
        let deadline = batch.deadline;
        if let Some(lane) = self.lane_mut(number) {
            lane.open = Some(batch);
        }
        if let Some(deadline) = deadline {
            self.set_timer(number, deadline);
        }
    }

    /// Has a lane looked at by `at`.
    fn set_timer(&mut self, number: usize, at: Instant) {
        let Some(lane) = self.lane_mut(number) else { return };
        if lane.timer.is_none_or(|set| at < set) {
            lane.timer = Some(at);
            self.timers.push(Reverse((at, number)));
        }
    }

    /// When the next lane is to be looked at.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Says that what a lane has is to be sent, the open batch too.
    #[inline]
    pub(super) fn ripen(&mut self, number: usize, takes_open: bool) {
        let Some(Some(lane)) = self.lanes.get_mut(number) else { return };
        lane.takes_open |= takes_open && lane.open.is_some();
        if lane.backoff.is_none() && !lane.is_ready && lane.has_more() {
            lane.is_ready = true;
            self.ready.push_back(number);
        }
    }

    /// Says so of all lanes; `at_once` also of those that were put off.
    pub(super) fn ripen_all(&mut self, at_once: bool) {
        for number in 0..self.lanes.len() {
            if let Some(lane) = self.lane_mut(number).filter(|_| at_once) {
                lane.backoff = None;
            }
            self.ripen(number, true);
        }
    }

    /// Says so of those whose time has come.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(Reverse((at, number))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let Some(lane) = self.lane_mut(number).filter(|lane| lane.timer == Some(at)) else {
                continue;
            };
            lane.timer = None;
            if lane.backoff.is_some_and(|until| until <= now) {
                lane.backoff = None;
            }
            let open = lane.open.as_ref().and_then(|open| open.deadline);
            let next = [lane.backoff, open.filter(|open| *open > now)].into_iter().flatten().min();
            self.ripen(number, open.is_some_and(|open| open <= now));
            if let Some(next) = next {
                self.set_timer(number, next);
            }
        }
    }

    /// Takes up to `limit` batches that are to be sent.
    pub(super) fn take_ready(&mut self, jobs: &mut Vec<Job>, limit: usize) {
        while jobs.len() < limit
            && let Some(number) = self.ready.pop_front()
        {
            let Some(Some(lane)) = self.lanes.get_mut(number) else { continue };
            while jobs.len() < limit
                && let Some(batch) = lane.take()
            {
                let partition = Arc::clone(&lane.partition);
                jobs.push(Job { lane: number, partition, batch, verdict: Verdict::Untried });
            }
            lane.is_ready = lane.has_more();
            if lane.is_ready {
                self.ready.push_front(number);
            }
        }
    }

    /// Does what was found out about batches: gives their memory back, or puts them back where they
    /// were, not to be tried before it is time. Returns those somebody waits for, to be woken.
    pub(super) fn settle(&mut self, jobs: &mut Vec<Job>) -> Woken {
        let mut woken = Woken::new();
        // From the last to the first, so that those that go back to the front stand in order there.
        while let Some(Job { lane: number, mut batch, verdict, .. }) = jobs.pop() {
            let Some(Some(lane)) = self.lanes.get_mut(number) else { continue };
            match verdict {
                Verdict::Done(outcome) => {
                    lane.records -= batch.count as usize;
                    self.records -= batch.count as usize;
                    self.bytes -= batch.held();
                    self.epochs.close(batch.epoch);
                    count_failed(&mut self.failed, lane, batch.count, &outcome);
                    self.spares.give_back(std::mem::take(&mut batch.body), batch.kept);
                    woken.extend(batch.promise.keep(outcome));
                    if lane.is_orphan {
                        self.remove_if_gone(number);
                    }
                }
                Verdict::Untried => {
                    lane.closed.push_front(batch);
                    self.ripen(number, false);
                }
                Verdict::Again(pause) => {
                    lane.closed.push_front(batch);
                    if lane.is_ready {
                        lane.is_ready = false;
                        self.ready.retain(|ready| *ready != number);
                    }
                    let until = Instant::now() + pause;
                    lane.backoff = Some(until);
                    self.set_timer(number, until);
                }
            }
        }
        woken
    }

    /// What waits and what was given up, by topic; what was given up is told once.
    pub(super) fn report(&mut self) -> Unsent {
        let mut topics: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        for lane in self.lanes.iter().flatten().filter(|lane| lane.records > 0) {
            let name = Arc::clone(&lane.partition.log().name().topic);
            topics.entry(name).or_default().0 += lane.records as u64;
        }
        for (name, failed) in std::mem::take(&mut self.failed) {
            topics.entry(name).or_default().1 = failed;
        }
        let topic = |(topic, (waiting, failed)): (Arc<str>, _)| UnsentTopic {
            topic: topic.to_string(),
            waiting,
            failed,
        };
        Unsent { topics: topics.into_iter().map(topic).collect(), in_input: 0 }
    }
}

/// Fates somebody waits for.
pub(super) type Woken = SmallVec<[Arc<Fate>; 4]>;

/// A record that is to be put, and what is to be known about it.
#[derive(Debug)]
pub(super) struct Put<'a, 'r> {
    pub(super) record: &'a Record<'r>,
    /// What it takes without its distance in time.
    pub(super) bytes: usize,
    pub(super) timestamp: Timestamp,
    pub(super) extra: Extra,
    pub(super) partition: u32,
    pub(super) owner: u32,
    pub(super) is_append_time: bool,
    pub(super) batch_records: usize,
    pub(super) batch_bytes: usize,
    pub(super) linger: Duration,
    pub(super) acks: Acks,
}

fn count_failed(failed: &mut BTreeMap<Arc<str>, u64>, lane: &Lane, count: u32, outcome: &Outcome) {
    let count = match outcome {
        Outcome::At { .. } => 0,
        Outcome::Failed(_) => u64::from(count),
        Outcome::Each(each) => each.iter().filter(|one| one.is_err()).count() as u64,
    };
    if count > 0 {
        *failed.entry(Arc::clone(&lane.partition.log().name().topic)).or_default() += count;
    }
}
