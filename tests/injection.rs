//! System calls that fail, one after the other, in a small workload: what was told to be durable was
//! synced, what was accepted is there, and the broker goes on when it is opened again.
//!
//! The workload runs in a process of its own, this test again, under `strace`, which makes the N-th
//! call of one kind of each thread fail, or that and all behind it, for N = 1, 2, … until none is
//! left. The process notes what it does in a journal; `strace` writes down each line of it between
//! the syncs that the broker makes, so that each promise is compared with the syncs that were made
//! for it. Nothing is lost in these tests by itself: what the page cache has would be read back
//! whether it was synced or not.
//!
//! `cargo test --test injection -- --ignored`; `workload` among them is what the others run.
//!
//! That it finds what it is for was checked by hand, each in a copy of the sources, and found by the
//! first runs in which the call failed, or by the one in peace:
//!
//! - `Durability::wait` takes a failed sync for a good one: "done send … Synced" without a sync;
//! - it returns the failure and does not keep it: "done flush" after a sync had failed;
//! - `Log::write_out` does not sync the directory: "done send … Synced" without a sync of it;
//! - `OffsetStore::write_out` ignores a failed sync: "done commit … Synced" after one;
//! - `checked_file::replace` does not sync the file: "done create" without a sync of `topic~`;
//! - `TopicState::create` does not sync the directory of topics: "done create" without a sync of it;
//! - `LogWriter::prepare` does not look whether a sync failed: "done send" behind "Poisoned".
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![cfg(target_os = "linux")]

mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{IoSlice, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forebay::{Acks, Broker, Error, Record, Result, Start, Topic, TopicConfig};
use trace::{Event, Trace};

const DIR: &str = "FOREBAY_INJECTION_DIR";
const ROLE: &str = "FOREBAY_INJECTION_ROLE";
/// The topic that is there before: what its directory was left with has to be recovered.
const OLD: &str = "old";

// The side of the process under test.

/// Says what is done, before and after, by a call that the broker does not make.
struct Journal(File);

impl Journal {
    fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = self.0.write_vectored(&[IoSlice::new(line.as_bytes())]);
        assert_eq!(written.expect("journal"), line.len());
    }

    /// Does a step; what it may fail with is told, and anything else ends the process.
    fn step<T>(
        &mut self,
        step: &str,
        act: impl FnOnce() -> Result<T>,
        tell: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        self.say(&format!("begin {step}"));
        match act() {
            Ok(done) => {
                self.say(format!("done {step} {}", tell(&done)).trim_end());
                Some(done)
            }
            Err(error) => {
                let kind = match error {
                    Error::Poisoned { .. } | Error::OffsetsPoisoned { .. } => "Poisoned",
                    Error::StorageFull { .. } => "StorageFull",
                    Error::Io { .. } => "Io",
                    Error::NotSynced { .. } => "NotSynced",
                    error => panic!("{step}: {error}"),
                };
                self.say(&format!("failed {step} {kind}"));
                None
            }
        }
    }

    fn act(&mut self, step: &str, act: impl FnOnce() -> Result<()>) {
        self.step(step, act, |()| String::new());
    }
}

/// What a record holds: its name, and some more.
fn value(topic: &str, partition: u32, number: usize) -> String {
    format!("{topic} {partition} {number} {}", "x".repeat(number * 37 % 700))
}

fn config(partitions: u32) -> TopicConfig {
    TopicConfig::new().partitions(partitions).segment_bytes(4096).index_interval_bytes(300)
}

struct Workload {
    journal: Journal,
    /// Numbers the records.
    number: usize,
}

impl Workload {
    fn create(&mut self, broker: &Broker, name: &str, partitions: u32) -> Option<Topic> {
        let create = || broker.create_topic(name, config(partitions));
        self.journal.step(&format!("create {name}"), create, |_| String::new())
    }

