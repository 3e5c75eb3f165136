//! What a reader is promised: every record once, in order, from where it was asked for, and to be
//! woken when there is one.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::time::{Duration, Instant};

use forebay::{
    Batch, Broker, Error, ManualClock, Reader, Record, Start, Timestamp, Topic, TopicConfig,
};

fn text(batch: &Batch) -> Vec<String> {
    let text =
        |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).expect("text");
    batch.iter().map(|record| text(record.value())).collect()
}

fn numbered(topic: &Topic, count: usize) {
    for number in 0..count {
        topic.send(Record::new(&number.to_string())).expect("send");
    }
}

fn drain(reader: &mut Reader) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return all;
        }
        all.extend(text(&batch));
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn reading_starts_where_it_is_asked_to() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    numbered(&topic, 1000);
    let from = |start| broker.reader().partition("t", 0, start).open();
    assert_eq!(drain(&mut from(Start::Earliest).expect("reader")), numbers(0..1000));
    for offset in [0, 1, 77, 500, 998, 999, 1000] {
        assert_eq!(
            drain(&mut from(Start::Offset(offset as u64)).expect("reader")),
            numbers(offset..1000)
        );
    }
    let mut latest = from(Start::Latest).expect("reader");
    assert!(drain(&mut latest).is_empty());
    topic.send(Record::new("new")).expect("send");
    assert_eq!(drain(&mut latest), ["new"]);
    assert!(matches!(
        from(Start::Offset(1002)),
        Err(Error::OffsetOutOfRange { partition: 0, offset: 1002, earliest: 0, latest: 1001, .. })
    ));
}

#[test]
fn reading_starts_at_a_time() {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let broker = Broker::builder("m").in_memory().manual_clock(&clock).open().expect("open");
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(200);
    let topic = broker.create_topic("t", config).expect("create");
    for number in 0..1000_i64 {
        clock.set(Timestamp::from_millis(1000 + number * 10));
        topic.send(Record::new(&number.to_string())).expect("send");
    }
    for millis in [0, 1000, 1001, 1010, 5555, 10_980, 10_989, 10_990] {
        let time = Timestamp::from_millis(millis);
        let offset = ((millis - 1000).max(0) as u64).div_ceil(10);
        let found = topic.offset_for_timestamp(0, time).expect("search");
        assert_eq!(
            found,
            Some((offset, Timestamp::from_millis(1000 + offset as i64 * 10))),
            "{millis}"
        );
        let mut reader =
            broker.reader().partition("t", 0, Start::Timestamp(time)).open().expect("reader");
        assert_eq!(drain(&mut reader), numbers(offset as usize..1000));
    }
    let after = Timestamp::from_millis(10_991);
    assert_eq!(topic.offset_for_timestamp(0, after).expect("search"), None);
    let mut reader =
        broker.reader().partition("t", 0, Start::Timestamp(after)).open().expect("reader");
    assert_eq!(reader.position("t", 0).expect("position"), 1000);
    assert!(drain(&mut reader).is_empty());
}

#[test]
fn a_search_by_time_finds_the_first_even_if_times_are_in_no_order() {
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(100);
    let topic = broker.create_topic("t", config).expect("create");
    let mut times = Vec::new();
    for number in 0..600_i64 {
        let time = number * 7919 % 601;
        times.push(time);
        topic.send(Record::new("x").timestamp(Timestamp::from_millis(time))).expect("send");
    }
    for wanted in 0..=601 {
        let expected = times.iter().position(|time| *time >= wanted);
        let found = topic.offset_for_timestamp(0, Timestamp::from_millis(wanted)).expect("search");
        assert_eq!(found.map(|(offset, _)| offset as usize), expected, "{wanted}");
    }
}

#[test]
fn a_poll_is_bounded_by_records_and_bytes_and_always_makes_progress() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    numbered(&topic, 10);
    let records: Vec<String> = numbers(10..40);
    let records: Vec<_> = records.iter().map(Record::new).collect();
    topic.send_batch(&records).expect("send");
    let read = |records, bytes| {
        let mut reader = broker
            .reader()
            .topic("t", Start::Earliest)
            .max_records(records)
            .max_bytes(bytes)
            .open()
            .expect("reader");
        let mut sizes = Vec::new();
        let mut all = Vec::new();
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                assert_eq!(all, numbers(0..40));
                return sizes;
            }
            sizes.push(batch.len());
            all.extend(text(&batch));
        }
    };
    assert_eq!(read(7, 1 << 20), [7, 7, 7, 7, 7, 5]);
    assert_eq!(read(500, 1), [1; 40], "a limit below the next record");
    assert!(read(500, 20).iter().all(|size| (2..=6).contains(size)));
    let none = broker.reader().topic("t", Start::Earliest).max_records(0).open();
    assert!(matches!(none, Err(Error::InvalidConfig { field: "max_records", .. })));
}

