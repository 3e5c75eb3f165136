//! What a process did, as `strace` wrote it down: its syncs, and the lines of its journal between
//! them, in the order in which they happened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line of the journal.
    Line(String),
    /// A file or a directory was synced, or could not be.
    Sync { path: PathBuf, ok: bool },
}

/// What happened, and what was made to fail.
#[derive(Debug, Default)]
pub struct Trace {
    pub events: Vec<Event>,
    /// The calls that were made to fail, as they were written down.
    pub injected: Vec<String>,
}

impl Trace {
    /// Reads what `strace -f -y` wrote. Each line begins with the number of a thread; a call during
    /// which another thread did something has a line for its beginning and one for its end.
    pub fn parse(log: &str) -> Self {
        let mut trace = Self::default();
        let mut begun: HashMap<&str, &str> = HashMap::new();
        for line in log.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            let whole = if let Some(beginning) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, beginning);
                continue;
            } else if call.starts_with("<... ") {
                let (_, end) = call.split_once("resumed>").expect("the end of a call");
                format!("{}{end}", begun.remove(thread).expect("its beginning"))
            } else {
                call.to_owned()
            };
            trace.add(whole);
        }
        trace
    }

    fn add(&mut self, call: String) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        let ok = !call.contains(") = -1 ");
        match name {
            "writev" => {
                let text = between(arguments, "iov_base=\"", "\\n\"").expect("a line");
                self.events.push(Event::Line(text.to_owned()));
            }
            "fsync" | "fdatasync" => {
                let path = between(arguments, "<", ">").expect("strace tells the path");
                self.events.push(Event::Sync { path: path.into(), ok });
            }
            _ => {}
        }
        if call.ends_with("(INJECTED)") {
            self.injected.push(call);
        }
    }

    /// Whether all that was made to fail was done in this directory, and not by what surrounds the
    /// broker in its process.
    pub fn is_within(&self, dir: &Path) -> bool {
        let dir = dir.to_string_lossy();
        self.injected.iter().all(|call| call.contains(&*dir))
    }
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(behind)?.0)
}
