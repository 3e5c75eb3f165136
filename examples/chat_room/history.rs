//! What was said in earlier runs.

use std::io::{self, Write};

use crate::room::{Result, Room};

/// Replays what was said before, shows the last `shown` messages of it, with a line above the
/// `unread` last, and returns the offset at which this run begins.
///
/// All of it is read, shown or not: the number is what was found, not what was hoped for.
pub fn replay(room: &Room, shown: u64, unread: u64) -> Result<u64> {
    let (start, end) = (room.start()?, room.end()?);
    let mut found = 0_u64;
    room.each(start, end, |_| {
        found += 1;
        Ok(())
    })?;

    let mut out = io::stdout().lock();
    if let Some(recovery) = room.recovery() {
        writeln!(out, "-- this room was not closed cleanly: {recovery} --")?;
    }
    writeln!(out, "-- {found} message{} from earlier --", if found == 1 { "" } else { "s" })?;
    let from = end.saturating_sub(shown).max(start);
    if start < from && from < end {
        writeln!(out, "   (the last {shown} of them)")?;
    }
    drop(out);
    let news = end.saturating_sub(unread).max(from);
    show(room, from, news)?;
    if unread > 0 {
        writeln!(io::stdout(), "-- {unread} new since you were here --")?;
    }
    show(room, news, end)?;
    Ok(end)
}

/// Writes messages to the terminal, one a line.
pub fn show(room: &Room, from: u64, to: u64) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    room.each(from, to, |message| Ok(writeln!(out, "{message}")?))?;
    Ok(out.flush()?)
}
