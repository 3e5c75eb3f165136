//! More segments than the system lets a process have mappings (`vm.max_map_count` is 65,530 on
//! Linux).

#![cfg(target_os = "linux")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::time::{Duration, Instant};

use forebay::{Broker, Error, Record, Start, TopicConfig};

const SEGMENTS: u64 = 100_000;
/// Records that are too large for two of them to share a segment.
const BYTES: usize = 3500;

fn value(number: u64) -> Vec<u8> {
    let mut value = vec![number as u8; BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Places that lie far from each other, all over the log.
fn places(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|number| number * 7_919 % SEGMENTS)
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count()
}

fn limit() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("limit");
    text.trim().parse().expect("a number")
}

#[test]
#[ignore = "takes a while: see tests/README.md"]
fn a_hundred_thousand_segments_are_written_read_held_and_opened_again() {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    let dir = in_memory.or_else(|_| tempfile::tempdir()).expect("temporary directory");
    let begun = Instant::now();
    let step = |what: &str| println!("{:>6.1} s: {what}", begun.elapsed().as_secs_f32());
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().segment_bytes(4096);
    let topic = broker.create_topic("t", config).expect("create");
    for number in 0..SEGMENTS {
        topic.send(Record::new(&value(number))).expect("send");
    }
    topic.flush().expect("flush");
    step("sent");
    assert_eq!(
        broker.describe_topic("t").expect("describe").partitions[0].segments as u64,
        SEGMENTS
    );
    assert!(mappings() < 5_000, "what is sealed is not mapped");

    let check = |broker: &Broker| {
        let mut reader =
            broker.reader().topic("t", Start::Earliest).max_records(1).open().expect("reader");
        for place in places(5_000) {
            reader.seek("t", 0, Start::Offset(place)).expect("seek");
            let batch = reader.try_poll().expect("poll");
            let record = batch.get(0).expect("a record");
            assert_eq!(record.offset(), place);
            assert!(record.value() == Some(&value(place)), "record {place}");
        }
    };
    check(&broker);
    step("sought");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let mut next = 0;
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            assert_eq!(record.offset(), next);
            assert!(record.value() == Some(&value(next)), "record {next}");
            next += 1;
        }
    }
    assert_eq!(next, SEGMENTS);
    step("read through");

    // Whoever holds records of more segments than can be mapped is told, and no more than that.
    let mut reader =
        broker.reader().topic("t", Start::Earliest).max_records(100).open().expect("reader");
    // Where nothing can be mapped, no large piece of memory can be asked for either.
    let mut held = Vec::with_capacity(SEGMENTS as usize);
    let refused = loop {
        match reader.try_poll() {
            Ok(batch) if batch.is_empty() => break None,
            Ok(batch) => held.push(batch),
            Err(error) => break Some(error),
        }
    };
    let count: usize = held.iter().map(forebay::Batch::len).sum();
    step(&format!("{count} held"));
    if limit() < SEGMENTS as usize {
        let refused = refused.expect("there are more than can be mapped");
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
        assert!(count > limit() / 2, "{count} of {}", limit());
        let again = reader.try_poll();
        assert!(matches!(again, Err(Error::Io { .. })), "{again:?}");
    }
    for (number, record) in (0..).zip(held.iter().flatten()) {
        assert!(record.value() == Some(&value(number)), "record {number} is held");
    }
    held.truncate(held.len() / 2);
    assert_eq!(reader.try_poll().expect("there is room again").len(), 100);
    drop((held, reader));
    topic.send(Record::new(&value(SEGMENTS))).expect("nothing was harmed");
    topic.flush().expect("flush");
    step("let go");

    let closing = Instant::now();
    broker.close().expect("close");
    drop((topic, broker));
    step("closed");
    let (closing, opening) = (closing.elapsed(), Instant::now());
    let broker = Broker::open(dir.path()).expect("reopen");
    let opening = opening.elapsed();
    step("opened");
    println!("closed in {closing:?}, opened in {opening:?}");
    assert!(
        opening < Duration::from_secs(5),
        "{opening:?}: it reads the directory, not the records"
    );
    assert!(broker.recovery_report().partitions.is_empty());
    check(&broker);
    let topic = broker.topic("t").expect("topic");
    topic.send(Record::new(&value(SEGMENTS + 1))).expect("send");
    let deleting = Instant::now();
    assert_eq!(topic.delete_records(0, SEGMENTS - 5).expect("delete"), SEGMENTS - 5);
    println!("deleted in {:?}", deleting.elapsed());
    assert!(broker.describe_topic("t").expect("describe").partitions[0].segments < 10);
    step("deleted");
}
