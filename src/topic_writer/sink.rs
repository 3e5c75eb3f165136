//! Sends what a writer has cut, and keeps the account of what was refused.
//!
//! The invariant it keeps: each piece it was given is in the topic once, or was refused and is not
//! counted as taken, or was dropped and counted. It is shared by the clones of a writer, on any
//! threads, and has no lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::label::Label;
use super::lines::Piece;
use super::options::{Framing, LossReport, WhenRefused};
use crate::error::{Error, Result};
use crate::housekeeping::Waits;
use crate::record::Record;
use crate::sender::Acks;
use crate::topic_handle::Topic;

/// The most that is sent as one batch: enough that a sync is shared by many lines, and so little that
/// a batch takes no memory to speak of.
const BATCH_RECORDS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// The longest value, where a topic cannot be looked at, as in a forked child. It takes nothing then.
const UNKNOWN_LONGEST: usize = 64 << 10;

/// The name of the header that says how many were dropped.
const DROPPED_HEADER: &str = "forebay.dropped";

/// Where the records of a writer and its clones go, and how.
#[derive(Debug)]
pub(super) struct Sink {
    topic: Topic,
    label: Label,
    pub(super) framing: Framing,
    pub(super) when_refused: WhenRefused,
    pub(super) loss_report: LossReport,
    /// The longest value the topic took when it was looked at last. Relaxed: it is a guess, which a
    /// refusal corrects.
    longest: AtomicUsize,
    account: Arc<Account>,
}

/// What was not written as it should have been. All of it Relaxed: numbers that publish nothing.
#[derive(Debug, Default)]
struct Account {
    /// Records dropped so far.
    dropped: AtomicU64,
    /// Those of them that no report in the topic has told of.
    unreported: AtomicU64,
    /// Whether records were appended that should have been synced and could not be yet.
    owes_sync: AtomicBool,
}

/// How far sending came.
#[derive(Debug)]
pub(super) struct Progress {
    /// How many of the bytes are taken.
    pub(super) taken: usize,
    pub(super) stopped: Option<Stopped>,
}

/// Why it went no further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The topic takes only shorter records than it did: the rest is to be cut anew.
    CutAnew,
    Refused(Error),
}

impl Sink {
    pub(super) fn new(topic: Topic) -> Self {
        let sink = Self {
            topic,
            label: Label::default(),
            framing: Framing::default(),
            when_refused: WhenRefused::default(),
            loss_report: LossReport::default(),
            longest: AtomicUsize::new(UNKNOWN_LONGEST),
            account: Arc::default(),
        };
        sink.measure();
        sink
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(super) fn set_acks(&mut self, acks: Acks) {
        self.topic = self.topic.clone().acks(acks);
    }

    pub(super) fn change_label(&mut self, change: impl FnOnce(&mut Label)) {
        change(&mut self.label);
        self.measure();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.account.dropped.load(Ordering::Relaxed)
    }

    /// The longest value there may be, for bytes of this length.
    #[inline]
    pub(super) fn longest(&self, bytes: usize) -> usize {
        if bytes > self.longest.load(Ordering::Relaxed) {
            // It may take longer ones by now.
            self.measure();
        }
        self.longest.load(Ordering::Relaxed)
    }

    /// Looks how long a value may be.
    fn measure(&self) {
        // In a forked child nobody may look, and nothing is taken anyway.
        let Ok(max_record_bytes) = self.topic.max_record_bytes() else { return };
        self.longest.store(self.label.longest_value(max_record_bytes), Ordering::Relaxed);
    }

    /// Does what earlier calls left to be done: syncs what could not be synced, and reports what was
    /// dropped.
    #[inline]
    pub(super) fn settle(&self) -> Result<()> {
        if self.account.owes_sync.load(Ordering::Relaxed) {
            let synced = self.sync();
            if self.when_refused == WhenRefused::Fail {
                synced?;
            }
        }
        if self.account.unreported.load(Ordering::Relaxed) > 0 {
            self.report_loss();
        }
        Ok(())
    }

    #[cold]
    fn sync(&self) -> Result<()> {
        self.account.owes_sync.store(false, Ordering::Relaxed);
        self.topic.flush().inspect_err(|_| self.account.owes_sync.store(true, Ordering::Relaxed))
    }

    /// Sends pieces, one after the other, until one is refused. What is refused and dropped counts as
    /// taken.
    pub(super) fn send<'a>(
        &self,
        pieces: impl Iterator<Item = Piece<'a>>,
        when_refused: WhenRefused,
    ) -> Progress {
        let mut pieces = pieces.peekable();
        let mut taken = 0;
        // Where the topic has senders wait, what was refused has waited, and not each piece is to.
        let mut waits = Waits::AsTopicSays;
        loop {
            let batch = gather(&mut pieces);
            if batch.is_empty() {
                return Progress { taken, stopped: None };
            }
            let (count, stopped) = self.send_batch(&batch, when_refused, &mut waits);
            let last = count.checked_sub(1).and_then(|last| batch.get(last));
            taken = last.map_or(taken, |piece| piece.end);
            if stopped.is_some() {
                return Progress { taken, stopped };
            }
        }
    }

