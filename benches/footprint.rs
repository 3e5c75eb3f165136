//! What records take on disk and in memory.
//!
//! `cargo bench --bench footprint`, or `-- disk`, `-- memory`, `-- partitions`, `-- rest` for one part alone. On disk:
//! all files of the topics, indexes included, after the broker was closed, by their lengths and by the
//! blocks they hold. In memory: what a process holds beyond mapped files (`RssAnon`), in a process of its
//! own, which is this program started again. What was sent is read back and every byte of it checked.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there is no /proc"))]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use forebay::{Broker, Record, Start, Topic, TopicConfig};
use support::{Checker, Options, Outcome, Payload, SIZE, Spread, Target, scratch};

const BATCH: u64 = 100;
const ROUNDS: usize = 3;
const PARTITIONS: u32 = 10_000;

fn main() {
    // As a process of its own it has its part, a directory and a number to do it with.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send-and-tell", dir, count] => {
            return send_and_tell(Path::new(dir), count.parse().expect("number"));
        }
        ["open-and-tell", dir] => return open_and_tell(Path::new(dir)),
        ["write-and-tell", dir] => return write_and_tell(Path::new(dir)),
        _ => {}
    }
    let options = Options::parse();
    if options.on("disk") {
        disk(&options);
    }
    if cfg!(target_os = "linux") && options.on("memory") {
        memory(&options);
    }
    if cfg!(target_os = "linux") && options.on("partitions") {
        partitions(&options);
    }
    if cfg!(target_os = "linux") && options.on("rest") {
        rest(&options);
    }
}

/// Prints a result and leaves it for who collects them.
fn tell(options: &Options, outcome: &Outcome) {
    let Outcome { what, unit, value: Spread { min, median, max }, .. } = outcome;
    let target = match outcome.target {
        Some(Target::AtMost(most)) => format!(" (target: at most {most} {unit})"),
        _ => String::new(),
    };
    println!("{what}: {median:.2} {unit}, min {min:.2}, max {max:.2}{target}");
    options.report(outcome);
}

fn send_one_by_one(topic: &Topic, count: u64) {
    let mut payload = Payload::new(0);
    for number in 0..count {
        topic.send(Record::new(payload.number(number))).expect("send");
    }
}

fn send_in_batches(topic: &Topic, count: u64) {
    let mut payloads = vec![Payload::new(0); BATCH as usize];
    for first in (0..count).step_by(BATCH as usize) {
        let numbered = (first..count).zip(&mut payloads);
        let records: Vec<Record<'_>> =
            numbered.map(|(number, payload)| Record::new(payload.number(number))).collect();
        topic.send_batch(&records).expect("send");
    }
}

/// Opens the directory anew and looks at everything.
fn check(dir: &Path, count: u64) {
    let broker = Broker::open(dir).expect("open");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let mut checker = Checker::new(1);
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            assert_eq!(record.offset(), checker.count(), "order");
            checker.check(record.value().expect("value"));
        }
    }
    checker.finish(count);
}

/// The lengths of all files below a directory, and the bytes of the blocks they hold.
fn taken_by(dir: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry"));
    entries.fold((0, 0), |(length, blocks), entry| {
        let metadata = entry.metadata().expect("metadata");
        let (more_length, more_blocks) = if metadata.is_dir() {
            taken_by(&entry.path())
        } else {
            (metadata.len(), metadata.blocks() * 512)
        };
        (length + more_length, blocks + more_blocks)
    })
}

type Send = fn(&Topic, u64);

fn disk(options: &Options) {
    println!("\nbytes on disk for each record of {SIZE} B, after close");
    // More than fits into one segment, and not a multiple of what does.
    let count = options.scaled(2_000_000);
    let ways: [(&str, Send, f64); 2] =
        [("one by one", send_one_by_one, 132.0), ("batches of 100", send_in_batches, 112.0)];
    for (name, send, target) in ways {
        let dir = scratch();
        let broker = Broker::open(dir.path()).expect("open");
        send(&broker.create_topic("t", TopicConfig::new()).expect("create"), count);
        broker.close().expect("close");
        let (length, blocks) = taken_by(&dir.path().join("topics"));
        check(dir.path(), count);
        for (counted, bytes) in [("file lengths", length), ("blocks", blocks)] {
            let what = format!("disk bytes a record of 100 B, {name}, {counted}");
            let value = Spread::of([bytes as f64 / count as f64]);
            let outcome = Outcome::new("disk", &what, "B", value);
            tell(options, &outcome.target(Target::AtMost(target)));
        }
    }
}

/// What this process holds beyond mapped files, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Starts this program again and gives back the numbers it says.
fn in_a_process_of_its_own(arguments: &[&str]) -> Vec<f64> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(arguments).output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Sends so many records, and says how much was resident at most, and when there was no broker.
fn send_and_tell(dir: &Path, count: u64) {
    const LOOK_EACH: u64 = 10_000;
    let before = resident();
    let broker = Broker::open(dir).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let mut most = resident();
    let mut payload = Payload::new(0);
    for number in 0..count {
        topic.send(Record::new(payload.number(number))).expect("send");
        if number % LOOK_EACH == 0 {
            most = most.max(resident());
        }
    }
    most = most.max(resident());
    broker.close().expect("close");
    println!("{most} {before}");
}

