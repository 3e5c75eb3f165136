//! The room on a terminal: you type, the others answer.
//!
//! Everybody is a thread with a reader of their own. Yours prints; the main thread reads what you
//! type.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::history;
use crate::people::{ATTENTION, REGULARS};
use crate::room::{LONGEST_BYTES, Message, Result, Room, printable};

/// How much of what was said before is shown at the start.
const SHOWN: u64 = 20;
const HELP: &str = "\
   Say something. Brook and Marina are here too.
   /who      who is here, and how much each has said
   /history  all that was ever said
   /crash    end this program as a crash would; start it again and see what is left
   /quit     leave, as Ctrl-D does";

/// How a visit ends.
enum Exit {
    Quit,
    Crash,
}

pub fn run(room: &Room, you: &str) -> Result<()> {
    let from = history::replay(room, SHOWN)?;
    writeln!(io::stdout(), "{HELP}")?;
    let leaving = AtomicBool::new(false);
    let exit = thread::scope(|scope| {
        let mut people = vec![scope.spawn(|| watch(room, from, you, &leaving))];
        for regular in &REGULARS {
            let leaving = &leaving;
            people.push(scope.spawn(move || regular.stay(&room.clone(), from, you, leaving)));
        }
        let exit = talk(room, you);
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

/// Shows what the others say. What you say is on your screen already.
fn watch(room: &Room, from: u64, you: &str, leaving: &AtomicBool) -> Result<()> {
    let mut listener = room.listen(from)?;
    while !leaving.load(Ordering::Relaxed) {
        for message in listener.hear(ATTENTION)?.iter().map(Message::from) {
            if message.name != you {
                show(&message)?;
            }
        }
    }
    Ok(())
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
fn talk(room: &Room, you: &str) -> Result<Exit> {
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
    Ok(())
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
