//! A topic to write to, as a user holds it.
//!
//! The invariant it keeps: what a call says it has taken is in the topic, or was dropped and counted, or
//! is the beginning of a line whose end has not come. A call that fails has taken nothing. Each clone
//! is used by one thread at a time and has a line of its own, so lines of two threads never mix.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::lines::{WholeLines, content, cut, first_line_end, last_line_end};
use super::options::{Framing, LossReport, WhenRefused};
use super::sink::{Progress, Sink, Stopped};
use crate::sender::Acks;
use crate::topic_handle::Topic;

/// Room for a line that is kept when the line is gone.
const KEPT_BYTES: usize = 64 << 10;

/// Writes to a topic: a record a line, or a record a write. Made by [`Topic::writer`].
///
/// It is what loggers write to. A clone costs no allocation, sends to the same topic with the same settings, and
/// has a line of its own; one for each thread, or each message, is what it is made for:
///
/// - `tracing-subscriber`: `fmt().with_writer(move || writer.clone())`
/// - `env_logger`: `builder.target(Target::Pipe(Box::new(writer)))`
///
/// ```
/// use std::io::Write;
/// use forebay::{Broker, Start, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let log = broker.create_topic("log", TopicConfig::new())?;
/// let mut writer = log.writer().key("host-1").header("source", "app");
/// writeln!(writer, "listening on port {}", 8080).unwrap();
/// writeln!(writer, "ready").unwrap();
///
/// let batch = broker.reader().topic("log", Start::Earliest).open()?.try_poll()?;
/// let lines: Vec<_> = batch.iter().filter_map(|record| record.value()).collect();
/// assert_eq!(lines, [&b"listening on port 8080"[..], b"ready"]);
/// # Ok::<(), forebay::Error>(())
/// ```
///
/// # What a call does
///
/// `write` returns how many bytes it has taken. They are copied: the buffer is free again. If the topic refuses
/// a line in the middle of a call, the call returns the length of what came before; if there is nothing before,
/// it fails with an [`io::Error`] whose [`get_ref`](io::Error::get_ref) is the [`Error`](crate::Error). Such a
/// call has taken nothing and can be made again; a line that was begun by earlier calls stays begun, to go on
/// with or to [discard](Self::discard_unfinished).
///
/// With [`Framing::Lines`] whole lines are sent from the caller's bytes, several at a time as a batch. An
/// unfinished line waits in the writer for its end, for `flush`, or for the writer to be dropped; the end of a line
/// that was flushed unfinished makes no record of its own. What is longer than
/// [`max_record_bytes`](crate::TopicConfig::max_record_bytes) allows is cut into several records, so the writer
/// never holds more than one record.
///
/// `flush` sends an unfinished line. It does not sync: loggers flush after each message, and would then wait
/// for the disk each time. What must survive a power cut is written with [`Acks::Synced`], or to a topic with a
/// [`flush_interval`](crate::TopicConfig::flush_interval); [`Topic::flush`] syncs once. A record that was taken
/// but could not be synced for want of something else than a working disk
/// ([`Error::NotSynced`](crate::Error::NotSynced)) is synced by the next `write` or `flush`, which fails if that cannot be
/// done and [`WhenRefused::Fail`] is set.
///
/// In a full topic whose senders wait ([`OnFull::Block`](crate::OnFull::Block)) a call waits too: until a record
/// is refused, and no longer for those behind it. A log that must hold up nobody goes to a topic with
/// another [`OnFull`](crate::OnFull).
///
/// Lines keep their order within a partition: in a topic with several of them, [`key`](Self::key) keeps them
/// together.
///
/// # As the log of the program the broker is in
///
/// The broker may log to a topic of its own. It sends nothing itself while a lock is held, and a send to a
/// broker on a disk logs nothing on the thread that sends: a logger with a lock around its writer does not
/// meet itself. One in memory does its chores on the thread that sends, and says so there, at debug level
/// whenever a segment is full: a logger with such a lock must leave out the target `forebay` then. And
/// each such message is a record: a segment has to hold more than one of them.
pub struct TopicWriter {
    sink: Arc<Sink>,
    /// The beginning of a line whose end has not come; at most one record.
    unfinished: Vec<u8>,
    /// Whether the beginning of the current line was sent already.
    is_continued: bool,
}

impl Topic {
    /// Something to write to that makes records of lines, or of writes, with what this handle is set to.
    ///
    /// ```
    /// # use forebay::{Broker, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// use std::io::Write;
    /// use forebay::WhenRefused;
    ///
    /// let log = broker.create_topic("log", TopicConfig::new())?;
    /// let mut writer = log.writer().when_refused(WhenRefused::Drop);
    /// writer.write_all(b"one\ntwo\nthr").unwrap();
    /// assert_eq!(log.latest_offset(0)?, 2);
    /// drop(writer);
    /// assert_eq!(log.latest_offset(0)?, 3);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn writer(&self) -> TopicWriter {
        TopicWriter {
            sink: Arc::new(Sink::new(self.clone())),
            unfinished: Vec::new(),
            is_continued: false,
        }
    }
}

