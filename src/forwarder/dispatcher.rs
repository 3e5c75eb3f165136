//! The thread that owns the consumer: reads ahead, commits behind, and lets partitions come and go.
//!
//! It is a good member of its group whatever the sink does: it polls, and partitions whose lanes are
//! full are paused. It sleeps in its poll, and wakes up when there are records, when partitions are to
//! come or go, when there is something to commit, and when it is to stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::flow::Flow;
use super::intake::Due;
use super::report::{ForwarderReport, StopReason};
use super::worker::{message_of, say};
use crate::batch::Batch;
use crate::consumer::{Consumer, RebalanceListener};
use crate::error::{Error, Result};
use crate::storage::split_mix;
use crate::topic_partition::TopicPartition;

/// How long reading and committing that failed are not tried again.
const RETRY: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(1) };

/// How long a failure that goes on is not logged again.
const QUIET: Duration = Duration::from_secs(10);

/// The thread's own.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) consumer: Consumer,
    pub(super) flow: Arc<Flow>,
    /// When to commit.
    commit_at: Option<Instant>,
    /// Polls, and commits, that failed one after the other.
    failures: u32,
    commit_failures: u32,
    warned_at: Option<Instant>,
    random: u64,
}

/// Says to the flow which partitions come and go.
pub(super) struct Lanes(pub(super) Arc<Flow>);

impl RebalanceListener for Lanes {
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        for name in partitions {
            // One without a place to start gets its lane with its first record.
            let Ok(from) = consumer.position(&name.topic, name.partition) else { continue };
            let committed = consumer.committed(&name.topic, name.partition).ok().flatten();
            let committed = committed.map_or(from, |committed| committed.offset);
            self.0.open_lane(name, from, committed);
        }
    }

    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        let deadline = Instant::now().checked_add(self.0.settings.hand_over);
        self.0.wait_for_sink(Some(partitions), deadline);
        if let Err(error) = commit(consumer, &self.0) {
            self.0.note(&error);
        }
        self.0.close_lanes(partitions);
    }

    fn lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.0.close_lanes(partitions);
    }
}

