//! The two who are always there. They answer whom they are told to, never each other, and one
//! thing at a time, so that they cannot talk themselves into a flood.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::room::{Message, Result, Room};

/// Somebody with a script.
pub struct Regular {
    pub name: &'static str,
    /// How long an answer takes to type.
    pause: Duration,
    /// Speaks up at every third message, at this one of the three.
    turn: usize,
    greeting: &'static str,
    to_own_name: &'static str,
    remarks: [&'static str; 4],
}

pub const REGULARS: [Regular; 2] = [
    Regular {
        name: "Brook",
        pause: Duration::from_millis(700),
        turn: 0,
        greeting: "Hello",
        to_own_name: "I am listening. When I leave, I come back to where I was, so I miss nothing.",
        remarks: [
            "Noted. It has an offset now, nobody can take it away.",
            "Go on.",
            "I would have put it the same way.",
            "You could /crash and I would still know you said that.",
        ],
    },
    Regular {
        name: "Marina",
        pause: Duration::from_millis(1500),
        turn: 1,
        greeting: "Good to see you",
        to_own_name: "Yes? I heard the same as everyone, and in the same order.",
        remarks: [
            "Interesting.",
            "Let that settle for a moment.",
            "That is one for the log.",
            "Still waters, long histories.",
        ],
    },
];

const GREETINGS: [&str; 6] = ["hello", "hi", "hey", "hallo", "moin", "morning"];
/// How long a person listens before looking up to see whether it is time to go.
pub const ATTENTION: Duration = Duration::from_millis(100);

impl Regular {
    /// Listens, and answers what `whom` says from an offset on, until everybody leaves.
    pub fn stay(&self, room: &Room, from: u64, whom: &str, leaving: &AtomicBool) -> Result<()> {
        let mut seat = room.visit(self.name)?;
        let mut heard = 0;
        let mut typing: Option<(Instant, String)> = None;
        while !leaving.load(Ordering::Relaxed) {
            for message in seat.hear(ATTENTION)?.iter().map(Message::from) {
                if from <= message.offset && message.name == whom && typing.is_none() {
                    let answer = self.answer(&message, heard);
                    typing = answer.map(|answer| (Instant::now() + self.pause, answer));
                    heard += 1;
                }
            }
            seat.done()?;
            let done = typing.take_if(|(when, _)| *when <= Instant::now());
            if let Some((_, answer)) = done {
                room.say(self.name, answer)?;
            }
        }
        seat.leave()
    }

    /// What there is to say to a message; most often nothing.
    fn answer(&self, message: &Message<'_>, heard: usize) -> Option<String> {
        let text = message.text.to_lowercase();
        let mut words = text.split(|char: char| !char.is_alphanumeric());
        if words.clone().any(|word| word == self.name.to_lowercase()) {
            Some(self.to_own_name.to_owned())
        } else if words.any(|word| GREETINGS.contains(&word)) {
            Some(format!("{}, {}!", self.greeting, message.name))
        } else if heard % 3 == self.turn {
            self.remarks.iter().cycle().nth(heard / 3).map(ToString::to_string)
        } else {
            None
        }
    }
}
