//! The room in browser tabs: a page, a way in (`POST /say`) and a way out (`GET /events`).
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
use crate::room::{Result, Room, printable};
use crate::stream;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Each connection takes a thread, and a stream takes it for long.
const MAX_CONNECTIONS: usize = 128;
const MAX_STREAMS: usize = 64;
const MAX_NAME_CHARS: usize = 40;

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
            ("POST", "/say") => self.say(&request, input).unwrap_or_else(|refusal| refusal),
            (_, "/" | "/page.js" | "/page.css" | "/events") => Reply::only("GET"),
            (_, "/say") => Reply::only("POST"),
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

    /// Takes a message: the name in the first line, and what is said in the others. Plain text
    /// needs no parser here, and has none of its mistakes.
    fn say(&self, request: &Request, input: impl BufRead) -> std::result::Result<Reply, Reply> {
        if !request.values("Content-Type").iter().any(|kind| kind.starts_with("text/plain")) {
            return Err(Reply::text(
                "415 Unsupported Media Type",
                "a message is text/plain: a name, a line end, and what is said",
            ));
        }
        let body = request.body(input)?;
        let (name, text) = body.split_once('\n').unwrap_or((&body, ""));
        let (name, text) = (printable(name), text.trim());
        match name.trim() {
            "" => Err(Reply::bad("who are you?")),
            name if name.chars().count() > MAX_NAME_CHARS => Err(Reply::bad("what a long name")),
            _ if printable(text).trim().is_empty() => Err(Reply::bad("say something")),
            name => match self.room.say(name, text) {
                Ok(offset) => Ok(Reply::ok("text/plain", &offset.to_string())),
                Err(error) => Err(Reply::text("500 Internal Server Error", &error.to_string())),
            },
        }
    }
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
