//! What an asynchronous producer is promised to do: order, what becomes of each record, bounds, and
//! ends.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay::testing::{Failure, SimulatedDisk};
use forebay::{
    Acks, AsyncProducer, Broker, Delivered, Error, Interceptor, MAX_HEADERS, ManualClock, OnFull,
    OutgoingRecord, OwnedRecord, Partitioner, Record, Sent, Start, Timestamp, TimestampType, Topic,
    TopicConfig, Undelivered, WhenFull,
};

const LONG: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(30);

fn all(broker: &Broker, topic: &str) -> Vec<OwnedRecord> {
    let mut reader = broker.reader().topic(topic, Start::Earliest).open().expect("reader");
    let mut records = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return records;
        }
        records.extend(batch.iter().map(|record| record.to_owned()));
    }
}

fn number(record: &OwnedRecord) -> u64 {
    u64::from_le_bytes(record.value.as_deref().expect("value")[..8].try_into().expect("8 bytes"))
}

/// A broker on a disk that can be full, with a topic that has something in it.
fn on_disk(partitions: u32) -> (SimulatedDisk, Broker) {
    let disk = SimulatedDisk::new(7);
    let broker =
        Broker::builder("data").simulated_disk(&disk).min_free_bytes(0).open().expect("open");
    broker.create_topic("t", TopicConfig::new().partitions(partitions)).expect("create");
    (disk, broker)
}

#[test]
fn handles_may_be_used_by_any_thread() {
    fn check<T: Clone + Send + Sync>() {}
    check::<AsyncProducer>();
    check::<forebay::Ticket>();
}

/// Each thread numbers its records, and finds its numbers rising in every partition.
#[test]
fn order_in_a_partition_is_the_order_of_each_thread() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    for linger in [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(2)] {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("a", TopicConfig::new().partitions(5)).expect("create");
        broker.create_topic("b", TopicConfig::new().partitions(3)).expect("create");
        let producer =
            broker.async_producer().batch_records(37).linger(linger).open().expect("open");
        let input = producer.input().expect("input").clone();
        thread::scope(|scope| {
            for thread in 0..THREADS as u8 {
                let (producer, input) = (&producer, input.clone());
                scope.spawn(move || {
                    for number in 0..EACH {
                        let value = number.to_le_bytes();
                        let topic = if number % 3 == 0 { "b" } else { "a" };
                        let key = [thread, (number % 11) as u8];
                        if thread == 0 {
                            let record = OutgoingRecord::new(topic, value).key(key);
                            input.send(record).expect("it is open");
                        } else {
                            producer.send(topic, Record::new(&value).key(&key)).expect("accepted");
                        }
                    }
                });
            }
        });
        producer.flush(LONG).expect("flush");
        let mut found = 0;
        for topic in ["a", "b"] {
            let mut last: BTreeMap<(u32, u8), u64> = BTreeMap::new();
            for record in all(&broker, topic) {
                let thread = record.key.as_deref().expect("key")[0];
                let before = last.insert((record.partition, thread), number(&record));
                assert!(before < Some(number(&record)), "{before:?} before {record:?}");
                found += 1;
            }
        }
        assert_eq!(found, THREADS * EACH, "linger {linger:?}");
    }
}

#[test]
fn a_ticket_says_where_its_record_went() {
    for acks in [Acks::Written, Acks::Synced] {
        for linger in [Duration::ZERO, Duration::from_millis(1)] {
            let broker = Broker::in_memory().expect("open");
            broker.create_topic("t", TopicConfig::new().partitions(3)).expect("create");
            let producer = broker
                .async_producer()
                .acks(acks)
                .linger(linger)
                .batch_records(7)
                .partitioner(Partitioner::RoundRobin)
                .open()
                .expect("open");
            let time = |number: u64| Timestamp::from_millis(1_000_000 - number.cast_signed() % 5);
            let send = |number: u64| {
                let value = number.to_le_bytes();
                producer.send("t", Record::new(&value).timestamp(time(number))).expect("accepted")
            };
            let tickets: Vec<_> = (0..1000).map(send).collect();
            let records = all_after(&producer, &broker);
            for (ticket, sent) in tickets.iter().zip(0..) {
                let Sent { partition, offset, timestamp } = ticket.wait().expect("sent");
                assert_eq!(ticket.try_wait().expect("known").expect("sent").offset, offset);
                assert_eq!(timestamp, time(sent));
                let record = &records[&(partition, offset)];
                assert_eq!((number(record), record.timestamp), (sent, timestamp));
                if acks == Acks::Synced {
                    let synced = broker.topic("t").expect("topic").synced_offset(partition);
                    assert!(synced.expect("partition") > offset);
                }
            }
        }
    }
}

fn all_after(producer: &AsyncProducer, broker: &Broker) -> BTreeMap<(u32, u64), OwnedRecord> {
    producer.flush(LONG).expect("flush");
    let placed = |record: OwnedRecord| ((record.partition, record.offset), record);
    all(broker, "t").into_iter().map(placed).collect()
}

#[test]
fn every_part_of_a_record_arrives() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().linger(MOMENT).open().expect("open");
    let full = Record::new(b"value\0").key("key").header("a", "1").header("b", "").header("a", "2");
    producer.send("t", Record::tombstone().key("gone")).expect("accepted");
    producer.send("t", full.clone()).expect("accepted");
    producer.send("t", Record::new("").key("")).expect("accepted");
    producer.flush(LONG).expect("flush");
    let found = all(&broker, "t");
    assert_eq!((found[0].value.as_deref(), found[0].key.as_deref()), (None, Some(&b"gone"[..])));
    assert_eq!(found[1].value.as_deref(), full.value_bytes());
    assert_eq!(found[1].headers.len(), 3);
    assert_eq!(found[1].headers[2], ("a".to_owned(), b"2".to_vec()));
    assert_eq!(
        (found[2].value.as_deref(), found[2].key.as_deref()),
        (Some(&b""[..]), Some(&b""[..]))
    );
}

