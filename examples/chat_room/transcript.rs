//! A transcript that is piped in: every line is said, and everybody must receive every line.
//!
//! Nobody answers, and a slash is a character like any other, so that the counts are exact.

use std::io::{self, BufRead, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::history;
use crate::people::REGULARS;
use crate::room::{LONGEST_BYTES, Result, Room};

/// How many lines are shown of the beginning and of the end.
const SHOWN: u64 = 3;
/// How long a listener waits before looking whether the end is known.
const WAIT: Duration = Duration::from_millis(10);

pub fn run(room: &Room, you: &str, input: impl BufRead) -> Result<()> {
    let from = history::replay(room, SHOWN, room.unread(you)?)?;
    let begin = Instant::now();
    // Where the transcript ends, once that is known.
    let end = AtomicU64::new(u64::MAX);
    let names = [you, REGULARS[0].name, REGULARS[1].name];
    let (lines, received) = thread::scope(|scope| -> Result<_> {
        let end = &end;
        let listeners = names.map(|name| scope.spawn(move || listen(room, name, from, end)));
        let lines = say_lines(room, you, input);
        // Set whatever happened, or the scope would wait for the listeners for ever.
        end.store(room.end().unwrap_or(0), Ordering::Release);
        let mut received = Vec::new();
        for (name, listener) in names.into_iter().zip(listeners) {
            received.push((name, listener.join().map_err(|_| "a listener panicked")??));
        }
        Ok((lines?, received))
    })?;
    let seconds = begin.elapsed().as_secs_f64();

    show_ends(room, from, room.end()?)?;
    let received: Vec<_> =
        received.iter().map(|(name, count)| format!("{name} received {count}")).collect();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = lines as f64 / seconds;
    writeln!(
        io::stdout(),
        "-- {lines} lines said; {}, without a gap; {seconds:.2} s, {rate:.0} lines a second --",
        received.join(", ")
    )?;
    room.close()
}

/// Listens until the end is known and reached, and returns how many messages that were. What was
/// missed in earlier runs comes first, and does not count.
fn listen(room: &Room, name: &str, from: u64, end: &AtomicU64) -> Result<u64> {
    let mut seat = room.visit(name)?;
    let mut received = 0;
    while from + received < end.load(Ordering::Acquire) {
        for record in seat.hear(WAIT)?.iter().filter(|record| from <= record.offset()) {
            if record.offset() != from + received {
                return Err(format!("{name} missed offset {}", from + received).into());
            }
            received += 1;
        }
        seat.done()?;
    }
    seat.leave()?;
    Ok(received)
}

/// Says each line, empty ones too, and returns how many lines that were. A line too long for one
/// message is said in several, so that a file without line ends takes no more memory than any
/// other.
fn say_lines(room: &Room, you: &str, mut input: impl BufRead) -> Result<u64> {
    let mut lines = 0;
    let mut line = Vec::new();
    loop {
        let bytes_left = LONGEST_BYTES - line.len();
        input.by_ref().take(bytes_left as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(lines);
        }
        let (text, rest) = match line.strip_suffix(b"\n") {
            Some(text) => (text.strip_suffix(b"\r").unwrap_or(text), &[][..]),
            None => cut(&line),
        };
        room.say(you, text)?;
        lines += u64::from(rest.is_empty());
        line = rest.to_vec();
    }
}

/// Takes as much of a line as one message may have, ending between two characters. Something is
/// always left, so that the end of the line does not become an empty message of its own.
fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    if line.len() < LONGEST_BYTES {
        return (line, &[]);
    }
    let is_inside_character = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    // A character has at most four bytes; more of these in a row were no text to begin with.
    let inside = line.iter().rev().take(3).take_while(is_inside_character).count();
    line.split_at(line.len() - inside - 1)
}

/// Shows how the transcript began and how it ended.
fn show_ends(room: &Room, from: u64, end: u64) -> Result<()> {
    let lines = end - from;
    if lines <= 2 * SHOWN {
        return history::show(room, from, end);
    }
    history::show(room, from, from + SHOWN)?;
    writeln!(io::stdout(), "   ({} more)", lines - 2 * SHOWN)?;
    history::show(room, end - SHOWN, end)
}
