//! Clocks that jump, records with impossible dates, records as large as a segment, and numbers near
//! the end of their range.

#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use forebay::{
    Broker, Consumer, Error, FileAccess, ManualClock, Reader, Record, RecoveryMode, Start,
    Timestamp, TimestampType, Topic, TopicConfig,
};

const DAY: i64 = 86_400_000;
const TEN_YEARS: i64 = 3650 * DAY;
/// The middle of 2023.
const TODAY: i64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const ALMOST_AN_HOUR: Duration = Duration::from_millis(3_599_999);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn memory_dir() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("temporary directory")
}

fn segments(broker: &Broker, topic: &str) -> usize {
    broker.describe_topic(topic).expect("describe").partitions[0].segments
}

/// Every record from here on: offset and time.
fn rest(reader: &mut Reader) -> Vec<(u64, i64)> {
    let mut found = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return found;
        }
        found.extend(batch.iter().map(|record| (record.offset(), record.timestamp().as_millis())));
    }
}

fn all(broker: &Broker, topic: &str) -> Vec<(u64, i64)> {
    rest(&mut broker.reader().topic(topic, Start::Earliest).open().expect("reader"))
}

/// What is promised of a wall clock that is set ten years on and back: every record is taken; a record
/// without a time gets what the clock says; `AppendTime` never decreases while the broker is open; a
/// segment is rolled when the clock says that it is old, once, and one that was begun in the future
/// waits until the clock comes there, or until it is full.
#[test]
fn a_clock_that_jumps_loses_nothing_and_append_time_never_decreases() {
    let dir = memory_dir();
    let clock = ManualClock::new(at(TODAY));
    let open = || Broker::builder(dir.path()).manual_clock(&clock).open().expect("open");
    let broker = open();
    let config = TopicConfig::new().segment_age(HOUR).segment_bytes(4096);
    let create = broker.create_topic("create", config.clone()).expect("create");
    let config = config.timestamp_type(TimestampType::AppendTime);
    let append = broker.create_topic("append", config).expect("create");
    let times = [
        TODAY,
        TODAY + TEN_YEARS,
        TODAY + 1,
        TODAY - TEN_YEARS,
        TODAY + 2,
        -DAY,
        i64::MAX,
        TODAY + 3,
    ];
    let mut rolled = Vec::new();
    for now in times {
        clock.set(at(now));
        let sent = create.send(Record::new("x")).expect("send");
        assert_eq!(sent.timestamp, at(now).clamp(Timestamp::MIN, Timestamp::MAX));
        append.send(Record::new("x").timestamp(at(5))).expect("send");
        rolled.push(segments(&broker, "create"));
    }
    // The first, the one begun ten years on, and the one begun in the year 9999.
    assert_eq!(rolled, [1, 2, 2, 2, 2, 2, 3, 3]);
    let stamps: Vec<_> = all(&broker, "append").into_iter().map(|(_, stamp)| stamp).collect();
    assert!(stamps.is_sorted(), "{stamps:?}");
    assert_eq!(stamps[..2], [TODAY, TODAY + TEN_YEARS]);
    // Age does not roll it before the year 9999, but size does.
    for _ in 0..4 {
        create.send(Record::new(&[0; 1000])).expect("send");
    }
    assert_eq!(segments(&broker, "create"), 4);
    clock.advance(HOUR);
    create.send(Record::new("x")).expect("send");
    assert_eq!(segments(&broker, "create"), 5, "what was begun today ages as ever");
    drop((create, append, broker));
    let broker = open();
    let found = all(&broker, "create");
    assert_eq!(found.len(), times.len() + 5);
    let stamps = found.iter().map(|(_, stamp)| *stamp);
    assert!(stamps.take(times.len()).eq(times.map(|now| now.clamp(0, Timestamp::MAX.as_millis()))));
    // Which time a new broker begins with is up to the clock.
    let sent = broker.topic("append").expect("topic").send(Record::new("x")).expect("send");
    assert_eq!(sent.timestamp, clock.now());
    for (topic, records) in [("create", times.len() + 5), ("append", times.len() + 1)] {
        let found = all(&broker, topic);
        assert_eq!(found.len(), records);
        for time in times {
            check_search(&broker, topic, &found, time);
        }
    }
}

