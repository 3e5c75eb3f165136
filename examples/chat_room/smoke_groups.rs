//! Checks that the room knows who has read what, and that no message escapes the moderators.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::moderators::{MODERATORS, flagged, moderate, objection};
use crate::room::{Message, Moderation, Result, Room};
use crate::smoke::{PATIENCE, check};

/// How many messages are said between two events among the moderators.
const ROUND: u64 = 1000;
/// The message over which a moderator dies.
const DEADLY: u64 = 750;

pub fn unread_is_counted(dir: &Path) -> Result<()> {
    let room = Room::open(dir)?;
    check(room.place("Ada")?.is_none(), "who was never here has not missed anything")?;
    let mut empty = room.visit("Carl")?;
    let nothing = empty.hear(Duration::ZERO)?.is_empty();
    empty.done()?;
    empty.leave()?;
    say(&room, &["one", "two"])?;
    check(nothing && room.unread("Carl")? == 2, "who came too early has missed all of it")?;
    let heard = visit(&room, "Ada", Screen::On)?;
    check(heard == ["one", "two"] && room.unread("Ada")? == 0, "what is shown is read")?;

    say(&room, &["three", "four", "five"])?;
    check(room.unread("Ada")? == 3, "what is said while somebody is away is unread")?;
    let heard = visit(&room, "Ada", Screen::Off)?;
    check(
        heard == ["three", "four", "five"] && room.unread("Ada")? == 3,
        "who comes back hears just that; what is not shown stays unread",
    )?;
    room.has_read("Ada", 3)?;
    room.has_read("Ada", 1)?;
    room.has_read("Bob", 1)?;
    room.close()?;

    let room = Room::open(dir)?;
    let places = room.places()?;
    let places = places.iter().map(|place| (place.name.as_str(), place.next, place.unread));
    check(
        places.eq([("Ada", 4, 1), ("Bob", 2, 3), ("Carl", 0, 5)]),
        "it is the same after reopening, each has a count, and reading goes only forward",
    )?;
    let heard = visit(&room, "Ada", Screen::On)?;
    check(heard == ["five"] && room.unread("Ada")? == 0, "and who comes back goes on there")?;
    room.close()
}

fn say(room: &Room, texts: &[&str]) -> Result<()> {
    texts.iter().try_for_each(|text| room.say("Delta", text).map(drop))
}

/// Whether somebody sees what they hear.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Screen {
    On,
    Off,
}

/// Comes in, hears what there is, and leaves.
fn visit(room: &Room, name: &str, screen: Screen) -> Result<Vec<String>> {
    let mut seat = room.visit(name)?;
    let batch = seat.hear(PATIENCE)?;
    if screen == Screen::On {
        seat.done()?;
    }
    seat.leave()?;
    Ok(batch.iter().map(|record| Message::from(record).text.into_owned()).collect())
}

/// One of two moderators dies over a message, the other leaves, and all go home for a while.
pub fn nothing_escapes_the_moderators(dir: &Path) -> Result<()> {
    let [weir, sluice] = MODERATORS;
    let reviews = Arc::default();
    let room = Room::open(dir)?;
    let first = Moderator::come(&room, weir, &reviews, End::Dies);
    wait_until(&room, |now| now.reviewing.as_deref() == Some(weir))?;
    let second = Moderator::come(&room, sluice, &reviews, End::Leaves);
    wait_until(&room, |now| now.standing_by == [sluice])?;
    chat(&room)?;
    check(first.thread.join().is_err(), "a moderator died over a message")?;
    wait_until(&room, |now| now.reviewed == ROUND && now.reviewing.as_deref() == Some(sluice))?;

    let first = Moderator::come(&room, weir, &reviews, End::Leaves);
    wait_until(&room, |now| now.reviewing.is_some() && now.standing_by.len() == 1)?;
    let [leaves, stays] = match room.moderation()?.reviewing {
        Some(name) if name == weir => [first, second],
        _ => [second, first],
    };
    chat(&room)?;
    leaves.leave()?;
    chat(&room)?;
    wait_until(&room, |now| now.reviewed == 3 * ROUND)?;
    stays.leave()?;
    chat(&room)?;
    room.close()?;

    let room = Room::open(dir)?;
    let last = Moderator::come(&room, weir, &reviews, End::Leaves);
    wait_until(&room, |now| now.reviewed == 4 * ROUND)?;
    last.leave()?;
    let flagged = flagged(&room.moderation()?);
    room.close()?;
    reviews.lock().map_err(|_| "a moderator died at the wrong moment")?.check(flagged)
}

/// Says as much as belongs to a round; some of it is shouted.
fn chat(room: &Room) -> Result<()> {
    (0..ROUND).try_for_each(|line| {
        let text = if line % 7 == 0 { "IS ANYBODY THERE" } else { "still waters" };
        room.say("Ford", text).map(drop)
    })
}

/// What the moderators reviewed.
#[derive(Default)]
struct Reviews {
    offsets: Vec<u64>,
    flagged: Vec<u64>,
    /// What was committed when one died.
    committed: u64,
}

impl Reviews {
    fn check(&mut self, flagged: u64) -> Result<()> {
        self.offsets.sort_unstable();
        let twice = self.offsets.windows(2).filter(|pair| pair[0] == pair[1]);
        check(
            twice.map(|pair| pair[0]).eq(self.committed..=DEADLY),
            &format!(
                "the {} messages that were not committed when a moderator died were reviewed twice",
                (DEADLY + 1).saturating_sub(self.committed)
            ),
        )?;
        self.offsets.dedup();
        check(self.offsets.iter().copied().eq(0..4 * ROUND), "every message was reviewed")?;
        self.flagged.sort_unstable();
        self.flagged.dedup();
        check(flagged == self.flagged.len() as u64, "what was flagged twice is counted once")
    }
}

/// How a moderator ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Leaves,
    Dies,
}

/// A moderator on a thread of their own.
struct Moderator {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Moderator {
    fn come(room: &Room, name: &'static str, reviews: &Arc<Mutex<Reviews>>, end: End) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (room, reviews, over) = (room.clone(), Arc::clone(reviews), Arc::clone(&is_over));
        let review = move |room: &Room, message: &Message<'_>| {
            let is_flagged = objection(&message.text).is_some();
            let mut reviews = reviews.lock().map_err(|_| "another died at the wrong moment")?;
            reviews.offsets.push(message.offset);
            reviews.flagged.extend(is_flagged.then_some(message.offset));
            if end == End::Dies && message.offset == DEADLY {
                reviews.committed = room.moderation()?.reviewed;
                drop(reviews);
                // It unwinds as any panic does, and spares us the message.
                resume_unwind(Box::new("on purpose"));
            }
            Ok(is_flagged)
        };
        let moderate = move || {
            moderate(&room, name, || over.load(Ordering::Relaxed), |message| review(&room, message))
        };
        Self { is_over, thread: thread::spawn(moderate) }
    }

    fn leave(self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a moderator panicked")?
    }
}

fn wait_until(room: &Room, is_so: impl Fn(&Moderation) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = room.moderation()?;
        if now.is_settled && is_so(&now) {
            return Ok(());
        }
        if deadline < Instant::now() {
            return Err(format!("waited in vain: {now:?}").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
}
