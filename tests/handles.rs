//! Handles that are forgotten, dropped in any order, dropped while a panic goes by, or used by code
//! that panics; and a second process that wants the same directory.

use std::any::Any;
use std::collections::BTreeMap;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use forebay::{
    Assignor, Batch, Broker, Consumer, CustomAssignor, Error, ManualClock, MemberSubscription,
    Partitioner, RebalanceListener, Record, Start, Timestamp, Topic, TopicConfig, TopicPartition,
};

fn memory_dir() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("temporary directory")
}

/// A panic that says nothing.
fn panic_now() -> ! {
    resume_unwind(Box::new("on purpose"))
}

fn is_panic<T>(work: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

fn count(broker: &Broker, topic: &str) -> usize {
    let mut reader = broker.reader().topic(topic, Start::Earliest).open().expect("reader");
    let polls =
        std::iter::from_fn(|| Some(reader.try_poll().expect("poll").len()).filter(|len| *len > 0));
    polls.sum()
}

/// A batch, a reader that waits to be rung, a consumer that has partitions, iterators that hold
/// records: nobody ever drops them.
fn leak(broker: &Broker, time: &str) -> Batch {
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let batch = reader.try_poll().expect("poll");
    let held = reader.try_poll().expect("poll");
    assert!(!batch.is_empty() && held.is_empty());
    assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
    forget(reader);
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    forget(reader.try_poll().expect("poll"));
    let mut records = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let mut iterator = records.iter();
    assert!(iterator.next().is_some_and(|record| record.is_ok()));
    forget(iterator);
    forget(records);
    let member = |group: &str| {
        broker.consumer(&format!("{group} {time}")).subscribe(["t"]).open().expect("consumer")
    };
    let mut consumer = member("reads");
    assert!(!consumer.try_poll().expect("poll").is_empty());
    forget(consumer);
    let mut consumer = member("iterates");
    let mut iterator = consumer.iter();
    assert!(iterator.next().is_some_and(|record| record.is_ok()));
    forget(iterator);
    forget(consumer);
    let consumer = member("channel");
    forget(consumer.into_channel(3).expect("channel"));
    batch
}

#[test]
fn what_is_forgotten_keeps_nothing_from_being_deleted_closed_and_opened_again() {
    let dir = memory_dir();
    let mut kept = Vec::new();
    for round in 0..3_u8 {
        let broker = Broker::open(dir.path()).expect("open");
        let config = TopicConfig::new().segment_bytes(4096);
        let topic = broker.create_topic("t", config.clone()).expect("create");
        for _ in 0..20 {
            topic.send(Record::new(&[round; 1000])).expect("send");
        }
        kept.push(leak(&broker, "whole"));
        assert_eq!(topic.delete_records(0, 15).expect("delete"), 15);
        kept.push(leak(&broker, "cut"));
        broker.delete_topic("t").expect("delete");
        let topic = broker.create_topic("t", config).expect("it can be made again");
        topic.send_batch(&vec![Record::new("again"); 4]).expect("send");
        kept.push(leak(&broker, "again"));
        topic.flush().expect("flush");
        forget((topic, broker.clone(), broker.producer()));
        // As many handles as there are, the directory is free when it was closed.
        broker.close().expect("close");
        let broker = Broker::open(dir.path()).expect("reopen");
        assert!(broker.recovery_report().partitions.is_empty());
        assert_eq!(count(&broker, "t"), 4);
        broker.delete_topic("t").expect("delete");
        broker.close().expect("close");
    }
    for (place, batch) in kept.iter().enumerate() {
        let round = u8::try_from(place / 3).expect("small");
        let is_whole = |value: &[u8]| match place % 3 {
            2 => value == b"again",
            _ => value == [round; 1000],
        };
        assert!(batch.iter().all(|record| record.value().is_some_and(is_whole)), "batch {place}");
        assert_eq!(batch.len(), [20, 5, 4][place % 3]);
    }
}

/// A consumer that was forgotten holds its partitions until it is late, if there is such a thing.
#[test]
fn partitions_of_a_forgotten_consumer_go_to_others_when_it_is_late() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let broker = Broker::builder("m").in_memory().manual_clock(&clock).open().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    topic.send(Record::new("x")).expect("send");
    let minute = Duration::from_secs(60);
    let member = || {
        let consumer = broker.consumer("g").subscribe(["t"]).max_poll_interval(minute);
        consumer.open().expect("consumer")
    };
    let mut first = member();
    assert_eq!(first.try_poll().expect("poll").len(), 1);
    forget(first);
    let mut second = member();
    assert!(second.try_poll().expect("poll").is_empty(), "it is held");
    clock.advance(minute);
    let read: usize = (0..3).map(|_| second.try_poll().expect("poll").len()).sum();
    assert_eq!(read, 1, "nothing was committed of it");
}