#[test]
fn what_is_known_at_once_is_an_error_of_the_call_whatever_the_acks() {
    for acks in [Acks::None, Acks::Written, Acks::Synced] {
        for linger in [Duration::ZERO, MOMENT] {
            let broker = Broker::in_memory().expect("open");
            broker.create_topic("t", TopicConfig::new().max_record_bytes(2000)).expect("create");
            let producer = broker
                .async_producer()
                .acks(acks)
                .linger(linger)
                .buffer_bytes(5000)
                .open()
                .expect("open");
            let refused = |topic: &str, record: Record<'_>| {
                producer.send(topic, record).expect_err("refused")
            };
            assert!(matches!(refused("x", Record::new("v")), Error::UnknownTopic { .. }));
            let elsewhere = Record::new("v").partition(1);
            assert!(matches!(
                refused("t", elsewhere),
                Error::UnknownPartition { partition: 1, .. }
            ));
            assert!(matches!(refused("t", Record::new(&[0; 2000])), Error::RecordTooLarge { .. }));
            let larger = refused("t", Record::new(&[0; 6000]));
            assert!(
                matches!(larger, Error::LargerThanBuffer { buffer_bytes: 5000, .. }),
                "{larger}"
            );
            let late = Record::new("v").timestamp(Timestamp::from_millis(-1));
            assert!(matches!(refused("t", late), Error::TimestampOutOfRange { .. }));
            let headers =
                (0..=MAX_HEADERS).fold(Record::new("v"), |record, _| record.header("h", ""));
            assert!(matches!(refused("t", headers), Error::TooManyHeaders { .. }));
            producer.send("t", Record::new("good")).expect("accepted");
            producer.flush(LONG).expect("flush");
            assert_eq!(all(&broker, "t").len(), 1);
        }
    }
}

#[test]
fn without_acks_a_ticket_knows_at_once_and_the_record_follows() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().acks(Acks::None).linger(LONG).open().expect("open");
    let successes = producer.successes();
    let ticket = producer.send("t", Record::new("v")).expect("accepted");
    let sent = ticket.try_wait().expect("at once").expect("accepted");
    assert_eq!(sent.offset, Sent::UNKNOWN_OFFSET);
    assert!(all(&broker, "t").is_empty(), "it is in memory");
    producer.flush(LONG).expect("flush");
    assert_eq!(all(&broker, "t").len(), 1);
    assert_eq!(successes.try_recv().expect("told").sent.offset, 0);
    // A send that is not asynchronous has no memory to accept into.
    let sent = broker.producer().acks(Acks::None).send("t", Record::new("w")).expect("send");
    assert_eq!(sent.offset, 1);
}

#[test]
fn records_linger_for_company_and_no_longer() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let linger = Duration::from_millis(200);
    let producer = broker.async_producer().linger(linger).batch_records(3).open().expect("open");
    let begun = Instant::now();
    let first = producer.send("t", Record::new("1")).expect("accepted");
    assert!(first.wait_timeout(linger / 4).is_none());
    first.wait().expect("sent");
    assert!(begun.elapsed() >= linger && begun.elapsed() < 10 * linger, "{:?}", begun.elapsed());
    let begun = Instant::now();
    let tickets =
        ["2", "3", "4"].map(|value| producer.send("t", Record::new(value)).expect("accepted"));
    tickets[0].wait().expect("sent");
    assert!(begun.elapsed() < linger / 2, "a full batch does not wait");
}

#[test]
fn results_need_not_be_looked_at() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().result_capacity(10).open().expect("open");
    let (successes, errors) = (producer.successes(), producer.errors());
    let input = producer.input().expect("input");
    for tag in 0..5000 {
        let topic = if tag % 2 == 0 { "t" } else { "nowhere" };
        input.send(OutgoingRecord::new(topic, "v").tag(tag)).expect("it is open");
    }
    let unsent = match producer.flush(LONG).expect_err("half of them") {
        Error::NotSent { unsent } => unsent,
        other => panic!("{other}"),
    };
    assert_eq!((unsent.waiting(), unsent.failed(), unsent.topics.len()), (0, 2500, 1));
    producer.flush(LONG).expect("it is told once");
    assert_eq!(all(&broker, "t").len(), 2500);
    let tags: Vec<_> = successes.try_iter().map(|delivered: Delivered| delivered.tag).collect();
    assert_eq!(tags, (4980..5000).step_by(2).collect::<Vec<_>>(), "the last ones");
    assert_eq!(producer.dropped_successes(), 2490);
    let lost: Vec<Undelivered> = errors.try_iter().collect();
    assert_eq!((lost.len(), lost[9].record.tag, producer.dropped_errors()), (10, 4999, 2490));
    assert!(matches!(&lost[0].error, Error::UnknownTopic { topic } if topic == "nowhere"));
}

/// A producer whose records are stuck: the disk is full and there is no end of retries.
fn stuck(broker: &Broker, disk: &SimulatedDisk, when_full: WhenFull) -> AsyncProducer {
    let producer = broker
        .async_producer()
        .buffer_records(5)
        .when_full(when_full)
        .retries(u32::MAX)
        .retry_backoff(Duration::from_millis(10))
        .open()
        .expect("open");
    disk.set_full(true);
    let large = vec![7; 1_000_000];
    for _ in 0..5 {
        producer.send("t", Record::new(&large)).expect("accepted");
    }
    producer
}

