//! The room: a topic with one partition, so that everybody hears everything in the same order.
//!
//! A message is a record. Its key is who said it, its value is what was said, and its offset is
//! its place in the conversation. The log keeps the bytes as they came; they become text, and
//! safe to show, only when they are read.
//!
//! Everybody who reads is a consumer group of one, so the room knows what each has not read yet,
//! whether they are here or not. The moderators are a group of two: of a topic with one partition
//! only one of them reads, and the other takes over when that one is gone.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{
    Batch, Broker, Consumer, ConsumerRecord, GroupDescription, GroupState, Reader, Record, Start,
    Topic, TopicConfig,
};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const TOPIC: &str = "room";
/// More than one partition would be faster with many people, and would give each a conversation
/// of its own order.
const PARTITION: u32 = 0;
/// What the name of a reader's group begins with; what follows is who it is.
const READER: &str = "reader-";
const MODERATORS: &str = "moderators";
/// The longest name somebody may have, so that it fits into the 249 bytes of a group's name.
pub const LONGEST_NAME_CHARS: usize = 40;
/// The longest message that is sent in one piece. A topic allows 1 MiB unless told otherwise.
pub const LONGEST_BYTES: usize = 64 << 10;
/// How much of a message is shown on a terminal.
const SHOWN_CHARS: usize = 400;

/// An open room. Clones are the same room: give one to each person.
#[derive(Clone)]
pub struct Room {
    broker: Broker,
    topic: Topic,
    /// How many messages were acknowledged since the room was opened.
    acknowledged: Arc<AtomicU64>,
}

impl Room {
    /// Opens the room that is kept in a directory, or makes it.
    pub fn open(dir: &Path) -> Result<Self> {
        let broker = Broker::open(dir).map_err(friendly)?;
        let topic = broker.create_topic_if_absent(TOPIC, TopicConfig::new().partitions(1))?;
        Ok(Self { broker, topic, acknowledged: Arc::default() })
    }

    /// Says something, and returns its offset. From then on it survives a crash of this program.
    pub fn say(&self, name: &str, text: impl AsRef<[u8]>) -> Result<u64> {
        let sent = self.topic.send(Record::new(text.as_ref()).key(name))?;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(sent.offset)
    }

    /// Listens to everything from an offset on.
    pub fn listen(&self, from: u64) -> Result<Listener> {
        let start = Start::Offset(from);
        let reader = self.broker.reader().partition(TOPIC, PARTITION, start).open()?;
        Ok(Listener { reader, next: from })
    }

