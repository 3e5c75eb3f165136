//! As much HTTP as the room needs: one request a connection, a limit on everything that is read,
//! and a time limit on every read and write.

use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const MAX_HEAD_BYTES: u64 = 8 << 10;
const MAX_BODY_BYTES: usize = 4 << 10;
/// How long the other side may be silent, or leave what we wrote unread.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sent with everything. The page may load, and talk to, nothing but us, and nothing inline runs.
const HEADERS: &str = "\
Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r
X-Content-Type-Options: nosniff\r
X-Frame-Options: DENY\r
Referrer-Policy: no-referrer\r
Cross-Origin-Resource-Policy: same-origin\r
Cache-Control: no-store\r
Connection: close\r
";

pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// Reads a request up to its body; `None` if it is none, or too long.
    pub fn read(input: impl BufRead) -> Option<Self> {
        let mut lines = input.take(MAX_HEAD_BYTES).lines().map_while(io::Result::ok);
        let first = lines.next()?;
        let [method, target, "HTTP/1.1" | "HTTP/1.0"] = first.split(' ').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let line = lines.next()?;
            if line.is_empty() {
                return Some(Self { method, path, query, headers });
            }
            let (name, value) = line.split_once(':')?;
            if name.is_empty() || name.contains(char::is_whitespace) {
                return None;
            }
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The values of all headers of this name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let is_it = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().filter(is_it).map(|header| header.1.as_str()).collect()
    }

    /// Reads the body, all of it or none, or says why not.
    pub fn body(&self, mut input: impl BufRead) -> Result<String, Reply> {
        let bytes = match self.values("Content-Length")[..] {
            [bytes] if self.values("Transfer-Encoding").is_empty() => bytes.parse().ok(),
            _ => return Err(Reply::text("411 Length Required", "how long is it?")),
        };
        // A number too large to parse is too large, and any other text fares no better.
        let Some(bytes) = bytes.filter(|bytes| *bytes <= MAX_BODY_BYTES) else {
            return Err(Reply::text("413 Content Too Large", "too long"));
        };
        let mut body = vec![0; bytes];
        let whole = input.read_exact(&mut body).is_ok();
        let body = String::from_utf8(body).ok().filter(|_| whole);
        body.ok_or_else(|| Reply::bad("it broke off, or is not UTF-8"))
    }
}

pub struct Reply {
    status: &'static str,
    kind: &'static str,
    allow: Option<&'static str>,
    body: String,
}

impl Reply {
    pub fn ok(kind: &'static str, body: &str) -> Self {
        Self { status: "200 OK", kind, allow: None, body: body.to_owned() }
    }

    pub fn text(status: &'static str, body: &str) -> Self {
        Self { status, ..Self::ok("text/plain", body) }
    }

    pub fn bad(body: &str) -> Self {
        Self::text("400 Bad Request", body)
    }

    pub fn only(method: &'static str) -> Self {
        let reply = Self::text("405 Method Not Allowed", "not like this");
        Self { allow: Some(method), ..reply }
    }

    /// Sends it and takes leave.
    pub fn send(&self, mut socket: &TcpStream) -> io::Result<()> {
        let (kind, bytes) = (self.kind, self.body.len());
        let allow = self.allow.map(|method| format!("Allow: {method}\r\n")).unwrap_or_default();
        let head = head(self.status, kind);
        write!(socket, "{head}{allow}Content-Length: {bytes}\r\n\r\n{}", self.body)?;
        // To close while something is still coming in would take back what we said, so that is
        // read first, as far as it is bearable.
        socket.shutdown(Shutdown::Write)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        io::copy(&mut socket.take(1 << 20), &mut io::sink()).map(drop)
    }
}

/// The first lines of any reply, up to what is particular to it.
pub fn head(status: &str, kind: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\n{HEADERS}")
}

/// Sees to it that nothing on this connection takes for ever.
pub fn limit(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))
}