    fn send(&mut self, topic: &Topic, partition: u32, acks: Acks) {
        self.number += 1;
        let (name, number) = (topic.name(), self.number);
        let value = value(name, partition, number);
        let step = format!("send {name} {partition} {number} {acks:?}");
        let record = Record::new(&value).partition(partition);
        self.journal.step(&step, || topic.send_with(record, acks), |sent| sent.offset.to_string());
    }

    /// Sends to each partition in turn, and waits for the disk now and then.
    fn send_some(&mut self, topic: &Topic, count: u32) {
        for number in 0..count {
            let acks = if number % 4 == 3 { Acks::Synced } else { Acks::Written };
            self.send(topic, number % topic.partitions(), acks);
        }
    }

    /// Reads as a member of a group and commits after each few records.
    fn consume(&mut self, broker: &Broker, topic: &Topic) {
        let name = topic.name().to_owned();
        let open = || broker.consumer("g").subscribe([&name]).max_records(7).open();
        let Some(mut consumer) = self.journal.step("join", open, |_| String::new()) else { return };
        for step in 0.. {
            // A partition that cannot be read holds the others up for no longer than a poll.
            let batch = self.journal.step("poll", || consumer.try_poll(), |_| String::new());
            if batch.is_none_or(|batch| batch.is_empty()) {
                break;
            }
            let acks = if step % 2 == 1 { Acks::Synced } else { Acks::Written };
            let mut offsets = Vec::new();
            for assigned in consumer.assignment() {
                let position = consumer.position(&name, assigned.partition).expect("position");
                offsets.push(format!("{}={position}", assigned.partition));
            }
            let step = format!("commit {name} {acks:?} {}", offsets.join(","));
            self.journal.act(&step, || consumer.commit_with(acks));
        }
        self.journal.act("leave", || consumer.close());
    }

    /// What is left behind by a process that ended in the middle of its work.
    fn unfinished_life(&mut self, dir: &Path) {
        let broker = Broker::open(dir).expect("open");
        let topic = self.create(&broker, OLD, 2).expect("create");
        self.send_some(&topic, 30);
        self.consume(&broker, &topic);
        for number in 0..8 {
            self.send(&topic, number % 2, Acks::Written);
        }
        std::mem::forget(broker);
    }

    fn open(&mut self, dir: &Path) -> Option<Broker> {
        (0..3).find_map(|_| self.journal.step("open", || Broker::open(dir), |_| String::new()))
    }

    fn first_life(&mut self, dir: &Path) {
        let Some(broker) = self.open(dir) else { return };
        let old = broker.topic(OLD).expect("it is there");
        self.send_some(&old, 6);
        if let Some(topic) = self.create(&broker, "t", 3) {
            self.send_some(&topic, 24);
            self.consume(&broker, &topic);
            let altered = topic.config().segment_bytes(5000);
            self.journal.act("alter t", || broker.alter_topic("t", altered));
            self.journal.act("grow t", || broker.create_partitions("t", 4));
            self.send_some(&topic, 16);
            self.journal.act("flush", || broker.flush());
            let before = topic.latest_offset(0).expect("offset").min(6);
            let step = format!("delete_records t 0 {before}");
            let delete = || topic.delete_records(0, before);
            self.journal.act(&step, || delete().map(|start| assert_eq!(start, before, "{step}")));
            self.send_some(&topic, 8);
            self.consume(&broker, &topic);
        }
        self.consume(&broker, &old);
        if let Some(topic) = self.create(&broker, "gone", 2) {
            self.send_some(&topic, 6);
            self.journal.act("delete gone", || broker.delete_topic("gone"));
        }
        self.journal.act("close", || broker.close());
    }

    fn second_life(&mut self, dir: &Path) {
        let Some(broker) = self.open(dir) else { return };
        for name in [OLD, "t"] {
            if let Ok(topic) = broker.topic(name) {
                self.send_some(&topic, 8);
                self.consume(&broker, &topic);
            }
        }
        self.journal.act("close", || broker.close());
    }
}

