//! Records that are large enough to be written with a system call, among small ones that are stored into
//! the mapping of the same file.

#![allow(clippy::cast_possible_truncation, reason = "bytes of a pattern")]

use std::thread;
use std::time::Duration;

use forebay::{Acks, Broker, Reader, Record, Start, Topic, TopicConfig};

/// Around where the way to write changes, and well beyond; odd, so that frames end with padding.
const SIZES: [usize; 8] =
    [10, (256 << 10) - 100, 3, (256 << 10) + 1, (5 << 20) + 3, 77, 300_003, 262_144];

fn value(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 255 + number * 7) as u8 | 1).collect()
}

fn config() -> TopicConfig {
    TopicConfig::new().partitions(2).max_record_bytes(16 << 20)
}

/// Sends one record of each size to each partition, alone and in batches over both.
fn send(topic: &Topic, first: usize) {
    for (number, size) in (first..).zip(SIZES) {
        let value = value(number, size);
        for partition in 0..2 {
            let acks = if number % 3 == 0 { Acks::Synced } else { Acks::Written };
            topic.send_with(Record::new(&value).partition(partition), acks).expect("send");
        }
    }
    let values: Vec<_> =
        (first + SIZES.len()..).zip(SIZES).map(|(number, size)| value(number, size)).collect();
    for pair in values.chunks(2) {
        let to = |partition| pair.iter().map(move |value| Record::new(value).partition(partition));
        topic.send_batch(&to(0).chain(to(1)).collect::<Vec<_>>()).expect("send");
    }
}

/// Reads on in one partition up to record number `end`, and checks every byte.
fn check(reader: &mut Reader, next: &mut usize, end: usize) {
    while *next < end {
        let batch = reader.poll(Duration::from_secs(10)).expect("poll");
        assert!(!batch.is_empty(), "record {next} comes");
        for record in &batch {
            let expected = value(*next, SIZES[*next % SIZES.len()]);
            assert_eq!(record.offset(), *next as u64);
            assert!(record.value() == Some(&expected[..]), "record {next}");
            *next += 1;
        }
    }
}

fn check_all(broker: &Broker, end: usize) {
    for partition in 0..2 {
        let mut reader =
            broker.reader().partition("t", partition, Start::Earliest).open().expect("reader");
        check(&mut reader, &mut 0, end);
    }
}

#[test]
fn small_and_large_records_stand_beside_each_other() {
    const ROUNDS: usize = 3;
    let end = ROUNDS * 2 * SIZES.len();
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", config()).expect("create");
    thread::scope(|scope| {
        scope.spawn(|| check_all(&broker, end));
        let observer = Broker::builder(dir.path()).read_only().open().expect("open");
        for round in 0..ROUNDS {
            send(&topic, round * 2 * SIZES.len());
        }
        // Whoever opens it now, in another process perhaps, finds it sound.
        drop(observer);
        let observer = Broker::builder(dir.path()).read_only().open().expect("open");
        check_all(&observer, end);
    });
    broker.close().expect("close");
    assert!(Broker::verify(dir.path()).expect("verify").is_sound());
    let broker = Broker::open(dir.path()).expect("open");
    check_all(&broker, end);
    send(&broker.topic("t").expect("topic"), end);
    check_all(&broker, end + 2 * SIZES.len());
}

#[test]
fn what_was_not_closed_is_found_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", config().segment_bytes(8 << 20)).expect("create");
    send(&topic, 0);
    // As a process that is killed leaves it.
    let copy = tempfile::tempdir().expect("temporary directory");
    copy_dir(dir.path(), copy.path());
    let broker = Broker::open(copy.path()).expect("open");
    for recovered in &broker.recovery_report().partitions {
        assert_eq!((recovered.bytes_cut, &recovered.damage[..]), (0, &[][..]));
    }
    check_all(&broker, 2 * SIZES.len());
    for partition in ["0", "1"] {
        assert!(
            padding_is_zero(&copy.path().join("topics/t").join(partition)) > 5,
            "frames with padding"
        );
    }
}

/// How many frames end with padding in the segments of a partition. All of it is zeros, as DESIGN.md says.
fn padding_is_zero(dir: &std::path::Path) -> usize {
    const HEADER: usize = 64;
    let mut padded = 0;
    for entry in std::fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path()) {
        if entry.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let bytes = std::fs::read(&entry).expect("read");
        let mut at = HEADER;
        while let Some(word) = bytes.get(at..at + 4) {
            let length = u32::from_le_bytes(word.try_into().expect("4 bytes")) as usize;
            if length == 0 {
                break;
            }
            let (end, next) = (at + length, (at + length).next_multiple_of(4));
            assert!(bytes[end..next].iter().all(|byte| *byte == 0), "{} {end}", entry.display());
            padded += usize::from(next > end);
            at = next;
        }
    }
    padded
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("create");
    for entry in std::fs::read_dir(from).expect("list").map(|entry| entry.expect("entry")) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else if entry.file_name() != "LOCK" {
            std::fs::copy(path, target).expect("copy");
        }
    }
}