#[test]
fn a_full_buffer_refuses_or_waits_as_long_as_it_is_told() {
    let (disk, broker) = on_disk(1);
    let producer = stuck(&broker, &disk, WhenFull::Refuse);
    let refused = producer.send("t", Record::new("v")).expect_err("full");
    assert!(matches!(refused, Error::BufferFull { records: 5, .. }), "{refused}");
    assert_eq!(producer.waiting_records().expect("own"), 5);
    disk.set_full(false);
    producer.flush(LONG).expect("flush");
    producer.send("t", Record::new("v")).expect("there is room");

    let (disk, broker) = on_disk(1);
    let timeout = Duration::from_millis(100);
    let producer = stuck(&broker, &disk, WhenFull::Timeout(timeout));
    let begun = Instant::now();
    assert!(matches!(producer.send("t", Record::new("v")), Err(Error::BufferFull { .. })));
    assert!(begun.elapsed() >= timeout && begun.elapsed() < 20 * timeout, "{:?}", begun.elapsed());
    disk.set_full(false);
    producer.send("t", Record::new("v")).expect("there is room soon");

    let (disk, broker) = on_disk(1);
    let producer = stuck(&broker, &disk, WhenFull::Block);
    thread::scope(|scope| {
        let blocked = scope.spawn(|| producer.send("t", Record::new("v")).expect("accepted"));
        thread::sleep(4 * MOMENT);
        assert!(!blocked.is_finished(), "there is no room");
        disk.set_full(false);
        let sent = blocked.join().expect("no panic").wait().expect("sent");
        assert_eq!(sent.offset, 5);
    });
}

#[test]
fn what_waits_in_memory_is_bounded_by_bytes() {
    let (disk, broker) = on_disk(1);
    let producer = broker
        .async_producer()
        .buffer_bytes(1 << 20)
        .when_full(WhenFull::Refuse)
        .retries(u32::MAX)
        .open()
        .expect("open");
    disk.set_full(true);
    let accepted =
        (0..10_000).take_while(|_| producer.send("t", Record::new(&[7; 5000])).is_ok()).count();
    assert!(producer.waiting_bytes().expect("own") <= 1 << 20);
    let waiting = producer.waiting_records().expect("own");
    assert!(accepted >= waiting && waiting >= (1 << 20) / 5010, "{waiting} of {accepted}");
    disk.set_full(false);
    producer.flush(LONG).expect("flush");
    assert_eq!(producer.waiting_bytes().expect("own"), 0);
    assert_eq!(all(&broker, "t").len(), accepted);
}

/// A batch that lingers gives way when its room is needed.
#[test]
fn nobody_waits_for_room_that_lingers() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new().partitions(4)).expect("create");
    let producer = broker.async_producer().buffer_records(10).linger(LONG).open().expect("open");
    for number in 0..1000_u32 {
        producer.send("t", Record::new("v").key(&number.to_le_bytes())).expect("accepted");
    }
    producer.flush(LONG).expect("flush");
    assert_eq!(all(&broker, "t").len(), 1000);
}

#[test]
fn records_that_cannot_be_sent_come_back_and_the_producer_goes_on() {
    let (disk, broker) = on_disk(2);
    let producer = broker
        .async_producer()
        .retries(2)
        .retry_backoff(Duration::from_millis(5))
        .linger(Duration::from_millis(1))
        .open()
        .expect("open");
    let errors = producer.errors();
    // Both partitions have a segment, and some room left in it.
    for partition in 0..2 {
        producer
            .send("t", Record::new("first").partition(partition))
            .expect("accepted")
            .wait()
            .expect("sent");
    }
    disk.set_full(true);
    let large = vec![7; 1_000_000];
    let record = Record::new(&large).key("k").header("h", "1").partition(1);
    let lost = producer.send("t", record).expect("accepted");
    let elsewhere = producer.send("t", Record::new("small").partition(0)).expect("accepted");
    assert_eq!(elsewhere.wait().expect("others are not held up").offset, 1);
    assert!(matches!(lost.wait(), Err(Error::StorageFull { .. })));
    let behind = producer.send("t", Record::new("behind").partition(1)).expect("accepted");
    assert_eq!(behind.wait().expect("those behind it go on").offset, 1);
    disk.set_full(false);
    let Undelivered { record, partition, error, .. } = errors.recv_timeout(LONG).expect("told");
    assert!(matches!(error, Error::StorageFull { .. }));
    assert_eq!((partition, record.partition, &*record.topic), (Some(1), Some(1), "t"));
    assert_eq!(
        (record.value.as_deref(), record.key.as_deref()),
        (Some(&large[..]), Some(&b"k"[..]))
    );
    assert_eq!(record.headers, [("h".to_owned(), b"1".to_vec())]);
    let again = producer.send(&record.topic, record.as_record()).expect("accepted");
    assert_eq!(again.wait().expect("sent").offset, 2);
    assert!(matches!(producer.flush(LONG), Err(Error::NotSent { unsent }) if unsent.failed() == 1));
}

/// What is tried again is not overtaken.
#[test]
fn order_is_kept_across_retries() {
    let (disk, broker) = on_disk(1);
    // Every few records need a segment of their own.
    let small = broker.topic("t").expect("topic").config().segment_bytes(100_000);
    broker.alter_topic("t", small).expect("alter");
    let producer = broker
        .async_producer()
        .retries(u32::MAX)
        .retry_backoff(Duration::from_millis(1))
        .batch_records(3)
        .open()
        .expect("open");
    let value = |number: u64| {
        let mut value = vec![7; 30_000];
        value[..8].copy_from_slice(&number.to_le_bytes());
        value
    };
    for number in 0..400 {
        if number % 40 == 39 {
            // Several batches wait, and are tried in vain.
            thread::sleep(Duration::from_millis(5));
            assert!(producer.waiting_records().expect("own") > 6);
        }
        disk.set_full(number % 40 > 20);
        producer.send("t", Record::new(&value(number))).expect("accepted");
    }
    disk.set_full(false);
    producer.flush(LONG).expect("flush");
    let found: Vec<_> = all(&broker, "t").iter().map(number).collect();
    assert_eq!(found, (0..400).collect::<Vec<_>>());
}

