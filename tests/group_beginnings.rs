//! Where a group begins, and what an iterator leaves: bugs that were found, each as a test that failed
//! before it was mended.

use std::time::Duration;

use forebay::testing::SimulatedDisk;
use forebay::{
    Acks, Broker, Consumer, ConsumerBuilder, Error, ManualClock, Record, Start, Timestamp, Topic,
    TopicConfig,
};

fn create(broker: &Broker, name: &str) -> Topic {
    broker.create_topic(name, TopicConfig::new()).expect("create")
}

fn send(topic: &Topic, count: u64) {
    for _ in 0..count {
        topic.send(Record::new("x")).expect("send");
    }
}

/// A member of group g that begins with what is sent from now on.
fn latest(broker: &Broker) -> ConsumerBuilder {
    broker.consumer("g").start(Start::Latest)
}

/// The offsets of everything a few polls return.
fn poll_all(consumer: &mut Consumer) -> Vec<u64> {
    let mut offsets = Vec::new();
    for _ in 0..4 {
        let batch = consumer.try_poll().expect("poll");
        offsets.extend(batch.iter().map(|record| record.offset()));
    }
    offsets
}

/// Symptom: after a power cut a group that had been opened with `commit_acks(Synced)` began behind
/// records that were sent, and flushed, after it. Cause: where it begins was committed and not synced.
/// Fix: it is synced before `open` returns, by whomever it was decided.
#[test]
fn where_a_group_begins_is_as_durable_as_its_commits() {
    for seed in 0..30 {
        let disk = SimulatedDisk::new(seed);
        let open =
            |disk: &SimulatedDisk| Broker::builder("x").simulated_disk(disk).open().expect("open");
        let broker = open(&disk);
        let topic = create(&broker, "t");
        send(&topic, 1);
        let member = |broker: &Broker| {
            latest(broker).subscribe(["t"]).commit_acks(Acks::Synced).open().expect("open")
        };
        let first = member(&broker);
        send(&topic, 1);
        topic.flush().expect("flush");
        let disk = disk.cut_power();
        drop(first);
        assert_eq!(poll_all(&mut member(&open(&disk))), [1], "seed {seed}");
    }
}

/// Symptom: a member that had been taken out for being slow came back and skipped a topic that had
/// come to match its pattern meanwhile. Cause: coming back decided where the group begins, as joining
/// does. Fix: one that comes back has begun; what it did not know is read from its beginning.
#[test]
fn a_member_that_comes_back_reads_what_came_meanwhile() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let broker = Broker::builder("x").in_memory().manual_clock(&clock).open().expect("open");
    create(&broker, "t");
    create(&broker, "u-1");
    let interval = Duration::from_secs(1);
    let slow = latest(&broker).subscribe_pattern("u-*").max_poll_interval(interval);
    let mut slow = slow.open().expect("open");
    assert!(poll_all(&mut slow).is_empty());
    let mut other = latest(&broker).subscribe(["t"]).open().expect("open");
    assert!(poll_all(&mut other).is_empty());
    send(&create(&broker, "u-2"), 1);
    clock.advance(interval * 5);
    assert!(poll_all(&mut other).is_empty());
    assert_eq!(poll_all(&mut slow), [0]);
}

/// Symptom: a topic that came, or was made again, while a group had its only member was skipped by the
/// next one if the first ended before it polled. Cause: nothing said that the group was there before
/// the topic. Fix: a member writes that down when it leaves.
#[test]
fn a_member_that_ends_before_it_looks_leaves_word_of_what_came() {
    let broker = Broker::in_memory().expect("open");
    let matching = || latest(&broker).subscribe_pattern("u-*").open().expect("open");
    let mut first = matching();
    assert!(poll_all(&mut first).is_empty());
    send(&create(&broker, "u-1"), 1);
    drop(first);
    assert_eq!(poll_all(&mut matching()), [0]);
    let topic = create(&broker, "t");
    send(&topic, 3);
    let named = || broker.consumer("h").subscribe(["t"]).start(Start::Latest).open().expect("open");
    let mut first = named();
    assert!(poll_all(&mut first).is_empty());
    broker.delete_topic("t").expect("delete");
    send(&create(&broker, "t"), 1);
    drop(first);
    assert_eq!(poll_all(&mut named()), [0]);
}

/// Symptom: a consumer that was refused by its group had moved the group to the end of a topic. Cause:
/// where a group begins was committed before the member was let in. Fix: both happen under one lock,
/// in the other order.
#[test]
fn one_that_is_refused_decides_nothing() {
    let broker = Broker::in_memory().expect("open");
    create(&broker, "u");
    send(&create(&broker, "t"), 1);
    let named = broker.consumer("g").assign([("u", 0)]).open().expect("open");
    let refused = latest(&broker).subscribe(["t"]).open();
    assert!(matches!(refused, Err(Error::InconsistentGroup { .. })));
    drop(named);
    let mut earliest = broker.consumer("g").subscribe(["t"]).open().expect("open");
    assert_eq!(poll_all(&mut earliest), [0]);
}

/// Symptom: records that an iterator had been given and had not returned were deleted, and nobody was
/// told. Cause: going back to them failed, and that was only logged. Fix: it is a gap.
#[test]
fn records_an_iterator_did_not_return_and_that_were_deleted_are_a_gap() {
    let broker = Broker::in_memory().expect("open");
    let topic = create(&broker, "t");
    send(&topic, 10);
    for delete_before in [5, 10] {
        let name = format!("group-{delete_before}");
        let mut consumer = broker.consumer(&name).subscribe(["t"]).open().expect("open");
        let mut records = consumer.iter();
        let first = records.next().expect("a record").expect("no error").offset;
        topic.delete_records(0, delete_before).expect("delete");
        drop(records);
        let told = consumer.try_poll();
        assert!(
            matches!(&told, Err(Error::Gap { from, to, .. }) if (*from, *to) == (first + 1, delete_before)),
            "{told:?}"
        );
        assert_eq!(consumer.try_poll().expect("poll").len() as u64, 10 - delete_before);
        if delete_before == 5 {
            topic.delete_records(0, 5).expect("it is done already");
        }
    }
}

/// Symptom: a seek after an iterator had been forgotten was undone by the next poll. Cause: the poll
/// took back what the iterator had left, as if nothing had happened since. Fix: whatever moves or
/// marks takes it back first.
#[test]
fn a_seek_after_an_iterator_was_forgotten_counts() {
    let broker = Broker::in_memory().expect("open");
    send(&create(&broker, "t"), 10);
    let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("open");
    let mut records = consumer.iter();
    assert_eq!(records.next().expect("a record").expect("no error").offset, 0);
    std::mem::forget(records);
    consumer.seek("t", 0, Start::Offset(7)).expect("seek");
    assert_eq!(poll_all(&mut consumer), [7, 8, 9]);
}