/// A search by time gives the first record that is not older, in whatever order times are.
fn check_search(broker: &Broker, topic: &str, records: &[(u64, i64)], time: i64) {
    let expected = records.iter().find(|(_, stamp)| *stamp >= time);
    let found = broker.topic(topic).expect("topic").offset_for_timestamp(0, at(time));
    let found = found.expect("search");
    assert_eq!(found, expected.map(|(offset, stamp)| (*offset, at(*stamp))), "{topic} at {time}");
    let end = records.last().map_or(0, |(last, _)| last + 1);
    let reader = broker.reader().partition(topic, 0, Start::Timestamp(at(time))).open();
    let position = reader.expect("reader").position(topic, 0).expect("position");
    assert_eq!(position, expected.map_or(end, |(offset, _)| *offset));
}

/// Intervals are measured by the monotonic clock.
#[test]
fn a_wall_clock_that_jumps_takes_nobody_out_of_a_group_and_commits_nothing_early() {
    let clock = ManualClock::new(at(TODAY));
    let broker = Broker::builder("m").in_memory().manual_clock(&clock).open().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let open = || {
        let consumer = broker.consumer("g").subscribe(["t"]).max_poll_interval(HOUR);
        consumer.auto_commit(HOUR).open().expect("consumer")
    };
    let mut members = [open(), open()];
    let settle = |members: &mut [Consumer; 2]| {
        for _ in 0..3 {
            for member in &mut *members {
                drop(member.try_poll().expect("poll"));
            }
        }
    };
    settle(&mut members);
    for partition in [0, 1] {
        topic.send(Record::new("x").partition(partition)).expect("send");
    }
    settle(&mut members);
    let ids: Vec<_> = members.iter().map(|member| member.member_id().to_owned()).collect();
    let generation = members[0].generation();
    let committed = || [0, 1].map(|partition| broker.committed("g", "t", partition).expect("get"));
    for now in [TODAY + TEN_YEARS, TODAY - TEN_YEARS, 0, TODAY] {
        clock.set(at(now));
        // The one may find the other to be late, and the other way round.
        settle(&mut members);
        assert_eq!(broker.describe_group("g").expect("group").members.len(), 2);
        assert_eq!(committed(), [None, None], "at {now}");
    }
    let found: Vec<_> = members.iter().map(|member| member.member_id().to_owned()).collect();
    assert_eq!((found, members[0].generation()), (ids, generation), "they are the same as before");
    clock.advance(ALMOST_AN_HOUR);
    settle(&mut members);
    clock.advance(ALMOST_AN_HOUR);
    drop(members[0].try_poll().expect("poll"));
    assert_eq!(broker.describe_group("g").expect("group").members.len(), 2, "not yet");
    clock.advance(Duration::from_millis(1));
    drop(members[0].try_poll().expect("poll"));
    let left = broker.describe_group("g").expect("group").members;
    assert_eq!(left.len(), 1, "an hour has passed, whatever the wall clock says");
    assert!(committed().iter().any(|committed| committed.as_ref() == Some(&1.into())));
}

