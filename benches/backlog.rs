//! What a producer notices of a buffer that fills up: how long a send takes while the backlog grows, and
//! when a topic is full, by what it does then; and what the heaviest producers make of the disk.
//!
//! `cargo bench --bench backlog`, or `-- 5` for a backlog of so many GiB, `-- full` and `-- disk` for one
//! of the others alone. Everything that was sent is accounted for at the end.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::{Broker, Error, OnFull, Record, SinkBatch, SinkError, Start, Topic, TopicConfig};
use support::{Options, scratch};

const SIZE: usize = 1000;
/// Sends a second while the backlog grows.
const RATE: u64 = 60_000;

fn main() {
    let options = Options::parse();
    let gib = options.words.iter().find_map(|word| word.parse().ok());
    if gib.is_some() || options.words.is_empty() {
        growing(gib.unwrap_or(5));
    }
    if options.on("full") {
        full();
    }
    if options.on("disk") {
        disk();
    }
}

/// Sorted durations, printed as the usual shares of them.
fn print(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let share = |of: f64| times[((times.len() - 1) as f64 * of) as usize].as_secs_f64() * 1e6;
    println!(
        "{name:<44} {:>8.2} {:>8.2} {:>8.2} {:>10.2} {:>11.2}",
        share(0.5),
        share(0.99),
        share(0.999),
        share(0.9999),
        share(1.0)
    );
}

fn head(what: &str) {
    println!("\n{what}, in microseconds");
    println!("{:<44} {:>8} {:>8} {:>8} {:>10} {:>11}", "", "p50", "p99", "p99.9", "p99.99", "max");
}

/// The sink is stopped, and the backlog grows.
fn growing(gib: u64) {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().consumed_by(["sink"]).max_bytes(64 << 30);
    let topic = broker.create_topic("spike", config).expect("create");
    let forwarder = broker
        .forwarder("sink")
        .subscribe(["spike"])
        .start(|_: &SinkBatch| Err::<(), _>(SinkError::retry("it is away")))
        .expect("start");
    head(&format!("send of {SIZE} bytes at {RATE}/s while the sink is away"));
    let pace = Duration::from_secs(1) / RATE as u32;
    let (mut sent, begun) = (0_u64, Instant::now());
    for step in 0..gib * 2 {
        let end = ((step + 1) << 29) / SIZE as u64;
        let mut times = Vec::with_capacity((end - sent) as usize);
        while sent < end {
            let due = begun + pace * sent as u32;
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let mut value = [7; SIZE];
            value[..8].copy_from_slice(&sent.to_le_bytes());
            let before = Instant::now();
            topic.send(Record::new(&value)).expect("send");
            times.push(before.elapsed());
            sent += 1;
        }
        print(
            &format!("backlog {:.1} to {:.1} GiB", step as f64 / 2.0, step as f64 / 2.0 + 0.5),
            times,
        );
    }
    assert_eq!(forwarder.stats().delivered_records, 0);
    assert_eq!(forwarder.lag().expect("lag"), sent);
    drop(forwarder);
    let mut reader = broker.reader().topic("spike", Start::Earliest).open().expect("reader");
    let mut found = 0_u64;
    while found < sent {
        for record in &reader.poll(Duration::from_secs(1)).expect("poll") {
            assert_eq!(record.value().expect("value")[..8], found.to_le_bytes());
            found += 1;
        }
    }
    println!("{found} records read back, in order");
}

fn send(topic: &Topic) -> (Duration, bool) {
    let before = Instant::now();
    let sent = topic.send(Record::new(&[7; SIZE]));
    let time = before.elapsed();
    match sent {
        Ok(_) => (time, true),
        Err(Error::TopicFull { .. }) => (time, false),
        Err(error) => panic!("{error}"),
    }
}

/// What a send takes when the topic is full.
fn full() {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    head("send to a topic that is full");
    let timeout = Duration::from_millis(5);
    let full = [
        ("Reject", OnFull::Reject, 200_000),
        ("Block { timeout: 5 ms }", OnFull::Block { timeout }, 1_000),
    ];
    for (name, on_full, calls) in full {
        let config = TopicConfig::new().max_bytes(64 << 20).on_full(on_full);
        let topic = broker.create_topic(&name[..5], config).expect("create");
        while send(&topic).1 {}
        let times = (0..calls).map(|_| send(&topic));
        let times = times.map(|(time, is_sent)| (!is_sent).then_some(time)).collect::<Option<_>>();
        print(name, times.expect("none was sent"));
    }
    let config = TopicConfig::new().max_bytes(64 << 20).on_full(OnFull::DropOldest);
    let topic = broker.create_topic("drop", config).expect("create");
    let calls = 400_000_u64;
    let (read, gaps) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reader = broker.reader().topic("drop", Start::Earliest).open().expect("reader");
            let (mut read, mut gaps) = (0, 0);
            while read + gaps < calls {
                match reader.poll(Duration::from_secs(10)) {
                    Ok(batch) => read += batch.len() as u64,
                    Err(Error::Gap { from, to, .. }) => gaps += to - from,
                    Err(error) => panic!("{error}"),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            (read, gaps)
        });
        let times = (0..calls).map(|_| send(&topic).0).collect();
        print("DropOldest, as fast as it goes", times);
        reading.join().expect("reader")
    });
    assert_eq!(read + gaps, calls);
    println!(
        "of {calls} records a slow reader read {read}, and its gaps add up to the other {gaps}"
    );
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// Two threads send what they can, and the files are looked at every 10 ms.
fn disk() {
    println!("\nwhat the files take under two senders without pause, looked at every 10 ms");
    for (partitions, max) in [(1, 64 << 20), (8, 64 << 20), (8, 512 << 20)] {
        let dir = scratch();
        let broker = Broker::open(dir.path()).expect("open");
        let config = TopicConfig::new().partitions(partitions).max_bytes(max);
        let topic = broker.create_topic("t", config.on_full(OnFull::DropOldest)).expect("create");
        let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let most = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let (topic, mut number) = (topic.clone(), 0);
                    while !done.load(Ordering::Relaxed) {
                        number = (number + 1) % partitions;
                        topic.send(Record::new(&[7; SIZE]).partition(number)).expect("send");
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let begun = Instant::now();
            let mut most = 0;
            while begun.elapsed() < Duration::from_secs(5) {
                most = most.max(bytes_below(&dir.path().join("topics")));
                std::thread::sleep(Duration::from_millis(10));
            }
            done.store(true, Ordering::Relaxed);
            most
        });
        let sent = sent.into_inner();
        println!(
            "{partitions} partitions, limit {:>9}: at most {most:>9} bytes, {:.4} of it; {sent} records of {SIZE} bytes sent",
            max,
            most as f64 / max as f64
        );
    }
}
