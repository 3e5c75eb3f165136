//! What groups promise, one promise a test.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::{
    Acks, Assignor, Batch, Broker, Consumer, ConsumerBuilder, ConsumerEvent, CustomAssignor, Error,
    GroupState, ManualClock, MemberSubscription, RebalanceListener, Record, ResetTo, Start,
    Timestamp, Topic, TopicConfig, TopicPartition,
};

fn broker(partitions: u32) -> (Broker, Topic) {
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new().partitions(partitions);
    let topic = broker.create_topic("t", config).expect("create");
    (broker, topic)
}

fn with_clock(partitions: u32) -> (Broker, Topic, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let broker = Broker::builder("x").in_memory().manual_clock(&clock).open().expect("open");
    let config = TopicConfig::new().partitions(partitions);
    let topic = broker.create_topic("t", config).expect("create");
    (broker, topic, clock)
}

/// A member of group g that reads topic t.
fn member(broker: &Broker) -> ConsumerBuilder {
    broker.consumer("g").subscribe(["t"])
}

fn send(topic: &Topic, partition: u32, count: u64) {
    for _ in 0..count {
        topic.send(Record::new("x").partition(partition)).expect("send");
    }
}

/// The offsets of what a poll returns.
fn poll(consumer: &mut Consumer) -> Vec<u64> {
    consumer.try_poll().expect("poll").iter().map(|record| record.offset()).collect()
}

fn numbers(partitions: &[TopicPartition]) -> Vec<u32> {
    partitions.iter().map(|partition| partition.partition).collect()
}

fn committed(broker: &Broker, partition: u32) -> Option<u64> {
    let group = broker.describe_group("g").ok()?;
    group.offsets.iter().find(|offset| offset.partition == partition)?.committed
}

/// Polls all until nothing is on its way any more.
fn settle(broker: &Broker, members: &mut [&mut Consumer]) {
    for _ in 0..10 {
        for member in &mut *members {
            drop(member.try_poll().expect("poll"));
        }
        if broker.describe_group("g").expect("group").state == GroupState::Stable {
            return;
        }
    }
    panic!("{:?}", broker.describe_group("g"));
}

#[test]
fn a_group_goes_on_where_it_had_come_to() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 3);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [0, 1, 2]);
    consumer.commit().expect("commit");
    send(&topic, 0, 2);
    assert_eq!(poll(&mut consumer), [3, 4]);
    drop(consumer);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [3, 4], "what was not committed comes again");
    let mut other = broker.consumer("other").subscribe(["t"]).open().expect("open");
    assert_eq!(poll(&mut other).len(), 5, "groups do not affect each other");
}

#[test]
fn partitions_are_shared_and_move_only_when_let_go_of() {
    let (broker, topic) = broker(4);
    (0..4).for_each(|partition| send(&topic, partition, 1));
    let mut first = member(&broker).open().expect("open");
    drop(first.try_poll().expect("poll"));
    assert_eq!(first.assignment().len(), 4);
    let mut second = member(&broker).open().expect("open");
    drop(second.try_poll().expect("poll"));
    assert_eq!(second.assignment(), [], "the first still has them");
    assert_eq!(broker.describe_group("g").expect("group").state, GroupState::Rebalancing);
    first.commit().expect("commit");
    drop(first.try_poll().expect("poll"));
    assert_eq!(first.assignment().len(), 2);
    assert!(second.try_poll().expect("poll").is_empty(), "it was all committed");
    assert_eq!(second.assignment().len(), 2);
    let both: BTreeSet<_> =
        [first.assignment(), second.assignment()].concat().into_iter().collect();
    assert_eq!(both.len(), 4);
    drop(first);
    settle(&broker, &mut [&mut second]);
    assert_eq!(second.assignment().len(), 4);
}

#[test]
fn a_panic_lets_go_of_partitions() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 2);
    let other = broker.clone();
    let panicked = std::thread::spawn(move || {
        let mut consumer = member(&other).open().expect("open");
        assert_eq!(poll(&mut consumer).len(), 2);
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [0, 1]);
}