    /// How many of the pieces are taken, and why no more are.
    fn send_batch(
        &self,
        batch: &[Piece<'_>],
        when_refused: WhenRefused,
        waits: &mut Waits,
    ) -> (usize, Option<Stopped>) {
        if batch.len() == 1 {
            return self.send_singly(batch, when_refused, waits);
        }
        let records: Vec<Record<'_>> =
            batch.iter().map(|piece| self.label.record(piece.value)).collect();
        match self.appended(self.topic.send_batch_waiting(&records, *waits).map(drop)) {
            Ok(()) => (batch.len(), None),
            Err(error) if concerns_all(&error) => {
                let stopped = self.refuse(error, batch.len(), when_refused);
                (if stopped.is_none() { batch.len() } else { 0 }, stopped)
            }
            // There may be room for some of them.
            Err(error) => {
                if error.is_full() {
                    *waits = Waits::Never;
                }
                self.send_singly(batch, when_refused, waits)
            }
        }
    }

    fn send_singly(
        &self,
        batch: &[Piece<'_>],
        when_refused: WhenRefused,
        waits: &mut Waits,
    ) -> (usize, Option<Stopped>) {
        for (at, piece) in batch.iter().enumerate() {
            let sent = self.topic.send_waiting(self.label.record(piece.value), *waits);
            let Err(error) = self.appended(sent.map(drop)) else { continue };
            if error.is_full() {
                *waits = Waits::Never;
            }
            if self.is_cut_too_long(&error, piece) {
                return (at, Some(Stopped::CutAnew));
            }
            let stopped = self.refuse(error, 1, when_refused);
            if stopped.is_some() {
                return (at, stopped);
            }
        }
        (batch.len(), None)
    }

    /// Whether records were appended. One that could not be synced for want of a descriptor, say, was:
    /// sent again it would be there twice.
    #[inline]
    fn appended(&self, sent: Result<()>) -> Result<()> {
        if let Err(Error::NotSynced { .. }) = sent {
            self.account.owes_sync.store(true, Ordering::Relaxed);
            return Ok(());
        }
        sent
    }

    /// Whether a piece was refused because the topic takes only shorter ones than it did when it was cut,
    /// by whichever clone that is found out first.
    #[cold]
    fn is_cut_too_long(&self, error: &Error, piece: &Piece<'_>) -> bool {
        if !matches!(error, Error::RecordTooLarge { .. }) {
            return false;
        }
        self.measure();
        piece.value.len() > self.longest.load(Ordering::Relaxed)
    }

    /// What becomes of `count` records that were refused.
    #[cold]
    fn refuse(&self, error: Error, count: usize, when_refused: WhenRefused) -> Option<Stopped> {
        if when_refused == WhenRefused::Fail {
            return Some(Stopped::Refused(error));
        }
        self.account.dropped.fetch_add(count as u64, Ordering::Relaxed);
        if self.when_refused == WhenRefused::Drop && self.loss_report == LossReport::Record {
            self.account.unreported.fetch_add(count as u64, Ordering::Relaxed);
        }
        None
    }

    /// Says in the topic how many records were dropped, if there is room for that.
    #[cold]
    fn report_loss(&self) {
        let claim = Claim::new(&self.account.unreported);
        if claim.count == 0 {
            return;
        }
        let number = claim.count.to_string();
        let what = match self.framing {
            Framing::Lines => "lines",
            Framing::Writes => "messages",
        };
        let text = format!("forebay: {number} {what} dropped");
        let record = self.label.record(text.as_bytes()).header(DROPPED_HEADER, &number);
        if self.appended(self.topic.send(record).map(drop)).is_ok() {
            claim.settle();
        }
    }
}

/// With the settings of this one, and the same account.
impl Clone for Sink {
    fn clone(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            label: self.label.clone(),
            framing: self.framing,
            when_refused: self.when_refused,
            loss_report: self.loss_report,
            longest: AtomicUsize::new(self.longest.load(Ordering::Relaxed)),
            account: Arc::clone(&self.account),
        }
    }
}

/// When the last clone of a writer goes, what was dropped is reported if it can be.
impl Drop for Sink {
    fn drop(&mut self) {
        if self.account.unreported.load(Ordering::Relaxed) > 0 {
            // A partitioner of the user's own may panic.
            drop(catch_unwind(AssertUnwindSafe(|| self.report_loss())));
        }
    }
}

/// As many pieces as go into one batch.
fn gather<'a>(
    pieces: &mut std::iter::Peekable<impl Iterator<Item = Piece<'a>>>,
) -> SmallVec<[Piece<'a>; 1]> {
    let mut batch = SmallVec::new();
    let mut bytes = 0;
    while let Some(piece) = pieces.peek() {
        bytes += piece.value.len();
        if !batch.is_empty() && (batch.len() == BATCH_RECORDS || bytes > BATCH_BYTES) {
            break;
        }
        batch.extend(pieces.next());
    }
    batch
}

/// Whether what a batch was refused for is no less true for each of its records, or says that a part
/// of it may be there: then none is sent again by itself.
fn concerns_all(error: &Error) -> bool {
    matches!(
        error,
        Error::Closed
            | Error::Forked { .. }
            | Error::Poisoned { .. }
            | Error::ReadOnly { .. }
            | Error::UnknownTopic { .. }
    )
}

/// A number that was taken to be reported. Goes back if it is not settled: if the report was refused, or
/// a panic went by.
struct Claim<'a> {
    unreported: &'a AtomicU64,
    count: u64,
}

impl<'a> Claim<'a> {
    fn new(unreported: &'a AtomicU64) -> Self {
        Self { unreported, count: unreported.swap(0, Ordering::Relaxed) }
    }

    fn settle(mut self) {
        self.count = 0;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.unreported.fetch_add(self.count, Ordering::Relaxed);
    }
}
