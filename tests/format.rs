//! The format on disk: files of every released version are opened for ever.
//!
//! `cargo test --test format -- --ignored` writes a fixture of the present version; it is run once
//! for each version that changes the format, and its result is kept.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::{
    Acks, Broker, ManualClock, OwnedRecord, Record, Start, Timestamp, TimestampType, TopicConfig,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

/// Everything a topic can hold in version 2.
fn write(dir: &Path) {
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let broker = Broker::builder(dir).manual_clock(&clock).open().expect("open");
    let config = TopicConfig::new().partitions(2).segment_bytes(4096).index_interval_bytes(256);
    let topic = broker.create_topic("orders.v1", config).expect("create");
    for number in 0..40 {
        topic.send(Record::new(&value(number)).partition(0)).expect("send");
    }
    let batch = [
        Record::new("paid").key("user-7").header("trace", "ab12").header("trace", b"\xff\x00"),
        Record::tombstone().key("user-8").timestamp(Timestamp::from_millis(5)),
        Record::new("").key(""),
    ];
    let batch: Vec<_> = batch.into_iter().map(|record| record.partition(1)).collect();
    topic.send_batch(&batch).expect("send");
    let stamped = TopicConfig::new().timestamp_type(TimestampType::AppendTime);
    let stamped = broker.create_topic("stamped", stamped).expect("create");
    stamped.send(Record::new("x").timestamp(Timestamp::from_millis(1))).expect("send");
    broker.close().expect("close");
    fs::remove_file(dir.join("LOCK")).expect("remove");
}

/// What groups can have committed in version 1 of the offset store.
fn write_groups(dir: &Path) {
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let broker = Broker::builder(dir).manual_clock(&clock).open().expect("open");
    let topic = broker.create_topic("orders", TopicConfig::new().partitions(300)).expect("create");
    for partition in [0, 299] {
        for _ in 0..300 {
            topic.send(Record::new("x").partition(partition)).expect("send");
        }
    }
    for group in ["billing", "späße", "gone"] {
        let mut consumer =
            broker.consumer(group).assign([("orders", 0), ("orders", 299)]).open().expect("open");
        let offsets = [(("orders", 0), (200, "a note")), (("orders", 299), (300, ""))];
        consumer.commit_offsets(offsets).expect("commit");
    }
    broker.delete_group("gone").expect("delete");
    broker.close().expect("close");
    fs::remove_file(dir.join("LOCK")).expect("remove");
    fs::remove_file(dir.join("offsets/spare")).expect("remove");
    for partition in 1..299 {
        // A directory that is empty is not kept by version control; it is made again below.
        fs::remove_dir(dir.join(format!("topics/orders/{partition}"))).expect("remove");
    }
    let file = dir.join("offsets/00000000000000000001.offsets");
    let bytes = fs::read(&file).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    fs::write(&file, &bytes[..end.next_multiple_of(64)]).expect("write");
}

fn check_groups(dir: &Path) {
    for partition in 1..299 {
        fs::create_dir(dir.join(format!("topics/orders/{partition}"))).expect("create");
    }
    let broker = Broker::open(dir).expect("open");
    assert_eq!(broker.groups().expect("groups"), ["billing", "späße"]);
    for group in ["billing", "späße"] {
        let committed =
            |partition| broker.committed(group, "orders", partition).expect("committed");
        assert_eq!(committed(0), Some((200, "a note").into()));
        assert_eq!(committed(299), Some(300.into()));
        assert_eq!(committed(1), None);
    }
    // And it is gone on with.
    let mut consumer = broker.consumer("billing").subscribe(["orders"]).open().expect("open");
    assert_eq!(consumer.try_poll().expect("poll").len(), 100);
    consumer.commit().expect("commit");
    assert_eq!(broker.committed("billing", "orders", 0).expect("committed"), Some(300.into()));
}

#[test]
fn groups_of_version_1_are_opened_and_gone_on_with() {
    let dir = tempfile::tempdir().expect("temporary directory");
    copy(&fixtures().join("groups-version-1"), dir.path());
    check_groups(dir.path());
    let dir = tempfile::tempdir().expect("temporary directory");
    write_groups(dir.path());
    check_groups(dir.path());
}

fn value(number: u64) -> String {
    format!("order {number} {}", "z".repeat((number * 13 % 200) as usize))
}

