//! Checks that the room keeps its word, without anybody at the keyboard.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::room::{Message, Result, Room};
use crate::serve::{Reach, Web};
use crate::smoke_groups::{nothing_escapes_the_moderators, unread_is_counted};

const NAMES: [&str; 5] = ["Brook", "Marina", "Delta", "Ford", "Wells"];
const LINES: u64 = 2_000;
const TOTAL: u64 = NAMES.len() as u64 * LINES;
/// How long anything may take that ought to come at once.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What was heard: who, and what.
type Heard = Vec<(String, String)>;

pub fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    unread_is_counted(&dir.path().join("unread"))?;
    nothing_escapes_the_moderators(&dir.path().join("moderated"))?;
    let dir = dir.path().join("talk");
    let heard = everybody_hears_everything(&dir)?;
    replay_is_the_same(&dir, &heard)?;
    let room = Room::open(&dir)?;
    let web = Arc::new(Web::open(room.clone(), "127.0.0.1:0", Reach::Loopback)?);
    let address = web.address();
    // It serves until this program ends; closing the room ends the streams that are still open.
    thread::spawn(move || web.run());
    let result = browsers_can_talk(address);
    room.close()?;
    result?;
    passed("all is well")
}

fn everybody_hears_everything(dir: &Path) -> Result<Heard> {
    let room = Room::open(dir)?;
    let all = thread::scope(|scope| -> Result<Vec<Heard>> {
        let listeners = NAMES.map(|_| scope.spawn(|| hear_all(&room)));
        let talkers = NAMES.map(|name| {
            let room = room.clone();
            scope.spawn(move || (0..LINES).try_for_each(|line| say(&room, name, line)))
        });
        for talker in talkers {
            talker.join().map_err(|_| "a talker panicked")??;
        }
        listeners.into_iter().map(|one| one.join().map_err(|_| "a listener panicked")?).collect()
    })?;
    let [first, others @ ..] = &all[..] else { return Err("nobody listened".into()) };
    check(
        others.iter().all(|other| other == first),
        &format!("{} people heard {TOTAL} messages in the same order", NAMES.len()),
    )?;
    let in_own_order = |name| {
        let lines = first.iter().filter(|(who, _)| who == name).map(|(_, text)| text.clone());
        lines.eq((0..LINES).map(line_text))
    };
    check(NAMES.into_iter().all(in_own_order), "each one's own order was kept")?;
    room.close()?;
    Ok(first.clone())
}

fn say(room: &Room, name: &str, line: u64) -> Result<()> {
    room.say(name, line_text(line)).map(drop)
}

fn line_text(line: u64) -> String {
    format!("line {line}")
}

fn hear_all(room: &Room) -> Result<Heard> {
    let mut heard = Heard::new();
    room.each(0, TOTAL, |message: Message<'_>| {
        heard.push((message.name.into_owned(), message.text.into_owned()));
        Ok(())
    })?;
    Ok(heard)
}

fn replay_is_the_same(dir: &Path, heard: &Heard) -> Result<()> {
    let room = Room::open(dir)?;
    check(room.recovery().is_none(), "the room had been closed cleanly")?;
    check(hear_all(&room)? == *heard && room.end()? == TOTAL, "the replay is the same")?;
    room.close()
}

fn browsers_can_talk(address: SocketAddr) -> Result<()> {
    let host = address.to_string();
    let page = ask(address, &host, "GET", "/", "")?;
    check(
        page.starts_with("HTTP/1.1 200") && page.contains("<!doctype html>"),
        "the page is there",
    )?;

    let message = "Ada\n<b>hello</b>\nid: 7";
    let answer = ask(address, &host, "POST", "/say", message)?;
    check(answer.starts_with("HTTP/1.1 200"), "a message can be posted")?;

    let last = TOTAL - 1;
    let event = next_event(address, last)?;
    check(
        event.first() == Some(&format!("id: {TOTAL}"))
            && event.get(2..)
                == Some(&["Ada", "<b>hello</b>", "id: 7"].map(|l| format!("data: {l}"))),
        "it comes out of the event stream as it went in",
    )?;
    ask(address, &host, "POST", "/say", "Ada\nsecond")?;
    check(
        next_event(address, TOTAL)?.first() == Some(&format!("id: {}", TOTAL + 1)),
        "a stream resumes right behind Last-Event-ID",
    )?;

    let (who_was_here, read) =
        (["GET", "/people", ""], ["POST", "/read", &format!("Ada\n{TOTAL}")]);
    for ([method, path, body], expected) in [
        (who_was_here, String::new()),
        (read, String::new()),
        (who_was_here, format!("{} 1 Ada\n", TOTAL + 1)),
    ] {
        let answer = ask(address, &host, method, path, body)?;
        let answer = answer.split_once("\r\n\r\n").map(|(_head, body)| body);
        check(
            answer == Some(&expected),
            &format!("{method} {path} is answered with {expected:?}"),
        )?;
    }

    let cases = [
        ("another page's Host is refused", "evil.example:80", "GET", "/", "", 403),
        ("an empty message is refused", &host, "POST", "/say", "Ada\n ", 400),
        ("a message of 5 KiB is refused", &host, "POST", "/say", &"x".repeat(5 << 10), 413),
        ("what was not said cannot be read", &host, "POST", "/read", "Ada\n99999", 400),
        ("an unknown path is refused", &host, "GET", "/etc/passwd", "", 404),
        ("a wrong method is refused", &host, "DELETE", "/say", "", 405),
    ];
    for (what, host, method, path, body, status) in cases {
        let answer = ask(address, host, method, path, body)?;
        check(answer.starts_with(&format!("HTTP/1.1 {status}")), what)?;
    }
    Ok(())
}

fn ask(address: SocketAddr, host: &str, method: &str, path: &str, body: &str) -> Result<String> {
    let mut socket = connect(address)?;
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Opens a stream behind `last_seen`, and returns the lines of the first event in it.
fn next_event(address: SocketAddr, last_seen: u64) -> Result<Vec<String>> {
    let mut socket = connect(address)?;
    write!(
        socket,
        "GET /events HTTP/1.1\r\nHost: {address}\r\nLast-Event-ID: {last_seen}\r\n\r\n"
    )?;
    let lines = BufReader::new(socket).lines();
    let from_id =
        lines.skip_while(|line| line.as_ref().is_ok_and(|line| !line.starts_with("id: ")));
    let event: io::Result<_> =
        from_id.take_while(|line| line.as_ref().map_or(true, |line| !line.is_empty())).collect();
    Ok(event?)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

pub fn check(holds: bool, what: &str) -> Result<()> {
    if holds { passed(what) } else { Err(format!("this does not hold: {what}").into()) }
}

fn passed(what: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "ok: {what}")?)
}
