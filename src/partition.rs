//! A partition: one log, the lock under which it is appended to, and those who wait for records.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::admission::Admission;
use crate::background::{Background, Job, Urgency};
use crate::clock::{Clock, Moment};
use crate::error::{Error, Result};
use crate::log::{
    Appended, AtRest, Chores, Encoded, FlushKind, Gate, Keep, Log, LogWriter, Sealing,
};
use crate::open_segments::{Looked, OpenSegments, Writes};
use crate::record::Record;
use crate::relief::Relief;
use crate::segment::Append;
use crate::timestamp::Timestamp;
use crate::waker::Waker;

/// When a sync in the background that could not be begun is tried again, and how often.
const FLUSH_AGAIN: Duration = Duration::from_secs(1);
const FLUSH_TRIES: u32 = 60;

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    log: Arc<Log>,
    /// The append lock: whoever holds it is the only one to store into the log. Whoever needs
    /// several takes them by rising partition number. No user code runs under it.
    appender: Mutex<Appender>,
    background: Arc<dyn Background>,
    admission: Arc<Admission>,
    relief: Arc<dyn Relief>,
    open: Arc<OpenSegments>,
    /// Itself, for jobs that may outlive it.
    weak: Weak<Partition>,
}

/// What the append lock guards.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) writer: LogWriter,
    /// Readers that found nothing to read, to be rung once.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    waker: Arc<Waker>,
    token: usize,
}

/// What an append left to be done when its lock was given back.
#[derive(Debug)]
pub(crate) struct LeftToDo {
    waiting: Vec<Waiting>,
    chores: Option<Chores>,
}

impl Partition {
    pub(crate) fn new(
        writer: LogWriter,
        background: Arc<dyn Background>,
        admission: Arc<Admission>,
        relief: Arc<dyn Relief>,
        open: Arc<OpenSegments>,
    ) -> Arc<Self> {
        let log = Arc::clone(writer.log());
        let appender = Mutex::new(Appender { writer, waiting: Vec::new() });
        Arc::new_cyclic(|weak| Self {
            log,
            appender,
            background,
            admission,
            relief,
            open,
            weak: weak.clone(),
        })
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Appends one record and lets readers see it. A function of its own: as a part of its caller it has
    /// to share the registers, and gets none.
    #[inline(never)]
    pub(crate) fn append(&self, record: &Record<'_>, clock: &Clock) -> Result<Appended> {
        let mut locked = self.lock_to_append()?;
        let appended = locked.writer.append(record, clock.now())?;
        self.release(locked);
        Ok(appended)
    }

    /// Appends a batch as one frame and lets readers see it.
    pub(crate) fn append_batch<'a, 'r: 'a>(
        &self,
        records: impl ExactSizeIterator<Item = &'a Record<'r>> + Clone,
        clock: &Clock,
    ) -> Result<(Append, Timestamp)> {
        let mut locked = self.lock_to_append()?;
        let now = clock.now();
        let append = locked.writer.append_batch(records, now)?;
        self.release(locked);
        Ok((append, now))
    }