#[test]
fn a_consumer_waiting_for_a_partition_gets_it_at_once() {
    let (broker, topic) = broker(1);
    let mut first = member(&broker).open().expect("open");
    drop(first.try_poll().expect("poll"));
    send(&topic, 0, 1);
    let other = broker.clone();
    let second = std::thread::spawn(move || {
        let mut consumer = member(&other).open().expect("open");
        consumer.poll(Duration::from_secs(60)).expect("poll").len()
    });
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    drop(first);
    assert_eq!(second.join().expect("thread"), 1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn auto_commit_is_never_ahead_of_the_application() {
    let (broker, topic, clock) = with_clock(1);
    let auto = || member(&broker).auto_commit(Duration::from_secs(1)).max_records(2);
    send(&topic, 0, 6);
    let mut consumer = auto().open().expect("open");
    assert_eq!(poll(&mut consumer), [0, 1]);
    clock.advance(Duration::from_secs(5));
    assert_eq!(committed(&broker, 0), None, "the application has not come back");
    assert_eq!(poll(&mut consumer), [2, 3]);
    clock.advance(Duration::from_secs(5));
    assert_eq!(poll(&mut consumer), [4, 5]);
    assert_eq!(committed(&broker, 0), Some(4), "the interval has passed");
    drop(consumer);
    assert_eq!(committed(&broker, 0), Some(4), "nobody knows what became of the last batch");
    let consumer = auto().open().expect("open");
    consumer.close().expect("close");
    assert_eq!(committed(&broker, 0), Some(4));
    let mut consumer = auto().open().expect("open");
    consumer.seek("t", 0, Start::Latest).expect_err("it has no partition yet");
    assert_eq!(poll(&mut consumer), [4, 5]);
    consumer.seek("t", 0, Start::Offset(5)).expect("seek");
    consumer.close().expect("close");
    assert_eq!(committed(&broker, 0), Some(5), "a seek takes back what lies behind it");
}

#[test]
fn what_is_done_is_committed_before_a_partition_goes() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 3));
    let auto = || member(&broker).auto_commit(Duration::from_secs(3600));
    let mut first = auto().open().expect("open");
    assert_eq!(poll(&mut first).len(), 6);
    let mut second = auto().open().expect("open");
    assert!(poll(&mut first).is_empty());
    assert!(poll(&mut second).is_empty(), "it starts from the commit of the first");
    assert_eq!(second.assignment().len(), 1);
}

/// What a listener was told, and of which partitions.
type Told = Vec<(&'static str, Vec<u32>)>;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Told>>);

impl Heard {
    fn take(&self) -> Told {
        std::mem::take(&mut self.0.lock().expect("lock"))
    }

    fn note(&self, what: &'static str, partitions: &[TopicPartition]) {
        self.0.lock().expect("lock").push((what, numbers(partitions)));
    }
}

impl RebalanceListener for Heard {
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        assert!(partitions.iter().all(|one| consumer.assignment().contains(one)));
        assert!(consumer.try_poll().expect("poll").is_empty(), "nothing is polled from within");
        self.note("assigned", partitions);
    }

    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        assert!(partitions.iter().all(|one| consumer.assignment().contains(one)));
        consumer.commit().expect("they are still ours");
        self.note("revoked", partitions);
    }

    fn lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        assert!(partitions.iter().all(|one| !consumer.assignment().contains(one)));
        assert!(matches!(consumer.commit(), Err(Error::Fenced { .. })));
        self.note("lost", partitions);
    }
}

#[test]
fn a_listener_is_told_and_can_commit() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 2));
    let heard = Heard::default();
    let mut first = member(&broker).listener(heard.clone()).open().expect("open");
    let events = first.events();
    assert_eq!(poll(&mut first).len(), 4);
    assert_eq!(heard.take(), [("assigned", vec![0, 1])]);
    let mut second = member(&broker).open().expect("open");
    assert!(poll(&mut first).is_empty());
    assert_eq!(heard.take(), [("revoked", vec![1])]);
    assert!(poll(&mut second).is_empty(), "the listener committed");
    first.close().expect("close");
    assert_eq!(heard.take(), [("revoked", vec![0])]);
    let told: Vec<_> = events.try_iter().collect();
    let [ConsumerEvent::Rebalanced(one), ConsumerEvent::Rebalanced(two)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((numbers(&one.assigned), numbers(&two.revoked)), (vec![0, 1], vec![1]));
    assert!(one.generation < two.generation);
}

struct Panics(Arc<AtomicBool>);

impl RebalanceListener for Panics {
    fn revoked(&mut self, _consumer: &mut Consumer, _partitions: &[TopicPartition]) {
        assert!(!self.0.swap(false, Ordering::Relaxed), "on purpose");
    }
}

#[test]
fn a_listener_that_panics_leaves_everything_usable() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 1));
    let mut first = member(&broker).listener(Panics(Arc::new(true.into()))).open().expect("open");
    assert_eq!(poll(&mut first).len(), 2);
    first.commit().expect("commit");
    let mut second = member(&broker).open().expect("open");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| first.try_poll()));
    assert!(panicked.is_err());
    assert_eq!(first.assignment().len(), 2, "it has not let go");
    settle(&broker, &mut [&mut first, &mut second]);
    assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
}

