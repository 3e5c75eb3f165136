//! Emptying the inbox: one thread at a time has the turn, takes batches, appends them without the
//! lock, and settles what became of them.
//!
//! A sender that has the turn gives it back after a few rounds and leaves the rest to the worker, so
//! that it is not kept busy by others; it never waits for a disk. A panic gives the turn back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::fate::Outcome;
use super::inbox::{Inbox, Job, Verdict};
use super::interceptor::guarded;
use super::outgoing::OutgoingRecord;
use super::results::{Delivered, Undelivered};
use super::retry::{is_transient, is_tried_again};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::housekeeping::Patience;
use crate::log::Appended;
use crate::on_full::OnFull;
use crate::partition::Partition;
use crate::record::Record;
use crate::relief::Relief;
use crate::sender::Acks;
use crate::sent::Sent;

/// How many batches a sender takes at once, and how often.
const SENDER_BATCHES: usize = 8;
const SENDER_ROUNDS: usize = 4;
/// How often it is looked whether there is room in a topic that makes its senders wait.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(10);
/// How many batches the worker takes at once.
const WORKER_BATCHES: usize = 256;

/// Whether there will be room for a batch.
enum Room {
    /// It is worth trying again when so much time has passed.
    In(Duration),
    /// It was waited for, as long as the topic says.
    None,
    /// The topic does not say: it is tried again as the producer was set up to.
    AsSetUp,
}

/// Gives the turn back, if it is dropped by a panic too.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox.lock();
        inbox.is_draining = false;
        inbox.caller = None;
        self.0.leave_to_worker(inbox);
    }
}

impl Shared {
    /// Appends a record by one who has the turn, and gives the turn back.
    #[inline]
    pub(super) fn append_now(
        &self,
        partition: &Partition,
        record: &Record<'_>,
        tag: u64,
    ) -> Result<Sent> {
        let turn = Turn(self);
        let name = partition.log().name();
        let result = partition.append_only(record, self.broker.clock()).map(|(appended, left)| {
            let Appended { offset, timestamp } = appended;
            (Sent { partition: name.partition, offset, timestamp }, left)
        });
        if self.listens()
            && let Ok((sent, _)) = &result
        {
            // Results come in order, so others may append when this one is told.
            self.inbox.lock().caller = Some(std::thread::current().id());
            self.deliver(&Delivered { topic: Arc::clone(&name.topic), sent: *sent, tag });
        }
        std::mem::forget(turn);
        let mut inbox = self.inbox.lock();
        (inbox.is_draining, inbox.caller) = (false, None);
        // Others may have come meanwhile, and rely on this thread.
        if !inbox.ready.is_empty() {
            inbox = self.drain_for_a_while(inbox);
        }
        self.leave_to_worker(inbox);
        let (sent, left) = result?;
        if let Some(left) = left {
            partition.follow_up(left);
        }
        Ok(sent)
    }