/// What idle groups have committed is forgotten by the wall clock, because that has to outlive the
/// process. So what is promised is this: while a group has members no clock makes it forgotten; a clock
/// that is set back forgets nothing; one that is set on forgets groups without members, as if the
/// time had passed; and what was written down by a clock that was wrong keeps a group longer.
#[test]
fn a_clock_that_jumps_forgets_no_group_that_has_members() {
    let dir = memory_dir();
    let clock = ManualClock::new(at(TODAY));
    let month = Duration::from_secs(30 * 86_400);
    let open = || {
        let broker = Broker::builder(dir.path()).manual_clock(&clock).offsets_retention(month);
        broker.open().expect("open")
    };
    let broker = open();
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    topic.send(Record::new("x")).expect("send");
    let member = |group: &str| {
        let mut consumer = broker.consumer(group).subscribe(["t"]).open().expect("consumer");
        assert_eq!(consumer.try_poll().expect("poll").len(), 1);
        consumer.commit().expect("commit");
        consumer
    };
    let stays = member("stays");
    drop(member("idle"));
    clock.set(at(TODAY - TEN_YEARS));
    assert_eq!(broker.groups().expect("groups"), ["idle", "stays"]);
    drop(member("long ago"));
    clock.set(at(TODAY + TEN_YEARS));
    drop(member("in the future"));
    assert_eq!(broker.groups().expect("groups"), ["in the future", "stays"]);
    clock.set(at(TODAY));
    drop((stays, topic));
    broker.close().expect("close");
    drop(broker);
    let broker = open();
    assert_eq!(broker.groups().expect("groups"), ["in the future", "stays"]);
    assert_eq!(broker.committed("stays", "t", 0).expect("get"), Some(1.into()));
    clock.advance(month);
    assert_eq!(broker.groups().expect("groups"), ["in the future"]);
    clock.advance(Duration::from_millis(TEN_YEARS as u64));
    assert_eq!(broker.groups().expect("groups"), [""; 0]);
}

/// Records from the year 2090 and from 1970, among those of today, block neither a search by time nor
/// deletion.
#[test]
fn records_with_impossible_dates_block_neither_searching_nor_deleting() {
    let dir = memory_dir();
    let year_2090 = 3_786_912_000_000;
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(500);
    let topic = broker.create_topic("t", config).expect("create");
    for number in 0..200_i64 {
        let time = match number {
            7 | 60 => year_2090,
            61 => Timestamp::MAX.as_millis(),
            20 | 90 | 150 => 0,
            _ => TODAY + number * 1000,
        };
        topic.send(Record::new(&[0; 200]).timestamp(at(time))).expect("send");
    }
    assert!(segments(&broker, "t") > 8);
    let wanted = |reopened: &Broker, from: u64| {
        let found = all(reopened, "t");
        assert_eq!(found.first().map(|(offset, _)| *offset), Some(from));
        let today = (0..200).step_by(7).map(|number| TODAY + number * 1000);
        let times = [0, 1, TODAY - 1, year_2090 - 1, year_2090, year_2090 + 1, i64::MAX];
        for time in times.into_iter().chain(today) {
            check_search(reopened, "t", &found, time);
        }
    };
    wanted(&broker, 0);
    let mut before = segments(&broker, "t");
    for below in [8, 21, 62, 91, 151, 199] {
        assert_eq!(topic.delete_records(0, below).expect("delete"), below);
        wanted(&broker, below);
        let after = segments(&broker, "t");
        assert!(below == 8 || after < before, "{before} to {after} segments below {below}");
        before = after;
    }
    drop((topic, broker));
    let broker = Broker::open(dir.path()).expect("reopen");
    wanted(&broker, 199);
    let topic = broker.topic("t").expect("topic");
    topic.send(Record::new("x").timestamp(at(TODAY + 200_000))).expect("send");
    wanted(&broker, 199);
    assert_eq!(topic.delete_records(0, 201).expect("delete"), 201);
    assert!(all(&broker, "t").is_empty());
    assert_eq!(topic.offset_for_timestamp(0, at(0)).expect("search"), None);
}

/// 64 bytes of header; then a frame of 26 bytes, a byte of flags and two of length around the value.
const AROUND: usize = 64 + 26 + 3;