/// What is done in the process of its own.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn workload() {
    let (Ok(dir), Ok(role)) = (std::env::var(DIR), std::env::var(ROLE)) else { return };
    let dir = PathBuf::from(dir);
    let journal = File::options().create(true).append(true).open(dir.join("journal"));
    let journal = Journal(journal.expect("journal"));
    let data = dir.join("data");
    if role == "before" {
        Workload { journal, number: 0 }.unfinished_life(&data);
        return;
    }
    let mut workload = Workload { journal, number: 1000 };
    workload.first_life(&data);
    workload.second_life(&data);
}

// The side of the test: what was promised.

/// A place of a record.
type Place = (String, u32, u64);

/// What the process was told, and what it tried.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The numbers of the records that were accepted.
    accepted: BTreeMap<Place, usize>,
    attempted: BTreeSet<usize>,
    /// What the group has committed at least, and at most.
    committed: BTreeMap<(String, u32), u64>,
    may_be_committed: BTreeMap<(String, u32), u64>,
    /// Below what records of `t` were deleted in partition 0 at least, and at most.
    deleted: u64,
    may_be_deleted: u64,
    topics: BTreeSet<String>,
    /// Those whose deletion was begun.
    doomed: BTreeSet<String>,
    altered: bool,
    grown: bool,
}

impl Told {
    fn add(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| -> u64 { words[at].parse().expect("number") };
        match words[..] {
            ["begin", "send", ..] => {
                self.attempted.insert(number(4) as usize);
            }
            ["done", "send", topic, ..] => {
                let place = (topic.to_owned(), number(3) as u32, number(6));
                let before = self.accepted.insert(place, number(4) as usize);
                assert_eq!(before, None, "{line}: it was given twice");
            }
            [when, "commit", topic, _, places] => {
                for place in places.split(',') {
                    let (partition, offset) = place.split_once('=').expect("a place");
                    let of = (topic.to_owned(), partition.parse().expect("number"));
                    let offset = offset.parse().expect("number");
                    match when {
                        "begin" => self.may_be_committed.insert(of, offset),
                        "done" => self.committed.insert(of, offset),
                        _ => None,
                    };
                }
            }
            ["begin", "delete_records", ..] => self.may_be_deleted = number(4),
            ["done", "delete_records", ..] => self.deleted = number(4),
            ["done", "create", topic] => {
                self.topics.insert(topic.to_owned());
            }
            ["begin", "delete", topic] => {
                self.doomed.insert(topic.to_owned());
            }
            ["done", "delete", topic] => {
                self.topics.remove(topic);
            }
            ["done", "alter", _] => self.altered = true,
            ["done", "grow", _] => self.grown = true,
            _ => {}
        }
    }

    /// Compares it with what a broker finds that is opened when nothing fails any more.
    fn check(&self, broker: &Broker, what: &str) {
        let found: BTreeSet<_> = broker.topics().into_iter().collect();
        for name in &self.topics {
            assert!(found.contains(name) || self.doomed.contains(name), "{what}: {name} is gone");
        }
        for name in &self.doomed {
            let is_back = found.contains(name) && !self.topics.contains(name);
            assert!(!is_back, "{what}: {name} is back");
        }
        for name in &found {
            let topic = broker.topic(name).expect("topic");
            if name == "t" {
                let config = topic.config();
                assert!(!self.altered || config.clone().segment_bytes(5000) == config, "{what}");
                assert!(!self.grown || topic.partitions() == 4, "{what}");
            }
            for partition in 0..topic.partitions() {
                self.check_records(broker, &topic, partition, what);
                self.check_commit(broker, name, partition, what);
                let record = value(name, partition, 0);
                let record = Record::new(&record).partition(partition);
                let sent = topic.send_with(record, Acks::Synced);
                sent.unwrap_or_else(|error| panic!("{what}: sending again: {error}"));
            }
        }
        let Ok(old) = broker.topic(OLD) else { panic!("{what}: it was there before") };
        let mut consumer = broker.consumer("g").subscribe([OLD]).open().expect(what);
        assert!(!consumer.try_poll().expect(what).is_empty());
        consumer.commit_with(Acks::Synced).expect(what);
        assert!(old.partitions() == 2);
        consumer.close().expect(what);
        broker.close().unwrap_or_else(|error| panic!("{what}: closing in peace: {error}"));
    }

