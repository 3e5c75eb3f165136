//! What the dispatcher, the workers and the handle of a forwarder share.
//!
//! One lock guards the lanes, the numbers and the end. It is a leaf: nothing is called under it that
//! takes another, no user code and no logger either. Whoever waits does so on one of two bells, in a
//! loop: workers for something to do, everybody else for news. The dispatcher mostly waits in its
//! poll, and is woken there.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::dead_letters::DeadLetters;
use super::lane::Place;
use super::limiter::Limiter;
use super::report::{ForwarderReport, InSink, StopReason};
use super::schedule::{Job, Next, Schedule};
use super::settings::Settings;
use super::stats::{ForwarderStats, Tally};
use crate::consumer::Wakeup;
use crate::error::Error;

/// How long a forwarder that stops by itself waits for the sink.
const SELF_STOP: Duration = Duration::from_secs(5);

/// Shared by all threads of a forwarder.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// Rings when there is something for a worker.
    work: Condvar,
    /// Rings when a worker comes back, when it is to stop, and when it has.
    news: Condvar,
    /// Wakes the dispatcher in its poll. Set before the threads begin.
    wakeup: OnceLock<Wakeup>,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) schedule: Schedule,
    pub(super) tally: Tally,
    /// Whether there may be something to commit that the dispatcher does not know of.
    pub(super) dirty: bool,
    paused: bool,
    pub(super) stop: Option<Stop>,
    /// Where dead letters go; until the end, because it keeps the broker open.
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    /// Until when a worker sleeps that looks at the time for all of them. The others sleep until they
    /// are woken: who finds a batch wakes the next one.
    watch: Option<Instant>,
    /// Workers that have a batch.
    pub(super) busy: usize,
    /// Workers that have not ended.
    alive: usize,
    report: Option<ForwarderReport>,
}

/// That it is to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) reason: StopReason,
    /// Until when to wait for the sink; without one, for as long as it takes.
    pub(super) deadline: Option<Instant>,
}

impl Flow {
    pub(super) fn new(settings: Settings, dead_letters: Option<DeadLetters>) -> Self {
        let now = Instant::now();
        let limiter = Limiter::new(settings.rate_records, settings.rate_bytes, settings.burst, now);
        let state = State {
            schedule: Schedule::new(settings.batch, settings.linger, limiter),
            tally: Tally::new(now),
            dirty: false,
            paused: false,
            stop: None,
            dead_letters: dead_letters.map(Arc::new),
            watch: None,
            busy: 0,
            alive: 0,
            report: None,
        };
        Self {
            settings,
            state: Mutex::new(state),
            work: Condvar::new(),
            news: Condvar::new(),
            wakeup: OnceLock::new(),
        }
    }