#[test]
fn who_does_not_poll_in_time_is_taken_out_and_cannot_commit() {
    let (broker, topic, clock) = with_clock(1);
    send(&topic, 0, 2);
    let heard = Heard::default();
    let watched = || member(&broker).max_poll_interval(Duration::from_secs(10));
    let mut slow = watched().listener(heard.clone()).open().expect("open");
    assert_eq!(poll(&mut slow), [0, 1]);
    let mut quick = watched().open().expect("open");
    assert!(poll(&mut quick).is_empty());
    clock.advance(Duration::from_secs(9));
    assert!(poll(&mut quick).is_empty(), "it is not late yet");
    clock.advance(Duration::from_secs(2));
    assert_eq!(poll(&mut quick), [0, 1]);
    let generation = slow.generation();
    match slow.commit() {
        Err(Error::Fenced { group, generation: known, .. }) => {
            assert_eq!(group, "g");
            assert!(known >= generation);
        }
        other => panic!("{other:?}"),
    }
    let before = slow.member_id().to_owned();
    assert!(poll(&mut slow).is_empty(), "it joins again, and the partition is not its own");
    assert_ne!(slow.member_id(), before);
    assert_eq!(heard.take(), [("assigned", vec![0]), ("lost", vec![0])]);
    quick.commit().expect("commit");
    drop(quick);
    assert!(poll(&mut slow).is_empty());
    assert_eq!(slow.assignment().len(), 1);
    // A clock that is set does not count.
    clock.set(Timestamp::from_millis(i64::from(u32::MAX) * 1000));
    let mut third = watched().open().expect("open");
    assert!(poll(&mut third).is_empty());
    slow.commit().expect("it is still a member");
}

#[test]
fn who_sleeps_in_a_poll_takes_over_from_who_hangs() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 1);
    let watched = |broker: &Broker| member(broker).max_poll_interval(Duration::from_millis(50));
    let mut hung = watched(&broker).open().expect("open");
    assert_eq!(poll(&mut hung), [0]);
    let mut other = watched(&broker).open().expect("open");
    assert_eq!(other.poll(Duration::from_secs(30)).expect("poll").len(), 1);
    std::mem::forget(hung);
}

#[test]
fn a_static_name_has_one_member_and_gets_its_partitions_back() {
    let (broker, topic) = broker(6);
    (0..6).for_each(|partition| send(&topic, partition, 1));
    let named = |name: &str| member(&broker).static_member(name).open().expect("open");
    let (mut a, mut b, mut c) = (named("a"), named("b"), named("c"));
    settle(&broker, &mut [&mut a, &mut b, &mut c]);
    let had = b.assignment();
    assert_eq!(had.len(), 2);
    drop(b);
    settle(&broker, &mut [&mut a, &mut c]);
    let mut b = named("b");
    settle(&broker, &mut [&mut a, &mut b, &mut c]);
    assert_eq!(b.assignment(), had);
    let mut usurper = named("b");
    assert!(matches!(b.commit(), Err(Error::Fenced { .. })));
    assert!(matches!(b.try_poll(), Err(Error::Fenced { .. })));
    assert!(matches!(b.try_poll(), Err(Error::Fenced { .. })), "it does not come back");
    settle(&broker, &mut [&mut a, &mut usurper, &mut c]);
    assert_eq!(usurper.assignment(), had);
    let members = broker.describe_group("g").expect("group").members;
    let known: Vec<_> = members.iter().filter_map(|one| one.static_member.as_deref()).collect();
    assert_eq!(known, ["a", "b", "c"]);
}

#[test]
fn new_partitions_and_topics_join_and_nothing_in_them_is_skipped() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 5);
    let mut consumer =
        broker.consumer("g").subscribe_pattern("t*").start(Start::Latest).open().expect("open");
    assert!(poll(&mut consumer).is_empty());
    broker.create_partitions("t", 3).expect("grow");
    send(&topic, 2, 1);
    let late = broker.create_topic("t2", TopicConfig::new()).expect("create");
    send(&late, 0, 1);
    broker.create_topic("other", TopicConfig::new()).expect("create");
    let names = |consumer: &Consumer| {
        consumer.assignment().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(poll(&mut consumer), [0, 0], "both came after the group");
    assert_eq!(names(&consumer), "t-0 t-1 t-2 t2-0");
    broker.delete_topic("t2").expect("delete");
    assert!(poll(&mut consumer).is_empty());
    assert_eq!(names(&consumer), "t-0 t-1 t-2");
    // Grown while nobody was there: what the group knows of the topic tells it that this is new.
    drop(consumer);
    broker.create_partitions("t", 4).expect("grow");
    send(&topic, 3, 1);
    let mut consumer = member(&broker).start(Start::Latest).open().expect("open");
    assert_eq!(poll(&mut consumer), [0, 0]);
    assert_eq!(consumer.assignment().len(), 4);
}

#[test]
fn a_topic_deleted_and_made_again_is_another_one() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 3);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 3);
    consumer.commit().expect("commit");
    broker.delete_topic("t").expect("delete");
    let again = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&again, 0, 1);
    assert_eq!(poll(&mut consumer), [0], "what was committed was committed in another topic");
    drop(consumer);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [0]);
}

