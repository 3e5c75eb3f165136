//! How each cost grows: with partitions, with what is retained, with readers, with a backlog, and what an idle
//! broker costs.
//!
//! `cargo bench --bench scale`; names choose parts (`-- send retained readers poll drain open hold idle`), `--big`
//! goes to 10 GB retained, and to 100,000 segments, which take some minutes to write. It prints one line a
//! cost, as a table in Markdown. What is measured in seconds is the
//! median of some rounds, taken in turns; what was sent is read back and checked.
#![cfg(target_os = "linux")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

#[path = "support/growth.rs"]
mod growth;
#[path = "support/numbered.rs"]
mod numbered;
#[path = "support/process.rs"]
mod process;
#[path = "support/upkeep.rs"]
mod upkeep;

use std::path::Path;
use std::time::{Duration, Instant};

use forebay::{Broker, Reader, Record, Start, TopicConfig};
use growth::{Line, medians};
use numbered::Numbered;

const ROUNDS: usize = 5;
/// How many sends a round has.
const CALLS: u64 = 200_000;
/// How many polls a round has.
const POLLS: u64 = 10_000;
/// The bytes of a record.
const SIZE: usize = 100;
const PARTITIONS: [u32; 3] = [1, 100, 10_000];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, what, count, dir] = &arguments[..]
        && role == "hold"
    {
        return upkeep::hold(what, count.parse().expect("a number"), Path::new(dir));
    }
    let is_big = arguments.iter().any(|one| one == "--big");
    let wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|one| !one.starts_with('-')).collect();
    let on = |name: &str| wanted.is_empty() || wanted.contains(&name);
    growth::print_head();
    if on("send") {
        send_by_partitions();
    }
    if on("retained") {
        send_by_retained(if is_big { &[0, 1, 10] } else { &[0, 1] });
    }
    if on("readers") {
        send_by_readers();
    }
    if on("poll") {
        poll_by_partitions();
    }
    if on("drain") {
        drain_by_backlog();
    }
    if on("open") {
        open_by_partitions();
        open_by_segments(if is_big { &[1_000, 10_000, 100_000] } else { &[100, 1_000, 10_000] });
    }
    if on("hold") {
        upkeep::hold_by_partitions();
    }
    if on("idle") {
        upkeep::idle();
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory")
}

/// Nanoseconds a call, of so many.
fn each(calls: u64, mut call: impl FnMut(u64)) -> f64 {
    let begun = Instant::now();
    (0..calls).for_each(&mut call);
    begun.elapsed().as_secs_f64() * 1e9 / calls as f64
}

/// Boxes what is measured, so that different ones make one list.
fn boxed<'a>(work: impl FnMut() -> f64 + 'a) -> Box<dyn FnMut() -> f64 + 'a> {
    Box::new(work)
}

/// Numbers `0..of` in an order that jumps about, over and over.
fn scattered(number: u64, of: u32) -> u32 {
    (number.wrapping_mul(7_919) % u64::from(of)) as u32
}

fn line(what: &str, unit: &'static str, at: &[String], values: Vec<f64>) {
    Line::new(what, unit, at.iter().cloned().zip(values).collect()).print();
}

fn of_partitions() -> Vec<String> {
    PARTITIONS.map(|count| format!("{count} partitions")).into()
}

fn send_by_partitions() {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    for (what, spread) in [
        ("send, to one partition among", None),
        (
            "send, round robin over",
            Some((|number, of| (number % u64::from(of)) as u32) as fn(u64, u32) -> u32),
        ),
        ("send, here and there among", Some(scattered)),
    ] {
        let mut topics = PARTITIONS.map(|count| {
            let config = TopicConfig::new().partitions(count);
            let mut topic = Numbered::create(&broker, &format!("t{count}"), config, SIZE);
            // The first send to a partition makes its first file, which is another cost.
            (0..if spread.is_some() { count } else { 1 })
                .for_each(|partition| topic.send(partition));
            (topic, count)
        });
        let mut works: Vec<_> = topics
            .iter_mut()
            .map(|(topic, count)| {
                let count = *count;
                boxed(move || {
                    each(CALLS, |number| {
                        topic.send(spread.map_or(0, |spread| spread(number, count)));
                    })
                })
            })
            .collect();
        let found = medians(ROUNDS, &mut works);
        drop(works);
        for (topic, count) in topics {
            topic.check(&broker);
            broker.delete_topic(&format!("t{count}")).expect("delete");
        }
        line(what, "ns", &of_partitions(), found);
    }
}

