//! How fast records are sent and read, beside what memory allows in the same run.
//!
//! `cargo bench --bench throughput`, or `-- w1 w4` for some rows only. Each row is run several
//! times, interleaved with the others; everything that was sent is read back and every byte of it
//! checked. The limit rows are small loops over a mapped file: what remains if there were no
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
use support::{Options, Row, measure, reserved_file, scratch, timed};

const ROUNDS: usize = 7;
/// What one run of a row moves.
const VOLUME: u64 = 128 << 20;
const HEADER: usize = 24;

fn main() {
    let options = Options::parse();
    let rows = [("w1", "W1", 100, 0.70), ("w1k", "W1k", 1024, 0.75), ("w16", "W16", 16, 0.50)];
    for (part, workload, size, target) in rows {
        if options.on(part) {
            send_one_by_one(&options, workload, size, target);
        }
    }
    if options.on("w2") {
        send_in_batches(&options);
    }
    if options.on("w4") {
        replay(&options);
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

fn send_one_by_one(options: &Options, workload: &'static str, size: usize, target: f64) {
    let count = options.scaled(VOLUME) / (size as u64 + 28);
    let (limit_dir, dir) = (scratch(), scratch());
    let broker = &Broker::open(dir.path().join("by-handle")).expect("open");
    let by_name = &Broker::open(dir.path().join("by-name")).expect("open");
    let (mut handle_run, mut name_run) = (0, 0);
    let volume = (count, size);
    let send = || {
        handle_run += 1;
        send_run(broker, &format!("topic-{handle_run}"), volume, |topic, record| {
            topic.send(record).expect("send");
        })
    };
    let send_by_name = || {
        name_run += 1;
        let topic = format!("topic-{name_run}");
        let producer = by_name.producer();
        send_run(by_name, &topic, volume, |_, record| {
            producer.send(&topic, record).expect("send");
        })
    };
    let limit = limit_write(limit_dir.path(), size, 1, count);
    let mut rows = [
        Row::new(workload, "limit: warm mmap + CRC", volume, limit),
        Row::new(workload, format!("send, {size} B, Written"), volume, send)
            .against("warm mmap + CRC", &[0])
            .target(target),
        Row::new(workload, format!("send by topic name, {size} B, Written"), volume, send_by_name)
            .against("warm mmap + CRC", &[0]),
    ];
    measure(options, &format!("{workload}: one thread, one record a send"), ROUNDS, &mut rows);
}

fn send_run(
    broker: &Broker,
    name: &str,
    (count, size): (u64, usize),
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

/// Reads everything back and looks at every byte.
fn check(broker: &Broker, name: &str, size: usize, count: u64) {
    let mut reader = broker.reader().topic(name, Start::Earliest).open().expect("reader");
    let (mut found, mut expected) = (0, vec![7; size]);
    while found < count {
        let batch = reader.try_poll().expect("poll");
        assert!(!batch.is_empty(), "{found} of {count} records were read back");
        for record in &batch {
            fill(&mut expected, found);
            assert_eq!(record.offset(), found, "order");
            assert_eq!(record.value(), Some(&expected[..]), "content");
            found += 1;
        }
    }
    assert!(reader.try_poll().expect("poll").is_empty(), "nothing else is there");
}

/// How many records there are, and what [`digest`] comes to over them.
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

fn send_in_batches(options: &Options) {
    const SIZE: usize = 100;
    const BATCH: usize = 100;
    let count = options.scaled(VOLUME) / (SIZE as u64 + 4) / BATCH as u64 * BATCH as u64;
    let (limit_dir, dir) = (scratch(), scratch());
    let broker = Broker::open(dir.path()).expect("open");
    let mut run = 0;
    let send = || {
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
    };
    let limit = limit_write(limit_dir.path(), SIZE, BATCH, count);
    let mut rows = [
        Row::new("W2", "limit: warm mmap, one CRC per 100", (count, SIZE), limit),
        Row::new("W2", "send_batch of 100, 100 B", (count, SIZE), send)
            .against("warm mmap, one CRC per 100", &[0])
            .target(0.70),
    ];
    measure(options, "W2: batches of 100", ROUNDS, &mut rows);
}

fn replay(options: &Options) {
    const SIZE: usize = 100;
    let count = options.scaled(VOLUME) / (SIZE as u64 + 28);
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
        check(&broker, name, SIZE, count);
    }
    let expected = (count, expected_digest(count, SIZE));
    let expected = &expected;
    let broker = &broker;
    let read = |name: &'static str| move || timed(|| assert_eq!(&read_all(broker, name), expected));
    let row = |name: &str, topic| {
        let row = Row::new("W4", name, (count, SIZE), read(topic));
        row.against("walk + CRC", &[0]).target(0.90)
    };
    let limit = limit_walk(dir.path(), SIZE, count);
    let mut rows = [
        Row::new("W4", "limit: walk + CRC", (count, SIZE), limit),
        row("replay, sent one by one", "single"),
        row("replay, sent in batches of 100", "batched"),
    ];
    measure(options, "W4: replay, every checksum checked", ROUNDS, &mut rows);
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
