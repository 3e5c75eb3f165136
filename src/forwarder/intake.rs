//! What the dispatcher says of its partitions, and asks.

use std::time::Instant;

use super::flow::Flow;
use super::lane::Place;
#[cfg(test)]
use super::planted::Planted;
use super::slice::Slice;
use crate::batch::Batch;
use crate::topic_partition::TopicPartition;

/// A partition and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) partition: TopicPartition,
    pub(super) offset: u64,
}

impl Flow {
    /// Begins with a partition.
    pub(super) fn open_lane(&self, name: &TopicPartition, from: u64, committed: u64) {
        self.lock().schedule.open(name, from, committed);
    }

    /// Lays what was read into its lanes.
    pub(super) fn push(&self, batch: Batch) {
        let runs = Slice::runs(batch);
        if runs.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        for (name, slice) in runs {
            #[cfg(test)]
            if self.settings.is_planted(Planted::CommitsOnEnqueue) {
                let (from, to) = (slice.first(), slice.end());
                if let Some(lane) = state.schedule.lane_or_open(&name, from) {
                    lane.done.add(from, to);
                }
                state.dirty = true;
            }
            state.schedule.push(&name, slice, now);
        }
        drop(state);
        self.offer();
    }

    /// Says that these records are gone.
    pub(super) fn gap(&self, name: &TopicPartition, from: u64, to: u64) {
        let mut state = self.lock();
        state.tally.stats.gaps += to.saturating_sub(from);
        if let Some(lane) = state.schedule.lane_or_open(name, from) {
            lane.done.add(from, to);
        }
        state.dirty = true;
    }

    /// Partitions to be paused, and those to be gone on with.
    pub(super) fn pressure(&self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        self.lock().schedule.pressure()
    }

    /// Whether there may be something to commit, once.
    pub(super) fn take_dirty(&self) -> bool {
        std::mem::take(&mut self.lock().dirty)
    }

    /// What there is to commit.
    pub(super) fn uncommitted(&self) -> Vec<Due> {
        let state = self.lock();
        let due = state.schedule.lanes.values().filter(|lane| lane.done.below() > lane.committed);
        due.map(|lane| Due { partition: lane.name.clone(), offset: lane.done.below() }).collect()
    }

    /// Says what was committed.
    pub(super) fn committed(&self, due: &[Due]) {
        let mut state = self.lock();
        state.tally.stats.commits += 1;
        for due in due {
            if let Some(lane) = state.schedule.lane_of(&due.partition) {
                lane.committed = due.offset;
            }
        }
    }

    /// Gives the sink nothing more of these partitions, and waits until it has nothing of them, until
    /// `deadline` or, if it is to stop, until that is over.
    pub(super) fn wait_for_sink(
        &self,
        partitions: Option<&[TopicPartition]>,
        deadline: Option<Instant>,
    ) {
        let mut state = self.lock();
        for name in partitions.into_iter().flatten() {
            state.schedule.begin_closing(name);
        }
        #[cfg(test)]
        if partitions.is_some() && self.settings.is_planted(Planted::LetsGoEarly) {
            return;
        }
        loop {
            let mut busy = state.schedule.lanes.values().filter(|lane| {
                matches!(lane.place, Place::Busy(_))
                    && partitions.is_none_or(|names| names.contains(&lane.name))
            });
            if busy.next().is_none() {
                return;
            }
            let stop = state.stop.as_ref().and_then(|stop| stop.deadline);
            let deadline = deadline.into_iter().chain(stop).min();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
            self.wait_for_news(&mut state, deadline);
        }
    }

    /// Lets go of partitions: what a worker still has of them is not theirs any more.
    pub(super) fn close_lanes(&self, partitions: &[TopicPartition]) {
        for name in partitions {
            // Mappings are let go of without the lock.
            let lane = self.lock().schedule.close(name);
            drop(lane);
        }
    }

    /// Lets go of all partitions.
    pub(super) fn close_all_lanes(&self) {
        let lanes = self.lock();
        let names: Vec<_> = lanes.schedule.lanes.values().map(|lane| lane.name.clone()).collect();
        drop(lanes);
        self.close_lanes(&names);
    }

    /// Sleeps until `deadline`, or until it is to stop.
    pub(super) fn rest(&self, deadline: Instant) {
        let mut state = self.lock();
        while state.stop.is_none() && Instant::now() < deadline {
            self.wait_for_news(&mut state, Some(deadline));
        }
    }
}