fn send_by_retained(gigabytes: &[u64]) {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let mut topics: Vec<_> = gigabytes
        .iter()
        .map(|gigabytes| {
            let name = format!("t{gigabytes}");
            let mut topic = Numbered::create(&broker, &name, TopicConfig::new(), SIZE);
            topic.send_batches(gigabytes * 1_000_000_000 / SIZE as u64);
            topic.topic.flush().expect("flush");
            topic
        })
        .collect();
    let mut works: Vec<_> =
        topics.iter_mut().map(|topic| boxed(move || each(CALLS, |_| topic.send(0)))).collect();
    let found = medians(ROUNDS, &mut works);
    drop(works);
    for topic in &topics {
        topic.check(&broker);
    }
    let at: Vec<_> = gigabytes.iter().map(|gigabytes| format!("{gigabytes} GB")).collect();
    line("send, with so much retained", "ns", &at, found);
}

fn send_by_readers() {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let other = broker.create_topic("other", TopicConfig::new()).expect("create");
    let counts = [0, 1, 100];
    let at = counts.map(|count| format!("{count} readers"));
    let idle_reader = |name: &str| {
        let mut reader = broker.reader().topic(name, Start::Latest).open().expect("reader");
        assert!(reader.try_poll().expect("poll").is_empty());
        reader
    };
    let mut topics = counts.map(|count| {
        let name = format!("t{count}");
        let topic = Numbered::create(&broker, &name, TopicConfig::new(), SIZE);
        let readers: Vec<Reader> = (0..count).map(|_| idle_reader(&name)).collect();
        (topic, readers)
    });
    let mut works: Vec<_> =
        topics.iter_mut().map(|(topic, _)| boxed(move || each(CALLS, |_| topic.send(0)))).collect();
    let found = medians(ROUNDS, &mut works);
    drop(works);
    for (topic, readers) in topics {
        topic.check(&broker);
        for mut reader in readers {
            let first = reader.try_poll().expect("poll").get(0).map(|record| record.offset());
            assert_eq!(first, Some(0), "an idle reader has missed nothing");
        }
    }
    line("send, while so many readers of the topic do not poll", "ns", &at, found);

    let parked = |count: u64, topic: &mut Numbered| {
        std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| {
                    let mut reader = idle_reader("other");
                    assert_eq!(reader.poll(Duration::from_secs(600)).expect("poll").len(), 1);
                });
            }
            std::thread::sleep(Duration::from_millis(300));
            let found = each(CALLS, |_| topic.send(0));
            other.send(Record::new("wake up")).expect("send");
            found
        })
    };
    let mut topics = counts.map(|count| {
        (Numbered::create(&broker, &format!("p{count}"), TopicConfig::new(), SIZE), count)
    });
    let mut works: Vec<_> = topics
        .iter_mut()
        .map(|(topic, count)| {
            let (count, parked) = (*count, &parked);
            boxed(move || parked(count, topic))
        })
        .collect();
    let found = medians(ROUNDS, &mut works);
    drop(works);
    for (topic, _) in &topics {
        topic.check(&broker);
    }
    line("send, while so many readers of another topic are parked", "ns", &at, found);
}

fn poll_by_partitions() {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let counts = [0, 100, 10_000];
    let at = counts.map(|count| format!("{count} idle partitions"));
    let mut readers = counts.map(|count| {
        let name = format!("busy{count}");
        let topic = Numbered::create(&broker, &name, TopicConfig::new(), SIZE);
        let mut reader = broker.reader().topic(&name, Start::Earliest);
        if count > 0 {
            let idle = format!("idle{count}");
            broker.create_topic(&idle, TopicConfig::new().partitions(count)).expect("create");
            reader = reader.topic(&idle, Start::Earliest);
        }
        let mut reader = reader.open().expect("reader");
        assert!(reader.try_poll().expect("poll").is_empty());
        (topic, reader)
    });
    let parts = [
        ("try_poll by a reader that never waited, finds nothing", false, false),
        ("try_poll by a reader that waited once, finds nothing", true, false),
        ("the same, a send before it, finds the record", true, true),
    ];
    for (what, waits, sends) in parts {
        let mut works: Vec<_> = readers
            .iter_mut()
            .map(|(topic, reader)| {
                if waits {
                    assert!(reader.poll(Duration::from_millis(1)).expect("poll").is_empty());
                }
                boxed(move || {
                    each(POLLS, |_| {
                        if sends {
                            topic.send(0);
                        }
                        let found = reader.try_poll().expect("poll").len();
                        assert_eq!(found, usize::from(sends));
                    })
                })
            })
            .collect();
        let found = medians(ROUNDS, &mut works);
        drop(works);
        line(what, "ns", &at, found);
    }
    for (topic, _) in &readers {
        topic.check(&broker);
    }
}