impl TopicWriter {
    /// What becomes a record. Default: [`Framing::Lines`].
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        self.with(|sink| sink.framing = framing)
    }

    /// The key of each record, so that all go to one partition and keep their order. Default: none.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.with(|sink| sink.change_label(|label| label.set_key(key.as_ref())))
    }

    /// Adds a header to each record. Default: none. Up to two of them cost no allocation.
    #[must_use]
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.with(|sink| sink.change_label(|label| label.add_header(name.as_ref(), value.as_ref())))
    }

    /// What each record waits for. Default: what the [`Topic`] is set to, [`Acks::Written`].
    #[must_use]
    pub fn acks(self, acks: Acks) -> Self {
        self.with(|sink| sink.set_acks(acks))
    }

    /// What is done with what the topic refuses. Default: [`WhenRefused::Fail`].
    #[must_use]
    pub fn when_refused(self, when_refused: WhenRefused) -> Self {
        self.with(|sink| sink.when_refused = when_refused)
    }

    /// Whether a record says how many were dropped, once there is room again. Default:
    /// [`LossReport::Record`].
    #[must_use]
    pub fn loss_report(self, loss_report: LossReport) -> Self {
        self.with(|sink| sink.loss_report = loss_report)
    }

    fn with(mut self, change: impl FnOnce(&mut Sink)) -> Self {
        // Clones that are there keep what they have, but for the account.
        change(Arc::make_mut(&mut self.sink));
        self
    }

    /// How many records this writer and its clones have dropped: a line, or a write, counts once for each record it
    /// would have made. An unfinished line that could not be sent when its writer was dropped is counted whatever
    /// [`when_refused`](Self::when_refused) says.
    ///
    /// After [`Error::Poisoned`](crate::Error::Poisoned), which is a failed sync, what was counted may be in the topic
    /// all the same.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Forgets a line that was begun and not finished, and returns how many bytes of it the writer held: for who
    /// gives a line up after its end was refused.
    pub fn discard_unfinished(&mut self) -> usize {
        let length = self.unfinished.len();
        self.line_is_over();
        length
    }

    fn line_is_over(&mut self) {
        self.forget_line();
        self.is_continued = false;
    }

    fn forget_line(&mut self) {
        self.unfinished.clear();
        self.unfinished.shrink_to(KEPT_BYTES);
    }

    /// Takes some of `bytes`, which are not empty, as far as one step goes.
    fn take(&mut self, bytes: &[u8]) -> Progress {
        let longest = self.sink.longest(self.unfinished.len() + bytes.len());
        if self.sink.framing == Framing::Writes {
            return self.sink.send(cut(bytes, longest), self.sink.when_refused);
        }
        if self.unfinished.is_empty() && !self.is_continued {
            return self.take_lines(bytes, longest);
        }
        self.go_on_with_line(bytes, longest)
    }

    /// Sends the whole lines there are, from where they lie, or begins one.
    fn take_lines(&mut self, bytes: &[u8], longest: usize) -> Progress {
        let (whole, _) = bytes.split_at(last_line_end(bytes));
        if !whole.is_empty() {
            let progress = self.sink.send(WholeLines::new(whole, longest), self.sink.when_refused);
            let (taken, _) = whole.split_at(progress.taken);
            self.is_continued = taken.last().is_some_and(|last| *last != b'\n');
            return progress;
        }
        self.begin_line(bytes, longest)
    }

    /// Keeps bytes without a line end, and sends what there is too much of.
    fn begin_line(&mut self, bytes: &[u8], longest: usize) -> Progress {
        // The last piece is kept, since the next byte may end it.
        let kept = bytes.len().saturating_sub(1) % longest + 1;
        let (sent, kept) = bytes.split_at(bytes.len().saturating_sub(kept));
        let mut progress = self.sink.send(cut(sent, longest), self.sink.when_refused);
        self.is_continued |= progress.taken > 0;
        if progress.stopped.is_none() {
            self.unfinished.extend_from_slice(kept);
            progress.taken = bytes.len();
        }
        progress
    }

    /// Finishes the line that was begun, or makes it longer.
    fn go_on_with_line(&mut self, bytes: &[u8], longest: usize) -> Progress {
        let room = longest.saturating_sub(self.unfinished.len());
        // One more, which may be the end of a line that has just the length.
        let (window, _) = bytes.split_at(bytes.len().min(room.saturating_add(1)));
        if let Some(length) = first_line_end(window) {
            return self.finish_line(window.split_at(length).0, longest);
        }
        if self.unfinished.is_empty() {
            return self.begin_line_until_end(bytes, longest);
        }
        if bytes.len() <= room {
            self.unfinished.extend_from_slice(bytes);
            return Progress { taken: bytes.len(), stopped: None };
        }
        let joined = Joined::new(&mut self.unfinished, bytes.split_at(room).0);
        let progress = self.sink.send(cut(joined.line, longest), self.sink.when_refused);
        self.is_continued |= progress.taken > 0;
        joined.taken(progress)
    }

    /// As [`begin_line`](Self::begin_line), for a line whose beginning was sent and whose end may be among
    /// `bytes`.
    fn begin_line_until_end(&mut self, bytes: &[u8], longest: usize) -> Progress {
        let end = first_line_end(bytes);
        let (line, _) = bytes.split_at(end.unwrap_or(bytes.len()));
        if end.is_none() {
            return self.begin_line(line, longest);
        }
        let progress = self.sink.send(WholeLines::new(line, longest), self.sink.when_refused);
        if progress.taken == line.len() {
            self.is_continued = false;
        }
        progress
    }

    /// Sends the line that was begun, whose end are `bytes`.
    fn finish_line(&mut self, bytes: &[u8], longest: usize) -> Progress {
        let joined = Joined::new(&mut self.unfinished, bytes);
        let is_sent_already = self.is_continued && content(joined.line).is_empty();
        let progress = if is_sent_already {
            Progress { taken: joined.line.len(), stopped: None }
        } else {
            self.sink.send(WholeLines::new(joined.line, longest), self.sink.when_refused)
        };
        let is_whole = progress.taken == joined.line.len();
        self.is_continued = !is_whole && (self.is_continued || progress.taken > 0);
        let progress = joined.taken(progress);
        if is_whole {
            self.line_is_over();
        }
        progress
    }

    /// Sends an unfinished line as it is.
    fn send_unfinished(&mut self, when_refused: WhenRefused) -> io::Result<()> {
        while !self.unfinished.is_empty() {
            let longest = self.sink.longest(self.unfinished.len());
            let progress = self.sink.send(cut(&self.unfinished, longest), when_refused);
            self.is_continued |= progress.taken > 0;
            self.unfinished.drain(..progress.taken.min(self.unfinished.len()));
            if let Some(Stopped::Refused(error)) = progress.stopped {
                return Err(error.into());
            }
        }
        self.forget_line();
        Ok(())
    }
}

