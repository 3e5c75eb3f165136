//! What is on stable storage, when, and who is told: flushes nobody waits for, waiting for others'
//! syncs, and the same promises by each way of reaching files.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use forebay::testing::{Failure, SimulatedDisk};
use forebay::{
    Acks, Broker, Error, FileAccess, Reader, Record, RecoveryMode, Start, Topic, TopicConfig,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

/// Fails if `work` takes longer than it ever should, instead of waiting for ever.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let worker = std::thread::spawn(move || drop(done.send(work())));
    let result = wait.recv_timeout(LONG);
    if result.is_err() && worker.is_finished() {
        worker.join().expect("it panicked");
    }
    result.expect("it hangs")
}

fn synced(topic: &Topic, partition: u32) -> u64 {
    topic.synced_offset(partition).expect("offset")
}

fn send(topic: &Topic, count: u64) {
    for _ in 0..count {
        topic.send(Record::new("x").partition(0)).expect("send");
    }
}

#[test]
fn so_many_records_are_synced_with_nobody_waiting() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().flush_records(10);
    let topic = broker.create_topic("t", config).expect("create");
    send(&topic, 9);
    let early = topic.wait_synced(0, 1, Duration::from_millis(100)).expect("wait");
    assert_eq!(early, 0, "nine are not ten");
    send(&topic, 1);
    assert_eq!(topic.wait_synced(0, 10, LONG).expect("wait"), 10);
    // A batch that goes past it counts as what it holds.
    let batch = vec![Record::new("y").partition(0); 25];
    topic.send_batch(&batch).expect("send");
    assert_eq!(topic.wait_synced(0, 35, LONG).expect("wait"), 35);
}

#[test]
fn what_is_old_enough_is_synced_with_nobody_waiting_and_what_is_idle_is_not_again() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().flush_interval(Duration::from_millis(50));
    let topic = broker.create_topic("t", config.partitions(2)).expect("create");
    for round in 1..=3 {
        let begun = Instant::now();
        send(&topic, 1);
        assert_eq!(topic.wait_synced(0, round, LONG).expect("wait"), round);
        let took = begun.elapsed();
        assert!(took < LONG / 4, "{took:?} are not 50 ms");
    }
    assert_eq!(synced(&topic, 1), 0, "it got nothing");
    // The mark is written by each sync, so its time says when the last one was.
    let mark = dir.path().join("topics/t/0/durable");
    let written = || std::fs::metadata(&mark).expect("mark").modified().expect("time");
    let last = written();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(written(), last, "an idle partition is not synced");
    assert!(!dir.path().join("topics/t/1/durable").exists(), "nor is one that never had anything");
    send(&topic, 1);
    assert_eq!(topic.wait_synced(0, 4, LONG).expect("wait"), 4);
    assert!(written() > last);
}

#[test]
fn both_settings_survive_a_reopen_and_change_while_records_flow() {
    let dir = temporary();
    let interval = Duration::from_millis(20);
    {
        let broker = Broker::open(dir.path()).expect("open");
        let config = TopicConfig::new().flush_records(5);
        broker.create_topic("records", config).expect("create");
        let config = TopicConfig::new().flush_interval(interval);
        broker.create_topic("time", config).expect("create");
        broker.create_topic("neither", TopicConfig::new()).expect("create");
    }
    let broker = Broker::open(dir.path()).expect("reopen");
    let [records, time, neither] =
        ["records", "time", "neither"].map(|name| broker.topic(name).expect("topic"));
    send(&records, 5);
    send(&time, 1);
    send(&neither, 50);
    assert_eq!(records.wait_synced(0, 5, LONG).expect("wait"), 5);
    assert_eq!(time.wait_synced(0, 1, LONG).expect("wait"), 1);
    assert_eq!(neither.wait_synced(0, 1, interval * 10).expect("wait"), 0);
    std::thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let flowing = neither.clone();
        scope.spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                send(&flowing, 1);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let alter = |config: TopicConfig| broker.alter_topic("neither", config).expect("alter");
        alter(neither.config().flush_records(10));
        let first = neither.wait_synced(0, 51, LONG).expect("wait");
        assert!(first > 50, "{first}");
        alter(neither.config().flush_records(None).flush_interval(interval));
        let end = neither.latest_offset(0).expect("end");
        let second = neither.wait_synced(0, end + 20, LONG).expect("wait");
        assert!(second >= end + 20, "{second} of {end} and 20");
        alter(neither.config().flush_interval(None));
        // What was asked for before may come yet.
        std::thread::sleep(interval * 10);
        let rest = synced(&neither, 0);
        let more = neither.latest_offset(0).expect("end") + 50;
        while neither.latest_offset(0).expect("end") < more {
            std::thread::sleep(interval);
        }
        std::thread::sleep(interval * 5);
        assert_eq!(synced(&neither, 0), rest, "it was told to sync no more");
        drop(stop);
    });
}