fn all(broker: &Broker, topic: &str, partition: u32) -> Vec<OwnedRecord> {
    let mut reader =
        broker.reader().partition(topic, partition, Start::Earliest).open().expect("reader");
    let mut records = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return records;
        }
        records.extend(batch.iter().map(|record| record.to_owned()));
    }
}

fn check_all(dir: &Path) {
    let broker = Broker::open(dir).expect("open");
    assert_eq!(broker.recovery_report().partitions, []);
    assert_eq!(broker.topics(), ["orders.v1", "stamped"]);
    let topic = broker.topic("orders.v1").expect("topic");
    let config = TopicConfig::new().partitions(2).segment_bytes(4096).index_interval_bytes(256);
    assert_eq!(topic.config(), config);
    let first = all(&broker, "orders.v1", 0);
    assert_eq!(first.len(), 40);
    for (number, record) in (0..).zip(&first) {
        assert_eq!(
            (record.offset, record.value.as_deref()),
            (number, Some(value(number).as_bytes()))
        );
        assert_eq!(record.timestamp.as_millis(), 1_700_000_000_000);
    }
    let second = all(&broker, "orders.v1", 1);
    assert_eq!(second.len(), 3);
    assert_eq!(
        second[0].headers,
        [("trace".to_owned(), b"ab12".to_vec()), ("trace".to_owned(), vec![255, 0])]
    );
    assert_eq!(second[0].key.as_deref(), Some(&b"user-7"[..]));
    assert_eq!((&second[1].value, second[1].timestamp.as_millis()), (&None, 5));
    assert_eq!(
        (second[2].key.as_deref(), second[2].value.as_deref()),
        (Some(&b""[..]), Some(&b""[..]))
    );
    assert_eq!(all(&broker, "stamped", 0)[0].timestamp.as_millis(), 1_700_000_000_000);
    assert!(broker.describe_topic("orders.v1").expect("describe").partitions[0].segments > 1);
    // And it is gone on with.
    let sent = topic.send(Record::new("next").partition(0)).expect("send");
    assert_eq!(sent.offset, 40);
    assert_eq!(all(&broker, "orders.v1", 0).len(), 41);
}

#[test]
fn a_directory_of_every_version_is_opened_and_gone_on_with() {
    for version in ["version-1", "version-2"] {
        let dir = tempfile::tempdir().expect("temporary directory");
        copy(&fixtures().join(version), dir.path());
        check_all(dir.path());
        // What was added to a segment of an older version is read as the rest of it is.
        let broker = Broker::open(dir.path()).expect("open");
        assert_eq!(broker.recovery_report().partitions, [], "{version}");
        assert_eq!(all(&broker, "orders.v1", 0).len(), 41, "{version}");
        broker.close().expect("close");
        assert!(Broker::verify(dir.path()).expect("verify").is_sound(), "{version}");
    }
}

#[test]
fn a_segment_of_version_1_that_is_repaired_stays_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    copy(&fixtures().join("version-1"), dir.path());
    let log = dir.path().join("topics/orders.v1/0/00000000000000000000.log");
    let mut bytes = fs::read(&log).expect("read");
    bytes[400] ^= 1;
    fs::write(&log, bytes).expect("write");
    assert!(!Broker::verify(dir.path()).expect("verify").is_sound());
    Broker::repair(dir.path(), forebay::Repair::Apply).expect("repair");
    assert!(Broker::verify(dir.path()).expect("verify").is_sound());
    let version = |path: &Path| fs::read(path).expect("read")[8..10].to_vec();
    assert_eq!(version(&log), [1, 0]);
    let broker = Broker::open(dir.path()).expect("open");
    let mut reader =
        broker.reader().partition("orders.v1", 0, Start::Earliest).open().expect("reader");
    let mut values = Vec::new();
    let mut gaps = 0;
    while values.last().is_none_or(|last| *last != value(39)) {
        match reader.try_poll() {
            Ok(batch) => values.extend(
                batch
                    .iter()
                    .map(|record| String::from_utf8_lossy(record.value().unwrap()).into_owned()),
            ),
            Err(error) => {
                gaps += 1;
                assert!(matches!(error, forebay::Error::Gap { .. }), "{error}");
            }
        }
    }
    assert_eq!((gaps, values.len()), (1, 39), "one record is gone");
}

