//! The room in browser tabs: a page, a way in (`POST /say`) and a way out (`GET /events`), and who
//! has read how much (`POST /read`, `GET /people`).
//!
//! Whoever reaches the port may talk, so it is the loopback's unless asked otherwise. That alone
//! keeps no web page out that the same browser has open, therefore each request must be addressed
//! to us by number or as `localhost` (a page that had its own name pointed at us sends that name),
//! and must not come from another page.

use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::http::{self, Reply, Request};
use crate::room::{LONGEST_NAME_CHARS, Place, Result, Room, printable};
use crate::stream;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Each connection takes a thread, and a stream takes it for long.
const MAX_CONNECTIONS: usize = 128;
const MAX_STREAMS: usize = 64;

/// Who can reach the room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Loopback,
    Remote,
}

/// The room behind a port.
pub struct Web {
    listener: TcpListener,
    address: SocketAddr,
    reach: Reach,
    room: Room,
    connections: Seats,
    streams: Seats,
}

impl Web {
    pub fn open(room: Room, address: &str, reach: Reach) -> Result<Self> {
        let unusable = |error| format!("{address} is no address such as 127.0.0.1:8080: {error}");
        let mut addresses = address.to_socket_addrs().map_err(unusable)?;
        let address = addresses.next().ok_or_else(|| format!("{address} leads nowhere"))?;
        if reach == Reach::Loopback && !address.ip().is_loopback() {
            return Err(format!(
                "{address} can be reached by other machines, and anybody there could read and \
                 talk; if that is what you want, add --allow-remote"
            )
            .into());
        }
        let busy = |error: io::Error| format!("listening on {address}: {error}");
        let listener = TcpListener::bind(address).map_err(busy)?;
        // Asked for port 0, the system chose one.
        let address = listener.local_addr()?;
        let connections = Seats::new(MAX_CONNECTIONS);
        let streams = Seats::new(MAX_STREAMS);
        Ok(Self { listener, address, reach, room, connections, streams })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers requests, each on a thread of its own, so that a slow sender or an open stream
    /// holds nobody up.
    pub fn run(self: &Arc<Self>) {
        for socket in self.listener.incoming() {
            let (Ok(socket), Some(seat)) = (socket, self.connections.take()) else {
                // Too many at once, here or in the system. It passes, and till then it is no use
                // to ask as fast as we can.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            let web = Arc::clone(self);
            let answer = move || {
                // An error means that whoever asked is gone: there is nobody to tell.
                let _gone = web.answer(&socket).err();
                drop(seat);
            };
            let _no_thread = thread::Builder::new().spawn(answer).err();
        }
    }

    fn answer(&self, socket: &TcpStream) -> Result<()> {
        http::limit(socket)?;
        let mut input = BufReader::new(socket);
        let Some(request) = Request::read(&mut input) else {
            return Ok(Reply::bad("this is no request").send(socket)?);
        };
        let reply = match (request.method.as_str(), request.path.as_str()) {
            _ if !self.is_meant_for_us(&request) => Reply::text("403 Forbidden", "not from here"),
            ("GET", "/") => Reply::ok("text/html", PAGE),
            ("GET", "/page.js") => Reply::ok("text/javascript", SCRIPT),
            ("GET", "/page.css") => Reply::ok("text/css", STYLE),
            ("GET", "/events") => match self.streams.take() {
                Some(_seat) => return stream::run(&self.room, &request, socket),
                None => Reply::text("503 Service Unavailable", "the room is full"),
            },
            ("GET", "/people") => self.people(),
            ("POST", "/say") => self.say(&request, input).unwrap_or_else(|refusal| refusal),
            ("POST", "/read") => self.read(&request, input).unwrap_or_else(|refusal| refusal),
            (_, "/" | "/page.js" | "/page.css" | "/events" | "/people") => Reply::only("GET"),
            (_, "/say" | "/read") => Reply::only("POST"),
            _ => Reply::text("404 Not Found", "there is no such page"),
        };
        Ok(reply.send(socket)?)
    }

    fn is_meant_for_us(&self, request: &Request) -> bool {
        let [host] = request.values("Host")[..] else { return false };
        let ours = format!("http://{host}");
        self.is_our_name(host) && request.values("Origin").iter().all(|origin| *origin == ours)
    }

    fn is_our_name(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, "80"),
        };
        let is_our_number = |ip: IpAddr| self.reach == Reach::Remote || ip.is_loopback();
        let number = name.trim_start_matches('[').trim_end_matches(']').parse();
        port == self.address.port().to_string()
            && (name.eq_ignore_ascii_case("localhost") || number.is_ok_and(is_our_number))
    }

    /// Takes a message: who says it, and what is said.
    fn say(&self, request: &Request, input: impl BufRead) -> Answer {
        let (name, text) = named(request, input)?;
        if printable(&text).trim().is_empty() {
            return Err(Reply::bad("say something"));
        }
        let offset = self.room.say(&name, text.trim()).map_err(failed)?;
        Ok(Reply::ok("text/plain", &offset.to_string()))
    }

    /// Takes note of what was read: who was shown everything up to which offset. The page says so
    /// when it has shown it to somebody who looks.
    fn read(&self, request: &Request, input: impl BufRead) -> Answer {
        let (name, offset) = named(request, input)?;
        let offset = offset.trim().parse().map_err(|_| Reply::bad("up to which message?"))?;
        if offset >= self.room.end().map_err(failed)? {
            return Err(Reply::bad("nobody said that yet"));
        }
        self.room.has_read(&name, offset).map_err(failed)?;
        Ok(Reply::ok("text/plain", ""))
    }

    /// Lists who was ever here: a line each, with the first offset they have not read, how many
    /// messages they have not read, and the name.
    fn people(&self) -> Reply {
        let line =
            |place: &Place| format!("{} {} {}\n", place.next, place.unread, printable(&place.name));
        match self.room.places() {
            Ok(places) => Reply::ok("text/plain", &places.iter().map(line).collect::<String>()),
            Err(error) => failed(error),
        }
    }
}

/// What to reply, or what to refuse with.
type Answer = std::result::Result<Reply, Reply>;

/// Takes a body apart: a name in the first line, and what belongs to it in the others. Plain text
/// needs no parser here, and has none of its mistakes.
fn named(request: &Request, input: impl BufRead) -> std::result::Result<(String, String), Reply> {
    if !request.values("Content-Type").iter().any(|kind| kind.starts_with("text/plain")) {
        return Err(Reply::text(
            "415 Unsupported Media Type",
            "it is text/plain: a name, a line end, and what is said",
        ));
    }
    let body = request.body(input)?;
    let (name, rest) = body.split_once('\n').unwrap_or((&body, ""));
    match printable(name).trim() {
        "" => Err(Reply::bad("who are you?")),
        name if name.chars().count() > LONGEST_NAME_CHARS => Err(Reply::bad("what a long name")),
        name => Ok((name.to_owned(), rest.to_owned())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> Reply {
    Reply::text("500 Internal Server Error", &error.to_string())
}

/// A number of places.
struct Seats {
    taken: Arc<()>,
    most: usize,
}

/// A place, free again when it is dropped.
struct Seat(#[expect(dead_code, reason = "it is there to be counted")] Arc<()>);

impl Seats {
    fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    fn take(&self) -> Option<Seat> {
        let seat = Seat(Arc::clone(&self.taken));
        // One of the count is ours. A place is taken before it is counted, so that two who come
        // at the same time cannot both have the last one.
        (Arc::strong_count(&self.taken) - 1 <= self.most).then_some(seat)
    }
}