    fn check_records(&self, broker: &Broker, topic: &Topic, partition: u32, what: &str) {
        let name = topic.name();
        let what = format!("{what}: {name}/{partition}");
        let start = topic.earliest_offset(partition).expect("offset");
        if (name, partition) == ("t", 0) {
            assert!((self.deleted..=self.may_be_deleted).contains(&start), "{what}: from {start}");
        } else {
            assert_eq!(start, 0, "{what}");
        }
        let place = |offset| (name.to_owned(), partition, offset);
        let mut reader =
            broker.reader().partition(name, partition, Start::Earliest).open().expect(&what);
        let (mut next, mut last) = (start, 0);
        loop {
            let batch = reader.try_poll().unwrap_or_else(|error| panic!("{what}: {error}"));
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                assert_eq!(record.offset(), next, "{what}");
                let text = std::str::from_utf8(record.value().expect("value")).expect("text");
                let number = text.split(' ').nth(2).and_then(|number| number.parse().ok());
                let number = number.unwrap_or_else(|| panic!("{what}: {text:?}"));
                assert_eq!(text, value(name, partition, number), "{what}");
                assert!(self.attempted.contains(&number), "{what}: nobody sent {text:?}");
                assert!(last < number, "{what}: {number} stands behind {last}");
                let accepted = self.accepted.get(&place(next));
                assert!(accepted.is_none_or(|accepted| *accepted == number), "{what}: {text:?}");
                (next, last) = (next + 1, number);
            }
        }
        let accepted = self.accepted.range(place(0)..=place(u64::MAX)).next_back();
        let end = accepted.map_or(0, |((_, _, offset), _)| offset + 1);
        assert!(next >= end, "{what} ends with {next}, {end} were accepted");
    }

    fn check_commit(&self, broker: &Broker, topic: &str, partition: u32, what: &str) {
        let found = broker.committed("g", topic, partition).expect("committed");
        let found = found.map_or(0, |found| found.offset);
        let of = (topic.to_owned(), partition);
        let least = self.committed.get(&of).copied().unwrap_or(0);
        let most = self.may_be_committed.get(&of).copied().unwrap_or(0);
        assert!(
            (least..=most).contains(&found),
            "{what}: {topic}/{partition} is at {found}, {least} to {most} were committed"
        );
    }
}

// The side of the test: what was synced for it.

/// Compares what was called durable with the syncs before.
struct Promises<'a> {
    events: &'a [Event],
    data: &'a Path,
    what: &'a str,
}