#[test]
fn where_a_group_begins_is_decided_once() {
    let (broker, topic) = broker(2);
    send(&topic, 0, 3);
    let latest = || member(&broker).start(Start::Latest).open().expect("open");
    let consumer = latest();
    send(&topic, 0, 2);
    send(&topic, 1, 1);
    drop(consumer);
    assert_eq!(poll(&mut latest()), [3, 4, 0], "nothing was skipped since the group began");
    topic
        .send(Record::new("x").timestamp(Timestamp::from_millis(i64::from(u32::MAX))))
        .expect("send");
    let since = Start::Timestamp(Timestamp::from_millis(0));
    let mut other = broker.consumer("h").subscribe(["t"]).start(since).open().expect("open");
    assert_eq!(poll(&mut other).len(), 7);
}

#[test]
fn who_joins_later_does_not_decide_where_others_began() {
    let (broker, _topic) = broker(1);
    let latest =
        || broker.consumer("g").subscribe_pattern("u*").start(Start::Latest).open().expect("open");
    let mut first = latest();
    assert!(poll(&mut first).is_empty());
    let topic = broker.create_topic("u", TopicConfig::new()).expect("create");
    send(&topic, 0, 5);
    // Neither one that comes before the first has seen the topic, nor one that comes after.
    drop(latest());
    assert_eq!(poll(&mut first).len(), 5);
    drop(latest());
    drop(first);
    assert_eq!(poll(&mut latest()).len(), 5, "the topic came after the group did");
    // Nor does one that names its partitions, or one that is refused.
    let other = broker.create_topic("v", TopicConfig::new()).expect("create");
    send(&other, 0, 5);
    let named = |start| broker.consumer("h").assign([("v", 0)]).start(start).open();
    let mut first = named(Start::Earliest).expect("open");
    assert_eq!(poll(&mut first).len(), 5);
    assert!(matches!(named(Start::Latest), Err(Error::InconsistentGroup { .. })));
    drop(first);
    assert_eq!(poll(&mut named(Start::Earliest).expect("open")).len(), 5);
}

#[test]
fn who_still_has_a_deleted_topic_commits_nothing_in_the_next_one() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 9);
    let mut old = member(&broker).open().expect("open");
    assert_eq!(poll(&mut old).len(), 9);
    broker.delete_topic("t").expect("delete");
    old.commit().expect("there is nothing to commit any more");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&topic, 0, 3);
    assert_eq!(committed(&broker, 0), None);
    assert!(broker.reset_offsets("g", ResetTo::Earliest).topic("t").dry_run().is_err());
    let explicit = old.commit_offsets([(("t", 0), 7)]);
    assert!(
        matches!(explicit, Err(Error::NotAssigned { .. } | Error::UnknownTopic { .. })),
        "{explicit:?}"
    );
    assert_eq!(poll(&mut old), [0, 1, 2]);
    old.commit().expect("commit");
    assert_eq!(committed(&broker, 0), Some(3));
}

#[test]
fn start_error_asks_for_a_place_and_lets_the_rest_be_read() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 1));
    broker.reset_offsets("g", ResetTo::Earliest).partition("t", 0).execute().expect("reset");
    let mut consumer = member(&broker).start(Start::Error).open().expect("open");
    let refused = consumer.try_poll();
    assert!(matches!(&refused, Err(Error::NoCommittedOffset { partition: 1, .. })), "{refused:?}");
    assert_eq!(poll(&mut consumer), [0], "the other can be read");
    assert!(consumer.try_poll().is_err());
    consumer.seek("t", 1, Start::Earliest).expect("seek");
    assert_eq!(poll(&mut consumer), [0]);
    assert!(poll(&mut consumer).is_empty());
}

#[test]
fn commits_do_not_go_back_unless_asked_by_name() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 10);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 10);
    consumer.commit_offsets([(("t", 0), 5)]).expect("commit");
    let back = consumer.commit_offsets([(("t", 0), (3, "back"))]);
    assert!(matches!(back, Err(Error::CommitBackwards { committed: 5, offset: 3, .. })));
    let beyond = consumer.commit_offsets([(("t", 0), 11)]);
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { latest: 10, .. })));
    let other = consumer.commit_offsets([(("t", 1), 0)]);
    assert!(matches!(other, Err(Error::NotAssigned { partition: 1, .. })));
    let long = consumer.commit_offsets([(("t", 0), (6, "x".repeat(4097)))]);
    assert!(matches!(long, Err(Error::CommitMetadataTooLong { bytes: 4097, max_bytes: 4096 })));
    assert_eq!(consumer.committed("t", 0).expect("committed"), Some(5.into()));
    consumer.rewind_offsets([(("t", 0), (3, "back"))]).expect("rewind");
    assert_eq!(consumer.committed("t", 0).expect("committed"), Some((3, "back").into()));
    consumer.commit().expect("there is nothing that is done and not committed");
    assert_eq!(committed(&broker, 0), Some(3), "what was moved back stays there");
    consumer.seek("t", 0, Start::Offset(3)).expect("seek");
    assert_eq!(poll(&mut consumer).len(), 7);
    consumer.commit().expect("commit");
    assert_eq!(committed(&broker, 0), Some(10));
    // Reading again after a seek back does not move the group back by accident.
    consumer.seek("t", 0, Start::Earliest).expect("seek");
    consumer.commit().expect("commit");
    assert_eq!(committed(&broker, 0), Some(10));
    assert_eq!(poll(&mut consumer).len(), 10);
    assert!(matches!(consumer.committed("t", 1), Err(Error::UnknownPartition { .. })));
}