#[test]
fn flush_and_close_say_in_time_what_was_not_sent() {
    let (disk, broker) = on_disk(1);
    broker.create_topic("other", TopicConfig::new()).expect("create");
    let producer = stuck(&broker, &disk, WhenFull::Refuse);
    let begun = Instant::now();
    let Err(Error::NotSent { unsent }) = producer.flush(2 * MOMENT) else { panic!("it is stuck") };
    assert!(begun.elapsed() >= 2 * MOMENT && begun.elapsed() < LONG / 2);
    assert_eq!((unsent.waiting(), unsent.failed()), (5, 0));
    assert_eq!((&*unsent.topics[0].topic, unsent.topics[0].waiting), ("t", 5));
    let begun = Instant::now();
    let Err(Error::NotSent { unsent }) = producer.close(2 * MOMENT) else { panic!("it is stuck") };
    assert!(begun.elapsed() < LONG / 2);
    assert_eq!((unsent.waiting(), unsent.failed()), (0, 5), "given up");
    assert!(matches!(producer.send("t", Record::new("v")), Err(Error::ProducerClosed)));
    assert!(matches!(producer.input(), Err(Error::ProducerClosed)));
    producer.close(LONG).expect("it is closed");
}

#[test]
fn a_close_sends_what_lingers_and_what_is_in_the_input() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().linger(LONG).open().expect("open");
    let ticket = producer.send("t", Record::new("v")).expect("accepted");
    let input = producer.input().expect("input").clone();
    for _ in 0..500 {
        input.send(OutgoingRecord::new("t", "w")).expect("it is open");
    }
    producer.close(LONG).expect("close");
    assert_eq!(ticket.wait().expect("sent").offset, 0);
    assert_eq!(all(&broker, "t").len(), 501);
    assert!(input.send(OutgoingRecord::new("t", "x")).is_err(), "nobody takes it any more");
}

#[test]
fn who_waits_for_room_is_told_of_a_close() {
    let (disk, broker) = on_disk(1);
    let producer = stuck(&broker, &disk, WhenFull::Block);
    thread::scope(|scope| {
        let blocked = scope.spawn(|| producer.send("t", Record::new("v")));
        thread::sleep(MOMENT);
        assert!(producer.close(MOMENT).is_err());
        assert!(matches!(blocked.join().expect("no panic"), Err(Error::ProducerClosed)));
    });
}

#[test]
fn handles_tickets_and_the_broker_are_dropped_in_any_order() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for order in 0..4 {
        let broker = Broker::builder(dir.path()).auto_create_topics(1).open().expect("open");
        let producer = broker.async_producer().linger(LONG).open().expect("open");
        let clone = producer.clone();
        let ticket = producer.send("t", Record::new("v")).expect("accepted");
        let successes = producer.successes();
        match order {
            0 => drop((broker, producer, clone)),
            1 => drop((producer, broker, clone)),
            2 => drop((clone, producer, broker)),
            _ => {
                drop(clone);
                thread::spawn(move || drop((broker, producer))).join().expect("no panic");
            }
        }
        assert_eq!(ticket.try_wait().expect("it was dropped").expect("sent").offset, order);
        assert_eq!(successes.try_recv().expect("told").sent.offset, order);
    }
}

#[test]
fn a_broker_closed_underneath_is_told_to_everybody() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().linger(2 * MOMENT).open().expect("open");
    let errors = producer.errors();
    let ticket = producer.send("t", Record::new("v")).expect("accepted");
    broker.close().expect("close");
    assert!(matches!(ticket.wait(), Err(Error::Closed)));
    assert!(matches!(producer.send("t", Record::new("v")), Err(Error::Closed)));
    assert!(matches!(errors.recv_timeout(LONG).expect("told").error, Error::Closed));
    assert!(matches!(producer.close(LONG), Err(Error::NotSent { unsent }) if unsent.failed() == 1));
}

#[test]
fn a_topic_deleted_or_made_anew_underneath_is_found_out() {
    for linger in [Duration::ZERO, 3 * MOMENT] {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
        let producer = broker.async_producer().linger(linger).open().expect("open");
        let old = producer.send("t", Record::new("old").partition(1)).expect("accepted");
        broker.delete_topic("t").expect("delete");
        if !linger.is_zero() {
            assert!(
                matches!(old.wait(), Err(Error::UnknownTopic { .. })),
                "it was for the old one"
            );
        }
        let gone = producer.send("t", Record::new("v"));
        assert!(matches!(gone, Err(Error::UnknownTopic { .. })));
        broker.create_topic("t", TopicConfig::new().partitions(5)).expect("create");
        let new = producer.send("t", Record::new("new").partition(4)).expect("accepted");
        assert_eq!(new.wait().expect("sent").offset, 0);
        broker.delete_topic("t").expect("delete");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        let missing = producer.send("t", Record::new("v").partition(4));
        assert!(matches!(missing, Err(Error::UnknownPartition { partitions: 1, .. })));
        producer.send("t", Record::new("newer")).expect("accepted").wait().expect("sent");
    }
}