impl Promises<'_> {
    fn line(&self, at: usize) -> Option<&str> {
        match &self.events[at] {
            Event::Line(line) => Some(line),
            Event::Sync { .. } => None,
        }
    }

    /// Where the last line before `at` stands that begins so; the beginning if there is none.
    fn last_before(&self, at: usize, beginning: &str) -> usize {
        let is_it = |at: &usize| self.line(*at).is_some_and(|line| line.starts_with(beginning));
        (0..at).rev().find(is_it).unwrap_or(0)
    }

    /// Whether a file for which `is_it` is true was synced in the time from `from` to `to`; with
    /// that outcome.
    fn was_synced(&self, from: usize, to: usize, ok: bool, is_it: impl Fn(&Path) -> bool) -> bool {
        self.events[from..to].iter().any(
            |event| matches!(event, Event::Sync { path, ok: came } if *came == ok && is_it(path)),
        )
    }

    fn must_be_synced(&self, from: usize, to: usize, path: &Path) {
        assert!(
            self.was_synced(from, to, true, |synced| synced == path),
            "{}: {:?} without a sync of {}",
            self.what,
            self.line(to).expect("a line"),
            path.display()
        );
    }

    /// After a failed sync no later one is believed, in the same life.
    fn must_not_have_failed(&self, begin: usize, end: usize, dir: &Path, extension: &str) {
        let life = self.last_before(begin, "begin open");
        let is_it = |path: &Path| {
            path.parent() == Some(dir) && path.extension().is_some_and(|found| found == extension)
        };
        assert!(
            !self.was_synced(life, begin, false, is_it),
            "{}: {:?} after a sync had failed in {}",
            self.what,
            self.line(end).expect("a line"),
            dir.display()
        );
    }

    /// What was told to take nothing until it is opened again takes nothing.
    fn must_not_be_poisoned(&self, begin: usize, end: usize, words: &[&str]) {
        let beginning = match *words {
            ["send", topic, partition, ..] => format!("failed send {topic} {partition} "),
            ["commit", ..] => "failed commit ".to_owned(),
            _ => return,
        };
        let life = self.last_before(begin, "begin open");
        for line in (life..begin).filter_map(|at| self.line(at)) {
            let is_poison = line.starts_with(&beginning) && line.ends_with("Poisoned");
            assert!(!is_poison, "{}: {:?} behind {line:?}", self.what, self.line(end));
        }
    }

    fn check(&self) {
        for end in 0..self.events.len() {
            let Some(line) = self.line(end) else { continue };
            let Some(step) = line.strip_prefix("done ") else { continue };
            let words: Vec<_> = step.split(' ').collect();
            let begin = self.last_before(end, "begin ");
            self.must_not_be_poisoned(begin, end, &words);
            let topics = self.data.join("topics");
            match words[..] {
                ["open"] => {
                    self.must_be_synced(begin, end, &topics);
                    self.must_be_synced(begin, end, &topics.join(OLD));
                }
                ["create", _] => {
                    self.must_be_synced(begin, end, &topics.join("~new/topic~"));
                    self.must_be_synced(begin, end, &topics.join("~new"));
                    self.must_be_synced(begin, end, &topics);
                }
                ["alter" | "grow", topic] => {
                    self.must_be_synced(begin, end, &topics.join(topic).join("topic~"));
                    self.must_be_synced(begin, end, &topics.join(topic));
                }
                ["delete", _] => self.must_be_synced(begin, end, &topics),
                ["delete_records", .., "0"] => {}
                ["delete_records", topic, partition, ..] => {
                    let dir = topics.join(topic).join(partition);
                    self.must_be_synced(begin, end, &dir.join("checkpoint~"));
                    self.must_be_synced(begin, end, &dir);
                }
                ["send", .., "Synced", _] => self.check_record(begin, end, begin, &words),
                ["commit", _, "Synced", _] => self.check_commit(begin, end, begin),
                ["flush" | "close"] => self.check_all(begin, end),
                _ => {}
            }
        }
    }

    /// A record that was sent at `sent` and called durable by what was done from `begin` to `end`.
    fn check_record(&self, begin: usize, end: usize, sent: usize, words: &[&str]) {
        let dir = self.data.join("topics").join(words[1]).join(words[2]);
        let offset: u64 = words[5].parse().expect("offset");
        self.must_not_have_failed(begin, end, &dir, "log");
        // Each segment is synced at some time, so the events tell which there are.
        let bases = self.events.iter().filter_map(|event| match event {
            Event::Sync { path, .. } if path.parent() == Some(&*dir) => {
                path.file_name()?.to_str()?.strip_suffix(".log")?.parse::<u64>().ok()
            }
            _ => None,
        });
        let base = bases.filter(|base| *base <= offset).max();
        let base = base.unwrap_or_else(|| panic!("{}: {words:?} without a sync", self.what));
        self.must_be_synced(sent, end, &dir.join(format!("{base:020}.log")));
        // Its directory, after the segment was begun, which was behind the record before its first.
        let before = base.checked_sub(1).map(|before| before.to_string());
        let is_before = |line: &str| {
            let found: Vec<_> = line.split(' ').collect();
            found[..2] == ["done", "send"]
                && found[2..4] == words[1..3]
                && Some(found[6]) == before.as_deref()
        };
        let created = (0..end).find(|at| self.line(*at).is_some_and(is_before)).unwrap_or(0);
        self.must_be_synced(created, end, &dir);
    }

    /// A commit that was written at `written` and called durable by what was done from `begin` to
    /// `end`.
    fn check_commit(&self, begin: usize, end: usize, written: usize) {
        let dir = self.data.join("offsets");
        self.must_not_have_failed(begin, end, &dir, "offsets");
        let is_it = |path: &Path| path.extension().is_some_and(|found| found == "offsets");
        assert!(
            self.was_synced(written, end, true, is_it),
            "{}: {:?} without a sync of its file",
            self.what,
            self.line(end).expect("a line")
        );
        self.must_be_synced(self.last_before(begin, "begin open"), end, &dir);
    }

    /// The last record of each partition, and the last commit, of those that were written before.
    fn check_all(&self, begin: usize, end: usize) {
        let mut last = BTreeMap::new();
        let mut last_commit = None;
        for at in 0..begin {
            let words: Vec<_> = self.line(at).unwrap_or_default().split(' ').collect();
            match words[..] {
                ["done", "send", topic, partition, ..] => {
                    last.insert((topic, partition), (at, words));
                }
                ["begin", "delete", topic] => last.retain(|(of, _), _| *of != topic),
                ["done", "commit", ..] => last_commit = Some(at),
                _ => {}
            }
        }
        for (at, words) in last.values() {
            let sent = self.last_before(*at, "begin ");
            self.check_record(begin, end, sent, &words[1..]);
        }
        if let Some(at) = last_commit {
            self.check_commit(begin, end, self.last_before(at, "begin "));
        }
    }
}