#[test]
fn marks_are_committed_and_refused_once_the_partition_has_gone() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 5));
    let mut first =
        member(&broker).auto_commit_marked(Duration::from_secs(3600)).open().expect("open");
    let batch = first.try_poll().expect("poll");
    for record in batch.iter().filter(|record| record.offset() == 2) {
        first.mark(&record).expect("mark");
    }
    let mut second = member(&broker).open().expect("open");
    assert!(first.try_poll().expect("poll").is_empty());
    assert_eq!(poll(&mut second), [3, 4], "the mark was committed when it let go");
    let gone = batch.iter().find(|record| record.partition() == 1).expect("a record");
    assert!(matches!(first.mark(&gone), Err(Error::NotAssigned { partition: 1, .. })));
    let stays = batch.iter().find(|record| record.partition() == 0).expect("a record");
    first.mark(&stays).expect("it is ours");
    assert!(matches!(first.mark_offset("t", 0, 5), Err(Error::NotAssigned { .. })));
    first.commit_marked().expect("commit");
    assert_eq!(committed(&broker, 0), Some(3));
}

#[test]
fn what_was_deleted_before_it_was_read_is_told_once() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 10));
    let mut consumer = member(&broker).max_records(3).open().expect("open");
    let mut reader =
        broker.reader().partition("t", 0, Start::Earliest).max_records(3).open().expect("reader");
    assert_eq!(reader.try_poll().expect("poll").len(), 3);
    assert_eq!(poll(&mut consumer), [0, 1, 2]);
    consumer.commit().expect("commit");
    topic.delete_records(0, 6).expect("delete");
    let is_gap = |result: Result<_, Error>| {
        assert!(
            matches!(&result, Err(Error::Gap { partition: 0, from: 3, to: 6, .. })),
            "{result:?}"
        );
    };
    is_gap(reader.try_poll());
    assert_eq!(reader.try_poll().expect("poll").get(0).expect("a record").offset(), 6);
    assert_eq!(reader.try_poll().expect("poll").len(), 1);
    let mut seen = BTreeMap::new();
    let mut gaps = 0;
    loop {
        match consumer.try_poll() {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => {
                for record in &batch {
                    seen.entry(record.partition()).or_insert_with(Vec::new).push(record.offset());
                }
            }
            error => {
                is_gap(error);
                gaps += 1;
            }
        }
    }
    assert_eq!(gaps, 1);
    assert_eq!((&seen[&0], seen[&1].len()), (&vec![6, 7, 8, 9], 10));
    consumer.commit().expect("commit");
    // One that comes back to find it gone is told as well.
    drop(consumer);
    send(&topic, 0, 5);
    topic.delete_records(0, 12).expect("delete");
    let mut consumer = member(&broker).open().expect("open");
    let told = consumer.try_poll();
    assert!(matches!(told, Err(Error::Gap { from: 10, to: 12, .. })), "{told:?}");
    assert_eq!(poll(&mut consumer), [12, 13, 14]);
}

