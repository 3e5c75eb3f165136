//! The room on a terminal: you type, the others answer.
//!
//! Everybody is a thread with a seat of their own. Yours prints; the main thread reads what you
//! type. What was shown to you is committed, so the next time begins with what was not.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::history;
use crate::moderators::{MODERATORS, flagged, moderate_aloud};
use crate::people::{ATTENTION, REGULARS};
use crate::room::{LONGEST_BYTES, Message, Result, Room, printable};

/// How much of what was said before is shown at the start.
const SHOWN: u64 = 20;
const HELP: &str = "\
   Say something. Brook and Marina are here too, and two moderators who dislike SHOUTING.
   /who      who is here, and how much each has said
   /kick     send the moderator who reviews home; the other one takes over
   /history  all that was ever said
   /crash    end this program as a crash would; start it again and see what is left
   /quit     leave, as Ctrl-D does";

/// How a visit ends.
enum Exit {
    Quit,
    Crash,
}

pub fn run(room: &Room, you: &str) -> Result<()> {
    let from = history::replay(room, SHOWN, room.unread(you)?)?;
    writeln!(io::stdout(), "{HELP}")?;
    let leaving = AtomicBool::new(false);
    let kicked = MODERATORS.map(|_| AtomicBool::new(false));
    let exit = thread::scope(|scope| {
        let mut people = vec![scope.spawn(|| watch(room, from, you, &leaving))];
        for regular in &REGULARS {
            let leaving = &leaving;
            people.push(scope.spawn(move || regular.stay(&room.clone(), from, you, leaving)));
        }
        for (name, kicked) in MODERATORS.iter().zip(&kicked) {
            let is_over = || leaving.load(Ordering::Relaxed) || kicked.load(Ordering::Relaxed);
            people.push(scope.spawn(move || moderate_aloud(room, name, from, is_over)));
        }
        let exit = talk(room, you, &kicked);
        // Whatever happened, the others must hear of it, or the scope would wait for them for ever.
        leaving.store(true, Ordering::Relaxed);
        for person in people {
            person.join().map_err(|_| "somebody panicked")??;
        }
        exit
    })?;
    match exit {
        Exit::Quit => quit(room),
        Exit::Crash => crash(room, from),
    }
}

/// Shows what the others say. What you say is on your screen already, and what lies before `from`
/// was shown when you came.
fn watch(room: &Room, from: u64, you: &str, leaving: &AtomicBool) -> Result<()> {
    let mut seat = room.visit(you)?;
    loop {
        // What was said until you left is shown.
        let is_last = leaving.load(Ordering::Relaxed);
        let batch = seat.hear(if is_last { Duration::ZERO } else { ATTENTION })?;
        for message in batch.iter().map(Message::from) {
            if from <= message.offset && message.name != you {
                show(&message)?;
            }
        }
        seat.done()?;
        if is_last && batch.is_empty() {
            return seat.leave();
        }
    }
}

/// Writes a message over the prompt, and the prompt again below it.
fn show(message: &Message<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        let (name, text) = (printable(&message.name), printable(&message.text));
        write!(out, "\r\x1b[K\x1b[1m{name}\x1b[0m: {text}\n> ")?;
    } else {
        writeln!(out, "{message}")?;
    }
    Ok(out.flush()?)
}

/// Says what you type, and obeys what begins with a slash.
fn talk(room: &Room, you: &str, kicked: &[AtomicBool; 2]) -> Result<Exit> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        prompt()?;
        line.clear();
        // Bytes, not a string: a terminal may send what is not UTF-8, and that must not end it.
        let bytes = input.by_ref().take(LONGEST_BYTES as u64).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            writeln!(io::stdout())?;
            return Ok(Exit::Quit);
        }
        match String::from_utf8_lossy(&line).trim() {
            "" => {}
            "/help" => writeln!(io::stdout(), "{HELP}")?,
            "/who" => who(room, you)?,
            "/kick" => kick(room, kicked)?,
            "/history" => history::show(room, room.start()?, room.end()?)?,
            "/crash" => return Ok(Exit::Crash),
            "/quit" => return Ok(Exit::Quit),
            other if other.starts_with('/') => {
                writeln!(io::stdout(), "   {} is not known, see /help", printable(other))?;
            }
            text => {
                room.say(you, text)?;
            }
        }
    }
}

fn prompt() -> Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        write!(out, "> ")?;
    }
    Ok(out.flush()?)
}

/// Who is here, with what the log knows of each: the key of a record is who said it.
fn who(room: &Room, you: &str) -> Result<()> {
    let here = [you, REGULARS[0].name, REGULARS[1].name];
    let mut said = [0_u64; 3];
    room.each(room.start()?, room.end()?, |message| {
        if let Some(place) = here.iter().position(|name| *name == message.name) {
            said[place] += 1;
        }
        Ok(())
    })?;
    let mut out = io::stdout().lock();
    for (name, said) in here.iter().zip(said) {
        writeln!(out, "   {} (messages so far: {said})", printable(name))?;
    }
    drop(out);
    moderators(room)
}

fn moderators(room: &Room) -> Result<()> {
    let moderation = room.moderation()?;
    let mut out = io::stdout().lock();
    let name = moderation.reviewing.as_deref().unwrap_or("nobody");
    let (reviewed, flagged) = (moderation.reviewed, flagged(&moderation));
    writeln!(out, "   {name} reviews (messages so far: {reviewed}, flagged: {flagged})")?;
    for name in &moderation.standing_by {
        writeln!(out, "   {name} stands by")?;
    }
    Ok(())
}

/// Sends the moderator who reviews home, waits a moment for the other one, and says who is left.
fn kick(room: &Room, kicked: &[AtomicBool; 2]) -> Result<()> {
    let name = room.moderation()?.reviewing;
    if let Some(place) = MODERATORS.iter().position(|moderator| name.as_deref() == Some(moderator))
    {
        kicked[place].store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(1);
        while !room.moderation()?.is_taken_over(MODERATORS[place]) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
    moderators(room)
}

fn quit(room: &Room) -> Result<()> {
    let (kept, dir) = (room.end()? - room.start()?, room.dir().display().to_string());
    room.close()?;
    Ok(writeln!(io::stdout(), "-- you left; {kept} messages are kept in {dir} --")?)
}

/// Ends without closing anything, as a crash would. Every message that was acknowledged is in the
/// page cache, which belongs to the operating system, not to us.
fn crash(room: &Room, earlier: u64) -> Result<()> {
    let acknowledged = room.acknowledged();
    let total = earlier + acknowledged;
    let mut out = io::stdout().lock();
    writeln!(out, "-- {total} messages were acknowledged, {acknowledged} of them in this run --")?;
    writeln!(out, "-- crashing; start again and count --")?;
    out.flush()?;
    std::process::abort()
}
