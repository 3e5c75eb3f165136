//! How fast records are sent and read, beside what memory allows in the same run.
//!
//! `cargo bench --bench throughput`, or `-- w1 w4` for some rows only. Each row is run several
//! times, interleaved with the others; everything that was sent is read back and checked by count
//! and checksum. The limit rows are small loops over a mapped file: what remains if there were no
//! topics, offsets, locks, clocks and indexes.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]

mod support;

use std::time::Duration;

use forebay::{Broker, Record, Start, Topic, TopicConfig};
use support::{Row, measure, reserved_file, timed};

const ROUNDS: usize = 7;
/// What one run of a row moves.
const VOLUME: u64 = 128 << 20;
const HEADER: usize = 24;

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let on = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    for (name, size, target) in [("w1", 100, 0.70), ("w1k", 1024, 0.75), ("w16", 16, 0.50)] {
        if on(name) {
            send_one_by_one(name, size, target);
        }
    }
    if on("w2") {
        send_in_batches();
    }
    if on("w4") {
        replay();
    }
}

/// The payload every record carries: different in each, so that a checksum over all of them tells
/// whether each was really there.
fn fill(payload: &mut [u8], number: u64) {
    let stamp = number.to_le_bytes();
    let at = payload.len().min(stamp.len());
    payload[..at].copy_from_slice(&stamp[..at]);
}

/// A sum that depends on every payload's number.
fn digest(sum: u64, payload: &[u8]) -> u64 {
    let mut stamp = [0; 8];
    let at = payload.len().min(8);
    stamp[..at].copy_from_slice(&payload[..at]);
    sum.wrapping_mul(31).wrapping_add(u64::from_le_bytes(stamp) ^ payload.len() as u64)
}

/// What [`digest`] comes to over records `0..count` of `size` bytes.
fn expected_digest(count: u64, size: usize) -> u64 {
    let mut payload = vec![7; size];
    (0..count).fold(0, |sum, number| {
        fill(&mut payload, number);
        digest(sum, &payload)
    })
}

/// How many payloads are ready before the clock starts, to be used in turn.
const POOL: usize = 1000;

fn payloads(size: usize) -> Vec<Vec<u8>> {
    vec![vec![7; size]; POOL]
}

/// A directory on the file system the benches are built on: what is measured is a disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory")
}

fn send_one_by_one(name: &str, size: usize, target: f64) {
    let count = VOLUME / (size as u64 + 28);
    let limit_dir = scratch();
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let mut run = 0;
    let by_name = Broker::open(dir.path().join("by-name")).expect("open");
    let mut rows = [
        Row {
            name: "limit: warm mmap + CRC".to_owned(),
            run: Box::new(limit_write(limit_dir.path(), size, 1, count)),
            records: count,
            bytes: count * size as u64,
            limit: None,
        },
        Row {
            name: format!("{name} send, {size} B, Written"),
            run: Box::new(|| {
                run += 1;
                send_run(&broker, &format!("topic-{run}"), size, count, |topic, record| {
                    topic.send(record).expect("send");
                })
            }),
            records: count,
            bytes: count * size as u64,
            limit: Some((0, target)),
        },
        Row {
            name: format!("{name} the same, by topic name"),
            run: {
                let mut run = 0;
                let by_name = &by_name;
                Box::new(move || {
                    run += 1;
                    let topic = format!("topic-{run}");
                    let producer = by_name.producer();
                    send_run(by_name, &topic, size, count, |_, record| {
                        producer.send(&topic, record).expect("send");
                    })
                })
            },
            records: count,
            bytes: count * size as u64,
            limit: Some((0, target)),
        },
    ];
    measure(&format!("{}: one thread, one record a send", name.to_uppercase()), ROUNDS, &mut rows);
}

fn send_run(
    broker: &Broker,
    name: &str,
    size: usize,
    count: u64,
    send: impl Fn(&Topic, Record<'_>),
) -> Duration {
    let topic = broker.create_topic(name, TopicConfig::new()).expect("create");
    let mut payload = vec![7; size];
    let time = timed(|| {
        for number in 0..count {
            fill(&mut payload, number);
            send(&topic, Record::new(&payload));
        }
    });
    check(broker, name, size, count);
    broker.delete_topic(name).expect("delete");
    time
}

/// Reads everything back.
fn check(broker: &Broker, name: &str, size: usize, count: u64) {
    let (found, sum) = read_all(broker, name);
    assert_eq!(found, count, "records read back");
    assert_eq!(sum, expected_digest(count, size), "their content");
}

fn read_all(broker: &Broker, name: &str) -> (u64, u64) {
    let mut reader = broker.reader().topic(name, Start::Earliest).open().expect("reader");
    let (mut found, mut sum) = (0, 0);
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return (found, sum);
        }
        for record in &batch {
            assert_eq!(record.offset(), found);
            found += 1;
            sum = digest(sum, record.value().expect("value"));
        }
    }
}

