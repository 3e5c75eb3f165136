//! The way out: server-sent events, one for each message.
//!
//! The id of an event is the offset of its message. A browser that lost us sends the last id it
//! saw, and goes on right behind it: nothing is missed and nothing is repeated, even if we were
//! restarted in between, because offsets are kept.

use std::io::{self, BufWriter, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http::{self, Request};
use crate::room::{Message, Result, Room};

/// How much somebody is shown who comes in.
const SHOWN: u64 = 200;
/// A tab that was closed is noticed when something is written to it, so something must be, now
/// and then.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Sends messages as they come, until the tab is gone or the room is closed.
pub fn run(room: &Room, request: &Request, socket: &TcpStream) -> Result<()> {
    let header = request.values("Last-Event-ID").first().and_then(|id| id.parse().ok());
    // A page that opens a stream anew cannot set the header, and says it in the address.
    let last_seen = header.or_else(|| request.query.strip_prefix("after=")?.parse().ok());
    let mut listener = room.listen(first(room, last_seen)?)?;
    let mut out = BufWriter::new(socket);
    write!(out, "{}\r\nretry: 1000\n\n", http::head("200 OK", "text/event-stream"))?;
    loop {
        // What was written must leave before the wait for more.
        out.flush()?;
        let batch = listener.hear(HEARTBEAT)?;
        if batch.is_empty() {
            write!(out, ": still here\n\n")?;
        }
        for record in &batch {
            write_event(&mut out, &record.into())?;
        }
    }
}

/// The offset to begin at: behind the last message that was seen.
fn first(room: &Room, last_seen: Option<u64>) -> Result<u64> {
    let (start, end) = (room.start()?, room.end()?);
    let recent = end.saturating_sub(SHOWN).max(start);
    // An offset that was never given out comes from another room that was at this address.
    let behind = last_seen.and_then(|offset| offset.checked_add(1));
    Ok(behind.filter(|offset| (start..=end).contains(offset)).unwrap_or(recent))
}

/// An event is lines: the time in milliseconds, the name, and the text, which may be several.
fn write_event(out: &mut impl Write, message: &Message<'_>) -> io::Result<()> {
    write!(out, "id: {}\ndata: {}\ndata: ", message.offset, message.millis)?;
    let name = message.name.replace(['\r', '\n'], " ");
    writeln!(out, "{name}")?;
    // A line end inside of the text must not end the event, or a message could forge another.
    for line in message.text.replace("\r\n", "\n").split(['\r', '\n']) {
        writeln!(out, "data: {line}")?;
    }
    writeln!(out)
}