impl io::Write for TopicWriter {
    /// # Errors
    ///
    /// With [`WhenRefused::Fail`] what [`Topic::send`] refuses, and nothing was taken; never with
    /// [`WhenRefused::Drop`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.sink.settle()?;
        if self.sink.framing == Framing::Writes {
            // There is one only if the framing was another when it was begun.
            self.send_unfinished(self.sink.when_refused)?;
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let progress = self.take(bytes.split_at(taken).1);
            taken += progress.taken;
            match progress.stopped {
                None | Some(Stopped::CutAnew) => {}
                // The caller comes again with the rest, and is told then.
                Some(Stopped::Refused(_)) if taken > 0 => break,
                Some(Stopped::Refused(error)) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    /// Sends an unfinished line; syncs nothing but what earlier calls owe.
    ///
    /// # Errors
    ///
    /// As `write`.
    fn flush(&mut self) -> io::Result<()> {
        self.sink.settle()?;
        if self.unfinished.is_empty() {
            return Ok(());
        }
        self.send_unfinished(self.sink.when_refused)
    }
}

/// Sends to the same topic with the same settings, counts what is dropped together with this one, and has
/// a line of its own.
impl Clone for TopicWriter {
    fn clone(&self) -> Self {
        Self { sink: Arc::clone(&self.sink), unfinished: Vec::new(), is_continued: false }
    }
}

/// An unfinished line is sent, or counted as dropped.
impl Drop for TopicWriter {
    fn drop(&mut self) {
        if !self.unfinished.is_empty() {
            // A partitioner of the user's own may panic.
            drop(catch_unwind(AssertUnwindSafe(|| self.send_unfinished(WhenRefused::Drop))));
        }
    }
}

impl fmt::Debug for TopicWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicWriter")
            .field("topic", &self.sink.topic().name())
            .field("framing", &self.sink.framing)
            .field("when_refused", &self.sink.when_refused)
            .field("dropped", &self.dropped())
            .field("unfinished_bytes", &self.unfinished.len())
            .finish_non_exhaustive()
    }
}

/// A line that was begun, with more bytes behind it. They go again if they are not taken: when they are
/// refused, or a panic goes by.
struct Joined<'a> {
    line: &'a mut Vec<u8>,
    /// How much of the line was there before.
    before: usize,
}

impl<'a> Joined<'a> {
    fn new(line: &'a mut Vec<u8>, more: &[u8]) -> Self {
        let before = line.len();
        line.extend_from_slice(more);
        Self { line, before }
    }

    /// Takes off what was sent, and says how many of the bytes behind the line that are.
    fn taken(mut self, progress: Progress) -> Progress {
        let of_line = progress.taken.min(self.before);
        self.line.truncate(self.before);
        self.line.drain(..of_line);
        self.before -= of_line;
        Progress { taken: progress.taken - of_line, ..progress }
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.line.truncate(self.before);
    }
}
