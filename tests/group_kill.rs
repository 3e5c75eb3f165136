//! `kill -9` in the middle of consumption: the group goes on where it had committed, and skips
//! nothing.
//!
//! The test runs itself again as the process to be killed. `FOREBAY_KILLS` sets how many times.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::{Acks, Broker, Consumer, Record, TopicConfig};

const DIR: &str = "FOREBAY_GROUP_KILL_DIR";
const LIFE: &str = "FOREBAY_GROUP_KILL_LIFE";
const PARTITIONS: u32 = 2;
/// What happened, partition, offset: 8 bytes each.
const REPORT: usize = 24;
const BEGAN: u64 = 1;
const PROCESSED: u64 = 2;
const COMMITTED: u64 = 3;

fn report(what: u64, partition: u32, offset: u64) {
    let mut bytes = Vec::with_capacity(REPORT);
    for part in [what, u64::from(partition), offset] {
        bytes.extend(part.to_le_bytes());
    }
    std::io::stderr().write_all(&bytes).expect("report");
}

/// Reads, says so, commits, says so.
fn consume(mut consumer: Consumer) {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    loop {
        let batch = consumer.poll(Duration::from_secs(1)).expect("poll");
        for record in &batch {
            let offset = record.offset();
            if next.insert(record.partition(), offset + 1).is_none() {
                report(BEGAN, record.partition(), offset);
            }
            report(PROCESSED, record.partition(), offset);
        }
        consumer.commit().expect("commit");
        for (partition, offset) in &next {
            report(COMMITTED, *partition, *offset);
        }
    }
}

/// The process to be killed.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn victim() {
    let (Ok(dir), Ok(life)) = (std::env::var(DIR), std::env::var(LIFE)) else { return };
    let life: u64 = life.parse().expect("number");
    let broker = Broker::open(dir).expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(64 << 10);
    let topic = broker.create_topic_if_absent("t", config).expect("create");
    let acks = if life.is_multiple_of(4) { Acks::Synced } else { Acks::Written };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u32.. {
                let record = Record::new(b"something to be done").partition(number % PARTITIONS);
                topic.send(record).expect("send");
                if number.is_multiple_of(50) {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        // One member or two, with batches of another size in each life.
        for _ in 0..=life % 2 {
            let consumer = broker.consumer("g").subscribe(["t"]).commit_acks(acks);
            let consumer = consumer.max_records(1 + (life as usize * 7) % 40).open().expect("open");
            scope.spawn(move || consume(consumer));
        }
    });
}

#[test]
fn a_killed_group_goes_on_where_it_had_committed() {
    let kills =
        std::env::var("FOREBAY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(25);
    let dir = tempfile::tempdir().expect("temporary directory");
    // Behind what was processed, and behind what a commit returned for, in all lives.
    let mut processed = BTreeMap::from([(0, 0), (1, 0)]);
    let mut committed = processed.clone();
    let mut again = 0;
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
        std::thread::sleep(Duration::from_millis(15 + (life * 13) % 50));
        child.kill().expect("kill");
        child.wait().expect("wait");
        let bytes = reports.join().expect("thread").expect("reports");
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        for report in bytes.chunks_exact(REPORT) {
            let part =
                |at: usize| u64::from_le_bytes(report[at..at + 8].try_into().expect("8 bytes"));
            let (what, partition, offset) = (part(0), part(8), part(16));
            let text = || String::from_utf8_lossy(&bytes);
            match what {
                BEGAN => {
                    let (from, to) = (committed[&partition], processed[&partition]);
                    assert!(
                        (from..=to).contains(&offset),
                        "life {life}: began at {offset}, {from} was committed, {to} processed"
                    );
                    again += to - offset;
                    next.insert(partition, offset);
                }
                PROCESSED => {
                    // A partition may pass to another member within a life.
                    let due = next[&partition];
                    assert!(offset <= due, "life {life}: {offset} came, {due} was due");
                    next.insert(partition, offset + 1);
                    let most = processed.get_mut(&partition).expect("a partition");
                    *most = (*most).max(offset + 1);
                }
                COMMITTED => {
                    let most = committed.get_mut(&partition).expect("a partition");
                    *most = (*most).max(offset);
                }
                _ => panic!("the victim said {}", text()),
            }
        }
    }
    let broker = Broker::open(dir.path()).expect("open");
    let ends: Vec<_> = broker
        .describe_topic("t")
        .expect("topic")
        .partitions
        .iter()
        .map(|partition| partition.latest_offset)
        .collect();
    let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("open");
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    loop {
        let batch = consumer.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let partition = u64::from(record.partition());
            let due = *next.entry(record.partition()).or_insert_with(|| {
                assert!(record.offset() <= processed[&partition]);
                record.offset()
            });
            assert_eq!(record.offset(), due);
            next.insert(record.partition(), due + 1);
        }
        consumer.commit().expect("commit");
    }
    for partition in 0..PARTITIONS {
        assert_eq!(consumer.position("t", partition).expect("position"), ends[partition as usize]);
    }
    println!("{kills} kills, {processed:?} processed, {again} of them again");
    assert!(processed.values().all(|most| *most > 10 * kills), "{processed:?}");
}