#[test]
fn topics_come_and_go_without_end() {
    let broker = Broker::builder("unused").in_memory().auto_create_topics(2).open().expect("open");
    let producer = broker.async_producer().linger(Duration::from_millis(1)).open().expect("open");
    for number in 0..300 {
        let name = format!("t{}", number % 170);
        let ticket = producer.send(&name, Record::new("v")).expect("accepted");
        if number % 3 == 0 {
            ticket.wait().expect("sent");
            broker.delete_topic(&name).expect("delete");
        }
    }
    producer.flush(LONG).expect("flush");
}

#[test]
fn a_topic_that_gives_times_gives_one_to_each_batch() {
    let clock = ManualClock::new(Timestamp::from_millis(5_000));
    let broker = Broker::builder("unused").in_memory().manual_clock(&clock).open().expect("open");
    let config = TopicConfig::new().timestamp_type(TimestampType::AppendTime);
    broker.create_topic("t", config).expect("create");
    let producer = broker.async_producer().linger(LONG).open().expect("open");
    let own = Timestamp::from_millis(77);
    let tickets: Vec<_> = (0..3)
        .map(|_| producer.send("t", Record::new("v").timestamp(own)).expect("accepted"))
        .collect();
    clock.advance(Duration::from_secs(1));
    producer.flush(LONG).expect("flush");
    let appended = Timestamp::from_millis(6_000);
    for (record, ticket) in all(&broker, "t").iter().zip(&tickets) {
        assert_eq!(record.timestamp, appended);
        assert_eq!(ticket.wait().expect("sent").timestamp, appended);
    }
}

/// Settings that change between a record's acceptance and its append count when it is appended.
#[test]
fn a_topic_altered_meanwhile_gets_what_it_wants() {
    let clock = ManualClock::new(Timestamp::from_millis(5_000));
    let broker = Broker::builder("unused").in_memory().manual_clock(&clock).open().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().linger(LONG).open().expect("open");
    let errors = producer.errors();
    let send = |bytes: usize, tag: u8| {
        let value = vec![tag; bytes];
        producer
            .send("t", Record::new(&value).timestamp(Timestamp::from_millis(70 + i64::from(tag))))
            .expect("accepted")
    };
    let tickets = [send(10, 0), send(3000, 1), send(20, 2)];
    broker.alter_topic("t", topic.config().max_record_bytes(1000)).expect("alter");
    assert!(producer.flush(LONG).is_err());
    assert_eq!(tickets[0].wait().expect("sent").offset, 0);
    assert!(matches!(tickets[1].wait(), Err(Error::RecordTooLarge { max_bytes: 1000, .. })));
    assert_eq!(tickets[2].wait().expect("sent").offset, 1);
    assert_eq!(errors.recv_timeout(LONG).expect("told").record.value, Some(vec![1; 3000]));

    let ticket = send(10, 4);
    let append_time = topic.config().timestamp_type(TimestampType::AppendTime);
    broker.alter_topic("t", append_time.clone()).expect("alter");
    producer.flush(LONG).expect("flush");
    assert_eq!(ticket.wait().expect("sent").timestamp, Timestamp::from_millis(5_000));
    let tickets: Vec<_> = (0..40).map(|tag| send(10, tag)).collect();
    broker.alter_topic("t", append_time.timestamp_type(TimestampType::CreateTime)).expect("alter");
    producer.flush(LONG).expect("flush");
    for (ticket, record) in tickets.iter().zip(&all(&broker, "t")[3..]) {
        assert_eq!(ticket.wait().expect("sent").timestamp, record.timestamp);
        assert_eq!(record.value.as_deref().expect("value").len(), 10);
    }
}

/// A sync that fails is final for its partition, and for no other.
#[test]
fn a_failed_sync_is_told_to_those_it_was_for() {
    let (disk, broker) = on_disk(2);
    let producer = broker.async_producer().acks(Acks::Synced).open().expect("open");
    for partition in 0..2 {
        let ticket = producer.send("t", Record::new("v").partition(partition)).expect("accepted");
        ticket.wait().expect("synced");
    }
    disk.fail_at(disk.operations() + 1, std::io::ErrorKind::Other, Failure::Once);
    let lost = producer.send("t", Record::new("v").partition(0)).expect("accepted");
    assert!(matches!(lost.wait(), Err(Error::Poisoned { partition: 0, .. })), "{lost:?}");
    let behind = producer.send("t", Record::new("v").partition(0)).expect("accepted");
    assert!(matches!(behind.wait(), Err(Error::Poisoned { .. })));
    let other = producer.send("t", Record::new("v").partition(1)).expect("accepted");
    assert_eq!(other.wait().expect("synced").offset, 1);
}

/// Many flushes, while others send: each covers what its own thread has sent before.
#[test]
fn a_flush_covers_what_was_sent_before_whatever_others_do() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new().partitions(4)).expect("create");
    for linger in [Duration::ZERO, Duration::from_millis(3)] {
        let producer =
            broker.async_producer().linger(linger).batch_records(9).open().expect("open");
        thread::scope(|scope| {
            for thread in 0..3_u32 {
                let producer = producer.clone();
                scope.spawn(move || {
                    for round in 0..200_u32 {
                        let send = |number: u32| {
                            let key = (thread + number).to_le_bytes();
                            producer.send("t", Record::new("v").key(&key)).expect("accepted")
                        };
                        let tickets: Vec<_> = (0..round % 20).map(send).collect();
                        producer.flush(LONG).expect("flush");
                        assert!(tickets.iter().all(|ticket| ticket.try_wait().is_some()));
                    }
                });
            }
        });
    }
}

#[derive(Default)]
struct Watch {
    sent: AtomicU64,
    failed: AtomicU64,
}