#[test]
fn records_of_several_topics_are_told_apart() {
    let broker = Broker::in_memory().expect("open");
    for name in ["one", "two"] {
        let topic = broker.create_topic(name, TopicConfig::new().partitions(2)).expect("create");
        for partition in 0..2 {
            topic
                .send(Record::new(&format!("{name}-{partition}")).partition(partition))
                .expect("send");
        }
    }
    let mut reader = broker
        .reader()
        .topic("one", Start::Earliest)
        .partition("two", 1, Start::Earliest)
        .open()
        .expect("reader");
    let batch = reader.try_poll().expect("poll");
    let mut found: Vec<_> =
        batch.iter().map(|record| (record.topic(), record.partition(), record.value())).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("one", 0, Some(&b"one-0"[..])),
            ("one", 1, Some(&b"one-1"[..])),
            ("two", 1, Some(&b"two-1"[..]))
        ]
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let reader = || broker.reader();
    assert!(matches!(reader().open(), Err(Error::InvalidConfig { .. })));
    assert!(matches!(reader().topic("no", Start::Latest).open(), Err(Error::UnknownTopic { .. })));
    assert!(matches!(
        reader().partition("t", 1, Start::Latest).open(),
        Err(Error::UnknownPartition { partition: 1, partitions: 1, .. })
    ));
    assert!(matches!(
        reader().partition("t", u32::MAX, Start::Latest).open(),
        Err(Error::UnknownPartition { partition: u32::MAX, .. })
    ));
    let twice = reader().topic("t", Start::Latest).partition("t", 0, Start::Earliest).open();
    assert!(matches!(twice, Err(Error::InvalidConfig { .. })));
    let mut good = reader().topic("t", Start::Latest).open().expect("reader");
    assert!(matches!(good.seek("t", 1, Start::Earliest), Err(Error::NotAssigned { .. })));
    assert!(matches!(good.seek("t", 0, Start::Offset(1)), Err(Error::OffsetOutOfRange { .. })));
    assert!(matches!(good.position("u", 0), Err(Error::NotAssigned { .. })));
}

#[test]
fn seeking_moves_there_and_back_even_while_waiting_was_arranged() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    numbered(&topic, 300);
    let mut reader =
        broker.reader().topic("t", Start::Latest).max_records(50).open().expect("reader");
    assert!(reader.poll(Duration::from_millis(1)).expect("poll").is_empty());
    reader.seek("t", 0, Start::Offset(250)).expect("seek");
    assert_eq!(text(&reader.poll(Duration::from_secs(5)).expect("poll")), numbers(250..300));
    reader.seek("t", 0, Start::Earliest).expect("seek");
    assert_eq!(text(&reader.try_poll().expect("poll")), numbers(0..50));
    assert_eq!(reader.position("t", 0).expect("position"), 50);
    reader.seek("t", 0, Start::Latest).expect("seek");
    assert!(reader.try_poll().expect("poll").is_empty());
}

#[test]
fn a_waiting_reader_is_woken_by_a_record_and_by_nothing_else() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(20)).expect("create");
    let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
    let start = Instant::now();
    assert!(reader.poll(Duration::from_millis(100)).expect("poll").is_empty());
    assert!(start.elapsed() >= Duration::from_millis(100));
    for round in 0..200_u32 {
        let waiting = std::thread::scope(|scope| {
            let reader = &mut reader;
            let waiting =
                scope.spawn(move || text(&reader.poll(Duration::from_secs(60)).expect("poll")));
            if round % 2 == 0 {
                std::thread::sleep(Duration::from_micros(u64::from(round)));
            }
            topic.send(Record::new(&round.to_string()).partition(round % 20)).expect("send");
            waiting.join().expect("reader")
        });
        assert_eq!(waiting, [round.to_string()]);
    }
}

#[test]
fn an_idle_reader_uses_no_processor_time() {
    #[cfg(target_os = "linux")]
    {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("t", TopicConfig::new().partitions(3)).expect("create");
        let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
        std::thread::spawn(move || {
            let ticks = || {
                let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("stat");
                let after_name = stat.rsplit_once(") ").expect("fields").1.to_owned();
                let fields: Vec<u64> =
                    after_name.split(' ').filter_map(|field| field.parse().ok()).collect();
                // User and system time, in ticks of 10 ms; fields 14 and 15, the state is no number.
                fields[10] + fields[11]
            };
            let before = ticks();
            assert!(reader.poll(Duration::from_millis(500)).expect("poll").is_empty());
            assert!(ticks() - before <= 2);
        })
        .join()
        .expect("reader");
    }
}

#[test]
fn a_busy_partition_does_not_starve_the_others() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(3)).expect("create");
    for _ in 0..10_000 {
        topic.send(Record::new("busy").partition(0)).expect("send");
    }
    topic.send(Record::new("rare").partition(2)).expect("send");
    let mut reader =
        broker.reader().topic("t", Start::Earliest).max_records(100).open().expect("reader");
    let first_three: Vec<_> =
        (0..3).flat_map(|_| text(&reader.try_poll().expect("poll"))).collect();
    assert!(first_three.contains(&"rare".to_owned()));
}