/// A record that fills a segment to the last byte but one, to the last, and goes beyond it by one.
fn fill_a_segment(dir: &Path, access: FileAccess, segment_bytes: usize, lead: usize) {
    let open = || {
        let broker = Broker::builder(dir).file_access(access).recovery_mode(RecoveryMode::Strict);
        broker.open().expect("open")
    };
    let broker = open();
    let config = TopicConfig::new().segment_bytes(segment_bytes as u64);
    let mut lens = Vec::new();
    for over in -5..=5_isize {
        let name = format!("t{over}");
        let topic = broker.create_topic(&name, config.clone()).expect("create");
        // What stands before it takes 4-byte steps.
        let before = if lead == 0 { 0 } else { (26 + 2 + lead).next_multiple_of(4) };
        if lead > 0 {
            topic.send(Record::new(&vec![1; lead])).expect("send");
        }
        let room = segment_bytes / 4 * 4;
        let len = (room - AROUND - before).checked_add_signed(over).expect("in range");
        topic.send(Record::new(&vec![2; len])).unwrap_or_else(|error| panic!("{over}: {error}"));
        let fits = over <= 0;
        assert_eq!(segments(&broker, &name), if lead == 0 || fits { 1 } else { 2 }, "{over}");
        topic.send(Record::new(&vec![3; len])).expect("send");
        let fourth = vec![4; len];
        let batch = [Record::new(&fourth), Record::new("after")].map(|it| it.partition(0));
        topic.send_batch(&batch).expect("send");
        lens.push((name, len));
    }
    let check = |broker: &Broker| {
        for (name, len) in &lens {
            let mut reader = broker.reader().topic(name, Start::Earliest).open().expect("reader");
            let mut values = Vec::new();
            loop {
                let batch = reader.try_poll().expect("poll");
                if batch.is_empty() {
                    break;
                }
                let value =
                    |record: forebay::ConsumerRecord<'_>| record.value().unwrap_or(b"").to_vec();
                values.extend(batch.iter().map(value));
            }
            let mut expected = vec![vec![2; *len], vec![3; *len], vec![4; *len], b"after".to_vec()];
            if lead > 0 {
                expected.insert(0, vec![1; lead]);
            }
            assert!(values == expected, "{name}, {access:?}, lead {lead}");
        }
    };
    check(&broker);
    drop(broker);
    let broker = open();
    check(&broker);
    for (name, _) in &lens {
        broker.topic(name).expect("topic").send(Record::new("more")).expect("send");
    }
}

#[test]
fn records_around_the_size_of_a_segment_are_taken_and_read_back() {
    for access in [FileAccess::Mapped, FileAccess::WriteCalls, FileAccess::Calls] {
        for lead in [0, 100, 101, 102, 103] {
            let dir = memory_dir();
            fill_a_segment(dir.path(), access, 4096, lead);
        }
    }
    // Not a multiple of a page, nor of a frame's step.
    for segment_bytes in [4097, 4099, 5001, 16_383] {
        let dir = memory_dir();
        fill_a_segment(dir.path(), FileAccess::Mapped, segment_bytes, 100);
    }
}

#[test]
fn a_record_larger_than_is_allowed_changes_nothing() {
    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().segment_bytes(4096).max_record_bytes(5000).partitions(2);
    let topic = broker.create_topic("t", config).expect("create");
    let largest = 5000 - 26 - 3;
    for over in [0_usize, 1, 2, 1 << 20, 100 << 20] {
        let value = vec![0; largest + over];
        let sent = topic.send(Record::new(&value).partition(0));
        let both = [Record::new("small").partition(1), Record::new(&value).partition(0)];
        let batch = topic.send_batch(&both);
        if over == 0 {
            sent.expect("it is allowed");
            batch.expect("it is allowed");
            continue;
        }
        for refused in [sent.map(drop), batch.map(drop)] {
            assert!(
                matches!(refused, Err(Error::RecordTooLarge { bytes, max_bytes: 5000, .. })
                    if bytes >= (5000 + over) as u64),
                "{over}: {refused:?}"
            );
        }
        assert_eq!(topic.latest_offset(0).expect("end"), 2);
        assert_eq!(topic.latest_offset(1).expect("end"), 1);
    }
}