    /// The append lock, if records are taken at all. In a forked child it may be held for ever, so
    /// that is looked at first.
    #[inline]
    pub(crate) fn lock_to_append(&self) -> Result<MutexGuard<'_, Appender>> {
        self.admission.check()?;
        Ok(self.appender.lock())
    }

    /// The append lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock()
    }

    /// Gives the append lock back after an append, and then does what the append called for:
    /// waking readers, sealing a segment that is full.
    #[inline]
    pub(crate) fn release(&self, appender: MutexGuard<'_, Appender>) {
        if let Some(left) = Self::unlock(appender) {
            self.follow_up(left);
        }
    }

    /// Gives the append lock back, and returns what the append called for: it is to be done when no
    /// other append lock is held either.
    #[inline]
    pub(crate) fn unlock(mut appender: MutexGuard<'_, Appender>) -> Option<LeftToDo> {
        let chores = appender.writer.take_chores();
        if appender.waiting.is_empty() && chores.is_none() {
            return None;
        }
        Some(LeftToDo { waiting: std::mem::take(&mut appender.waiting), chores })
    }

    /// Does what [`unlock`](Self::unlock) returned.
    #[cold]
    pub(crate) fn follow_up(&self, left: LeftToDo) {
        let LeftToDo { waiting, chores } = left;
        for Waiting { waker, token } in waiting {
            waker.ring(token);
        }
        let Some(Chores { pages, sealing, flush, is_tight, has_opened }) = chores else { return };
        if let Some(pages) = pages {
            self.background.submit(Urgency::AtOnce, Box::new(move || pages.prepare()));
        }
        match sealing {
            Some(Sealing::Background) => self.seal_later(),
            Some(Sealing::Caller) => {
                let sealed = self.log.seal_rolled();
                // A send logs nothing itself: it may be the logger's own, under a lock of the logger.
                let log = Arc::clone(&self.log);
                self.background.submit(Urgency::Later, Box::new(move || say_sealed(&log, sealed)));
            }
            None => {}
        }
        if flush.now {
            let job = self.flush_job(FlushKind::Records, FLUSH_TRIES);
            self.background.submit(Urgency::Soon, job);
        }
        if let Some(delay) = flush.after {
            let job = self.flush_job(FlushKind::Interval, FLUSH_TRIES);
            self.background.submit_after(delay, job);
        }
        if is_tight {
            self.relief.ask(&self.log.name().topic);
        }
        if has_opened {
            let weak = Weak::clone(&self.weak);
            self.open.add(weak);
        }
    }

    /// Syncs the log, some time from now, if it is still there.
    fn flush_job(&self, kind: FlushKind, tries: u32) -> Job {
        let partition = Weak::clone(&self.weak);
        Box::new(move || {
            let Some(partition) = partition.upgrade() else { return };
            partition.lock().writer.flush_begins(kind);
            let log = &partition.log;
            match log.sync_to(log.end_offset()) {
                Ok(()) | Err(Error::UnknownTopic { .. } | Error::Closed) => {}
                Err(Error::NotSynced { .. }) if tries > 0 => {
                    let job = partition.flush_job(kind, tries - 1);
                    partition.background.submit_after(FLUSH_AGAIN, job);
                }
                Err(error) => log::error!("flushing {}: {error}", log.name()),
            }
        })
    }

    /// Deletes the records below `offset`, durably, and returns the first offset that can be read.
    pub(crate) fn delete_below(&self, offset: u64) -> Result<u64> {
        self.admission.check_owner()?;
        self.log.check_gate()?;
        if offset > self.log.end_offset() {
            return Err(self.log.out_of_range(offset));
        }
        self.lock().writer.roll_below(offset);
        self.log.delete_below(offset)
    }

    /// Deletes a piece of what is due, once `allow` says that it may go, and says whether there was any.
    pub(crate) fn delete_due(
        &self,
        keep: &Keep,
        now: Moment,
        allow: impl Fn() -> Result<()>,
    ) -> Result<bool> {
        self.log.check_gate()?;
        let live = self.lock().writer.live();
        self.log.look(now, live);
        let cut = self.log.due_below(keep, now);
        if cut <= self.log.start_offset() {
            // What was deleted before may have left something.
            let had_leftovers = self.log.has_leftovers();
            if had_leftovers {
                self.delete_below(cut)?;
            }
            return Ok(had_leftovers && !self.log.has_leftovers());
        }
        allow()?;
        self.delete_below(cut).map(|start| start >= cut)
    }

    /// Deletes the oldest segment that can go, to make room.
    pub(crate) fn drop_oldest(&self) -> Result<bool> {
        let Some(oldest) = self.log.oldest_droppable() else { return Ok(false) };
        if oldest.is_before_live {
            self.lock().writer.roll_below(u64::MAX);
        }
        self.delete_below(oldest.next_offset)?;
        // Others may have begun a segment meanwhile, so it says nothing how many there are.
        Ok(self.log.first_base() != Some(oldest.base_offset))
    }

    /// Deletes all there is, where all lies in one segment, to make room.
    pub(crate) fn drop_all(&self) -> Result<bool> {
        let end = {
            let mut appender = self.lock();
            appender.writer.roll_below(u64::MAX);
            self.log.end_offset()
        };
        let start = self.log.start_offset();
        Ok(self.delete_below(end)? > start)
    }

    /// Has rolled segments sealed in the background.
    pub(crate) fn seal_later(&self) {
        let log = Arc::clone(&self.log);
        self.background.submit(Urgency::Later, Box::new(move || seal(&log)));
    }

    /// Asks to be rung with `token` by the next append, or returns `false` if there is something to
    /// read at `offset` already: a record, or the news that the partition was closed.
    pub(crate) fn register(&self, waker: &Arc<Waker>, token: usize, offset: u64) -> bool {
        let mut appender = self.appender.lock();
        if self.log.end_offset() > offset || self.log.check_gate().is_err() {
            return false;
        }
        appender.waiting.push(Waiting { waker: Arc::clone(waker), token });
        true
    }

    /// Takes registrations of `waker` back. In a forked child nobody would ring it.
    pub(crate) fn unregister(&self, waker: &Arc<Waker>) {
        if self.admission.check_owner().is_err() {
            return;
        }
        self.appender.lock().waiting.retain(|waiting| !Arc::ptr_eq(&waiting.waker, waker));
    }

    /// Those of its broker that have a segment open.
    #[cfg(test)]
    pub(crate) fn open_segments(&self) -> &OpenSegments {
        &self.open
    }

    /// How many registrations wait to be rung.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.appender.lock().waiting.len()
    }

    /// Takes no more records, and tells everybody who waits.
    pub(crate) fn shut(&self, gate: Gate) {
        self.shut_locked(self.appender.lock(), gate);
    }

    /// As [`shut`](Self::shut), by one who holds the append lock.
    pub(crate) fn shut_locked(&self, mut appender: MutexGuard<'_, Appender>, gate: Gate) {
        appender.writer.shut(gate);
        let waiting = std::mem::take(&mut appender.waiting);
        drop(appender);
        self.follow_up(LeftToDo { waiting, chores: None });
    }

    /// Appends a record, and leaves it to the caller to [follow up](Self::follow_up).
    #[inline]
    pub(crate) fn append_only(
        &self,
        record: &Record<'_>,
        clock: &Clock,
    ) -> Result<(Appended, Option<LeftToDo>)> {
        let mut locked = self.lock_to_append()?;
        let appended = locked.writer.append(record, clock.now())?;
        Ok((appended, Self::unlock(locked)))
    }

    /// As [`append_only`](Self::append_only), for records that lie in a body already; see
    /// [`LogWriter::append_encoded`] for when nothing is appended.
    pub(crate) fn append_encoded(
        &self,
        encoded: &Encoded<'_>,
        clock: &Clock,
    ) -> Result<(Option<Appended>, Option<LeftToDo>)> {
        let mut locked = self.lock_to_append()?;
        let appended = locked.writer.append_encoded(encoded, clock.now())?;
        Ok((appended, Self::unlock(locked)))
    }
}

impl Writes for Partition {
    fn look(&self) -> Looked {
        if self.admission.check_owner().is_err() {
            return Looked::Closed;
        }
        let found = self.lock().writer.look();
        match found {
            AtRest::No => return Looked::Busy,
            AtRest::NoSegment => {}
            AtRest::Closed => {
                let sealed = self.log.seal_rolled();
                if sealed.as_ref().is_ok_and(Vec::is_empty) {
                    self.lock().writer.rested();
                }
                say_sealed(&self.log, sealed);
            }
        }
        Looked::Closed
    }
}

/// Seals what can be sealed.
fn seal(log: &Log) {
    say_sealed(log, log.seal_rolled());
}

/// Says what came of sealing. A failure is met again by whoever waits for a sync.
fn say_sealed(log: &Log, sealed: Result<Vec<Error>>) {
    match sealed {
        Ok(troubles) => {
            log::debug!("{}: sealed, durable up to offset {}", log.name(), log.synced_offset());
            for trouble in troubles {
                log::warn!("{}: {trouble}", log.name());
            }
        }
        Err(error) => log::error!("sealing segments of {}: {error}", log.name()),
    }
}