#[test]
fn merged_partitions_are_one_stream_in_order_of_time() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker
        .create_topic("t", TopicConfig::new().partitions(3).segment_bytes(4096))
        .expect("create");
    for number in 0..3000_i64 {
        let record = Record::new("x").timestamp(Timestamp::from_millis(number));
        topic.send(record.partition((number * number % 3) as u32)).expect("send");
    }
    for limit in [1, 10, 500, 5000] {
        let mut reader = broker
            .reader()
            .topic("t", Start::Earliest)
            .merge_by_timestamp()
            .max_records(limit)
            .open()
            .expect("reader");
        let mut times = Vec::new();
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() <= limit);
            times.extend(batch.iter().map(|record| record.timestamp().as_millis()));
        }
        assert!(times.iter().copied().eq(0..3000), "limit {limit}");
    }
}

#[test]
fn a_merged_reader_can_be_moved_and_waits() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let send = |value: &str, partition, millis| {
        let record =
            Record::new(value).partition(partition).timestamp(Timestamp::from_millis(millis));
        topic.send(record).expect("send");
    };
    send("a", 0, 1);
    send("b", 1, 2);
    send("c", 0, 3);
    let builder = broker.reader().topic("t", Start::Earliest).merge_by_timestamp().max_records(1);
    let mut reader = builder.open().expect("reader");
    assert_eq!(text(&reader.try_poll().expect("poll")), ["a"]);
    assert_eq!(
        reader.position("t", 0).expect("position"),
        1,
        "what was read ahead was not returned"
    );
    assert_eq!(drain(&mut reader), ["b", "c"]);
    reader.seek("t", 0, Start::Offset(1)).expect("seek");
    assert_eq!(drain(&mut reader), ["c"]);
    assert!(reader.poll(Duration::from_millis(5)).expect("poll").is_empty());
    send("d", 1, 0);
    assert_eq!(text(&reader.poll(Duration::from_secs(5)).expect("poll")), ["d"]);
}

#[test]
fn the_iterator_gives_every_record_and_ends_with_the_reason() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    numbered(&topic, 10);
    let mut reader =
        broker.reader().topic("t", Start::Earliest).max_records(6).open().expect("reader");
    let first: Vec<_> =
        reader.iter().take(3).map(|record| record.expect("record").offset).collect();
    assert_eq!(first, [0, 1, 2]);
    assert_eq!(reader.position("t", 0).expect("position"), 3, "what was not returned is not lost");
    let closing = std::thread::spawn({
        let broker = broker.clone();
        move || {
            std::thread::sleep(Duration::from_millis(50));
            broker.close()
        }
    });
    let rest: Vec<_> = reader.iter().collect();
    closing.join().expect("thread").expect("close");
    assert_eq!(rest.len(), 8);
    assert!(
        rest[..7]
            .iter()
            .zip(3..)
            .all(|(record, offset)| record.as_ref().expect("record").offset == offset)
    );
    assert!(matches!(rest[7], Err(Error::Closed)));
}

#[test]
fn a_reader_holds_a_record_through_a_hundred_rolls() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    topic.send(Record::new("held")).expect("send");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let held = reader.try_poll().expect("poll");
    for _ in 0..100 {
        topic.send(Record::new(&[1; 3900])).expect("send");
    }
    assert_eq!(held.get(0).expect("record").value(), Some(&b"held"[..]));
    let rest: usize =
        std::iter::from_fn(|| Some(reader.try_poll().expect("poll").len()).filter(|n| *n > 0))
            .sum();
    assert_eq!(rest, 100);
}

#[test]
fn a_gap_met_while_partitions_are_merged_is_told_once() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    for number in 0..2000 {
        for partition in 0..2 {
            let at = Timestamp::from_millis(number);
            topic.send(Record::new("x").partition(partition).timestamp(at)).expect("send");
        }
    }
    let mut reader = broker
        .reader()
        .topic("t", Start::Earliest)
        .merge_by_timestamp()
        .max_records(15)
        .open()
        .expect("reader");
    assert_eq!(reader.try_poll().expect("poll").len(), 15);
    // Some of what goes was read ahead, and comes.
    topic.delete_records(1, 1900).expect("delete");
    let (mut next, mut gaps) = ([8, 7], 0);
    while next != [2000, 2000] {
        match reader.try_poll() {
            Ok(batch) => {
                assert!(!batch.is_empty(), "{next:?}");
                for record in &batch {
                    let next = &mut next[record.partition() as usize];
                    assert_eq!(record.offset(), *next);
                    *next += 1;
                }
            }
            Err(Error::Gap { partition: 1, from, to: 1900, .. }) => {
                assert_eq!(from, next[1]);
                next[1] = 1900;
                gaps += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(gaps, 1);
}