#[test]
fn a_gap_met_behind_records_of_another_partition_is_told_by_the_next_poll() {
    let (broker, topic) = broker(2);
    let open = || broker.reader().topic("t", Start::Earliest);
    let mut reader = open().open().expect("reader");
    let mut merged = open().merge_by_timestamp().open().expect("reader");
    let mut consumer = member(&broker).open().expect("open");
    assert!(poll(&mut consumer).is_empty());
    (0..2).for_each(|partition| send(&topic, partition, 10));
    topic.delete_records(1, 6).expect("delete");
    let check = |poll: &mut dyn FnMut() -> Result<Batch, Error>| {
        let (mut seen, mut gaps) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..6 {
            match poll() {
                Ok(batch) => batch
                    .iter()
                    .for_each(|record| seen[record.partition() as usize].push(record.offset())),
                Err(Error::Gap { partition: 1, from, to, .. }) => gaps.push((from, to)),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(gaps, [(0, 6)]);
        assert_eq!(seen, [(0..10).collect::<Vec<_>>(), (6..10).collect()]);
    };
    let first = consumer.try_poll().expect("the records come first");
    assert!(first.iter().all(|record| record.partition() == 0));
    consumer.commit().expect("commit");
    assert_eq!((first.len(), committed(&broker, 1)), (10, None), "it has not been told yet");
    let mut first = Some(first);
    check(&mut || first.take().map_or_else(|| consumer.try_poll(), Ok));
    consumer.commit().expect("commit");
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (Some(10), Some(10)));
    check(&mut || reader.try_poll());
    check(&mut || merged.try_poll());
}

#[test]
fn a_busy_partition_does_not_starve_the_others() {
    let (broker, topic) = broker(3);
    send(&topic, 0, 1000);
    send(&topic, 1, 5);
    send(&topic, 2, 5);
    let mut consumer = member(&broker).max_records(5).open().expect("open");
    let first: Vec<_> = (0..3)
        .flat_map(|_| {
            let batch = consumer.try_poll().expect("poll");
            batch.iter().map(|record| record.partition()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn paused_partitions_are_silent_and_stay_so_through_a_rebalance() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 2));
    let mut first = member(&broker).open().expect("open");
    first.pause("t", 0).expect_err("it has no partition yet");
    assert_eq!(poll(&mut first).len(), 4);
    first.commit().expect("commit");
    first.pause_all();
    (0..2).for_each(|partition| send(&topic, partition, 1));
    assert!(first.poll(Duration::from_millis(5)).expect("poll").is_empty());
    let mut second = member(&broker).open().expect("open");
    assert!(poll(&mut first).is_empty());
    assert_eq!(numbers(&first.paused()), [0], "the one that stayed");
    assert_eq!(poll(&mut second), [2], "pausing ends for one that goes");
    first.resume("t", 0).expect("resume");
    assert_eq!(poll(&mut first), [2]);
}

#[test]
fn lag_counts_what_nobody_has_read_yet_and_nothing_done_leaves_no_trace() {
    let (broker, topic) = broker(3);
    let mut consumer = member(&broker).open().expect("open");
    consumer.commit().expect("there is nothing to commit");
    send(&topic, 1, 5);
    let lag = |broker: &Broker| {
        let offsets = broker.describe_group("g").expect("group").offsets;
        offsets.iter().map(|offset| offset.lag).sum::<u64>()
    };
    assert_eq!(lag(&broker), 5, "it has not polled yet");
    drop(consumer.try_poll().expect("poll"));
    drop(consumer);
    assert!(broker.groups().expect("groups").is_empty());
    let mut consumer = broker.consumer("g").assign([("t", 1)]).open().expect("open");
    consumer.seek("t", 1, Start::Offset(3)).expect("it has the partition at once");
    assert_eq!(poll(&mut consumer), [3, 4]);
    consumer.commit().expect("commit");
    send(&topic, 2, 7);
    drop(consumer);
    assert_eq!(lag(&broker), 7, "the whole topic counts");
}

#[test]
fn partitions_named_by_the_application_have_one_reader_too() {
    let (broker, topic) = broker(3);
    (0..3).for_each(|partition| send(&topic, partition, 1));
    let named = |partitions: &[u32]| {
        broker.consumer("g").assign(partitions.iter().map(|number| ("t", *number))).open()
    };
    let mut one = named(&[0, 2]).expect("open");
    assert_eq!(poll(&mut one), [0, 0]);
    one.commit().expect("commit");
    assert!(matches!(named(&[1, 2]), Err(Error::InconsistentGroup { .. })));
    assert!(matches!(member(&broker).open(), Err(Error::InconsistentGroup { .. })));
    let mut two = named(&[1]).expect("open");
    assert_eq!(poll(&mut two), [0]);
    drop((one, two));
    let mut all = member(&broker).open().expect("open");
    assert_eq!(poll(&mut all), [0], "commits are the group's");
    assert!(matches!(named(&[0]), Err(Error::InconsistentGroup { .. })));
}

#[derive(Debug)]
struct Bad;

impl CustomAssignor for Bad {
    fn name(&self) -> &'static str {
        "bad"
    }

    fn assign(
        &self,
        members: &[MemberSubscription],
        _topics: &BTreeMap<Arc<str>, u32>,
    ) -> Vec<Vec<TopicPartition>> {
        assert!(members.len() < 3, "on purpose");
        Vec::new()
    }
}

#[test]
fn an_assignor_that_gets_it_wrong_or_panics_stops_nobody() {
    let (broker, topic) = broker(6);
    (0..6).for_each(|partition| send(&topic, partition, 1));
    let bad = || member(&broker).assignor(Assignor::Custom(Arc::new(Bad))).open().expect("open");
    let (mut one, mut two, mut three) = (bad(), bad(), bad());
    settle(&broker, &mut [&mut one, &mut two, &mut three]);
    assert_eq!(three.assignment().len(), 2);
    let other = member(&broker).open();
    assert!(matches!(other, Err(Error::InconsistentGroup { .. })));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let (broker, _topic) = broker(1);
    assert!(matches!(
        broker.consumer("").subscribe(["t"]).open(),
        Err(Error::InvalidGroupName { .. })
    ));
    assert!(matches!(
        broker.consumer(&"g".repeat(250)).subscribe(["t"]).open(),
        Err(Error::InvalidGroupName { .. })
    ));
    assert!(matches!(broker.consumer("g").open(), Err(Error::InvalidConfig { .. })));
    let no_topic: [&str; 0] = [];
    assert!(matches!(
        broker.consumer("g").subscribe(no_topic).open(),
        Err(Error::InvalidConfig { .. })
    ));
    assert!(matches!(
        broker.consumer("g").subscribe(["u"]).open(),
        Err(Error::UnknownTopic { .. })
    ));
    let unknown = broker.consumer("g").assign([("t", 1)]).open();
    assert!(matches!(unknown, Err(Error::UnknownPartition { .. })));
    assert!(matches!(member(&broker).max_records(0).open(), Err(Error::InvalidConfig { .. })));
    assert!(matches!(
        member(&broker).max_poll_interval(Duration::ZERO).open(),
        Err(Error::InvalidConfig { .. })
    ));
    assert!(matches!(broker.describe_group("g"), Err(Error::UnknownGroup { .. })));
    assert!(broker.groups().expect("groups").is_empty(), "none of these left a trace");
}

#[test]
fn operators_see_and_move_groups() {
    let (broker, topic) = broker(2);
    for millis in [1_000, 2_000, 3_000] {
        topic
            .send(Record::new("x").partition(0).timestamp(Timestamp::from_millis(millis)))
            .expect("send");
    }
    send(&topic, 1, 1);
    let mut consumer = member(&broker).max_records(1).open().expect("open");
    assert_eq!(poll(&mut consumer), [0]);
    consumer.commit_offsets([(("t", 0), (1, "note"))]).expect("commit");
    let group = broker.describe_group("g").expect("group");
    assert_eq!((group.state, group.members.len()), (GroupState::Stable, 1));
    assert_eq!(group.assignor.as_deref(), Some("cooperative-sticky"));
    assert_eq!(group.members[0].assignment, consumer.assignment());
    let first = &group.offsets[0];
    assert_eq!((first.committed, first.metadata.as_str(), first.lag), (Some(1), "note", 2));
    assert_eq!(first.member.as_deref(), Some(consumer.member_id()));
    assert_eq!((group.offsets[1].committed, group.offsets[1].lag), (None, 1));
    let reset = broker.reset_offsets("g", ResetTo::Latest);
    assert!(matches!(reset.execute(), Err(Error::GroupNotEmpty { members: 1, .. })));
    assert!(matches!(reset.dry_run(), Err(Error::GroupNotEmpty { .. })));
    drop(consumer);
    assert_eq!(broker.describe_group("g").expect("group").state, GroupState::Empty);
    let to = |to| {
        let reset = broker.reset_offsets("g", to).dry_run().expect("dry run");
        reset.iter().map(|reset| (reset.partition, reset.from, reset.to)).collect::<Vec<_>>()
    };
    assert_eq!(broker.committed("g", "t", 0).expect("committed"), Some((1, "note").into()));
    assert_eq!(to(ResetTo::Latest), [(0, Some(1), 3)]);
    assert_eq!(to(ResetTo::Earliest), [(0, Some(1), 0)]);
    assert_eq!(to(ResetTo::Shift(100)), [(0, Some(1), 3)]);
    assert_eq!(to(ResetTo::Shift(-100)), [(0, Some(1), 0)]);
    assert_eq!(to(ResetTo::Current), [(0, Some(1), 1)]);
    assert_eq!(to(ResetTo::Timestamp(Timestamp::from_millis(2_500))), [(0, Some(1), 2)]);
    assert_eq!(to(ResetTo::Duration(Duration::from_secs(1))), [(0, Some(1), 3)]);
    let beyond = broker.reset_offsets("g", ResetTo::Offset(4)).execute();
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { .. })));
    assert_eq!(committed(&broker, 0), Some(1));
    broker.reset_offsets("g", ResetTo::Offset(1)).topic("t").execute().expect("reset");
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (Some(1), Some(1)));
    broker.delete_group("g").expect("delete");
    assert!(matches!(broker.delete_group("g"), Err(Error::UnknownGroup { .. })));
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 4, "it begins anew");
}