// The side of the test: what is made to fail.

fn workload_in(dir: &Path, role: &str, mut command: Command) -> std::process::Output {
    command
        .args(["--exact", "workload", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROLE, role)
        .stdin(Stdio::null())
        .output()
        .expect("run")
}

fn this_test() -> PathBuf {
    std::env::current_exe().expect("this test")
}

fn strace(log: &Path, traced: &[&str], more: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-y", "-s", "300", "-e"]);
    strace.arg(format!("trace={}", traced.join(","))).args(more).arg("-o").arg(log);
    strace
}

fn can_trace() -> bool {
    let mut command = strace(Path::new("/dev/null"), &["fsync"], &[]);
    match command.arg("true").output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("SKIPPED: strace cannot: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            println!("SKIPPED: strace: {error}");
            false
        }
    }
}

/// What came of a run of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There was no such call to be made to fail.
    InPeace,
    /// Something failed around the broker, of which nothing follows for it.
    Around,
    /// Something failed in the broker's directory, and all promises were kept.
    Kept,
}

/// Runs the workload while a call fails, and checks all that was promised.
fn run(before: &Path, call: &str, failure: &str, what: &str) -> Outcome {
    let base = tempfile::tempdir().expect("temporary directory");
    let dir = base.path().join("run");
    let copied = Command::new("cp").arg("-r").arg(before).arg(&dir).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let (data, log) = (dir.join("data"), base.path().join("log"));
    let mut traced = vec!["writev", "fdatasync", "fsync"];
    if !traced.contains(&call) {
        traced.push(call);
    }
    let mut command = strace(&log, &traced, &["-e", &format!("inject={call}:{failure}")]);
    command.arg(this_test());
    let output = workload_in(&dir, "run", command);
    let trace = Trace::parse(&fs::read_to_string(&log).expect("strace wrote it"));
    if !trace.is_within(&data) {
        return Outcome::Around;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("panicked"),
        "{what}: it ended by {}: {said}\n{:?}",
        output.status,
        trace.injected
    );
    let mut told = Told::default();
    told.attempted.insert(0);
    for line in fs::read_to_string(dir.join("journal")).expect("journal").lines() {
        told.add(line);
    }
    let what = format!("{what}, {:?}", trace.injected);
    Promises { events: &trace.events, data: &data, what: &what }.check();
    let broker = Broker::open(&data).unwrap_or_else(|error| panic!("{what}: opening: {error}"));
    told.check(&broker, &what);
    if trace.injected.is_empty() { Outcome::InPeace } else { Outcome::Kept }
}