    /// Takes the turn for a few rounds.
    pub(super) fn drain_for_a_while<'a>(
        &'a self,
        inbox: MutexGuard<'a, Inbox>,
    ) -> MutexGuard<'a, Inbox> {
        self.drain(inbox, SENDER_ROUNDS, SENDER_BATCHES)
    }

    /// Takes the turn until nothing is left that can be sent at once.
    pub(super) fn drain_all<'a>(&'a self, inbox: MutexGuard<'a, Inbox>) -> MutexGuard<'a, Inbox> {
        self.drain(inbox, usize::MAX, WORKER_BATCHES)
    }

    fn drain<'a>(
        &'a self,
        mut inbox: MutexGuard<'a, Inbox>,
        rounds: usize,
        batches: usize,
    ) -> MutexGuard<'a, Inbox> {
        debug_assert!(!inbox.is_draining);
        inbox.is_draining = true;
        let mut jobs = std::mem::take(&mut inbox.jobs);
        for _ in 0..rounds {
            inbox.take_ready(&mut jobs, batches);
            if jobs.is_empty() {
                break;
            }
            let is_over = inbox.closing.is_some_and(|until| until <= Instant::now());
            drop(inbox);
            let turn = Turn(self);
            self.try_all(&mut jobs, is_over);
            std::mem::forget(turn);
            inbox = self.inbox.lock();
            let woken = inbox.settle(&mut jobs);
            let (for_room, for_end) = (inbox.waiting_for_room > 0, inbox.waiting_for_end > 0);
            if for_room || for_end || !woken.is_empty() {
                MutexGuard::unlocked(&mut inbox, || {
                    woken.iter().for_each(|fate| fate.wake());
                    if for_room {
                        self.room.notify_all();
                    }
                    if for_end {
                        self.end.notify_all();
                    }
                });
            }
        }
        inbox.jobs = jobs;
        inbox.is_draining = false;
        inbox
    }

    /// Tries to send batches, in order, and finds a verdict for each. Those of a partition in which one
    /// has to be tried again are left alone, unless it `is_over`: then nothing is tried again.
    fn try_all(&self, jobs: &mut [Job], is_over: bool) {
        let mut held: SmallVec<[usize; 4]> = SmallVec::new();
        for job in jobs.iter_mut() {
            if held.contains(&job.lane) {
                continue;
            }
            if job.batch.appended.is_none()
                && let Err(error) = self.append(job)
            {
                self.has_failed(job, error, is_over);
            }
            if matches!(job.verdict, Verdict::Again(_)) {
                held.push(job.lane);
            }
        }
        if self.settings.acks == Acks::Synced {
            self.sync(jobs, is_over);
        }
        if self.listens() || jobs.iter().any(|job| !is_success(&job.verdict)) {
            self.tell(jobs);
        }
    }

    /// Appends a batch.
    #[inline]
    fn append(&self, job: &mut Job) -> Result<()> {
        let Job { partition, batch, verdict, .. } = job;
        if batch.each.is_none() {
            let clock = self.broker.clock();
            let (appended, left) = match partition.append_encoded(&batch.encoded(), clock) {
                // Together they are more than the topic may hold, which each of them may not be.
                Err(Error::TooManyRecords { .. } | Error::RecordTooLarge { .. })
                    if batch.count > 1 =>
                {
                    (None, None)
                }
                result => result?,
            };
            if let Some(left) = left {
                guarded("a logger", || partition.follow_up(left));
            }
            if let Some(appended) = appended {
                let outcome = Outcome::At {
                    offset: appended.offset,
                    timestamp: batch.encoded().is_append_time.then_some(appended.timestamp),
                };
                if self.settings.acks == Acks::Synced {
                    let end = appended.offset + u64::from(batch.count);
                    batch.appended = Some((outcome, end));
                } else {
                    *verdict = Verdict::Done(outcome);
                }
                return Ok(());
            }
        }
        self.append_each(job)
    }

    /// Appends the records of a batch one by one, because the topic does not take them together or was
    /// altered since they were taken. Those that are behind it already are not appended again.
    #[cold]
    fn append_each(&self, job: &mut Job) -> Result<()> {
        let Job { partition, batch, verdict, .. } = job;
        let mut each = batch.each.take().unwrap_or_default();
        let before = each.len();
        let mut failed = None;
        let number = partition.log().name().partition;
        for (record, _) in batch.records().skip(each.len()) {
            match partition.append_only(&record, self.broker.clock()) {
                Ok((appended, left)) => {
                    if let Some(left) = left {
                        guarded("a logger", || partition.follow_up(left));
                    }
                    let (offset, timestamp) = (appended.offset, appended.timestamp);
                    each.push(Ok(Sent { partition: number, offset, timestamp }));
                }
                Err(error) if is_transient(&error) => {
                    failed = Some(error);
                    break;
                }
                Err(error) => each.push(Err(error)),
            }
        }
        if let Some(error) = failed {
            if each.len() > before {
                // Each is waited for and tried again as if it were alone.
                (batch.full_since, batch.failures) = (None, 0);
            }
            batch.each = Some(each);
            return Err(error);
        }
        let end = each.iter().flatten().map(|sent| sent.offset + 1).max();
        match end {
            Some(end) if self.settings.acks == Acks::Synced => {
                batch.appended = Some((Outcome::Each(each), end));
            }
            _ => *verdict = Verdict::Done(Outcome::Each(each)),
        }
        Ok(())
    }

    /// When there may be room for a batch whose topic is full, by what the topic is set up to do. Room is
    /// made on this thread if the oldest records are to go for it.
    #[cold]
    fn room_for(&self, job: &mut Job, error: &Error) -> Room {
        let Ok(topic) = self.broker.topic(&job.partition.log().name().topic) else {
            return Room::AsSetUp;
        };
        match topic.config().on_full {
            OnFull::DropOldest => {
                let mut patience = Patience::default();
                match self.broker.house().make_room(&topic, error.clone(), &mut patience) {
                    Ok(()) => Room::In(Duration::ZERO),
                    Err(_) => Room::AsSetUp,
                }
            }
            OnFull::Block { timeout } => {
                let since = *job.batch.full_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= timeout {
                    return Room::None;
                }
                self.broker.room_keeper().ask(topic.name());
                Room::In(LOOK_FOR_ROOM.min(timeout))
            }
            OnFull::Reject => Room::AsSetUp,
        }
    }

    /// Decides about a batch that could not be sent.
    fn has_failed(&self, job: &mut Job, error: Error, is_over: bool) {
        let pause =
            if error.is_full() && !is_over { self.room_for(job, &error) } else { Room::AsSetUp };
        let batch = &mut job.batch;
        match pause {
            Room::In(pause) => {
                job.verdict = Verdict::Again(pause);
                return;
            }
            Room::None => {}
            Room::AsSetUp => {
                batch.failures += 1;
                if is_tried_again(&error, batch.failures, self.settings.retries, is_over) {
                    job.verdict = Verdict::Again(self.settings.retry_backoff);
                    return;
                }
            }
        }
        batch.appended = None;
        job.verdict = Verdict::Done(match batch.each.take() {
            None => Outcome::Failed(error),
            Some(mut each) => {
                each.resize(batch.count as usize, Err(error));
                Outcome::Each(each)
            }
        });
    }

    /// Waits until what was appended is on stable storage, once for each partition.
    fn sync(&self, jobs: &mut [Job], is_over: bool) {
        let mut done: SmallVec<[usize; 4]> = SmallVec::new();
        for first in 0..jobs.len() {
            let Some(jobs) = jobs.get_mut(first..) else { return };
            let Some(head) = jobs.first().filter(|job| !done.contains(&job.lane)) else { continue };
            let (lane, partition) = (head.lane, Arc::clone(&head.partition));
            done.push(lane);
            let own = jobs.iter_mut().filter(|job| job.lane == lane);
            let mut appended: SmallVec<[&mut Job; 4]> =
                own.filter(|job| job.batch.appended.is_some()).collect();
            let ends = appended.iter().filter_map(|job| Some(job.batch.appended.as_ref()?.1));
            let Some(end) = ends.max() else { continue };
            let synced = partition.log().sync_to(end);
            for job in &mut appended {
                match &synced {
                    Ok(()) => {
                        if let Some((outcome, _)) = job.batch.appended.take() {
                            job.verdict = Verdict::Done(outcome);
                        }
                    }
                    Err(error) => self.has_failed(job, error.clone(), is_over),
                }
            }
        }
    }

    /// Tells whoever wants to know, by one who has the turn and holds no lock.
    #[cold]
    fn tell(&self, jobs: &[Job]) {
        self.inbox.lock().caller = Some(std::thread::current().id());
        for job in jobs {
            let Verdict::Done(outcome) = &job.verdict else { continue };
            let name = job.partition.log().name();
            let mut failed: Option<(u64, Error)> = None;
            for ((record, extra), index) in job.batch.records().zip(0..) {
                let timestamp = record.timestamp.unwrap_or_default();
                match outcome.of(index, name.partition, timestamp) {
                    Ok(sent) if self.listens() => {
                        let topic = Arc::clone(&name.topic);
                        self.deliver(&Delivered { topic, sent, tag: extra.tag });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        failed = Some((failed.map_or(0, |(count, _)| count) + 1, error.clone()));
                        if self.listens() {
                            let mut record = OutgoingRecord::copy_of(&name.topic, &record);
                            record.tag = extra.tag;
                            record.partition = extra.has_partition.then_some(name.partition);
                            let partition = Some(name.partition);
                            self.give_up(Undelivered { record, partition, error });
                        }
                    }
                }
            }
            if let Some((count, error)) = failed
                && !self.errors.is_wanted()
            {
                guarded("a logger", || {
                    log::error!("{name}: {count} records were not sent: {error}");
                });
            }
        }
        self.inbox.lock().caller = None;
    }

    /// Tells of a record that was sent.
    pub(super) fn deliver(&self, delivered: &Delivered) {
        self.interceptors.on_result(Ok(delivered));
        if self.successes.is_wanted() {
            self.successes.put(delivered.clone());
        }
    }

    /// Tells of a record that could not be sent.
    pub(super) fn give_up(&self, undelivered: Undelivered) {
        self.interceptors.on_result(Err(&undelivered));
        self.errors.put(undelivered);
    }
}

fn is_success(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Untried | Verdict::Again(_) | Verdict::Done(Outcome::At { .. }) => true,
        Verdict::Done(Outcome::Failed(_)) => false,
        Verdict::Done(Outcome::Each(each)) => each.iter().all(Result::is_ok),
    }
}