    /// Goes through what was said from one offset up to, and without, another.
    pub fn each(
        &self,
        from: u64,
        to: u64,
        mut hear: impl FnMut(Message<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut listener = self.listen(from)?;
        while listener.next() < to {
            let batch = listener.hear(Duration::from_secs(1))?;
            if batch.is_empty() {
                return Err(format!("offset {} of {to} is missing", listener.next()).into());
            }
            for record in batch.iter().take_while(|record| record.offset() < to) {
                hear(record.into())?;
            }
        }
        Ok(())
    }

    /// Takes somebody in: they hear everything they have not read.
    pub fn visit(&self, name: &str) -> Result<Seat> {
        let consumer = self.broker.consumer(&reader(name)).subscribe([TOPIC]).open()?;
        Ok(Seat { consumer })
    }

    /// Takes a moderator in. The first to come hears everything that was not reviewed; the next
    /// hears nothing until that one is gone.
    pub fn moderate(&self, name: &str) -> Result<Seat> {
        let consumer = self.broker.consumer(MODERATORS).subscribe([TOPIC]);
        Ok(Seat { consumer: consumer.static_member(name).open()? })
    }

    /// Says that somebody, who has no seat, was shown everything up to, and with, this offset.
    pub fn has_read(&self, name: &str, offset: u64) -> Result<()> {
        if self.place(name)?.is_some_and(|place| offset < place.next) {
            return Ok(());
        }
        let mut seat = self.visit(name)?;
        // Only who has the partition may commit, and it comes with a poll. Something is there to be
        // read, so this does not wait, unless the same person says the same from another tab.
        let _unread = seat.hear(Duration::from_secs(1))?;
        match seat.consumer.commit_offsets([((TOPIC, PARTITION), offset + 1)]) {
            Ok(()) | Err(forebay::Error::CommitBackwards { .. }) => seat.leave(),
            Err(error) => Err(error.into()),
        }
    }

    /// Where somebody has come to; `None` if they were never here.
    pub fn place(&self, name: &str) -> Result<Option<Place>> {
        let committed = self.broker.committed(&reader(name), TOPIC, PARTITION)?;
        let Some(committed) = committed else { return Ok(None) };
        let next = committed.offset.max(self.start()?);
        let unread = self.end()?.saturating_sub(next);
        Ok(Some(Place { name: name.to_owned(), next, unread }))
    }

    /// How much somebody has not read. Who was never here has missed nothing.
    pub fn unread(&self, name: &str) -> Result<u64> {
        Ok(self.place(name)?.map_or(0, |place| place.unread))
    }

    /// Where each has come to who was ever here.
    pub fn places(&self) -> Result<Vec<Place>> {
        let groups = self.broker.groups()?;
        let names = groups.iter().filter_map(|group| group.strip_prefix(READER));
        names.filter_map(|name| self.place(name).transpose()).collect()
    }

    /// How the moderators are doing.
    pub fn moderation(&self) -> Result<Moderation> {
        let Some(group) = self.group(MODERATORS)? else { return Ok(Moderation::default()) };
        let is_settled = group.state != GroupState::Rebalancing;
        let mut moderation = Moderation { is_settled, ..Moderation::default() };
        for member in &group.members {
            let name = member.static_member.clone().unwrap_or_default();
            if member.assignment.is_empty() {
                moderation.standing_by.push(name);
            } else {
                moderation.reviewing = Some(name);
            }
        }
        if let Some(place) = group.offsets.first() {
            moderation.reviewed = place.committed.unwrap_or(0);
            moderation.note.clone_from(&place.metadata);
        }
        Ok(moderation)
    }

    fn group(&self, name: &str) -> Result<Option<GroupDescription>> {
        match self.broker.describe_group(name) {
            Ok(group) => Ok(Some(group)),
            Err(forebay::Error::UnknownGroup { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The offset of the first message.
    pub fn start(&self) -> Result<u64> {
        Ok(self.topic.earliest_offset(PARTITION)?)
    }

    /// The offset the next message will get.
    pub fn end(&self) -> Result<u64> {
        Ok(self.topic.latest_offset(PARTITION)?)
    }

    /// How many messages were acknowledged since the room was opened.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// What had to be checked when the room was opened, if it had not been closed.
    pub fn recovery(&self) -> Option<String> {
        let recovered = self.broker.recovery_report().partitions.first()?;
        let (from, end) = (recovered.from_offset, recovered.end_offset);
        let cut = recovered.bytes_cut;
        Some(format!("offsets {from} to {end} were read and checked, {cut} torn bytes were cut"))
    }

    /// Where the room is kept.
    pub fn dir(&self) -> &Path {
        self.broker.dir()
    }

    /// Closes the room. Whoever still listens is told.
    pub fn close(&self) -> Result<()> {
        Ok(self.broker.close()?)
    }
}

/// Hears everything that is said, once and in order.
pub struct Listener {
    reader: Reader,
    next: u64,
}

impl Listener {
    /// What was said since, waiting up to `timeout` for something.
    ///
    /// The check costs next to nothing, and is here to show what the log promises: no gap, no
    /// repetition, whoever else talks at the same time.
    pub fn hear(&mut self, timeout: Duration) -> Result<Batch> {
        let batch = self.reader.poll(timeout)?;
        for record in &batch {
            if record.offset() != self.next {
                let (came, due) = (record.offset(), self.next);
                return Err(format!("offset {came} came where {due} was due").into());
            }
            self.next += 1;
        }
        Ok(batch)
    }

    /// The offset of the next message it will hear.
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// A seat in a group: hears what the group has not done with, from where it had come to.
pub struct Seat {
    consumer: Consumer,
}

impl Seat {
    /// What is to be done next, waiting up to `timeout` for something.
    pub fn hear(&mut self, timeout: Duration) -> Result<Batch> {
        Ok(self.consumer.poll(timeout)?)
    }

    /// Says that all that was heard is done with. From then on nobody in the group hears it again,
    /// not even after a crash; until then somebody does.
    pub fn done(&mut self) -> Result<()> {
        // Who has heard nothing has been here all the same, and that is worth a commit.
        match self.consumer.position(TOPIC, PARTITION) {
            Ok(next) => Ok(self.consumer.commit_offsets([((TOPIC, PARTITION), next)])?),
            // Who stands by has nothing to commit.
            Err(forebay::Error::NotAssigned { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// As `done`, and leaves a note: either both are kept or none is.
    pub fn done_with_note(&mut self, note: &str) -> Result<()> {
        let next = self.consumer.position(TOPIC, PARTITION)?;
        Ok(self.consumer.commit_offsets([((TOPIC, PARTITION), (next, note))])?)
    }

    /// The last note anybody in the group left.
    pub fn note(&self) -> Result<String> {
        let committed = self.consumer.committed(TOPIC, PARTITION)?;
        Ok(committed.unwrap_or_default().metadata)
    }

    pub fn leave(self) -> Result<()> {
        Ok(self.consumer.close()?)
    }
}

/// Where somebody has come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub name: String,
    /// The offset of the first message they have not read.
    pub next: u64,
    pub unread: u64,
}

/// How the moderators are doing.
#[derive(Debug, Default)]
pub struct Moderation {
    pub reviewing: Option<String>,
    pub standing_by: Vec<String>,
    /// The offset of the first message that was not reviewed.
    pub reviewed: u64,
    pub note: String,
    /// Whether each reads, or stands by, as it is to.
    pub is_settled: bool,
}

impl Moderation {
    /// Whether this moderator is gone and another, if there is one, reviews.
    pub fn is_taken_over(&self, name: &str) -> bool {
        self.is_settled && self.reviewing.as_deref() != Some(name)
    }
}

/// What somebody said.
pub struct Message<'a> {
    pub offset: u64,
    pub millis: i64,
    pub name: Cow<'a, str>,
    pub text: Cow<'a, str>,
}

impl<'a> From<ConsumerRecord<'a>> for Message<'a> {
    fn from(record: ConsumerRecord<'a>) -> Self {
        Self {
            offset: record.offset(),
            millis: record.timestamp().as_millis(),
            name: String::from_utf8_lossy(record.key().unwrap_or(b"somebody")),
            text: String::from_utf8_lossy(record.value().unwrap_or_default()),
        }
    }
}

/// As it is shown on a terminal, which it cannot command.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", printable(&self.name), printable(&self.text))
    }
}

fn reader(name: &str) -> String {
    format!("{READER}{name}")
}

/// Text without what a terminal would obey instead of show, and not too long.
pub fn printable(text: &str) -> String {
    let turns_text_around =
        |char| matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut chars = text
        .chars()
        .map(|char| if char == '\t' || char == '\n' { ' ' } else { char })
        .filter(|&char| !char.is_control() && !turns_text_around(char));
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn friendly(error: forebay::Error) -> Box<dyn Error + Send + Sync> {
    let forebay::Error::Locked { path, pid } = error else { return error.into() };
    let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    let path = path.display();
    format!(
        "{who} has the room in {path} open, and one process at a time may. \
         Close it there, or choose another room with --dir."
    )
    .into()
}
