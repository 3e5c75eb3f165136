//! `kill -9` in the middle of sends: everything `send` returned for is there, byte for byte, in
//! order, and nothing else.
//!
//! The test runs itself again as the process to be killed. `FOREBAY_KILLS` sets how many times.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]
#![cfg(unix)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::{Acks, Broker, Record, Start, TopicConfig};

const DIR: &str = "FOREBAY_KILL_DIR";
const LIFE: &str = "FOREBAY_KILL_LIFE";
const THREADS: u64 = 3;
const PARTITIONS: u32 = 2;
/// Partition, offset, life, thread and number, 8 bytes each.
const REPORT: usize = 40;

/// What a record of this life, thread and number holds: its name, and bytes that follow from it.
fn value(life: u64, thread: u64, number: u64) -> Vec<u8> {
    let mut value: Vec<u8> =
        [life, thread, number].iter().flat_map(|part| part.to_le_bytes()).collect();
    let length = 24 + (number * 7919 + thread * 31 + life) % 900;
    value.extend((24..length).map(|at| (at * 31 + number) as u8));
    value
}

/// The process to be killed: sends, and says what was acknowledged.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn victim() {
    let (Ok(dir), Ok(life)) = (std::env::var(DIR), std::env::var(LIFE)) else { return };
    let life: u64 = life.parse().expect("number");
    let broker = Broker::open(dir).expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(64 << 10);
    let topic = broker.create_topic_if_absent("t", config).expect("create");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let topic = topic.clone();
            scope.spawn(move || {
                for number in 0.. {
                    let value = value(life, thread, number);
                    let acks = if number % 50 == 49 { Acks::Synced } else { Acks::Written };
                    let sent = topic.send_with(Record::new(&value), acks).expect("send");
                    let mut report = Vec::with_capacity(REPORT);
                    for part in [u64::from(sent.partition), sent.offset, life, thread, number] {
                        report.extend(part.to_le_bytes());
                    }
                    std::io::stderr().write_all(&report).expect("report");
                }
            });
        }
    });
}

#[test]
fn everything_acknowledged_is_there_after_kill_9() {
    let kills =
        std::env::var("FOREBAY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(25);
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut acknowledged: HashMap<(u64, u64), [u64; 3]> = HashMap::new();
    for life in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .env(LIFE, life.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("child");
        let mut pipe = child.stderr.take().expect("pipe");
        let reports = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| bytes)
        });
        std::thread::sleep(Duration::from_micros(15_000 + life * 7919 % 40_000));
        child.kill().expect("kill -9");
        child.wait().expect("gone");
        let reports = reports.join().expect("thread").expect("reports");
        for report in reports.chunks_exact(REPORT) {
            let mut parts = report
                .chunks_exact(8)
                .map(|part| u64::from_le_bytes(part.try_into().expect("8 bytes")));
            let mut next = || parts.next().expect("5 parts");
            let place = (next(), next());
            let before = acknowledged.insert(place, [next(), next(), next()]);
            assert_eq!(before, None, "offset {place:?} was given twice");
        }
        check(dir.path(), &acknowledged, life);
    }
    assert!(acknowledged.len() > kills as usize * 10, "{} records were sent", acknowledged.len());
    println!("{} acknowledged records survived {kills} kills", acknowledged.len());
}

fn check(dir: &Path, acknowledged: &HashMap<(u64, u64), [u64; 3]>, life: u64) {
    let broker = Broker::open(dir).expect("reopen");
    if broker.topics().is_empty() {
        assert!(acknowledged.is_empty());
        return;
    }
    let mut found = 0;
    for partition in 0..PARTITIONS {
        let mut reader =
            broker.reader().partition("t", partition, Start::Earliest).open().expect("reader");
        let mut last: HashMap<(u64, u64), u64> = HashMap::new();
        let mut next_offset = 0;
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                assert_eq!(record.offset(), next_offset);
                next_offset += 1;
                let bytes = record.value().expect("value");
                let part =
                    |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
                let name = [part(0), part(8), part(16)];
                assert_eq!(bytes, value(name[0], name[1], name[2]), "byte for byte");
                assert!(name[0] <= life && name[1] < THREADS, "nothing invented");
                let before = last.insert((name[0], name[1]), name[2]);
                assert!(before.is_none_or(|before| before < name[2]), "each thread's order");
                if let Some(sent) = acknowledged.get(&(u64::from(partition), record.offset())) {
                    assert_eq!(*sent, name, "the record that was acknowledged");
                    found += 1;
                }
            }
        }
    }
    assert_eq!(found, acknowledged.len(), "after life {life}");
}