fn drain_by_backlog() {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let counts = [100_000, 1_000_000, 10_000_000];
    let at = counts.map(|count| format!("{:.1} M", count as f64 / 1e6));
    for count in counts {
        Numbered::create(&broker, &format!("t{count}"), TopicConfig::new(), SIZE)
            .send_batches(count);
    }
    let check = |number: &mut u64, offset: u64, value: Option<&[u8]>| {
        assert_eq!((offset, &value.expect("a value")[..8]), (*number, &number.to_le_bytes()[..]));
        *number += 1;
    };
    let drain = |count: u64| {
        let mut reader =
            broker.reader().topic(&format!("t{count}"), Start::Earliest).open().expect("reader");
        let (mut number, begun) = (0, Instant::now());
        while number < count {
            for record in &reader.try_poll().expect("poll") {
                check(&mut number, record.offset(), record.value());
            }
        }
        begun.elapsed().as_secs_f64() * 1e9 / count as f64
    };
    let mut group = 0;
    let mut consume = |count: u64| {
        group += 1;
        let topic = format!("t{count}");
        let builder =
            broker.consumer(&format!("g{group}")).subscribe([&topic]).start(Start::Earliest);
        let mut consumer = builder.open().expect("consumer");
        let (mut number, begun) = (0, Instant::now());
        while number < count {
            for record in &consumer.try_poll().expect("poll") {
                check(&mut number, record.offset(), record.value());
            }
            consumer.commit().expect("commit");
        }
        let time = begun.elapsed().as_secs_f64() * 1e9 / count as f64;
        let committed = consumer.committed(&topic, 0).expect("ask").expect("a commit");
        assert_eq!(committed.offset, count);
        time
    };
    let mut works: Vec<_> = counts.iter().map(|count| boxed(move || drain(*count))).collect();
    line("a record drained by a reader, of a backlog of", "ns", &at, medians(3, &mut works));
    let found = counts.map(|count| {
        let mut found: Vec<f64> = (0..3).map(|_| consume(count)).collect();
        found.sort_by(f64::total_cmp);
        found[1]
    });
    line("a record drained by a group that commits each poll, of", "ns", &at, found.into());
}

fn open_by_partitions() {
    let found = PARTITIONS.map(|count| {
        let dir = scratch();
        let broker = Broker::open(dir.path()).expect("open");
        let config = TopicConfig::new().partitions(count);
        let mut topic = Numbered::create(&broker, "t", config, SIZE);
        (0..count).for_each(|partition| topic.send(partition));
        broker.close().expect("close");
        let open = || {
            let begun = Instant::now();
            let broker = Broker::open(dir.path()).expect("open");
            let time = begun.elapsed().as_secs_f64() * 1e3;
            topic.check(&broker);
            time
        };
        medians(ROUNDS, &mut [boxed(open)])[0]
    });
    line("open", "ms", &of_partitions(), found.into());
}

fn open_by_segments(counts: &[u64]) {
    let at: Vec<_> = counts.iter().map(|count| format!("{count} segments")).collect();
    let open = counts.iter().map(|count| {
        let dir = scratch();
        let broker = Broker::open(dir.path()).expect("open");
        // Records of which two do not fit into one segment.
        let config = TopicConfig::new().segment_bytes(4096);
        let mut topic = Numbered::create(&broker, "t", config, 2100);
        (0..*count).for_each(|_| topic.send(0));
        broker.close().expect("close");
        let open = || {
            let begun = Instant::now();
            let broker = Broker::open(dir.path()).expect("open");
            let time = begun.elapsed().as_secs_f64() * 1e3;
            let described = broker.describe_topic("t").expect("describe");
            assert_eq!(described.partitions[0].segments as u64, *count);
            time
        };
        let found = medians(ROUNDS, &mut [boxed(open)]);
        topic.check(&Broker::open(dir.path()).expect("open"));
        found[0]
    });
    line("open", "ms", &at, open.collect());
}