/// Whether only the N-th call of a thread fails, or all from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Once,
    FromThereOn,
}

/// A directory that a process left in the middle of its work, if there is `strace` to go on with.
fn unfinished() -> Option<tempfile::TempDir> {
    if !can_trace() {
        return None;
    }
    let base = tempfile::tempdir().expect("temporary directory");
    let output = workload_in(base.path(), "before", Command::new(this_test()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(base)
}

/// Makes each call of this kind fail, with each error and in each way.
fn fail_each(call: &str, ways: &[Failing]) {
    let Some(before) = unfinished() else { return };
    let mut kept = 0;
    for error in ["EIO", "ENOSPC"] {
        for way in ways {
            for number in 1.. {
                let and_on = if *way == Failing::FromThereOn { "+" } else { "" };
                let what = format!("{call} {number}{and_on} fails with {error}");
                let failure = format!("error={error}:when={number}{and_on}");
                match run(before.path(), call, &failure, &what) {
                    Outcome::InPeace => break,
                    Outcome::Around => {}
                    Outcome::Kept => kept += 1,
                }
            }
        }
    }
    println!("{call}: failed in {kept} runs, and every promise was kept");
}

#[test]
#[ignore = "needs strace: see tests/README.md"]
fn a_workload_in_peace_keeps_every_promise() {
    if let Some(before) = unfinished() {
        // No thread makes so many calls.
        let outcome = run(before.path(), "fdatasync", "error=EIO:when=60000", "in peace");
        assert_eq!(outcome, Outcome::InPeace);
    }
}

/// Where blocks cannot be reserved, zeros are written.
#[test]
#[ignore = "needs strace: see tests/README.md"]
fn a_file_system_without_allocation_keeps_every_promise() {
    if let Some(before) = unfinished() {
        let failure = "error=EOPNOTSUPP:when=1+";
        assert_eq!(run(before.path(), "fallocate", failure, "no allocation"), Outcome::Kept);
    }
}

macro_rules! fail {
    ($($name:ident: $call:literal, $ways:expr;)*) => {
        $(
            #[test]
            #[ignore = "needs strace: see tests/README.md"]
            fn $name() {
                fail_each($call, &$ways);
            }
        )*
    };
}

use Failing::{FromThereOn, Once};

fail! {
    an_fdatasync_that_fails_breaks_no_promise: "fdatasync", [Once, FromThereOn];
    an_fsync_that_fails_breaks_no_promise: "fsync", [Once, FromThereOn];
    an_msync_that_fails_breaks_no_promise: "msync", [Once, FromThereOn];
    an_allocation_that_fails_breaks_no_promise: "fallocate", [Once, FromThereOn];
    a_rename_that_fails_breaks_no_promise: "rename", [Once, FromThereOn];
    a_removal_that_fails_breaks_no_promise: "unlink", [Once, FromThereOn];
    a_cut_that_fails_breaks_no_promise: "ftruncate", [Once, FromThereOn];
    a_directory_that_cannot_be_made_breaks_no_promise: "mkdir", [Once, FromThereOn];
    a_write_that_fails_breaks_no_promise: "write", [Once];
    a_write_at_a_place_that_fails_breaks_no_promise: "pwrite64", [Once, FromThereOn];
    a_file_that_cannot_be_opened_breaks_no_promise: "openat", [Once];
    a_mapping_that_fails_breaks_no_promise: "mmap", [Once];
}