/// Commits what was delivered without a hole.
fn commit(consumer: &mut Consumer, flow: &Flow) -> Result<()> {
    let mut due = flow.uncommitted();
    while !due.is_empty() {
        let offsets = due.iter().map(|due| (due.partition.clone(), due.offset));
        match consumer.commit_offsets(offsets) {
            Ok(()) => {
                flow.committed(&due);
                return Ok(());
            }
            // Somebody has moved the group on: there it stays.
            Err(Error::CommitBackwards { topic, partition, committed, .. }) => {
                let partition = TopicPartition::new(topic, partition);
                due.retain(|due| due.partition != partition);
                flow.committed(&[Due { partition, offset: committed }]);
            }
            // What is not this one's is not its to commit.
            Err(Error::NotAssigned { topic, partition }) => {
                let partition = TopicPartition::new(topic, partition);
                due.retain(|due| due.partition != partition);
                flow.close_lanes(&[partition]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether going on makes no sense.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Closed
            | Error::Forked { .. }
            | Error::Fenced { .. }
            | Error::ReadOnly { .. }
            | Error::InconsistentGroup { .. }
            | Error::NoCommittedOffset { .. }
            | Error::OffsetsPoisoned { .. }
    )
}

impl Dispatcher {
    pub(super) fn new(consumer: Consumer, flow: Arc<Flow>, random: u64) -> Self {
        let (commit_at, warned_at) = (None, None);
        Self { consumer, flow, commit_at, failures: 0, commit_failures: 0, warned_at, random }
    }

    /// Forwards until it is to stop.
    pub(super) fn run(self) {
        let flow = Arc::clone(&self.flow);
        let report = catch_unwind(AssertUnwindSafe(move || self.forward()));
        let report = report.unwrap_or_else(|panic| {
            flow.stop_by_itself(StopReason::Panicked(message_of(panic)));
            let report = flow.report(None, true);
            flow.close_all_lanes();
            report
        });
        let reason = report.reason.clone();
        flow.end(report);
        if !matches!(reason, StopReason::Asked) {
            say(|| log::error!("a forwarder has stopped: {reason}"));
        }
    }

    fn forward(mut self) -> ForwarderReport {
        while !self.flow.is_stopping() {
            self.commit_if_due();
            self.relieve();
            // A pattern is user code.
            match catch_unwind(AssertUnwindSafe(|| self.poll())) {
                Ok(Ok(batch)) => {
                    self.failures = 0;
                    self.flow.push(batch);
                }
                Ok(Err(error)) => self.failed(&error),
                Err(panic) => {
                    let message = message_of(panic);
                    self.flow.lock().tally.stats.last_error = Some(message);
                    self.rest();
                }
            }
        }
        self.finish()
    }

    fn poll(&mut self) -> Result<Batch> {
        let timeout = self.commit_at.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now()).max(Duration::from_micros(1))
        });
        self.consumer.poll(timeout)
    }

    fn failed(&mut self, error: &Error) {
        if let Error::Gap { topic, partition, from, to } = error {
            let name = TopicPartition::new(topic.as_str(), *partition);
            self.flow.gap(&name, *from, *to);
            say(|| log::warn!("forwarding: {error}"));
            return;
        }
        self.flow.note(error);
        if is_final(error) {
            self.flow.stop_by_itself(StopReason::Failed(error.clone()));
            return;
        }
        self.warn(error);
        if self.failures == 0 {
            // What concerns one partition does not keep the others from being read.
            self.failures = 1;
            return;
        }
        self.rest();
    }

    /// Logs what is tried again, once in a while.
    fn warn(&mut self, error: &Error) {
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= QUIET) {
            self.warned_at = Some(now);
            say(|| log::warn!("forwarding, which is tried again: {error}"));
        }
    }

    fn rest(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let wait = RETRY.wait(self.failures, split_mix(&mut self.random));
        self.flow.rest(Instant::now() + wait);
    }

    /// Pauses partitions whose lanes are full, and goes on with those that have room.
    fn relieve(&mut self) {
        let (full, relieved) = self.flow.pressure();
        // One that has gone in the meantime has no lane either.
        for name in full {
            drop(self.consumer.pause(&name.topic, name.partition));
        }
        for name in relieved {
            drop(self.consumer.resume(&name.topic, name.partition));
        }
    }

    fn commit_if_due(&mut self) {
        let now = Instant::now();
        if self.flow.take_dirty() && self.commit_at.is_none() {
            self.commit_at = now.checked_add(self.flow.settings.commit_interval);
        }
        if self.commit_at.is_none_or(|at| now < at) {
            return;
        }
        self.commit_at = None;
        match commit(&mut self.consumer, &self.flow) {
            // It is found out, and dealt with, by the next poll.
            Ok(()) | Err(Error::Fenced { .. }) => self.commit_failures = 0,
            Err(error) => {
                self.flow.note(&error);
                if is_final(&error) {
                    self.flow.stop_by_itself(StopReason::Failed(error));
                    return;
                }
                self.warn(&error);
                self.commit_failures = self.commit_failures.saturating_add(1);
                let wait = RETRY.wait(self.commit_failures, split_mix(&mut self.random));
                self.commit_at = Some(now + wait.max(self.flow.settings.commit_interval));
            }
        }
    }

    /// Waits for what is in the sink, commits what was delivered, and leaves.
    fn finish(mut self) -> ForwarderReport {
        self.flow.wait_for_sink(None, None);
        let committed = commit(&mut self.consumer, &self.flow);
        let report = self.flow.report(committed.err(), true);
        self.flow.close_all_lanes();
        // It has nothing to commit by itself, and nobody is told.
        if let Err(error) = self.consumer.close() {
            self.flow.note(&error);
        }
        report
    }
}