/// One of everything that can be held.
const KINDS: usize = 6;

fn handle(kind: usize, broker: &Broker, topic: &Topic) -> Box<dyn Any> {
    match kind {
        0 => Box::new(broker.clone()),
        1 => Box::new(topic.clone()),
        2 => Box::new(broker.producer()),
        3 => {
            // It has asked to be rung.
            let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
            assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
            Box::new(reader)
        }
        4 => {
            let consumer = broker.consumer("g").subscribe(["t"]);
            let mut consumer = consumer.auto_commit(Duration::ZERO).open().expect("consumer");
            drop(consumer.try_poll().expect("poll"));
            Box::new(consumer)
        }
        _ => {
            let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
            Box::new(reader.try_poll().expect("poll"))
        }
    }
}

/// Every order of `items`.
fn orders(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with = |first: &usize| {
        let rest: Vec<_> = items.iter().copied().filter(|item| item != first).collect();
        let orders = orders(&rest).into_iter();
        orders.map(|rest| [vec![*first], rest].concat()).collect::<Vec<_>>()
    };
    items.iter().flat_map(with).collect()
}

/// Handles that are dropped while a panic goes by.
struct Unwinding(Vec<Box<dyn Any>>);

impl Drop for Unwinding {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.0.drain(..).for_each(drop);
    }
}

#[test]
fn handles_are_dropped_in_any_order_and_the_last_frees_the_directory() {
    let dir = memory_dir();
    {
        let broker = Broker::open(dir.path()).expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        topic.send(Record::new("x")).expect("send");
    }
    let orders = orders(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(orders.len(), 720);
    for (sent, order) in (1_u64..).zip(&orders) {
        let number = sent - 1;
        let mut handles: Vec<_> = {
            let broker =
                Broker::open(dir.path()).unwrap_or_else(|error| panic!("{order:?}: {error}"));
            assert!(broker.recovery_report().partitions.is_empty(), "{order:?}");
            let topic = broker.topic("t").expect("topic");
            assert_eq!(topic.latest_offset(0).expect("end"), sent);
            let mut made: BTreeMap<usize, _> =
                (0..KINDS).map(|kind| (kind, handle(kind, &broker, &topic))).collect();
            topic.send(Record::new("x")).expect("send");
            order.iter().filter_map(|kind| made.remove(kind)).collect()
        };
        if number % 3 == 0 {
            // All at once, while a panic goes by.
            assert!(is_panic(|| {
                let _handles = Unwinding(handles);
                panic_now();
            }));
            continue;
        }
        // The last one that keeps the broker open; a batch does not.
        let last = order.iter().rposition(|kind| *kind != 5).expect("there are others");
        for (place, handle) in handles.drain(..).enumerate() {
            if place == last && number % 7 == 1 {
                let locked = Broker::open(dir.path());
                assert!(matches!(locked, Err(Error::Locked { .. })), "{order:?}");
            }
            drop(handle);
        }
    }
}

/// Panics as often as it is called.
struct PanickingListener;

impl RebalanceListener for PanickingListener {
    fn assigned(&mut self, _consumer: &mut Consumer, _partitions: &[TopicPartition]) {
        panic_now();
    }

    fn revoked(&mut self, _consumer: &mut Consumer, _partitions: &[TopicPartition]) {
        panic_now();
    }
}

#[derive(Debug)]
struct PanickingAssignor;

impl CustomAssignor for PanickingAssignor {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn assign(
        &self,
        _members: &[MemberSubscription],
        _topics: &BTreeMap<Arc<str>, u32>,
    ) -> Vec<Vec<TopicPartition>> {
        panic_now();
    }
}

/// The caller's bytes may be anything that can be asked for bytes.
struct PanickingValue;

impl AsRef<[u8]> for PanickingValue {
    fn as_ref(&self) -> &[u8] {
        panic_now();
    }
}

#[test]
fn a_panic_in_the_users_code_leaves_everything_usable() {
    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let panics = Partitioner::custom(|_, _| panic_now());
    let bad = topic.clone().partitioner(panics.clone());
    let records = [Record::new("x"), Record::new("y")];
    assert!(is_panic(|| bad.send(Record::new("x"))));
    assert!(is_panic(|| bad.send_batch(&records)));
    assert!(is_panic(|| broker.producer().partitioner(panics).send("t", Record::new("x"))));
    assert!(is_panic(|| topic.send(Record::new(&PanickingValue))));
    // One record of a batch has been given its partition already.
    let turns = std::sync::atomic::AtomicU32::new(0);
    let second = Partitioner::custom(move |_, _| {
        match turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => 0,
            _ => panic_now(),
        }
    });
    assert!(is_panic(|| topic.clone().partitioner(second).send_batch(&records)));
    assert_eq!(count(&broker, "t"), 0);

    let pattern = |name: &str| if name == "bad" { panic_now() } else { name == "t" };
    let mut follows = broker.consumer("p").subscribe_pattern(pattern).open().expect("consumer");
    drop(follows.try_poll().expect("poll"));
    let other = broker.create_topic("bad", TopicConfig::new()).expect("it is created all the same");
    assert!(is_panic(|| follows.try_poll()));
    assert!(is_panic(|| broker.consumer("q").subscribe_pattern(pattern).open()));
    other.send(Record::new("x")).expect("send");
    broker.delete_topic("bad").expect("delete");
    drop(follows.try_poll().expect("it is a member still"));

    let listener = broker.consumer("l").subscribe(["t"]).listener(PanickingListener);
    let mut listens = listener.open().expect("consumer");
    assert!(is_panic(|| listens.try_poll()));
    assert!(is_panic(|| listens.close()), "it is told that it loses them");
    let assignor = Assignor::Custom(Arc::new(PanickingAssignor));
    let mut assigned =
        broker.consumer("a").subscribe(["t"]).assignor(assignor).open().expect("consumer");

    topic.send_batch(&records).expect("send");
    assert_eq!(count(&broker, "t"), 2);
    for consumer in [&mut follows, &mut assigned] {
        let read: usize = (0..3).map(|_| consumer.try_poll().expect("poll").len()).sum();
        assert_eq!(read, 2);
        consumer.commit().expect("commit");
    }
    let mut next = broker.consumer("l").subscribe(["t"]).open().expect("the partitions are free");
    let read: usize = (0..3).map(|_| next.try_poll().expect("poll").len()).sum();
    assert_eq!(read, 2);
    broker.create_partitions("t", 3).expect("grow");
    broker.alter_topic("t", topic.config().segment_bytes(1 << 20)).expect("alter");
    drop((follows, assigned, next));
    broker.close().expect("close");
    let broker = Broker::open(dir.path()).expect("reopen");
    assert!(broker.recovery_report().partitions.is_empty());
    assert_eq!(count(&broker, "t"), 2);
}

