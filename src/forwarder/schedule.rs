//! Which batch goes next, and when.
//!
//! Lanes that have something to deliver stand in a queue, so that none starves another. The batch of
//! the first one goes as soon as the limits allow; the others wait behind it, whatever they cost. A
//! lane whose batch is to be tried again, or is to wait for company, joins the queue when that is
//! over. Pure: whoever asks says what time it is. Called under the lock of the flow.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::lane::{Lane, Most, Place, Trial};
use super::limiter::Limiter;
use super::sink_batch::SinkBatch;
use super::slice::Slice;
use crate::topic_partition::TopicPartition;

/// A batch for a worker.
#[derive(Debug)]
pub(super) struct Job {
    /// The lane it is from. A partition that goes and comes back has another lane.
    pub(super) lane: u64,
    pub(super) trial: Trial,
    /// Whether the lane has room again, and its partition is paused.
    pub(super) makes_room: bool,
}

/// What a worker is to do.
#[derive(Debug)]
pub(super) enum Next {
    Work(Job),
    /// Nothing until then.
    Wait(Instant),
    /// Nothing until something happens.
    Rest,
}

/// All lanes, and the order in which they are served.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) lanes: HashMap<u64, Lane>,
    names: HashMap<TopicPartition, u64>,
    last_id: u64,
    ready: VecDeque<u64>,
    waiting: BTreeSet<(Instant, u64)>,
    limiter: Limiter,
    linger: Duration,
    /// What the sink is given at most, by its own limits and by those of the rate.
    most: Most,
    /// What a poll returns at most.
    fetch: Most,
    /// Lanes that were pushed to since their pressure was looked at.
    pushed: Vec<u64>,
    /// Lanes whose partitions are paused.
    held: BTreeSet<u64>,
    /// How many records lie in lanes.
    stocked: usize,
}

/// Beyond so many batches in all lanes together, only lanes that are empty are filled.
const CROWD: usize = 64;

impl Schedule {
    pub(super) fn new(batch: Most, linger: Duration, limiter: Limiter) -> Self {
        let most = Most {
            records: batch.records.min(limiter.most_records()),
            bytes: batch.bytes.min(limiter.most_bytes()),
        };
        Self {
            lanes: HashMap::new(),
            names: HashMap::new(),
            last_id: 0,
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            limiter,
            linger,
            most,
            fetch: batch,
            pushed: Vec::new(),
            held: BTreeSet::new(),
            stocked: 0,
        }
    }

    /// Begins with a partition, and forgets what was known of it.
    pub(super) fn open(&mut self, name: &TopicPartition, from: u64, committed: u64) {
        drop(self.close(name));
        self.last_id += 1;
        self.names.insert(name.clone(), self.last_id);
        self.lanes.insert(self.last_id, Lane::new(name.clone(), from, committed));
    }

    /// The lane of a partition; one that is read from `from` on, if there was none.
    pub(super) fn lane_or_open(&mut self, name: &TopicPartition, from: u64) -> Option<&mut Lane> {
        if !self.names.contains_key(name) {
            self.open(name, from, from);
        }
        self.lane_of(name)
    }

    /// The lane of a partition.
    pub(super) fn lane_of(&mut self, name: &TopicPartition) -> Option<&mut Lane> {
        self.lanes.get_mut(self.names.get(name)?)
    }

    /// Lets go of a partition. What a worker still has of it will find no lane.
    pub(super) fn close(&mut self, name: &TopicPartition) -> Option<Lane> {
        let id = self.names.remove(name)?;
        let lane = self.lanes.remove(&id)?;
        self.stocked -= lane.records;
        self.held.remove(&id);
        if let Place::Waiting(at) = lane.place {
            self.waiting.remove(&(at, id));
        }
        Some(lane)
    }

    /// Gives the sink nothing more of a partition that is about to go, and forgets what it was not given.
    pub(super) fn begin_closing(&mut self, name: &TopicPartition) {
        let Some(lane) = self.lane_of(name) else { return };
        lane.closing = true;
        let records = lane.records;
        lane.clear();
        self.stocked -= records;
    }

    /// Lays records into the lane of their partition.
    pub(super) fn push(&mut self, name: &TopicPartition, slice: Slice, now: Instant) {
        let records = slice.len();
        let Some(lane) = self.lane_or_open(name, slice.first()) else { return };
        lane.push(slice, now);
        self.stocked += records;
        if let Some(id) = self.names.get(name).copied() {
            self.pushed.push(id);
            self.settle(id, now);
        }
    }

    /// Gives a lane its place, after something changed in it.
    fn settle(&mut self, id: u64, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        match lane.place {
            // It is ready, or will be settled when it comes back.
            Place::Busy(_) | Place::Ready => return,
            Place::Waiting(at) => {
                self.waiting.remove(&(at, id));
            }
            Place::Idle => {}
        }
        lane.place = match lane.due(now, self.linger, self.most) {
            None => Place::Idle,
            Some(at) if at > now => {
                self.waiting.insert((at, id));
                Place::Waiting(at)
            }
            Some(_) => {
                self.ready.push_back(id);
                Place::Ready
            }
        };
    }