impl Interceptor for Watch {
    fn on_send(&self, record: &mut OutgoingRecord) {
        assert!(record.key.as_deref() != Some(b"panic"), "on purpose");
        record.headers.push(("seen".to_owned(), b"1".to_vec()));
    }

    fn on_result(&self, result: Result<&Delivered, &Undelivered>) {
        match result {
            Ok(_) => self.sent.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
        };
        panic!("on purpose");
    }
}

#[test]
fn interceptors_see_everything_and_may_panic() {
    for linger in [Duration::ZERO, MOMENT] {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        let watch = Arc::new(Watch::default());
        let producer =
            broker.async_producer().linger(linger).interceptor(watch.clone()).open().expect("open");
        producer.send("t", Record::new("v")).expect("accepted");
        producer.send("t", Record::new("v").key("panic")).expect("accepted");
        producer.input().expect("input").send(OutgoingRecord::new("x", "v")).expect("open");
        assert!(producer.close(LONG).is_err(), "one was for no topic");
        let found = all(&broker, "t");
        assert_eq!(found[0].headers, [("seen".to_owned(), b"1".to_vec())]);
        assert!(found[1].headers.is_empty(), "as if it had not been called");
        assert_eq!(watch.sent.load(Ordering::Relaxed), 2);
        assert_eq!(watch.failed.load(Ordering::Relaxed), 1);
    }
}

/// One that sends again what it is told of, through the producer it belongs to.
#[derive(Default)]
struct Echo(parking::Slot);

mod parking {
    use std::sync::{Mutex, PoisonError};

    #[derive(Default)]
    pub struct Slot(Mutex<Option<forebay::AsyncProducer>>);

    impl Slot {
        pub fn set(&self, producer: Option<forebay::AsyncProducer>) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = producer;
        }

        pub fn get(&self) -> Option<forebay::AsyncProducer> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }
}

impl Interceptor for Echo {
    fn on_result(&self, result: Result<&Delivered, &Undelivered>) {
        if let (Ok(delivered), Some(producer)) = (result, self.0.get())
            && delivered.topic.as_ref() == "t"
        {
            // Full or not, it comes back at once; so do a flush and a close from here.
            drop(producer.send("echo", Record::new("v")));
            drop(producer.flush(LONG));
        }
    }
}

#[test]
fn an_interceptor_that_sends_keeps_nobody_waiting() {
    for linger in [Duration::ZERO, Duration::from_millis(1)] {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        broker.create_topic("echo", TopicConfig::new()).expect("create");
        let echo = Arc::new(Echo::default());
        let producer = broker
            .async_producer()
            .linger(linger)
            .buffer_records(3)
            .interceptor(echo.clone())
            .open()
            .expect("open");
        echo.0.set(Some(producer.clone()));
        let begun = Instant::now();
        for _ in 0..50 {
            producer.send("t", Record::new("v")).expect("accepted");
        }
        producer.flush(LONG).expect("flush");
        echo.0.set(None);
        assert!(begun.elapsed() < LONG / 2, "nobody waited for itself");
        assert_eq!(all(&broker, "t").len(), 50);
        assert!(!all(&broker, "echo").is_empty());
    }
}