#[test]
fn who_waits_for_what_nobody_syncs_is_told_how_far_it_came() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&topic, 3);
    topic.flush().expect("flush");
    send(&topic, 3);
    let begun = Instant::now();
    assert_eq!(topic.wait_synced(0, 6, Duration::from_millis(50)).expect("wait"), 3);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(topic.wait_synced(0, 3, Duration::ZERO).expect("it is there"), 3);
    assert_eq!(topic.wait_synced(0, 6, Duration::ZERO).expect("it is not"), 3);
}

/// A way to have something synced.
type Sync = fn(&Broker, &Topic) -> Result<(), Error>;

#[test]
fn who_waits_is_woken_by_anybodys_sync() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let syncs: [Sync; 4] = [
        |_, topic| topic.send_with(Record::new("x"), Acks::Synced).map(drop),
        |_, topic| topic.flush(),
        |broker, _| broker.flush(),
        |broker, _| broker.producer().flush(),
    ];
    for sync in syncs {
        send(&topic, 1);
        let end = topic.latest_offset(0).expect("end");
        let waiting = topic.clone();
        let waiter = std::thread::spawn(move || waiting.wait_synced(0, end, Duration::MAX));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        sync(&broker, &topic).expect("sync");
        assert!(in_time(|| waiter.join().expect("no panic")).expect("wait") >= end);
    }
}

#[test]
fn who_waits_is_told_when_the_sync_fails() {
    let disk = SimulatedDisk::new(1);
    let broker = Broker::builder("data").simulated_disk(&disk).open().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&topic, 1);
    let waiting = topic.clone();
    let waiter = std::thread::spawn(move || waiting.wait_synced(0, 1, Duration::MAX));
    std::thread::sleep(Duration::from_millis(20));
    disk.fail_at(disk.operations() + 1, io::ErrorKind::Other, Failure::Forever);
    let failed = topic.flush();
    assert!(matches!(failed, Err(Error::Poisoned { .. })), "{failed:?}");
    let told = in_time(|| waiter.join().expect("no panic"));
    assert!(matches!(&told, Err(Error::Poisoned { topic, partition: 0, .. }) if topic == "t"));
    let again = topic.wait_synced(0, 1, LONG);
    assert!(matches!(again, Err(Error::Poisoned { .. })), "at once, and for good");
    disk.fail_at(u64::MAX, io::ErrorKind::Other, Failure::Once);
    assert!(matches!(topic.wait_synced(0, 1, LONG), Err(Error::Poisoned { .. })));
    assert_eq!(synced(&topic, 0), 0);
}

/// The sync that fails may be one that nobody waits for.
#[test]
fn who_waits_is_told_when_a_sync_in_the_background_fails() {
    let disk = SimulatedDisk::new(1);
    let broker = Broker::builder("data").simulated_disk(&disk).open().expect("open");
    let config = TopicConfig::new().flush_records(2);
    let topic = broker.create_topic("t", config).expect("create");
    send(&topic, 1);
    disk.fail_at(disk.operations() + 1, io::ErrorKind::Other, Failure::Forever);
    let refused = (0..100).find_map(|_| topic.send(Record::new("x")).err()).expect("it failed");
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
    assert!(matches!(topic.wait_synced(0, 1, LONG), Err(Error::Poisoned { .. })));
}