    /// What is to be done next.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        while let Some((at, id)) = self.waiting.first().copied()
            && at <= now
        {
            self.waiting.pop_first();
            self.settle(id, now);
        }
        while let Some(id) = self.ready.front().copied() {
            let lane = self.lanes.get_mut(&id).filter(|lane| lane.place == Place::Ready);
            let Some(lane) = lane else {
                self.ready.pop_front();
                continue;
            };
            let before = lane.records;
            let Some(trial) = lane.cut(self.most) else {
                lane.place = Place::Idle;
                self.ready.pop_front();
                continue;
            };
            let (records, bytes) = (trial.batch.len(), trial.batch.bytes());
            let is_free = trial.dead.is_some();
            let is_held = lane.held;
            self.stocked -= before - lane.records;
            if !is_free && let Err(until) = self.limiter.take(now, records, bytes) {
                return Next::Wait(until);
            }
            self.ready.pop_front();
            let Some(trial) = lane.trial.take() else { continue };
            lane.place = Place::Busy(trial.batch.first()..trial.batch.end());
            let makes_room = is_held && !is_beyond(lane, self.fetch, 1);
            return Next::Work(Job { lane: id, trial, makes_room });
        }
        self.waiting.first().map_or(Next::Rest, |(at, _)| Next::Wait(*at))
    }

    /// Whether there is something for another worker to look at.
    pub(super) fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.waiting.is_empty()
    }

    /// Takes a lane back from a worker, with what is left in front. `None` if it is gone.
    pub(super) fn give_back(
        &mut self,
        id: u64,
        left: Option<Left>,
        now: Instant,
    ) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&id)?;
        lane.place = Place::Idle;
        match left.filter(|_| !lane.closing) {
            None => {}
            Some(Left::Trial(trial)) => lane.trial = Some(trial),
            Some(Left::Singly(batch)) => {
                lane.singly_below = batch.end();
                self.stocked += batch.len();
                lane.put_back(batch, now);
            }
        }
        self.settle(id, now);
        self.lanes.get_mut(&id)
    }

    /// Partitions to be paused, because enough of them lies in their lanes, and those to be gone on
    /// with.
    pub(super) fn pressure(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let (mut full, mut relieved) = (Vec::new(), Vec::new());
        let is_crowd = self.stocked > self.fetch.records.saturating_mul(CROWD);
        for id in std::mem::take(&mut self.pushed) {
            let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.held) else { continue };
            if is_beyond(lane, self.fetch, 2) || (is_crowd && lane.records > 0) {
                lane.held = true;
                self.held.insert(id);
                full.push(lane.name.clone());
            }
        }
        self.held.retain(|id| {
            let Some(lane) = self.lanes.get_mut(id) else { return false };
            if is_beyond(lane, self.fetch, 1) || (is_crowd && lane.records > 0) {
                return true;
            }
            lane.held = false;
            relieved.push(lane.name.clone());
            false
        });
        (full, relieved)
    }
}

/// What is left of a batch whose delivery failed.
#[derive(Debug)]
pub(super) enum Left {
    /// It is to be tried again.
    Trial(Trial),
    /// Its records are to be tried one at a time.
    Singly(SinkBatch),
}