#[test]
fn idle_groups_are_forgotten_if_that_is_wanted() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let broker = Broker::builder("x")
        .in_memory()
        .manual_clock(&clock)
        .offsets_retention(Duration::from_secs(60))
        .open()
        .expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&topic, 0, 1);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [0]);
    consumer.commit().expect("commit");
    clock.advance(Duration::from_secs(3600));
    assert_eq!(broker.groups().expect("groups"), ["g"], "it has a member");
    drop(consumer);
    clock.advance(Duration::from_secs(59));
    assert_eq!(broker.groups().expect("groups"), ["g"], "it counts from when the last one left");
    clock.advance(Duration::from_secs(1));
    assert!(broker.groups().expect("groups").is_empty());
    assert!(matches!(broker.describe_group("g"), Err(Error::UnknownGroup { .. })));
}

#[test]
fn a_closed_broker_is_told_to_whoever_waits() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 1);
    let mut idle = broker.consumer("idle").subscribe_pattern("nothing*").open().expect("open");
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [0]);
    let waiting = std::thread::spawn(move || {
        assert!(matches!(idle.poll(Duration::MAX), Err(Error::Closed)));
        idle.poll(Duration::from_secs(60))
    });
    std::thread::sleep(Duration::from_millis(20));
    broker.close().expect("close");
    let again = waiting.join().expect("thread");
    assert!(matches!(again, Err(Error::Closed)), "it is told as often as it asks: {again:?}");
    assert!(matches!(consumer.commit(), Err(Error::Closed)));
    assert!(matches!(consumer.try_poll(), Err(Error::Closed)));
    assert!(matches!(broker.groups(), Err(Error::Closed)));
    assert!(matches!(broker.describe_group("g"), Err(Error::Closed)));
    assert!(matches!(member(&broker).open(), Err(Error::Closed)));
}