/// A checkpoint as the crate writes it, with any content.
fn checkpoint(log_start: u64, point: Option<(u64, u64, u64)>) -> Vec<u8> {
    let config = bincode::config::standard();
    let point = point.map(|(base, position, next)| (base, position, next, 1_i64));
    let payload = bincode::encode_to_vec((log_start, point), config).expect("encode");
    let mut bytes = b"FOREBAYC\x01\0\0\0".to_vec();
    bytes.extend((payload.len() as u32).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes);
    hasher.update(&payload);
    bytes.extend(hasher.finalize().to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// A log whose next record gets this number, as if all before had been deleted.
fn log_at(dir: &Path, next: u64) -> Broker {
    let broker = Broker::open(dir).expect("open");
    broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    broker.close().expect("close");
    fs::write(dir.join("topics/t/0/checkpoint"), checkpoint(next, None)).expect("write");
    Broker::open(dir).expect("open")
}

/// Numbers that no log comes to by itself, reached by a checkpoint that was made by hand.
#[test]
fn offsets_are_64_bits_wide_everywhere() {
    for first in [(1 << 31) - 2, (1 << 32) - 2, (1 << 53) - 2, (1 << 62) - 100] {
        let dir = memory_dir();
        let broker = log_at(dir.path(), first);
        let send = |topic: &Topic| topic.send(Record::new(&[0; 900])).expect("send").offset;
        let topic = broker.topic("t").expect("topic");
        assert_eq!(topic.earliest_offset(0).expect("start"), first);
        for number in 0..10 {
            assert_eq!(send(&topic), first + number);
        }
        let batch = vec![Record::new("y").partition(0); 5];
        assert_eq!(topic.send_batch(&batch).expect("send")[4].offset, first + 14);
        let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("consumer");
        assert_eq!(consumer.try_poll().expect("poll").len(), 15);
        consumer.commit().expect("commit");
        drop((consumer, topic));
        broker.close().expect("close");
        let broker = Broker::builder(dir.path()).recovery_mode(RecoveryMode::Strict).open();
        let broker = broker.expect("reopen");
        let offsets: Vec<_> = all(&broker, "t").into_iter().map(|(offset, _)| offset).collect();
        assert!(offsets.into_iter().eq(first..first + 15), "from {first}");
        assert_eq!(broker.committed("g", "t", 0).expect("get"), Some((first + 15).into()));
        let topic = broker.topic("t").expect("topic");
        for start in [first, first + 3, first + 14] {
            let mut reader =
                broker.reader().partition("t", 0, Start::Offset(start)).open().expect("reader");
            assert_eq!(rest(&mut reader).len() as u64, first + 15 - start);
        }
        let outside = broker.reader().partition("t", 0, Start::Offset(5)).open();
        assert!(matches!(outside, Err(Error::OffsetOutOfRange { offset: 5, .. })));
        assert_eq!(topic.delete_records(0, first + 10).expect("delete"), first + 10);
        assert_eq!(all(&broker, "t").len(), 5);
    }
}

/// Offsets in a segment count from its first, in 32 bits: when they are used up the segment is full.
#[test]
fn a_segment_whose_relative_offsets_are_used_up_is_rolled() {
    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    topic.send(Record::new("first")).expect("send");
    drop((topic, broker));
    let partition = dir.path().join("topics/t/0");
    let len = fs::metadata(partition.join("00000000000000000000.log")).expect("log").len();
    let last = u64::from(u32::MAX);
    for index in ["index", "timeindex"] {
        fs::remove_file(partition.join(format!("00000000000000000000.{index}"))).expect("remove");
    }
    let made_up = checkpoint(0, Some((0, len, last - 1)));
    fs::write(partition.join("checkpoint"), made_up).expect("write");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.topic("t").expect("topic");
    let offsets: Vec<_> =
        (0..4).map(|_| topic.send(Record::new("x")).expect("send").offset).collect();
    assert_eq!(offsets, [last - 1, last, last + 1, last + 2]);
    assert!(segments(&broker, "t") >= 2, "no number went round");
    let from = broker.reader().partition("t", 0, Start::Offset(last + 1)).open();
    let found = rest(&mut from.expect("reader"));
    assert!(found.into_iter().map(|(offset, _)| offset).eq([last + 1, last + 2]));
}