#[test]
fn a_partitioner_that_panics_harms_nobody() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let choose = Partitioner::custom(|record, _| {
        assert!(record.has_key(), "on purpose");
        0
    });
    let producer = broker.async_producer().partitioner(choose).open().expect("open");
    let errors = producer.errors();
    let panics = || producer.send("t", Record::new("v"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    producer.input().expect("input").send(OutgoingRecord::new("t", "v")).expect("open");
    assert!(matches!(errors.recv_timeout(LONG).expect("told").error, Error::Io { .. }));
    producer.send("t", Record::new("v").key("k")).expect("accepted").wait().expect("sent");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let broker = Broker::in_memory().expect("open");
    for (builder, name) in [
        (broker.async_producer().batch_records(0), "batch_records"),
        (broker.async_producer().batch_bytes(0), "batch_bytes"),
        (broker.async_producer().buffer_bytes(0), "buffer_bytes"),
        (broker.async_producer().buffer_records(0), "buffer_records"),
        (broker.async_producer().result_capacity(0), "result_capacity"),
    ] {
        assert!(matches!(builder.open(), Err(Error::InvalidConfig { field, .. }) if field == name));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_producer_costs_no_processor_time() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker
        .async_producer()
        .linger(Duration::from_millis(1))
        .batch_records(10)
        .open()
        .expect("open");
    // A stream, so that the worker attends, and its end.
    for _ in 0..100_000 {
        producer.send("t", Record::new("v")).expect("accepted");
    }
    producer.flush(LONG).expect("flush");
    let wakeups = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("tasks");
        let of = |path: std::path::PathBuf| {
            let is_ours = std::fs::read_to_string(path.join("comm"))
                .is_ok_and(|comm| comm.trim() == "forebay-async");
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.filter(|_| is_ours).and_then(|line| line.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        tasks.map(|task| of(task.expect("task").path())).sum::<u64>()
    };
    // Other tests of this file have threads of that name, too: what counts is that a time without any
    // wake-up is found.
    let is_quiet = |_: &u32| {
        let before = wakeups();
        thread::sleep(5 * MOMENT);
        wakeups() == before
    };
    assert!((0..100).any(|round| is_quiet(&round)), "it wakes up for nothing");
}

/// A topic that holds a thousand records, and a producer that would give up soon.
fn small_topic(broker: &Broker, on_full: OnFull) -> (Topic, AsyncProducer) {
    let config = TopicConfig::new().max_records(1_000).consumed_by(["g"]).on_full(on_full);
    let topic = broker.create_topic("small", config).expect("create");
    let producer = broker
        .async_producer()
        .batch_records(50)
        .linger(Duration::from_millis(1))
        .retries(0)
        .open()
        .expect("open");
    (topic, producer)
}

#[test]
fn a_topic_that_waits_for_room_is_waited_for() {
    let broker = Broker::in_memory().expect("open");
    let timeout = Duration::from_secs(60);
    let (_topic, producer) = small_topic(&broker, OnFull::Block { timeout });
    let mut consumer = broker.consumer("g").subscribe(["small"]).open().expect("open");
    for number in 0..5_000_u32 {
        producer.post("small", Record::new(&number.to_le_bytes())).expect("post");
    }
    let mut read = 0_u32;
    while read < 5_000 {
        for record in &consumer.poll(Duration::from_secs(10)).expect("poll") {
            assert_eq!(record.value(), Some(&read.to_le_bytes()[..]));
            read += 1;
        }
        consumer.commit().expect("commit");
    }
    producer.close(Duration::from_secs(10)).expect("nothing was given up");
}

#[test]
fn a_topic_that_waits_for_room_too_long_gives_the_records_back() {
    let broker = Broker::in_memory().expect("open");
    let timeout = Duration::from_millis(50);
    let (topic, producer) = small_topic(&broker, OnFull::Block { timeout });
    let errors = producer.errors();
    for _ in 0..1_050 {
        producer.post("small", Record::new("x")).expect("post");
    }
    let lost = errors.recv_timeout(Duration::from_secs(10)).expect("an error");
    assert!(matches!(lost.error, Error::TopicFull { .. }), "{}", lost.error);
    assert_eq!(topic.latest_offset(0).expect("latest"), 1_000);
}

#[test]
fn a_topic_that_drops_its_oldest_takes_everything() {
    let broker = Broker::in_memory().expect("open");
    let (topic, producer) = small_topic(&broker, OnFull::DropOldest);
    for _ in 0..20_000 {
        producer.post("small", Record::new("x")).expect("post");
    }
    producer.close(Duration::from_secs(30)).expect("nothing was given up");
    assert_eq!(topic.latest_offset(0).expect("latest"), 20_000);
    let left = 20_000 - topic.earliest_offset(0).expect("earliest");
    assert!((500..=1_000).contains(&left), "{left}");
}

/// Symptom: of a topic that may hold fewer records than a batch, a batch was refused for good, with all its
/// records, although each of them would have fitted. Fix: they are then sent one by one.
#[test]
fn a_topic_smaller_than_a_batch_takes_its_records_one_by_one() {
    let broker = Broker::in_memory().expect("open");
    let timeout = Duration::from_secs(1);
    for (name, config) in [
        ("waits", TopicConfig::new().max_records(10).on_full(OnFull::Block { timeout })),
        ("drops", TopicConfig::new().max_records(10).on_full(OnFull::DropOldest)),
        (
            "bytes",
            TopicConfig::new().segment_bytes(4096).max_bytes(65_536).on_full(OnFull::DropOldest),
        ),
    ] {
        broker.create_topic(name, config.consumed_by(["g"])).expect("create");
        let producer = broker.async_producer().linger(LONG).retries(0).open().expect("open");
        for number in 0..400_u64 {
            let mut value = [0; 200];
            value[..8].copy_from_slice(&number.to_le_bytes());
            producer.post(name, Record::new(&value)).expect("accepted");
        }
        thread::scope(|scope| {
            let closing = scope.spawn(|| producer.flush(LONG));
            let mut consumer = broker.consumer("g").subscribe([name]).open().expect("open");
            while !closing.is_finished() {
                match consumer.poll(MOMENT) {
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error, Error::Gap { .. }), "{error}"),
                }
                consumer.commit().expect("commit");
            }
            closing.join().expect("no panic").expect("nothing was given up");
        });
        let topic = broker.topic(name).expect("topic");
        assert_eq!(topic.latest_offset(0).expect("latest"), 400, "{name}");
    }
}

/// Symptom: of two threads that sent without lingering, the one whose record came first told of it second.
/// Fix: whoever appends a record at once tells of it before others may append.
#[test]
fn results_come_in_order_whoever_sent_at_once() {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().result_capacity(1 << 20).open().expect("open");
    let successes = producer.successes();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    producer.post("t", Record::new("v")).expect("accepted");
                }
            });
        }
    });
    producer.flush(LONG).expect("flush");
    let offsets: Vec<_> = successes.try_iter().map(|delivered| delivered.sent.offset).collect();
    assert!(offsets.is_sorted(), "in the order they lie in the log");
    assert_eq!(offsets.len(), 80_000);
}

/// Symptom: while others went on putting records into the input, a producer that was dropped never ended.
/// Fix: what was in the input when it was closed is taken, and no more.
#[test]
fn an_input_that_never_runs_dry_keeps_no_close_waiting() {
    struct Slow;

    impl Interceptor for Slow {
        fn on_send(&self, _: &mut OutgoingRecord) {
            thread::sleep(Duration::from_micros(100));
        }
    }

    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().interceptor(Arc::new(Slow)).open().expect("open");
    let input = producer.input().expect("input").clone();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop(input.send(OutgoingRecord::new("t", "v")));
                }
            });
        }
        thread::sleep(MOMENT);
        let (begun, timeout) = (Instant::now(), Duration::from_secs(5));
        let closed = producer.close(timeout);
        is_over.store(true, Ordering::Relaxed);
        closed.expect("all was sent");
        assert!(begun.elapsed() < timeout, "it ends");
    });
}

