//! `kill -9` in the middle of forwarding: everything is delivered, and what comes twice is only what
//! lay above the commit.
//!
//! The test runs itself again as the process to be killed. `FOREBAY_KILLS` sets how many times. What
//! was delivered is what a sink has appended to a file: partition and offset, 8 bytes each.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![cfg(unix)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::{Acks, Broker, Forwarder, Record, SinkBatch, SinkError, TopicConfig};

const DIR: &str = "FOREBAY_FORWARDER_KILL_DIR";
const LIFE: &str = "FOREBAY_FORWARDER_KILL_LIFE";
const PARTITIONS: u32 = 3;
const DELIVERED: usize = 16;

fn append(file: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(file).expect("file")
}

/// Forwards into the file, with a sink that fails at times, after a part of its batch or all of it.
fn forward(broker: &Broker, file: &Path, life: u64) -> Forwarder {
    let (file, calls) = (append(file), AtomicU64::new(life));
    let sink = move |batch: &SinkBatch| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let count = if call.is_multiple_of(5) { batch.len() / 2 } else { batch.len() };
        let mut bytes = Vec::with_capacity(count * DELIVERED);
        for record in batch.iter().take(count) {
            bytes.extend(u64::from(record.partition()).to_le_bytes());
            bytes.extend(record.offset().to_le_bytes());
        }
        (&file).write_all(&bytes)?;
        match call % 7 {
            0 => Err(SinkError::retry("on purpose").delivered(count)),
            _ if count < batch.len() => Err(SinkError::retry("on purpose").delivered(count)),
            _ => Ok(()),
        }
    };
    let acks = if life.is_multiple_of(3) { Acks::Synced } else { Acks::Written };
    broker
        .forwarder("g")
        .subscribe(["t"])
        .batch_records(1 + (life as usize * 11) % 50)
        .concurrency(1 + life as usize % 3)
        .backoff(Duration::from_micros(50), Duration::from_millis(1))
        .commit_interval(Duration::from_millis(life % 4))
        .acks(acks)
        .start(sink)
        .expect("start")
}

/// The process to be killed.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn victim() {
    let (Ok(dir), Ok(life)) = (std::env::var(DIR), std::env::var(LIFE)) else { return };
    let (dir, life) = (Path::new(&dir), life.parse().expect("number"));
    let broker = Broker::open(dir.join("data")).expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(64 << 10);
    let topic = broker.create_topic_if_absent("t", config).expect("create");
    let _forwarder = forward(&broker, &dir.join("delivered"), life);
    for number in 0_u32.. {
        topic.send(Record::new("something").partition(number % PARTITIONS)).expect("send");
        if number.is_multiple_of(50) {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// What is known of the partitions.
#[derive(Debug, Default)]
struct Account {
    /// Every record below was delivered.
    below: [u64; PARTITIONS as usize],
    /// What was committed when the last process was killed.
    committed: [u64; PARTITIONS as usize],
    again: u64,
    /// How much of the file was looked at, in bytes.
    read: usize,
}

impl Account {
    /// Reads on in the file, cutting an entry in whose middle the process was killed.
    fn read(&mut self, file: &Path, life: u64) {
        let bytes = std::fs::read(file).unwrap_or_default();
        let whole = bytes.len() / DELIVERED * DELIVERED;
        if whole < bytes.len() {
            append(file).set_len(whole as u64).expect("cut");
        }
        let mut first = [true; PARTITIONS as usize];
        for entry in bytes[self.read..whole].chunks_exact(DELIVERED) {
            let number = |at| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
            let (partition, offset) = (number(0) as usize, number(8));
            let (below, committed) = (self.below[partition], self.committed[partition]);
            assert!(offset >= committed, "life {life}: {offset} again, {committed} was committed");
            if std::mem::take(&mut first[partition]) {
                assert_eq!(offset, committed, "life {life}: it goes on at the commit");
            }
            assert!(offset <= below, "life {life}: {offset} was delivered, {below} was due");
            self.again += u64::from(offset < below);
            self.below[partition] = below.max(offset + 1);
        }
        self.read = whole;
    }

    fn look(&mut self, broker: &Broker, life: u64) {
        for partition in 0..PARTITIONS {
            let committed = broker.committed("g", "t", partition).expect("committed");
            let committed = committed.map_or(0, |committed| committed.offset);
            let (at, below) = (partition as usize, self.below[partition as usize]);
            assert!(committed <= below, "life {life}: {committed} is committed, {below} delivered");
            assert!(committed >= self.committed[at], "life {life}: commits do not go back");
            self.committed[at] = committed;
        }
    }
}

#[test]
fn a_killed_forwarder_loses_nothing_and_repeats_only_what_was_not_committed() {
    let kills: u64 =
        std::env::var("FOREBAY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(15);
    let dir = tempfile::tempdir().expect("temporary directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("delivered"));
    let mut account = Account::default();
    for life in 0..kills {
        let before = account.read;
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .env(LIFE, life.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("child");
        // It is killed while it forwards, however long it took to begin.
        let start = Instant::now();
        let len = || std::fs::metadata(&file).map_or(0, |file| file.len()) as usize;
        while len() <= before {
            assert!(start.elapsed() < Duration::from_secs(20), "life {life} does not begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(5 + (life * 13) % 40));
        assert!(child.try_wait().expect("child").is_none(), "it lives until it is killed");
        child.kill().expect("kill");
        child.wait().expect("wait");
        account.read(&file, life);
        account.look(&Broker::open(&data).expect("open"), life);
    }
    let broker = Broker::open(&data).expect("open");
    let forwarder = forward(&broker, &file, kills);
    let start = Instant::now();
    while forwarder.lag().expect("lag") > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", forwarder.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    forwarder.stop(Duration::from_secs(10)).expect("stop");
    account.read(&file, kills);
    account.look(&broker, kills);
    let topic = broker.topic("t").expect("topic");
    for partition in 0..PARTITIONS {
        let end = topic.latest_offset(partition).expect("end");
        assert_eq!(account.below[partition as usize], end, "every record of {partition} is there");
    }
    println!("{kills} kills, {:?} delivered, {} of them again", account.below, account.again);
    assert!(account.below.iter().sum::<u64>() > 100 * kills);
}
