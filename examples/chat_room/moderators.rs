//! Two who review everything that is said, one at a time: the other stands by, and goes on where
//! the first had come to when that one leaves or dies.
//!
//! What was reviewed is committed together with how many messages were flagged in it. So a message
//! that is reviewed twice, because a moderator died over it, is counted once.

use crate::people::ATTENTION;
use crate::room::{Message, Moderation, Result, Room};

pub const MODERATORS: [&str; 2] = ["Weir", "Sluice"];
const SPAM: [&str; 4] = ["casino", "jackpot", "lottery", "crypto"];
/// From how many letters on capitals are shouting.
const SHOUTING_LETTERS: usize = 5;

/// What there is to object to in a message.
pub fn objection(text: &str) -> Option<&'static str> {
    let letters: String = text.chars().filter(|char| char.is_alphabetic()).collect();
    let is_shouted =
        letters.chars().count() >= SHOUTING_LETTERS && letters.chars().all(char::is_uppercase);
    let lower = text.to_lowercase();
    let is_spam =
        lower.split(|char: char| !char.is_alphanumeric()).any(|word| SPAM.contains(&word));
    if is_spam {
        Some("we buy nothing here")
    } else {
        is_shouted.then_some("we hear you without capitals too")
    }
}

/// Moderates until it is time to go. `review` returns whether a message is to be flagged.
pub fn moderate(
    room: &Room,
    name: &str,
    is_over: impl Fn() -> bool,
    mut review: impl FnMut(&Message<'_>) -> Result<bool>,
) -> Result<()> {
    let mut seat = room.moderate(name)?;
    while !is_over() {
        let batch = seat.hear(ATTENTION)?;
        if batch.is_empty() {
            continue;
        }
        let mut flagged = count(&seat.note()?);
        for message in batch.iter().map(Message::from) {
            flagged += u64::from(review(&message)?);
        }
        seat.done_with_note(&flagged.to_string())?;
    }
    seat.leave()
}

/// Moderates as people see it: objects in the room, though not to what was said in earlier runs.
pub fn moderate_aloud(
    room: &Room,
    name: &str,
    from: u64,
    is_over: impl Fn() -> bool,
) -> Result<()> {
    moderate(room, name, is_over, |message| {
        let Some(objection) = objection(&message.text) else { return Ok(false) };
        if from <= message.offset {
            room.say(name, format!("{}, {objection}.", message.name))?;
        }
        Ok(true)
    })
}

/// How many messages were flagged in all that was reviewed.
pub fn flagged(moderation: &Moderation) -> u64 {
    count(&moderation.note)
}

/// A moderator's note is a number; before the first there is none.
fn count(note: &str) -> u64 {
    note.parse().unwrap_or(0)
}