const DIR: &str = "FOREBAY_SECOND_PROCESS_DIR";
const OWNER: &str = "FOREBAY_SECOND_PROCESS_OWNER";

/// Runs the test below in a process of its own.
fn second_process(dir: &Path, owner: Option<u32>) -> std::process::Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "second", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(OWNER, owner.unwrap_or(0).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn")
}

#[test]
#[ignore = "run by the other test, in a process of its own"]
fn second() {
    let (Ok(dir), Ok(owner)) = (std::env::var(DIR), std::env::var(OWNER)) else { return };
    let owner: u32 = owner.parse().expect("number");
    if owner > 0 {
        match Broker::open(&dir) {
            Err(Error::Locked { path, pid }) => {
                assert_eq!((path.as_path(), pid), (Path::new(&dir), Some(owner)));
            }
            other => panic!("{other:?}"),
        }
        // Whoever only looks is let in.
        let looks = Broker::builder(&dir).read_only().open().expect("open");
        assert_eq!(count(&looks, "t"), 3);
        return;
    }
    let broker = Broker::open(&dir).expect("open");
    broker.topic("t").expect("topic").send(Record::new("x")).expect("send");
    println!("\nready");
    // Until it is killed.
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_second_process_is_kept_out_and_told_who_is_in() {
    use std::io::{BufRead, BufReader};

    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    for _ in 0..3 {
        topic.send(Record::new("x")).expect("send");
    }
    let mut child = second_process(dir.path(), Some(std::process::id()));
    assert!(child.wait().expect("wait").success(), "the owner is named");
    topic.send(Record::new("y")).expect("whoever was in stays in");
    drop((topic, broker));

    let mut child = second_process(dir.path(), None);
    let said = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let is_ready = said.map_while(Result::ok).any(|line| line == "ready");
    assert!(is_ready, "it opened the directory");
    match Broker::open(dir.path()) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    let broker = Broker::open(dir.path()).expect("free when its owner is dead");
    assert_eq!(count(&broker, "t"), 5);
}