/// Whether a lane holds that many batches, or more.
fn is_beyond(lane: &Lane, batch: Most, count: usize) -> bool {
    lane.records >= batch.records.saturating_mul(count)
        || lane.bytes >= batch.bytes.saturating_mul(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broker, Record, Start, TopicConfig};

    const MOST: Most = Most { records: 10, bytes: 1 << 20 };

    /// A schedule, and runs of 25 records for each of two partitions.
    fn schedule(rate: Option<u64>, linger: Duration) -> (Schedule, Vec<(TopicPartition, Slice)>) {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
        for number in 0..50 {
            topic.send(Record::new("x").partition(number % 2)).expect("send");
        }
        let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
        let runs = Slice::runs(reader.try_poll().expect("poll"));
        let limiter = Limiter::new(rate, None, Duration::from_secs(2), Instant::now());
        (Schedule::new(MOST, linger, limiter), runs)
    }

    fn job(schedule: &mut Schedule, now: Instant) -> (u64, u32, std::ops::Range<u64>, Trial) {
        match schedule.next(now) {
            Next::Work(Job { lane, trial, .. }) => {
                let offsets = trial.batch.first()..trial.batch.end();
                (lane, trial.batch.partition(), offsets, trial)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn partitions_take_turns_and_have_one_batch_out_at_a_time() {
        let (mut schedule, runs) = schedule(None, Duration::ZERO);
        let now = Instant::now();
        assert!(matches!(schedule.next(now), Next::Rest));
        for (name, run) in runs {
            schedule.push(&name, run, now);
        }
        let (first, partition, offsets, _) = job(&mut schedule, now);
        assert_eq!((partition, offsets), (0, 0..10));
        let (second, partition, offsets, _) = job(&mut schedule, now);
        assert_eq!((partition, offsets), (1, 0..10));
        assert!(matches!(schedule.next(now), Next::Rest), "both are out");
        schedule.give_back(second, None, now);
        schedule.give_back(first, None, now);
        assert_eq!(job(&mut schedule, now).1, 1);
        assert_eq!(job(&mut schedule, now).2, 10..20);
    }

    #[test]
    fn what_failed_waits_in_front_and_keeps_nobody_else_waiting() {
        let (mut schedule, runs) = schedule(None, Duration::ZERO);
        let now = Instant::now();
        for (name, run) in runs {
            schedule.push(&name, run, now);
        }
        let (lane, _, _, mut trial) = job(&mut schedule, now);
        let later = now + Duration::from_secs(1);
        trial.not_before = Some(later);
        schedule.give_back(lane, Some(Left::Trial(trial)), now);
        let (other, partition, _, _) = job(&mut schedule, now);
        assert_eq!(partition, 1);
        assert!(matches!(schedule.next(now), Next::Wait(until) if until == later));
        schedule.give_back(other, None, now);
        assert_eq!(job(&mut schedule, now).1, 1);
        let (_, partition, offsets, _) = job(&mut schedule, later);
        assert_eq!((partition, offsets), (0, 0..10));
    }

    #[test]
    fn a_batch_waits_for_its_tokens_and_is_not_overtaken() {
        let (mut schedule, runs) = schedule(Some(10), Duration::ZERO);
        let now = Instant::now();
        for (name, run) in runs {
            schedule.push(&name, run, now);
        }
        let Next::Wait(until) = schedule.next(now) else { panic!() };
        assert!(until > now + Duration::from_millis(900), "ten records take a second");
        assert_eq!(job(&mut schedule, until).1, 0);
        assert!(matches!(schedule.next(until), Next::Wait(_)));
        assert_eq!(job(&mut schedule, until + Duration::from_secs(1)).1, 1);
    }

    #[test]
    fn what_lingers_goes_when_it_is_time_or_when_there_is_enough() {
        let (mut schedule, mut runs) = schedule(None, Duration::from_secs(1));
        let now = Instant::now();
        let (name, mut run) = runs.remove(0);
        schedule.push(&name, run.take(4), now);
        let Next::Wait(until) = schedule.next(now) else { panic!() };
        assert_eq!(until, now + Duration::from_secs(1));
        let (lane, _, offsets, _) = job(&mut schedule, until);
        assert_eq!(offsets, 0..4);
        schedule.push(&name, run.take(4), until);
        schedule.give_back(lane, None, until);
        assert!(matches!(schedule.next(until), Next::Wait(_)));
        schedule.push(&name, run, until);
        assert_eq!(job(&mut schedule, until).2, 4..14);
    }

    #[test]
    fn a_batch_of_a_partition_that_went_and_came_back_is_not_taken_for_one_of_now() {
        let (mut schedule, mut runs) = schedule(None, Duration::ZERO);
        let now = Instant::now();
        let (name, run) = runs.remove(0);
        schedule.push(&name, run.clone(), now);
        let (lane, _, _, trial) = job(&mut schedule, now);
        schedule.close(&name);
        schedule.open(&name, 0, 0);
        assert!(schedule.give_back(lane, Some(Left::Trial(trial)), now).is_none());
        assert!(matches!(schedule.next(now), Next::Rest), "it is not to be tried again here");
        schedule.push(&name, run, now);
        assert_eq!(job(&mut schedule, now).2, 0..10);
    }

    #[test]
    fn nothing_more_goes_out_of_a_partition_that_is_about_to_go() {
        let (mut schedule, mut runs) = schedule(None, Duration::ZERO);
        let now = Instant::now();
        let (name, run) = runs.remove(0);
        schedule.push(&name, run, now);
        let (lane, _, _, trial) = job(&mut schedule, now);
        schedule.begin_closing(&name);
        schedule.give_back(lane, Some(Left::Trial(trial)), now);
        assert!(matches!(schedule.next(now), Next::Rest));
        assert_eq!(schedule.stocked, 0);
    }

    #[test]
    fn partitions_are_paused_when_they_have_two_batches_and_resumed_below_one() {
        let (mut schedule, mut runs) = schedule(None, Duration::ZERO);
        let now = Instant::now();
        let (name, mut run) = runs.remove(0);
        schedule.push(&name, run.take(19), now);
        assert_eq!(schedule.pressure(), (Vec::new(), Vec::new()));
        schedule.push(&name, run, now);
        assert_eq!(schedule.pressure(), (vec![name.clone()], Vec::new()));
        let Next::Work(first) = schedule.next(now) else { panic!() };
        assert!(!first.makes_room, "15 are left");
        assert_eq!(schedule.pressure(), (Vec::new(), Vec::new()));
        schedule.give_back(first.lane, None, now);
        let Next::Work(second) = schedule.next(now) else { panic!() };
        assert!(second.makes_room, "5 are left");
        assert_eq!(schedule.pressure(), (Vec::new(), vec![name]));
    }
}