    pub(super) fn set_wakeup(&self, wakeup: Wakeup) {
        let is_first = self.wakeup.set(wakeup).is_ok();
        debug_assert!(is_first, "a forwarder has one consumer");
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes the dispatcher look. Called without the lock.
    pub(super) fn wake(&self) {
        if let Some(wakeup) = self.wakeup.get() {
            wakeup.wakeup();
        }
        self.news.notify_all();
    }

    /// Has a worker look. Called with or without the lock.
    pub(super) fn offer(&self) {
        self.work.notify_one();
    }

    /// Waits for news until `deadline`.
    pub(super) fn wait_for_news(
        &self,
        state: &mut MutexGuard<'_, State>,
        deadline: Option<Instant>,
    ) {
        match deadline {
            None => self.news.wait(state),
            Some(deadline) => drop(self.news.wait_until(state, deadline)),
        }
    }

    /// The next batch for a worker; `None` when there will be none.
    pub(super) fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stop.is_some() {
                return None;
            }
            let next = if state.paused { Next::Rest } else { state.schedule.next(Instant::now()) };
            match next {
                Next::Rest => self.work.wait(&mut state),
                Next::Wait(until) if state.watch.is_some_and(|watch| watch <= until) => {
                    self.work.wait(&mut state);
                }
                Next::Wait(until) => {
                    state.watch = Some(until);
                    let _ = self.work.wait_until(&mut state, until);
                    state.watch = None;
                }
                Next::Work(job) => {
                    state.busy += 1;
                    if state.schedule.has_more() {
                        self.offer();
                    }
                    drop(state);
                    if job.makes_room {
                        self.wake();
                    }
                    return Some(job);
                }
            }
        }
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        self.work.notify_all();
    }

    /// Has it stop, and wait for the sink until `deadline`. The first reason counts, and the
    /// earliest deadline.
    pub(super) fn stop(&self, reason: StopReason, deadline: Option<Instant>) {
        let mut state = self.lock();
        match &mut state.stop {
            None => state.stop = Some(Stop { reason, deadline }),
            Some(stop) => stop.deadline = stop.deadline.into_iter().chain(deadline).min(),
        }
        drop(state);
        self.work.notify_all();
        self.wake();
    }

    /// Has it stop for a reason of its own.
    pub(super) fn stop_by_itself(&self, reason: StopReason) {
        self.stop(reason, Instant::now().checked_add(SELF_STOP));
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stop.is_some()
    }

    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        self.lock().stop.as_ref().map(|stop| stop.reason.clone())
    }

    /// Notes what went wrong.
    pub(super) fn note(&self, error: &Error) {
        let message = error.to_string();
        self.lock().tally.stats.last_error = Some(message);
    }

    /// What has been done so far.
    pub(super) fn stats(&self) -> ForwarderStats {
        self.lock().snapshot()
    }

    /// A worker begins.
    pub(super) fn worker_begins(&self) {
        self.lock().alive += 1;
    }

    /// A worker has ended, and let go of the sink.
    pub(super) fn worker_ended(&self) {
        self.lock().alive -= 1;
        self.news.notify_all();
    }

    /// What it has come to, as it stands.
    pub(super) fn report(&self, commit_error: Option<Error>, finished: bool) -> ForwarderReport {
        let mut state = self.lock();
        let done = state.snapshot();
        let lanes = state.schedule.lanes.values();
        let in_sink = lanes.clone().filter_map(|lane| match &lane.place {
            Place::Busy(offsets) => {
                let (from, to) = (offsets.start, offsets.end);
                Some(InSink { partition: lane.name.clone(), from, to })
            }
            _ => None,
        });
        let mut in_sink: Vec<_> = in_sink.collect();
        in_sink.sort_unstable_by(|one, other| one.partition.cmp(&other.partition));
        let committed = lanes.clone().map(|lane| (lane.name.clone(), lane.committed)).collect();
        let uncommitted = lanes.map(|lane| lane.done.below().saturating_sub(lane.committed)).sum();
        let reason = state.stop.as_ref().map_or(StopReason::Asked, |stop| stop.reason.clone());
        ForwarderReport {
            reason,
            undelivered: done.pending,
            stats: done,
            committed,
            uncommitted,
            in_sink,
            commit_error,
            finished,
        }
    }

    /// The dispatcher has ended, with this.
    pub(super) fn end(&self, report: ForwarderReport) {
        let mut state = self.lock();
        let dead_letters = state.dead_letters.take();
        let reason = StopReason::Asked;
        state.stop.get_or_insert(Stop { reason, deadline: None });
        drop(state);
        // It may be what keeps the broker open.
        drop(dead_letters);
        self.lock().report = Some(report);
        self.work.notify_all();
        self.news.notify_all();
    }

    /// Waits until it has ended, and so have all its threads that do not hang in the sink.
    pub(super) fn wait_until_ended(&self, deadline: Option<Instant>) -> Option<ForwarderReport> {
        let mut state = self.lock();
        loop {
            if state.report.is_some() && state.alive == state.busy {
                return state.report.clone();
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return state.report.clone();
            }
            self.wait_for_news(&mut state, deadline);
        }
    }
}

impl State {
    pub(super) fn snapshot(&mut self) -> ForwarderStats {
        let mut stats = self.tally.snapshot(Instant::now());
        stats.in_flight = self.busy as u64;
        stats.pending = self.schedule.lanes.values().map(|lane| lane.pending() as u64).sum();
        stats.paused = self.paused;
        stats
    }

    /// Says that a worker has come back.
    pub(super) fn came_back(&mut self) {
        self.busy -= 1;
    }
}