fn memory(options: &Options) {
    println!("\nresident memory beyond mapped files");
    let count = options.scaled(5_000_000);
    let (mut most, mut before) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds(ROUNDS) {
        let dir = scratch();
        let path = dir.path().to_str().expect("a path that is text");
        let told = in_a_process_of_its_own(&["send-and-tell", path, &count.to_string()]);
        let [at_most, at_first] = told[..] else { panic!("two numbers") };
        most.push(at_most / 1024.0);
        before.push(at_first / 1024.0);
        check(dir.path(), count);
    }
    let what = "a process without a broker";
    tell(options, &Outcome::new("memory", what, "MiB", Spread::of(before)));
    let what = format!("a process that sends {count} records of 100 B one by one, at most");
    let outcome = Outcome::new("memory", &what, "MiB", Spread::of(most));
    tell(options, &outcome.target(Target::AtMost(16.0)));
}

/// Opens a broker and says in how many milliseconds, what is resident then, how many files are
/// open and how many mappings there are.
fn open_and_tell(dir: &Path) {
    let begun = Instant::now();
    let broker = Broker::open(dir).expect("open");
    let millis = begun.elapsed().as_secs_f64() * 1e3;
    let topic = broker.topic("t").expect("topic");
    assert_eq!(topic.partitions(), PARTITIONS);
    let files = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let mappings = std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
    println!("{millis} {} {files} {mappings}", resident());
}

/// Sends a record to each partition, and says how many files are open and how many mappings there are,
/// then and when no more are closed; after how many seconds; and how many microseconds the next record
/// takes in each, in the median.
fn write_and_tell(dir: &Path) {
    const PATIENCE: Duration = Duration::from_secs(240);
    let broker = Broker::open(dir).expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS);
    let topic = broker.create_topic("t", config).expect("create");
    let send = |partition: u32, number: u64| {
        let begun = Instant::now();
        topic.send(Record::new(Payload::new(0).number(number)).partition(partition)).expect("send");
        begun.elapsed().as_secs_f64() * 1e6
    };
    for partition in 0..PARTITIONS {
        send(partition, 0);
    }
    let count = || {
        let files = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        (files, maps.lines().count())
    };
    let written = count();
    let begun = Instant::now();
    let mut at_rest = written;
    // No more than are kept, and the few of the process itself.
    while at_rest.0 > 300 && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
        at_rest = count();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut micros: Vec<f64> = (0..PARTITIONS).map(|partition| send(partition, 1)).collect();
    micros.sort_by(f64::total_cmp);
    println!(
        "{} {} {} {} {seconds} {}",
        written.0,
        written.1,
        at_rest.0,
        at_rest.1,
        micros[micros.len() / 2]
    );
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let mut checkers: Vec<_> = (0..PARTITIONS).map(|_| Checker::new(1)).collect();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let checker = &mut checkers[record.partition() as usize];
            assert_eq!(record.offset(), checker.count(), "order");
            checker.check(record.value().expect("value"));
        }
    }
    for checker in checkers {
        checker.finish(2);
    }
}

/// What is left open of many partitions that were written to.
fn rest(options: &Options) {
    println!("\na topic of {PARTITIONS} partitions, a record sent to each, then left alone");
    let mut all: [Vec<f64>; 6] = Default::default();
    for _ in 0..options.rounds(1) {
        let dir = scratch();
        let path = dir.path().to_str().expect("a path that is text");
        let told = in_a_process_of_its_own(&["write-and-tell", path]);
        assert_eq!(told.len(), all.len());
        all.iter_mut().zip(told).for_each(|(values, value)| values.push(value));
    }
    let rows = [
        ("open files, just written to", "files"),
        ("mappings, just written to", "mappings"),
        ("open files, left alone", "files"),
        ("mappings, left alone", "mappings"),
        ("until they are closed", "s"),
        ("the next record in each", "µs"),
    ];
    for ((what, unit), values) in rows.into_iter().zip(all) {
        let what = format!("10,000 partitions, {what}");
        tell(options, &Outcome::new("partitions", &what, unit, Spread::of(values)));
    }
}

fn partitions(options: &Options) {
    println!("\na topic of {PARTITIONS} partitions with a record in each, opened and idle");
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(1 << 20);
    let topic = broker.create_topic("t", config).expect("create");
    for partition in 0..PARTITIONS {
        topic.send(Record::new("x").partition(partition)).expect("send");
    }
    broker.close().expect("close");
    let mut all: [Vec<f64>; 4] = Default::default();
    for _ in 0..options.rounds(ROUNDS) {
        let path = dir.path().to_str().expect("a path that is text");
        let told = in_a_process_of_its_own(&["open-and-tell", path]);
        assert_eq!(told.len(), all.len());
        all.iter_mut().zip(told).for_each(|(values, value)| values.push(value));
    }
    let [millis, resident, files, mappings] = all;
    let resident: Vec<f64> = resident.into_iter().map(|kib| kib / 1024.0).collect();
    let rows = [
        ("time to open", "ms", millis, Some(1000.0)),
        ("resident memory", "MiB", resident, Some(100.0)),
        ("open files", "files", files, None),
        ("mappings", "mappings", mappings, None),
    ];
    for (what, unit, values, target) in rows {
        let what = format!("10,000 partitions, {what}");
        let mut outcome = Outcome::new("partitions", &what, unit, Spread::of(values));
        outcome.target = target.map(Target::AtMost);
        tell(options, &outcome);
    }
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.topic("t").expect("topic");
    for partition in 0..PARTITIONS {
        assert_eq!(topic.latest_offset(partition).expect("offset"), 1, "partition {partition}");
    }
}