#[test]
fn what_is_written_today_is_version_2() {
    let dir = tempfile::tempdir().expect("temporary directory");
    write(dir.path());
    check_all(dir.path());
    let dir = tempfile::tempdir().expect("temporary directory");
    write(dir.path());
    let fixture = fixtures().join("version-2");
    for topic in ["orders.v1", "stamped"] {
        let (found, kept) =
            (dir.path().join("topics").join(topic), fixture.join("topics").join(topic));
        for partition in
            ["0", "1"].iter().map(Path::new).filter(|partition| kept.join(partition).exists())
        {
            for entry in fs::read_dir(kept.join(partition)).expect("list") {
                let name = entry.expect("entry").file_name();
                let read = |dir: &Path| {
                    without_chance(fs::read(dir.join(partition).join(&name)).expect("read"))
                };
                assert_eq!(
                    read(&found),
                    read(&kept),
                    "{topic} {} {}",
                    partition.display(),
                    name.display()
                );
            }
        }
    }
}

/// The bytes of a file with zeros for what is drawn by chance, and for checksums over it.
fn without_chance(mut bytes: Vec<u8>) -> Vec<u8> {
    match &bytes[..8] {
        b"FOREBAYL" => {
            // Salt, identity of the topic, checksum; then the checksum of each frame.
            for range in [24..32, 48..56, 60..64] {
                bytes[range].fill(0);
            }
            let mut at = 64;
            while at < bytes.len() {
                let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
                bytes[at + 4..at + 8].fill(0);
                at += (length as usize).next_multiple_of(4);
            }
        }
        b"FOREBAYI" | b"FOREBAYT" => {
            // Salt and checksum.
            bytes[16..24].fill(0);
            bytes[60..64].fill(0);
        }
        _ => {}
    }
    bytes
}

/// Every setting a topic has in version 2 of its metadata.
fn settings() -> TopicConfig {
    TopicConfig::new()
        .segment_bytes(8192)
        .segment_age(None)
        .index_interval_bytes(300)
        .max_record_bytes(5000)
        .timestamp_type(TimestampType::AppendTime)
        .retention_age(Duration::from_millis(1_500))
        .retention_bytes(1 << 20)
        .retention_records(77)
        .flush_records(1000)
        .flush_interval(Duration::from_secs(3600))
}

/// A topic with these settings, synced and not closed, so that a durable mark is left.
fn write_synced(dir: &Path) {
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let open = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::builder(open.path()).manual_clock(&clock).open().expect("open");
    let topic = broker.create_topic("tuned", settings()).expect("create");
    for number in 0..5 {
        topic.send_with(Record::new(&value(number)), Acks::Synced).expect("send");
    }
    topic.send(Record::new("not synced")).expect("send");
    copy(open.path(), dir);
    fs::remove_file(dir.join("LOCK")).expect("remove");
}

#[test]
fn settings_of_version_2_and_a_durable_mark_are_read() {
    let dir = tempfile::tempdir().expect("temporary directory");
    copy(&fixtures().join("synced-version-2"), dir.path());
    let partition = dir.path().join("topics/tuned/0");
    assert!(partition.join("durable").exists());
    let broker = Broker::open(dir.path()).expect("open");
    assert_eq!(broker.topic("tuned").expect("topic").config(), settings());
    let recovered = &broker.recovery_report().partitions;
    assert_eq!((recovered.len(), recovered[0].records_kept, recovered[0].bytes_cut), (1, 6, 0));
    drop(broker);
    // The mark is believed: below it, a byte that is another is damage.
    let dir = tempfile::tempdir().expect("temporary directory");
    copy(&fixtures().join("synced-version-2"), dir.path());
    let log = dir.path().join("topics/tuned/0/00000000000000000000.log");
    let mut bytes = fs::read(&log).expect("read");
    bytes[200] ^= 1;
    fs::write(&log, bytes).expect("write");
    let broker = Broker::open(dir.path()).expect("open");
    let recovered = &broker.recovery_report().partitions[0];
    assert_eq!((recovered.end_offset, recovered.bytes_cut), (6, 0), "nothing is cut");
    assert_eq!(recovered.damage.len(), 1);
    assert!(recovered.damage[0].path.ends_with("00000000000000000000.log"));
}

#[test]
#[ignore = "writes into the source tree, for a new version of the format"]
fn write_the_fixture_of_this_version() {
    // A fixture is written once and kept for ever.
    for (name, write) in [
        ("version-2", write as fn(&Path)),
        ("groups-version-1", write_groups as fn(&Path)),
        ("synced-version-2", write_synced as fn(&Path)),
    ] {
        let dir = fixtures().join(name);
        if !dir.exists() {
            write(&dir);
        }
    }
}