#[test]
fn an_iterator_finishes_records_one_by_one() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 3));
    let mut consumer = member(&broker).auto_commit(Duration::ZERO).open().expect("open");
    let seen: Vec<_> = consumer
        .iter()
        .take(4)
        .map(|record| record.expect("record"))
        .map(|record| (record.partition, record.offset))
        .collect();
    assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0)]);
    drop(consumer);
    assert_eq!(committed(&broker, 0), Some(3));
    assert_eq!(committed(&broker, 1), None, "nobody knows whether that one is done with");
    let mut consumer = member(&broker).open().expect("open");
    {
        let mut records = consumer.iter();
        records.next().expect("one").expect("record");
        records.next().expect("two").expect("record");
        records.commit().expect("commit");
        records.next().expect("three").expect("record");
    }
    assert_eq!(committed(&broker, 1), Some(2));
    assert!(poll(&mut consumer).is_empty(), "all were returned");
    consumer.commit().expect("commit");
    assert_eq!(committed(&broker, 1), Some(3));
}

#[test]
fn an_iterator_that_is_forgotten_takes_nothing_with_it() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 5);
    let mut consumer = member(&broker).open().expect("open");
    let mut records = consumer.iter();
    records.next().expect("one").expect("record");
    records.next().expect("two").expect("record");
    std::mem::forget(records);
    consumer.commit().expect("commit");
    assert_eq!(committed(&broker, 0), Some(2), "what was returned, and no more");
    assert_eq!(poll(&mut consumer), [2, 3, 4]);
}

#[test]
fn a_channel_hands_on_every_record_and_commits_what_is_marked() {
    let (broker, topic) = broker(2);
    (0..2).for_each(|partition| send(&topic, partition, 50));
    let auto = member(&broker).auto_commit(Duration::from_secs(1)).open().expect("open");
    assert!(matches!(auto.into_channel(1), Err(Error::InvalidConfig { .. })));
    let channel = member(&broker).open().expect("open").into_channel(3).expect("channel");
    let mut next = [0, 0];
    for _ in 0..60 {
        let record = channel.receiver().recv().expect("a record").expect("no error");
        assert_eq!(record.offset, next[record.partition as usize]);
        next[record.partition as usize] += 1;
        channel.mark(&record).expect("mark");
    }
    channel.commit().expect("commit");
    assert_eq!(committed(&broker, 0).unwrap_or(0) + committed(&broker, 1).unwrap_or(0), 60);
    // A second member gets its share although the channel is full and nobody receives.
    let mut second = member(&broker).open().expect("open");
    let came = second.poll(Duration::from_secs(30)).expect("poll");
    assert_eq!(second.assignment().len(), 1);
    let partition = second.assignment()[0].partition;
    assert_eq!(came.get(0).expect("a record").offset(), next[partition as usize]);
    channel.close().expect("close");
    let events = broker.describe_group("g").expect("group");
    assert_eq!(events.members.len(), 1);
}

#[test]
fn commits_survive_and_unknown_ones_are_refused_after_reopening() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    (0..2).for_each(|partition| send(&topic, partition, 4));
    assert!(!dir.path().join("offsets").exists(), "who has no groups pays nothing");
    let mut consumer = member(&broker).commit_acks(Acks::Synced).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 8);
    consumer.commit_offsets([(("t", 0), (2, "two")), (("t", 1), (4, ""))]).expect("commit");
    drop((consumer, topic));
    broker.close().expect("close");
    let broker = Broker::open(dir.path()).expect("open");
    assert_eq!(broker.describe_group("g").expect("group").offsets[0].metadata, "two");
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer), [2, 3]);
}

#[test]
fn members_are_what_their_threads_say() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Clone + Send + Sync>() {}
    is_send::<Consumer>();
    is_send::<forebay::ConsumerChannel>();
    is_shared::<forebay::Wakeup>();
}