/// Payload and a header copied into a mapped file whose pages were touched, one CRC for every
/// `group` records.
fn limit_write(
    dir: &std::path::Path,
    size: usize,
    group: usize,
    count: u64,
) -> impl FnMut() -> Duration {
    let path = dir.join(format!("limit-{size}-{group}"));
    let bytes = (count as usize + group) * (size + HEADER);
    let file = reserved_file(&path, bytes as u64);
    // SAFETY: nobody else knows the file.
    #[allow(unsafe_code, reason = "the limit is what a bare mapping allows")]
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.expect("map");
    map.fill(1);
    move || {
        let mut payload = vec![7; size];
        timed(|| {
            let mut at = 0;
            let mut number = 0;
            while number < count {
                let start = at + HEADER;
                let mut end = start;
                for _ in 0..group {
                    fill(&mut payload, number);
                    map[end..end + size].copy_from_slice(&payload);
                    end += size;
                    number += 1;
                }
                let crc = crc32fast::hash(&map[start..end]);
                map[at..at + 4].copy_from_slice(&crc.to_le_bytes());
                map[at + 4..at + 8].copy_from_slice(&((end - start) as u32).to_le_bytes());
                map[at + 8..at + 16].copy_from_slice(&number.to_le_bytes());
                map[at + 16..at + 24].copy_from_slice(&number.to_le_bytes());
                at = end;
            }
        })
    }
}

fn send_in_batches() {
    const SIZE: usize = 100;
    const BATCH: usize = 100;
    let count = VOLUME / (SIZE as u64 + 4) / BATCH as u64 * BATCH as u64;
    let (limit_dir, dir) = (scratch(), scratch());
    let broker = Broker::open(dir.path()).expect("open");
    let mut run = 0;
    let mut rows = [
        Row {
            name: "limit: one CRC per 100".to_owned(),
            run: Box::new(limit_write(limit_dir.path(), SIZE, BATCH, count)),
            records: count,
            bytes: count * SIZE as u64,
            limit: None,
        },
        Row {
            name: "w2 send_batch of 100, 100 B".to_owned(),
            run: Box::new(|| {
                run += 1;
                let name = format!("topic-{run}");
                let topic = broker.create_topic(&name, TopicConfig::new()).expect("create");
                let mut pool = payloads(SIZE);
                let pool = &mut pool[..BATCH];
                let time = timed(|| {
                    for first in (0..count).step_by(BATCH) {
                        for (number, payload) in (first..).zip(pool.iter_mut()) {
                            fill(payload, number);
                        }
                        let records: Vec<Record<'_>> = pool.iter().map(Record::new).collect();
                        topic.send_batch(&records).expect("send");
                    }
                });
                check(&broker, &name, SIZE, count);
                broker.delete_topic(&name).expect("delete");
                time
            }),
            records: count,
            bytes: count * SIZE as u64,
            limit: Some((0, 0.70)),
        },
    ];
    measure("W2: batches of 100", ROUNDS, &mut rows);
}

fn replay() {
    const SIZE: usize = 100;
    let count = VOLUME / (SIZE as u64 + 28);
    let dir = scratch();
    let broker = Broker::open(dir.path().join("broker")).expect("open");
    for (name, batch) in [("single", 1), ("batched", 100)] {
        let topic = broker.create_topic(name, TopicConfig::new()).expect("create");
        let mut pool = payloads(SIZE);
        for first in (0..count).step_by(batch) {
            let here = batch.min((count - first) as usize);
            for (number, payload) in (first..).zip(pool.iter_mut().take(here)) {
                fill(payload, number);
            }
            let records: Vec<Record<'_>> = pool.iter().take(here).map(Record::new).collect();
            topic.send_batch(&records).expect("send");
        }
    }
    let expected = (count, expected_digest(count, SIZE));
    let expected = &expected;
    let broker = &broker;
    let read = |name: &'static str| move || timed(|| assert_eq!(&read_all(broker, name), expected));
    let bytes = count * SIZE as u64;
    let mut rows = [
        Row {
            name: "limit: walk + CRC".to_owned(),
            run: Box::new(limit_walk(dir.path(), SIZE, count)),
            records: count,
            bytes,
            limit: None,
        },
        Row {
            name: "w4 replay, sent one by one".to_owned(),
            run: Box::new(read("single")),
            records: count,
            bytes,
            limit: Some((0, 0.90)),
        },
        Row {
            name: "w4 replay, sent in batches".to_owned(),
            run: Box::new(read("batched")),
            records: count,
            bytes,
            limit: Some((0, 0.90)),
        },
    ];
    measure("W4: replay, every checksum checked", ROUNDS, &mut rows);
}

/// The records of a mapped file visited in place, each checksum checked.
fn limit_walk(dir: &std::path::Path, size: usize, count: u64) -> impl FnMut() -> Duration {
    let mut write = limit_write(dir, size, 1, count);
    write();
    drop(write);
    let file = std::fs::File::open(dir.join(format!("limit-{size}-1"))).expect("file");
    // SAFETY: nobody else knows the file.
    #[allow(unsafe_code, reason = "the limit is what a bare mapping allows")]
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("map");
    let expected = expected_digest(count, size);
    move || {
        timed(|| {
            let (mut at, mut sum) = (0, 0);
            for _ in 0..count {
                let word =
                    |at: usize| u32::from_le_bytes(map[at..at + 4].try_into().expect("4 bytes"));
                let body = &map[at + HEADER..at + HEADER + word(at + 4) as usize];
                assert_eq!(crc32fast::hash(body), word(at));
                sum = digest(sum, body);
                at += HEADER + body.len();
            }
            assert_eq!(sum, expected);
        })
    }
}