#[test]
fn who_waits_is_told_when_the_topic_is_deleted_or_the_broker_closed() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    for closes in [false, true] {
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        send(&topic, 1);
        let waiting = topic.clone();
        let waiter = std::thread::spawn(move || waiting.wait_synced(0, 100, Duration::MAX));
        std::thread::sleep(Duration::from_millis(20));
        if closes { broker.close() } else { broker.delete_topic("t") }.expect("it ends");
        let told = in_time(|| waiter.join().expect("no panic"));
        match told {
            Err(Error::Closed) => assert!(closes),
            Err(Error::UnknownTopic { topic }) => assert!(!closes && topic == "t"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_producers_flush_covers_every_topic() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let names = ["a", "b", "c"];
    for name in names {
        broker.create_topic(name, TopicConfig::new().partitions(3)).expect("create");
    }
    let (one, two) = (broker.producer(), broker.producer());
    for name in names {
        for partition in 0..3 {
            one.send(name, Record::new("x").partition(partition)).expect("send");
        }
    }
    // What others have sent is covered too.
    two.flush().expect("flush");
    for name in names {
        let topic = broker.topic(name).expect("topic");
        assert_eq!([0, 1, 2].map(|partition| synced(&topic, partition)), [1; 3]);
    }
}

const PARTITIONS: u32 = 3;

/// What was sent, by topic and partition.
type Sent = BTreeMap<(String, u32), Vec<Vec<u8>>>;

/// Everything there is to be read, and that nothing else is there.
fn check(broker: &Broker, sent: &Sent) {
    for ((topic, partition), values) in sent {
        let mut reader =
            broker.reader().partition(topic, *partition, Start::Earliest).open().expect("reader");
        let mut found = Vec::new();
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                assert_eq!(record.offset(), found.len() as u64);
                found.push(record.value().unwrap_or_default().to_vec());
            }
        }
        assert!(found == *values, "{topic}/{partition}: {} of {}", found.len(), values.len());
    }
}

