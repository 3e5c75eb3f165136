//! What workers say of their batches.
//!
//! A worker whose lane has gone in the meantime, because its partition went to another member or the
//! forwarder has stopped, finds no lane: what it delivered is counted, and is not committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dead_letters::{DeadLetters, is_final};
use super::flow::{Flow, State, Stop};
use super::lane::Trial;
#[cfg(test)]
use super::planted::Planted;
use super::report::StopReason;
use super::schedule::Left;
use super::settings::WhenExhausted;
use super::sink_batch::SinkBatch;
use super::verdict::{Failed, Verdict};
use crate::error::Error;

/// How a call of the sink failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) permanent: bool,
    pub(super) panicked: bool,
    /// How many records it took all the same.
    pub(super) delivered: usize,
}

impl Flow {
    /// A batch was delivered.
    pub(super) fn delivered(&self, lane: u64, batch: &SinkBatch) {
        let now = Instant::now();
        let mut state = self.lock();
        state.tally.stats.batches += 1;
        state.tally.delivered(now, batch.len(), batch.bytes());
        let is_news = state.acknowledge(lane, batch.first(), batch.end());
        let is_news = state.come_back(lane, None, now) || is_news;
        self.tell(state, is_news);
    }

    /// A delivery failed. If its record is to be put aside, it is returned with the reason, and the
    /// worker still has it.
    pub(super) fn failed(
        &self,
        lane: u64,
        mut batch: SinkBatch,
        failure: Failure,
        random: u64,
    ) -> Option<(SinkBatch, String)> {
        let now = Instant::now();
        let has_dead_letters = matches!(self.settings.when_exhausted, WhenExhausted::DeadLetter(_));
        let delivered = failure.delivered.min(batch.len());
        let (records, bytes) = (batch.len(), batch.bytes());
        let (first, mut attempt) = (batch.first(), batch.attempt());
        if delivered > 0 {
            // It is another record that is in front now, and it failed once.
            attempt = 1;
            batch.skip(delivered);
        }
        let mut state = self.lock();
        let message = failure.message;
        let numbers = &mut state.tally.stats;
        numbers.failures += 1;
        numbers.panics += u64::from(failure.panicked);
        numbers.last_error = Some(message.clone());
        state.tally.delivered(now, delivered, bytes - batch.bytes());
        let mut is_news = state.acknowledge(lane, first, first + delivered as u64);
        #[cfg(test)]
        if self.settings.is_planted(Planted::TakesFailuresForDone) {
            state.acknowledge(lane, first, batch.end());
        }
        if delivered == records {
            is_news |= state.come_back(lane, None, now);
            self.tell(state, is_news);
            return None;
        }
        let failed =
            Failed { attempts: attempt, permanent: failure.permanent, records: batch.len() };
        let left = match failed.verdict(self.settings.retries, has_dead_letters) {
            Verdict::Again => {
                let wait = self.settings.backoff.wait(attempt, random);
                batch.attempt = attempt.saturating_add(1);
                Left::Trial(Trial { batch, not_before: later(now, wait), dead: None })
            }
            Verdict::Singly => Left::Singly(batch),
            Verdict::DeadLetter => {
                batch.attempt = attempt;
                self.tell(state, is_news);
                return Some((batch, message));
            }
            Verdict::Stop => {
                let (partition, offset) = (batch.name().clone(), batch.first());
                let reason =
                    StopReason::Exhausted { partition, offset, attempts: attempt, error: message };
                self.stop_with(state, lane, batch, reason);
                return None;
            }
        };
        is_news |= state.come_back(lane, Some(left), now);
        self.tell(state, is_news);
        None
    }

    /// Where dead letters go, until the end.
    pub(super) fn dead_letters(&self) -> Option<Arc<DeadLetters>> {
        self.lock().dead_letters.clone()
    }

    /// A record was put aside.
    pub(super) fn put_aside(&self, lane: u64, batch: &SinkBatch) {
        let mut state = self.lock();
        state.tally.stats.dead_lettered += batch.len() as u64;
        let is_news = state.acknowledge(lane, batch.first(), batch.end());
        let is_news = state.come_back(lane, None, Instant::now()) || is_news;
        self.tell(state, is_news);
    }

    /// A record could not be put aside.
    pub(super) fn not_put_aside(
        &self,
        lane: u64,
        batch: SinkBatch,
        why: String,
        error: Error,
        random: u64,
    ) {
        let now = Instant::now();
        let message = error.to_string();
        let mut state = self.lock();
        state.tally.stats.last_error = Some(message);
        if is_final(&error) {
            let (partition, offset) = (batch.name().clone(), batch.first());
            let reason = StopReason::DeadLetter { partition, offset, error };
            self.stop_with(state, lane, batch, reason);
            return;
        }
        let wait = self.settings.backoff.wait(DEAD_LETTER_FAILURES, random).max(DEAD_LETTER_WAIT);
        let trial = Trial { batch, not_before: later(now, wait), dead: Some(why) };
        let is_news = state.come_back(lane, Some(Left::Trial(trial)), now);
        self.tell(state, is_news);
    }

    /// Has it stop in front of a batch, before another worker could go on behind it.
    fn stop_with(
        &self,
        mut state: parking_lot::MutexGuard<'_, State>,
        lane: u64,
        batch: SinkBatch,
        reason: StopReason,
    ) {
        let now = Instant::now();
        let is_first = state.stop.is_none() && state.schedule.lanes.contains_key(&lane);
        if is_first {
            state.stop = Some(Stop { reason: reason.clone(), deadline: None });
        }
        let trial = Trial { batch, not_before: None, dead: None };
        state.come_back(lane, Some(Left::Trial(trial)), now);
        self.tell(state, true);
        // Whoever stopped it before has said how long to wait for the sink.
        if is_first {
            self.stop_by_itself(reason);
        }
    }

    /// Gives the lock back, and says what has changed to whom it concerns.
    fn tell(&self, state: parking_lot::MutexGuard<'_, State>, is_news: bool) {
        let has_more = state.schedule.has_more();
        drop(state);
        if has_more {
            self.offer();
        }
        if is_news {
            self.wake();
        }
    }
}

/// Putting aside fails for want of room, mostly: it is tried again after a while that does not grow.
const DEAD_LETTER_FAILURES: u32 = 4;
/// The shortest such wait, for a sink that is tried again at once.
const DEAD_LETTER_WAIT: Duration = Duration::from_millis(10);

/// A time that cannot be told comes as late as one that can.
fn later(now: Instant, wait: Duration) -> Option<Instant> {
    now.checked_add(wait).or(now.checked_add(Duration::from_secs(86_400 * 365)))
}

impl State {
    /// Notes what is done with. Returns whether the dispatcher is to be told.
    fn acknowledge(&mut self, lane: u64, from: u64, to: u64) -> bool {
        let Some(lane) = self.schedule.lanes.get_mut(&lane) else { return false };
        lane.done.add(from, to);
        lane.done.below() > lane.committed && !std::mem::replace(&mut self.dirty, true)
    }

    /// Takes a lane back from a worker. Returns whether somebody waits for that.
    fn come_back(&mut self, lane: u64, left: Option<Left>, now: Instant) -> bool {
        self.came_back();
        let is_closing = self.schedule.give_back(lane, left, now).is_some_and(|lane| lane.closing);
        is_closing || self.stop.is_some()
    }
}