/// Symptom: an interceptor that was called on the thread of the input, and flushed there or let go of the last
/// handle, waited for that thread, which was its own. Fix: such a thread does not wait.
#[test]
fn an_interceptor_called_by_the_input_keeps_nobody_waiting() {
    #[derive(Default)]
    struct Ends(parking::Slot);

    impl Interceptor for Ends {
        fn on_result(&self, result: Result<&Delivered, &Undelivered>) {
            if let (Err(_), Some(producer)) = (result, self.0.get()) {
                drop(producer.flush(LONG));
                drop(producer.close(LONG));
                self.0.set(None);
            }
        }
    }

    let broker = Broker::in_memory().expect("open");
    let ends = Arc::new(Ends::default());
    let producer = broker.async_producer().interceptor(ends.clone()).open().expect("open");
    let errors = producer.errors();
    let input = producer.input().expect("input").clone();
    ends.0.set(Some(producer));
    input.send(OutgoingRecord::new("nowhere", "v")).expect("open");
    errors.recv_timeout(LONG / 2).expect("it comes back");
    let begun = Instant::now();
    while input.send(OutgoingRecord::new("nowhere", "v")).is_ok() {
        thread::sleep(Duration::from_millis(1));
        assert!(begun.elapsed() < LONG / 2, "its threads end");
    }
}

/// Symptom: when a topic was altered to keep the times records come with, those of the next few batches were
/// lost. Fix: an alteration counts from the next record on.
#[test]
fn a_time_of_its_own_counts_from_the_first_record_after_an_alteration() {
    let clock = ManualClock::new(Timestamp::from_millis(5_000));
    for linger in [Duration::ZERO, LONG] {
        let broker =
            Broker::builder("unused").in_memory().manual_clock(&clock).open().expect("open");
        let config = TopicConfig::new().timestamp_type(TimestampType::AppendTime);
        let topic = broker.create_topic("t", config).expect("create");
        let producer =
            broker.async_producer().acks(Acks::Synced).linger(linger).open().expect("open");
        let own = Timestamp::from_millis(77);
        let send = || producer.send("t", Record::new("v").timestamp(own)).expect("accepted");
        let before = send();
        let config = topic.config().timestamp_type(TimestampType::CreateTime);
        broker.alter_topic("t", config).expect("alter");
        let after = send();
        producer.flush(LONG).expect("flush");
        assert_eq!(before.wait().expect("sent").timestamp, Timestamp::from_millis(5_000));
        assert_eq!(after.wait().expect("sent").timestamp, own, "{linger:?}");
        assert_eq!(all(&broker, "t")[1].timestamp, own);
    }
}

#[test]
fn a_time_out_of_range_is_refused_however_many_records_wait() {
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new().timestamp_type(TimestampType::AppendTime);
    broker.create_topic("t", config).expect("create");
    let producer = broker.async_producer().linger(LONG).open().expect("open");
    for _ in 0..3 {
        let early = Record::new("v").timestamp(Timestamp::from_millis(-1));
        let refused = producer.send("t", early);
        assert!(matches!(refused, Err(Error::TimestampOutOfRange { .. })), "{refused:?}");
        producer.send("t", Record::new("v")).expect("accepted");
    }
}

/// Symptom: a close whose time was over before all was taken from the input said that all was sent. Fix: it
/// says how much is still in there.
#[test]
fn a_close_says_what_was_left_in_the_input() {
    struct Slow(Duration);

    impl Interceptor for Slow {
        fn on_send(&self, _: &mut OutgoingRecord) {
            thread::sleep(self.0);
        }
    }

    for (records, each) in [(1, 40 * MOMENT), (100, MOMENT)] {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        let slow = Arc::new(Slow(each));
        let producer = broker.async_producer().interceptor(slow).open().expect("open");
        for _ in 0..records {
            let record = OutgoingRecord::new("t", "v");
            producer.input().expect("input").send(record).expect("it is open");
        }
        let closed = producer.close(Duration::ZERO);
        let Err(Error::NotSent { unsent }) = closed else { panic!("{records}: {closed:?}") };
        assert!((1..=records).contains(&unsent.in_input), "{unsent:?} of {records}");
        producer.close(LONG).expect("all was sent in the end");
        assert_eq!(all(&broker, "t").len(), records);
    }
}

/// Symptom: a record that waited for room was refused as one for a partition that does not exist, or its
/// key went to a wrong one. Cause: the partition that was chosen for it was kept although the topic was
/// deleted meanwhile, made anew with other partitions, and resolved by another sender. Fix: a choice is
/// kept with the identity of the topic it was made for.
#[test]
fn a_record_that_waits_goes_to_a_partition_of_the_topic_as_it_is_then() {
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new().max_records(1).on_full(OnFull::Block { timeout: LONG });
    let hold = broker.create_topic("hold", config).expect("create");
    broker.create_topic("t", TopicConfig::new().partitions(8)).expect("create");
    let producer = broker.async_producer().buffer_records(1).open().expect("open");
    // The second one has no room in its topic, and fills the buffer.
    for _ in 0..2 {
        producer.post("hold", Record::new("x")).expect("post");
    }
    // It goes to partition 6 of 8.
    let key = "foobar";
    thread::scope(|scope| {
        let first = scope.spawn(|| producer.send("t", Record::new("first").key(key))?.wait());
        thread::sleep(5 * MOMENT);
        broker.delete_topic("t").expect("delete");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        let second = scope.spawn(|| producer.send("t", Record::new("second").key(key))?.wait());
        thread::sleep(5 * MOMENT);
        hold.delete_records(0, 1).expect("delete");
        for sent in [first, second] {
            let sent = sent.join().expect("thread").expect("it is sent");
            assert_eq!(sent.partition, 0);
        }
    });
}