/// One life of a broker that reaches its files in one way: records alone and in batches, some of them
/// larger than a segment, over segments that are rolled, groups that commit, topics that come and go.
fn live(dir: &Path, access: FileAccess, life: u64, sent: &mut Sent) {
    let broker = Broker::builder(dir)
        .file_access(access)
        .recovery_mode(RecoveryMode::Strict)
        .open()
        .unwrap_or_else(|error| panic!("life {life}, {access:?}: {error}"));
    check(&broker, sent);
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(4096);
    let topic = broker.create_topic_if_absent("t", config.clone()).expect("create");
    let mut held: Vec<(Reader, forebay::Batch)> = (0..PARTITIONS)
        .map(|partition| {
            let start = if life == 0 { Start::Earliest } else { Start::Offset(1) };
            let mut reader =
                broker.reader().partition("t", partition, Start::Earliest).open().expect("reader");
            if life > 0 {
                reader.seek("t", partition, start).expect("seek");
            }
            let batch = reader.try_poll().expect("poll");
            (reader, batch)
        })
        .collect();
    let note = |sent: &mut Sent, partition: u32, value: Vec<u8>| {
        sent.entry(("t".to_owned(), partition)).or_default().push(value);
    };
    for number in 0..40_u64 {
        let value = vec![(life * 40 + number) as u8; (number * 97 % 700) as usize];
        let partition = (number % u64::from(PARTITIONS)) as u32;
        let placed =
            topic.send_with(Record::new(&value).partition(partition), Acks::Synced).expect("send");
        assert!(synced(&topic, partition) > placed.offset);
        note(sent, partition, value);
        if number.is_multiple_of(5) {
            let values: Vec<Vec<u8>> = (0..7_u8)
                .map(|at| vec![at; if number == 20 { 3000 } else { usize::from(at) * 11 }])
                .collect();
            let on = |at: usize| at as u32 % PARTITIONS;
            let records: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(at, value)| Record::new(value).partition(on(at)))
                .collect();
            for placed in topic.send_batch_with(&records, Acks::Synced).expect("send") {
                assert!(synced(&topic, placed.partition) > placed.offset);
            }
            drop(records);
            for (at, value) in values.into_iter().enumerate() {
                note(sent, on(at), value);
            }
        }
    }
    let mut consumer =
        broker.consumer("g").subscribe(["t"]).commit_acks(Acks::Synced).open().expect("consumer");
    let committed = broker.committed("g", "t", 0).expect("committed").map(|place| place.offset);
    let before = if life == 0 { None } else { Some(life * 3) };
    assert_eq!(committed, before, "life {life}, {access:?}");
    assert!(!consumer.try_poll().expect("poll").is_empty());
    consumer.commit_offsets([(("t", 0), (life + 1) * 3)]).expect("commit");
    let other = broker.create_topic("other", config.partitions(1)).expect("create");
    for _ in 0..20 {
        other.send_with(Record::new(&[3; 900]), Acks::Synced).expect("send");
    }
    assert_eq!(other.delete_records(0, 15).expect("delete"), 15);
    broker.delete_topic("other").expect("delete");
    // Readers that were there before all this go on, and what they hold is as it was.
    for (partition, (reader, batch)) in (0..).zip(&mut held) {
        let values = &sent[&("t".to_owned(), partition)];
        for record in &*batch {
            let value = values.get(record.offset() as usize).map(Vec::as_slice);
            assert_eq!(record.value(), value);
        }
        let mut next = reader.position("t", partition).expect("position");
        loop {
            let more = reader.try_poll().expect("poll");
            if more.is_empty() {
                break;
            }
            for record in &more {
                assert_eq!(record.offset(), next);
                assert_eq!(record.value(), values.get(next as usize).map(Vec::as_slice));
                next += 1;
            }
        }
        assert_eq!(next, values.len() as u64);
    }
    check(&broker, sent);
    drop((held, consumer));
    if life.is_multiple_of(2) {
        broker.close().expect("close");
    }
}

#[test]
fn each_way_of_reaching_files_keeps_the_same_promises_on_the_same_files() {
    let dir = temporary();
    let mut sent = Sent::new();
    let ways = [FileAccess::Mapped, FileAccess::WriteCalls, FileAccess::Calls];
    // Each after each.
    let order = [0, 1, 2, 0, 2, 1, 0, 0];
    for (life, way) in (0..).zip(order) {
        live(dir.path(), ways[way], life, &mut sent);
    }
    let broker = Broker::open(dir.path()).expect("reopen");
    assert!(broker.recovery_report().partitions.is_empty());
    let described = broker.describe_topic("t").expect("describe");
    assert!(described.partitions.iter().all(|partition| partition.segments > 10));
    check(&broker, &sent);
}

/// Threads that wait together share syncs, by each way of reaching files.
#[test]
fn who_waits_together_shares_a_sync_by_each_way_of_reaching_files() {
    for access in [FileAccess::Mapped, FileAccess::WriteCalls, FileAccess::Calls] {
        let dir = temporary();
        let broker = Broker::builder(dir.path()).file_access(access).open().expect("open");
        let config = TopicConfig::new().segment_bytes(16 << 10);
        let topic = broker.create_topic("t", config).expect("create");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let topic = topic.clone();
                scope.spawn(move || {
                    for _ in 0..25 {
                        let sent = topic
                            .send_with(Record::new(&[thread; 500]), Acks::Synced)
                            .expect("send");
                        assert!(synced(&topic, 0) > sent.offset);
                    }
                });
            }
        });
        assert_eq!(synced(&topic, 0), 100);
        broker.close().expect("close");
        let broker = Broker::builder(dir.path())
            .recovery_mode(RecoveryMode::Strict)
            .open()
            .expect("it was closed");
        assert_eq!(broker.topic("t").expect("topic").latest_offset(0).expect("end"), 100);
    }
}
