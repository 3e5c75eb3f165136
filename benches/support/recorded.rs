//! Counts that were recorded once, in a small text file, and what a new count means beside them.
//!
//! A pure part: it is handed texts and numbers, and tested by `tests/recorded_counts.rs`.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How far a count may be from the recorded one, as a share of it.
pub const TOLERANCE: f64 = 0.05;

/// What a file of counts holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// What the counts were made with, each line `name: value`: a compiler, a tool.
    pub made_with: BTreeMap<String, String>,
    /// Each workload's count a record.
    pub counts: BTreeMap<String, f64>,
}

/// What is to be said of a count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Within the tolerance.
    AsRecorded,
    /// It costs more than it may.
    Heavier,
    /// It costs so much less that the recorded count guards nothing any more.
    Lighter,
    /// There is no recorded count.
    Unknown,
}

impl Recorded {
    /// Reads the text of a file. Lines that begin with `#` are for people.
    ///
    /// # Panics
    ///
    /// If a line is none that [`text`](Self::text) writes.
    pub fn parse(text: &str) -> Self {
        let mut recorded = Self::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((name, value)) = line.split_once(": ") {
                recorded.made_with.insert(name.to_owned(), value.trim().to_owned());
                continue;
            }
            let (name, count) = line.rsplit_once(' ').expect("a name and a count");
            let count = count.parse().expect("a count");
            recorded.counts.insert(name.trim().to_owned(), count);
        }
        recorded
    }

    /// The text of a file, beginning with `head`, whose lines begin with `#`.
    pub fn text(&self, head: &str) -> String {
        let mut text = head.to_owned();
        for (name, value) in &self.made_with {
            writeln!(text, "{name}: {value}").expect("a String takes everything");
        }
        for (name, count) in &self.counts {
            writeln!(text, "{name:<24} {count:>8.1}").expect("a String takes everything");
        }
        text
    }

    /// Where this was made with something else than `other`, and how.
    pub fn made_differently(&self, other: &Self) -> Vec<String> {
        let differs = |(name, value): (&String, &String)| {
            let here = other.made_with.get(name).map_or("none", String::as_str);
            (here != value).then(|| format!("{name}: recorded with {value}, here {here}"))
        };
        self.made_with.iter().filter_map(differs).collect()
    }

    /// What is to be said of `found`, and by how many per cent it is more than was recorded.
    pub fn judge(&self, workload: &str, found: f64) -> (Verdict, f64) {
        let Some(recorded) = self.counts.get(workload) else { return (Verdict::Unknown, 0.0) };
        let more = found / recorded - 1.0;
        let verdict = match more {
            more if more > TOLERANCE => Verdict::Heavier,
            more if more < -TOLERANCE => Verdict::Lighter,
            _ => Verdict::AsRecorded,
        };
        (verdict, more * 100.0)
    }
}
