//! What a user chooses for a writer.

/// What becomes a record of a [`TopicWriter`](crate::TopicWriter).
///
/// ```
/// # use forebay::{Broker, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use std::io::Write;
/// use forebay::Framing;
///
/// let log = broker.create_topic("log", TopicConfig::new())?;
/// log.writer().framing(Framing::Lines).write_all(b"one\ntwo\n").unwrap();
/// assert_eq!(log.latest_offset(0)?, 2);
/// log.writer().framing(Framing::Writes).write_all(b"one\ntwo\n").unwrap();
/// assert_eq!(log.latest_offset(0)?, 3);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Each line, without its end: `\n` or `\r\n`. An empty line is an empty record.
    #[default]
    Lines,
    /// Each call of `write`, byte for byte, line ends too: for what hands on a whole message in
    /// one call, as `tracing-subscriber` and `env_logger` do, and messages of several lines. `writeln!`
    /// makes a call for each of its parts, and so do many serializers: they belong into a
    /// [`BufWriter`](std::io::BufWriter) that is flushed after each message.
    Writes,
}

/// What a [`TopicWriter`](crate::TopicWriter) does with what the topic refuses: because the disk is
/// full, say, or the broker closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenRefused {
    /// The call fails with an [`io::Error`](std::io::Error) that holds the
    /// [`Error`](crate::Error), and has taken nothing.
    #[default]
    Fail,
    /// It is dropped and [counted](crate::TopicWriter::dropped), and the call succeeds: for a log, which
    /// must not stop the program that writes it.
    Drop,
}

/// Whether a [`TopicWriter`](crate::TopicWriter) that [drops](WhenRefused::Drop) what is refused says so
/// in the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReport {
    /// When there is room again, a record `forebay: 17 lines dropped` comes before what is
    /// written next. Its header `forebay.dropped` has the number.
    #[default]
    Record,
    /// What was dropped is only counted.
    Off,
}
