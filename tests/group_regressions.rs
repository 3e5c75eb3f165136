//! Bugs of groups that were found, each as a test that failed before it was mended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use forebay::testing::{Failure, SimulatedDisk};
use forebay::{
    Acks, Assignor, Broker, Consumer, ConsumerBuilder, CustomAssignor, Error, ManualClock,
    MemberSubscription, RebalanceListener, Record, Start, Timestamp, Topic, TopicConfig,
    TopicPartition,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Fails if `work` takes longer than it ever should, instead of waiting for ever.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        work();
        drop(done);
    });
    assert_eq!(
        wait.recv_timeout(Duration::from_secs(20)),
        Err(mpsc::RecvTimeoutError::Disconnected),
        "it hangs"
    );
    worker.join().expect("it panicked");
}

fn create(broker: &Broker, partitions: u32) -> Topic {
    broker.create_topic("t", TopicConfig::new().partitions(partitions)).expect("create")
}

fn broker(partitions: u32) -> (Broker, Topic) {
    let broker = Broker::in_memory().expect("open");
    let topic = create(&broker, partitions);
    (broker, topic)
}

fn with_clock(partitions: u32) -> (Broker, Topic, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let broker = Broker::builder("x").in_memory().manual_clock(&clock).open().expect("open");
    let topic = create(&broker, partitions);
    (broker, topic, clock)
}

/// A member of group g that reads topic t.
fn member(broker: &Broker) -> ConsumerBuilder {
    broker.consumer("g").subscribe(["t"])
}

/// One that is taken out when it does not poll for that long.
fn watched(broker: &Broker, interval: Duration) -> Consumer {
    member(broker).max_poll_interval(interval).open().expect("open")
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

/// Polls all in turn, often enough for partitions to have moved.
fn poll_all(members: &mut [&mut Consumer]) {
    for _ in 0..4 {
        for member in &mut *members {
            drop(member.try_poll().expect("poll"));
        }
    }
}

fn committed(broker: &Broker, partition: u32) -> Option<u64> {
    broker.committed("g", "t", partition).expect("committed").map(|committed| committed.offset)
}

fn is_panic<T>(work: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

/// Symptom: records of a topic that was made again were skipped. Cause: whoever joined next asked
/// for the latest place in the new topic on behalf of all. Fix: a topic that came after the group
/// did is read from its beginning.
#[test]
fn a_topic_made_again_is_read_from_its_beginning_whoever_joins() {
    let (broker, _topic) = broker(1);
    let latest = || member(&broker).start(Start::Latest).open().expect("open");
    let mut first = latest();
    assert!(poll(&mut first).is_empty());
    broker.delete_topic("t").expect("delete");
    send(&create(&broker, 1), 0, 10);
    let mut second = latest();
    let mut count = 0;
    for _ in 0..5 {
        count += poll(&mut first).len() + poll(&mut second).len();
    }
    assert_eq!(count, 10);
}

/// Symptom: records that nobody had committed were skipped. Cause: a member that joined with another
/// start committed it for those that were reading. Fix: it is decided only for partitions that
/// nobody reads.
#[test]
fn who_joins_with_another_start_commits_nothing_for_those_who_read() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 10);
    let mut first = member(&broker).max_records(3).open().expect("open");
    assert_eq!(poll(&mut first), [0, 1, 2]);
    drop(member(&broker).start(Start::Latest).open().expect("open"));
    drop(first);
    let mut third = member(&broker).open().expect("open");
    assert_eq!(poll(&mut third).len(), 10);
}

/// Two members with a partition each, and the numbers of these.
fn pair(open: impl Fn() -> Consumer) -> [(Consumer, u32); 2] {
    let (mut one, mut two) = (open(), open());
    poll_all(&mut [&mut one, &mut two]);
    [one, two].map(|member| {
        let [TopicPartition { partition, .. }] = member.assignment()[..] else { panic!() };
        (member, partition)
    })
}

/// Symptom: what was committed in a topic was gone. Cause: a member that had not yet seen that the
/// topic was deleted and made again committed in the old one, which took the place of the new one.
/// Fix: a commit in a topic that is gone is dropped.
#[test]
fn a_commit_in_a_deleted_topic_takes_nothing_from_the_next_one() {
    let (broker, topic) = broker(2);
    let [(mut one, at_one), (mut two, at_two)] =
        pair(|| member(&broker).auto_commit(Duration::ZERO).open().expect("open"));
    send(&topic, at_one, 5);
    send(&topic, at_two, 5);
    assert_eq!((poll(&mut one).len(), poll(&mut two).len()), (5, 5));
    broker.delete_topic("t").expect("delete");
    send(&create(&broker, 2), at_two, 3);
    assert_eq!(poll(&mut two), [0, 1, 2]);
    two.commit().expect("commit");
    assert_eq!(committed(&broker, at_two), Some(3));
    assert!(poll(&mut one).is_empty(), "it commits on the way");
    assert_eq!(committed(&broker, at_two), Some(3));
}

/// The same, and a group that starts at the latest record skipped all that was left.
#[test]
fn a_commit_in_a_deleted_topic_lets_nothing_be_skipped_in_the_next_one() {
    let (broker, topic) = broker(2);
    let open = || member(&broker).start(Start::Latest).max_records(3).open().expect("open");
    let [(mut one, at_one), (mut two, at_two)] = pair(open);
    send(&topic, at_one, 2);
    assert_eq!(poll(&mut one).len(), 2);
    broker.delete_topic("t").expect("delete");
    send(&create(&broker, 2), at_two, 10);
    assert_eq!(poll(&mut two), [0, 1, 2]);
    two.commit().expect("commit");
    one.commit().expect("there is nothing to commit any more");
    drop((one, two));
    let mut left = Vec::new();
    let mut three = open();
    for _ in 0..5 {
        left.extend(poll(&mut three));
    }
    assert_eq!(left, [3, 4, 5, 6, 7, 8, 9]);
}

/// The same, and an operator was told that the group had come to where the new topic does not
/// reach.
#[test]
fn a_commit_in_a_deleted_topic_is_not_described_as_one_in_the_next() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 5);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 5);
    broker.delete_topic("t").expect("delete");
    send(&create(&broker, 1), 0, 2);
    consumer.commit().expect("there is nothing to commit any more");
    let offsets = broker.describe_group("g").expect("group").offsets;
    assert_eq!((offsets[0].committed, offsets[0].lag), (None, 2));
}

/// Symptom: a member that hung kept its partitions for ever. Cause: once a member had found nobody to
/// look after it never looked again. Fix: the group itself knows when to look, and each that joins
/// may bring that forward.
#[test]
fn who_hangs_is_found_by_one_who_had_nobody_to_look_after() {
    let (broker, _topic, clock) = with_clock(2);
    // It looks once, when only itself is there to be looked after.
    let mut old = member(&broker).open().expect("open");
    let mut first = watched(&broker, SECOND);
    poll_all(&mut [&mut old, &mut first]);
    drop(first);
    clock.advance(SECOND);
    assert!(poll(&mut old).is_empty());
    let mut hung = watched(&broker, SECOND);
    poll_all(&mut [&mut old, &mut hung]);
    assert_eq!((old.assignment().len(), hung.assignment().len()), (1, 1));
    clock.advance(3600 * SECOND);
    poll_all(&mut [&mut old]);
    assert_eq!(old.assignment().len(), 2, "an hour without a poll");
}

/// The same for one that sleeps in a poll from before there was anybody to look after. Fix: it is
/// woken.
#[test]
fn who_hangs_is_found_by_one_who_was_asleep_before() {
    in_time(|| {
        let (broker, _topic) = broker(1);
        let mut sleeper = member(&broker).open().expect("open");
        drop(sleeper.try_poll().expect("poll"));
        let wakeup = sleeper.wakeup_handle();
        std::thread::scope(|scope| {
            let sleeper = &mut sleeper;
            let sleeping = scope.spawn(|| sleeper.poll(Duration::MAX).map(drop));
            std::thread::sleep(Duration::from_millis(50));
            let mut hung = watched(&broker, Duration::from_millis(50));
            broker.create_partitions("t", 2).expect("grow");
            drop(hung.try_poll().expect("poll"));
            let members = || broker.describe_group("g").expect("group").members.len();
            assert_eq!(members(), 2);
            let is_found = (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                members() == 1
            });
            wakeup.wakeup();
            sleeping.join().expect("thread").expect("poll");
            assert!(is_found, "it sleeps on");
        });
    });
}

/// Symptom: a member that hung was not taken out in its time. Cause: who looked for the first time
/// slept for as long as the member with the longer interval may. Fix: each that joins may bring
/// forward when to look.
#[test]
fn a_long_interval_does_not_hide_a_short_one() {
    let (broker, _topic, clock) = with_clock(2);
    let mut patient = watched(&broker, 3600 * SECOND);
    assert!(poll(&mut patient).is_empty());
    let mut hung = watched(&broker, SECOND);
    poll_all(&mut [&mut patient, &mut hung]);
    assert_eq!(hung.assignment().len(), 1);
    for _ in 0..10 {
        clock.advance(Duration::from_secs(10));
        assert!(poll(&mut patient).is_empty());
    }
    assert_eq!(patient.assignment().len(), 2);
}

/// Symptom: a topic that matched a pattern was not read. Cause: a member said that it had seen all
/// changes after it had looked at the topics, not before. Fix: before.
#[test]
fn a_topic_that_comes_while_a_pattern_is_matched_is_read() {
    let (broker, armed) = (Broker::in_memory().expect("open"), Arc::new(AtomicBool::new(false)));
    let (other, fires) = (broker.clone(), Arc::clone(&armed));
    let pattern = move |_: &str| {
        if fires.swap(false, Ordering::SeqCst) {
            // As any other thread could do at this moment.
            std::thread::scope(|scope| {
                scope.spawn(|| other.create_topic("second", TopicConfig::new()).expect("create"));
            });
        }
        true
    };
    let mut consumer = broker.consumer("g").subscribe_pattern(pattern).open().expect("open");
    drop(consumer.try_poll().expect("poll"));
    armed.store(true, Ordering::SeqCst);
    broker.create_topic("first", TopicConfig::new()).expect("create");
    poll_all(&mut [&mut consumer]);
    assert_eq!(consumer.assignment().len(), 2);
}

/// Symptom: a member slept although topics had come. Cause: asking the partitions took away the
/// wake-up, and the member went to sleep without looking whether there was a change. Fix: it looks.
#[test]
fn a_change_that_comes_while_partitions_are_asked_is_seen() {
    for round in 0..30 {
        let broker = Broker::in_memory().expect("open");
        let mut consumer = broker.consumer("g").subscribe_pattern("*").open().expect("open");
        drop(consumer.try_poll().expect("poll"));
        let (wakeup, stop) = (consumer.wakeup_handle(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    drop(consumer.poll(Duration::MAX).expect("poll"));
                }
            });
            let assigned =
                || broker.describe_group("g").expect("group").members[0].assignment.len();
            let mut is_seen = true;
            for burst in 1..=10 {
                for number in 0..3 {
                    let name = format!("t{burst}-{number}");
                    broker.create_topic(&name, TopicConfig::new()).expect("create");
                    for _ in 0..(round * 10 + burst) * 20 {
                        std::hint::spin_loop();
                    }
                }
                is_seen &= (0..2_000).any(|_| {
                    std::thread::sleep(Duration::from_micros(50));
                    assigned() == 3 * burst
                });
            }
            stop.store(true, Ordering::SeqCst);
            wakeup.wakeup();
            assert!(is_seen, "round {round}: it sleeps on");
        });
    }
}

/// Symptom: a group that was moved back by name was soon where it had been. Cause: what lay between
/// still counted as done, and was committed by the next commit, or by closing. Fix: it does not.
#[test]
fn a_group_that_was_moved_back_stays_there() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 10);
    let open = || member(&broker).auto_commit(Duration::ZERO).open().expect("open");
    let mut consumer = open();
    assert_eq!(poll(&mut consumer).len(), 10);
    assert!(poll(&mut consumer).is_empty());
    assert_eq!(committed(&broker, 0), Some(10));
    consumer.rewind_offsets([(("t", 0), 3)]).expect("rewind");
    consumer.commit().expect("there is nothing to commit");
    assert_eq!(committed(&broker, 0), Some(3));
    consumer.close().expect("close");
    assert_eq!(committed(&broker, 0), Some(3));
    let mut consumer = open();
    assert_eq!(poll(&mut consumer), [3, 4, 5, 6, 7, 8, 9]);
}

/// A member that commits and then just stays for ten days, on a broker that forgets groups without
/// members after seven.
fn ten_days(broker: &Broker, clock: &ManualClock) -> Consumer {
    let topic = create(broker, 1);
    send(&topic, 0, 5);
    broker.flush().expect("flush");
    let mut consumer = member(broker).commit_acks(Acks::Synced).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 5);
    consumer.commit().expect("commit");
    for _ in 0..10 {
        clock.advance(DAY);
        assert!(poll(&mut consumer).is_empty());
    }
    consumer
}

fn is_forgotten_after_seven_days(broker: &Broker, clock: &ManualClock) {
    assert_eq!(committed(broker, 0), Some(5));
    clock.advance(6 * DAY);
    assert_eq!(broker.groups().expect("groups"), ["g"]);
    clock.advance(DAY);
    assert!(broker.groups().expect("groups").is_empty());
}

/// Symptom: a group that was in use lost what it had committed. Cause: a group without members was
/// idle since it had committed last, not since it had lost its members: they were not written down
/// where the broker was closed before they left. Fix: closing writes it down.
#[test]
fn a_group_is_idle_from_when_the_broker_closes_on_and_not_from_its_last_commit() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let open = || {
        let broker = Broker::builder(dir.path()).manual_clock(&clock);
        broker.offsets_retention(7 * DAY).open().expect("open")
    };
    let broker = open();
    let consumer = ten_days(&broker, &clock);
    broker.close().expect("close");
    drop((consumer, broker));
    is_forgotten_after_seven_days(&open(), &clock);
}

/// The same where nobody had the time to close the broker. Fix: it is written down that a group has
/// members, and those that had some then are idle from the next open on.
#[test]
fn a_group_is_idle_from_the_open_after_a_crash_on_and_not_from_its_last_commit() {
    let disk = SimulatedDisk::new(1);
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let open = |disk: &SimulatedDisk| {
        let broker = Broker::builder("data").simulated_disk(disk).manual_clock(&clock);
        broker.offsets_retention(7 * DAY).open().expect("open")
    };
    let broker = open(&disk);
    let consumer = ten_days(&broker, &clock);
    let disk = disk.cut_power();
    drop((consumer, broker));
    is_forgotten_after_seven_days(&open(&disk), &clock);
}

/// Symptom: a group that was idle for too long was kept. Cause: it was looked for only when somebody
/// joined or asked an operator's question. Fix: when somebody leaves, too.
#[test]
fn idle_groups_are_forgotten_when_a_member_of_another_leaves() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let broker = Broker::builder("x").in_memory().manual_clock(&clock);
    let broker = broker.offsets_retention(10 * SECOND).open().expect("open");
    send(&create(&broker, 1), 0, 5);
    let mut consumer = member(&broker).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 5);
    consumer.commit().expect("commit");
    drop(consumer);
    let other = broker.consumer("other").subscribe(["t"]).open().expect("open");
    clock.advance(20 * SECOND);
    assert_eq!(committed(&broker, 0), Some(5), "asking for an offset does not look");
    drop(other);
    assert_eq!(committed(&broker, 0), None);
}

/// Symptom: a panic, or the end of the process, in `into_channel`. Cause: the room for records is made
/// at once, and any number was taken. Fix: too much is refused.
#[test]
fn a_channel_too_large_for_any_memory_is_refused() {
    let (broker, _topic) = broker(1);
    for capacity in [usize::MAX, 1 << 40, (1 << 20) + 1] {
        let refused = member(&broker).open().expect("open").into_channel(capacity);
        assert!(
            matches!(refused, Err(Error::InvalidConfig { field: "capacity", .. })),
            "{capacity}: {refused:?}"
        );
    }
    let channel = member(&broker).open().expect("open").into_channel(1 << 20).expect("channel");
    channel.close().expect("close");
}

/// Symptom: a member took itself out while it polled. Cause: an interval below a millisecond counted
/// as 0. Fix: it is refused.
#[test]
fn an_interval_too_short_to_be_measured_is_refused() {
    let (broker, _topic) = broker(1);
    let refused = member(&broker).max_poll_interval(Duration::from_micros(999)).open();
    assert!(matches!(refused, Err(Error::InvalidConfig { field: "max_poll_interval", .. })));
    assert!(poll(&mut watched(&broker, Duration::from_millis(1))).is_empty());
}

/// Symptom: a panic, or time that went back. Cause: a clock moved beyond all numbers overflowed. Fix: it
/// stops there.
#[test]
fn a_clock_moved_beyond_all_numbers_stops_there() {
    let (broker, topic, clock) = with_clock(1);
    let mut consumer = watched(&broker, SECOND);
    for by in [Duration::MAX, Duration::MAX, Duration::from_millis(1)] {
        clock.advance(by);
    }
    assert!(poll(&mut consumer).is_empty());
    send(&topic, 0, 1);
    assert_eq!(poll(&mut consumer), [0]);
}

/// Panics in its first calls.
struct PanicsFirst(Arc<AtomicUsize>, usize);

impl RebalanceListener for PanicsFirst {
    fn assigned(&mut self, _consumer: &mut Consumer, partitions: &[TopicPartition]) {
        assert_eq!(partitions.len(), 1);
        assert!(self.0.fetch_add(1, Ordering::SeqCst) >= self.1, "on purpose");
    }
}

/// Symptom: a member that hung kept its partitions for ever. Cause: its last poll had ended by a panic
/// and counted as going on. Fix: a poll ends by a panic too.
#[test]
fn a_poll_that_panicked_has_ended() {
    let (broker, _topic, clock) = with_clock(1);
    let bad = member(&broker).listener(PanicsFirst(Arc::default(), usize::MAX));
    let mut bad = bad.max_poll_interval(SECOND).open().expect("open");
    assert!(is_panic(|| bad.try_poll()));
    let mut other = watched(&broker, SECOND);
    for _ in 0..10 {
        clock.advance(SECOND / 2);
        assert!(poll(&mut other).is_empty());
    }
    assert_eq!(other.assignment().len(), 1);
}

/// Symptom: a listener was never told of its partitions. Cause: the call in which it would have been
/// told panicked, and was taken for done. Fix: it is told again.
#[test]
fn a_listener_that_panicked_is_told_again() {
    let (broker, _topic) = broker(1);
    let calls = Arc::<AtomicUsize>::default();
    let listener = PanicsFirst(Arc::clone(&calls), 1);
    let mut consumer = member(&broker).listener(listener).open().expect("open");
    assert!(is_panic(|| consumer.try_poll()));
    assert!(poll(&mut consumer).is_empty());
    assert!(poll(&mut consumer).is_empty());
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// Lets another member poll while partitions are shared out, as its thread could at that moment.
#[derive(Debug)]
struct PollsOther(Arc<Mutex<Option<Consumer>>>);

impl CustomAssignor for PollsOther {
    fn name(&self) -> &'static str {
        "polls-other"
    }

    fn assign(
        &self,
        members: &[MemberSubscription],
        topics: &BTreeMap<Arc<str>, u32>,
    ) -> Vec<Vec<TopicPartition>> {
        let other = self.0.lock().expect("lock").take();
        if let Some(mut other) = other {
            assert!(matches!(other.try_poll(), Err(Error::Fenced { .. })));
        }
        Assignor::Range.assign(members, topics)
    }
}

/// Symptom: a member without partitions. Cause: its predecessor, whose name it had taken, made it look
/// as if there was something new to be shared out, and did not share it out. Fix: who is no member
/// changes nothing.
#[test]
fn who_has_lost_its_name_disturbs_no_sharing_out() {
    let (broker, _topic) = broker(1);
    let (other, matches_more) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let assignor = || Assignor::Custom(Arc::new(PollsOther(Arc::clone(&other))));
    let more = Arc::clone(&matches_more);
    let pattern = move |name: &str| name == "t" || more.load(Ordering::SeqCst);
    let old = broker.consumer("g").subscribe_pattern(pattern).assignor(assignor());
    let mut old = old.static_member("name").open().expect("open");
    assert!(poll(&mut old).is_empty());
    broker.create_topic("u", TopicConfig::new()).expect("create");
    assert!(poll(&mut old).is_empty());
    matches_more.store(true, Ordering::SeqCst);
    *other.lock().expect("lock") = Some(old);
    let new = member(&broker).assignor(assignor()).static_member("name");
    let mut new = new.open().expect("open");
    poll_all(&mut [&mut new]);
    assert!(other.lock().expect("lock").is_none(), "it polled");
    assert_eq!(new.assignment().len(), 1);
}

/// Symptom: what was committed and synced was gone without a word. Cause: damage in the file of a broker
/// that was closed was taken for what a crash had torn. Fix: closing says up to where all is whole.
#[test]
fn damage_below_what_was_synced_when_the_broker_closed_is_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = create(&broker, 1);
    send(&topic, 0, 5);
    let mut consumer = member(&broker).max_records(1).open().expect("open");
    for _ in 0..5 {
        assert_eq!(poll(&mut consumer).len(), 1);
        consumer.commit().expect("commit");
    }
    drop((consumer, topic));
    broker.close().expect("close");
    drop(broker);
    let path = dir.path().join("offsets/00000000000000000001.offsets");
    let whole = fs::read(&path).expect("read");
    let last = whole.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    let mut bytes = whole.clone();
    bytes[last] ^= 4;
    fs::write(&path, bytes).expect("write");
    match Broker::open(dir.path()) {
        Err(Error::Corrupt { path: found, .. }) => assert_eq!(found, path),
        other => panic!("{other:?}"),
    }
    fs::write(&path, whole).expect("write");
    assert_eq!(committed(&Broker::open(dir.path()).expect("open"), 0), Some(5));
}

/// Symptom: a consumer that waited for records kept a processor busy. Cause: what was returned and not
/// marked counted as something to be committed at once. Fix: only what may be committed does.
#[cfg(target_os = "linux")]
#[test]
fn what_is_not_marked_keeps_nobody_awake() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 3);
    let mut consumer = member(&broker).auto_commit_marked(Duration::ZERO).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 3);
    let sleeps = || -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").expect("read");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("it is told").trim().parse().expect("number")
    };
    let before = sleeps();
    assert!(consumer.poll(Duration::from_millis(500)).expect("poll").is_empty());
    let slept = sleeps() - before;
    assert!(slept < 20, "it woke up {slept} times for nothing");
}

/// Symptom: two members read one partition. Cause: whether a partition named by one was taken was asked
/// of what others had been given, not of what they had named. Fix: of what they have named.
#[test]
fn of_two_who_name_a_partition_at_once_one_is_refused() {
    for round in 0..100 {
        let (broker, _topic) = broker(1);
        let together = Barrier::new(2);
        let open = || {
            together.wait();
            broker.consumer("g").assign([("t", 0)]).open().ok()
        };
        std::thread::scope(|scope| {
            let (one, two) = (scope.spawn(open), scope.spawn(open));
            let (one, two) = (one.join().expect("thread"), two.join().expect("thread"));
            assert!(one.is_none() || two.is_none(), "round {round}");
        });
    }
}

/// Symptom: nothing was read any more where nothing could be committed. Cause: an automatic commit with
/// an interval of 0 was tried, and failed, before every read. Fix: a failure is told once in a while.
#[test]
fn records_flow_where_nothing_can_be_committed() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let disk = SimulatedDisk::new(3);
    let broker = Broker::builder("data").simulated_disk(&disk).manual_clock(&clock);
    let broker = broker.open().expect("open");
    let topic = create(&broker, 1);
    send(&topic, 0, 100);
    let auto = member(&broker).max_records(10).auto_commit(Duration::ZERO);
    let mut consumer = auto.commit_acks(Acks::Synced).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 10);
    disk.fail_at(disk.operations() + 1, io::ErrorKind::Other, Failure::Once);
    let mut read = 10;
    let mut refused = 0;
    for _ in 0..20 {
        match consumer.try_poll() {
            Ok(batch) => read += batch.len(),
            Err(Error::Io { .. } | Error::OffsetsPoisoned { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((read, refused), (100, 1));
    clock.advance(60 * SECOND);
    assert!(matches!(consumer.try_poll(), Err(Error::OffsetsPoisoned { .. })), "it is told again");
}

/// Symptom: a member was thrown out by one that had been thrown out before. Cause: who comes back after it
/// did not poll in time takes its static name again, from whoever has it by then. Fix: the name is
/// lost to it.
#[test]
fn who_was_taken_out_does_not_take_its_name_from_its_successor() {
    let (broker, _topic, clock) = with_clock(1);
    let named = || member(&broker).static_member("name").max_poll_interval(SECOND);
    let mut old = named().open().expect("open");
    assert!(poll(&mut old).is_empty());
    let mut other = member(&broker).open().expect("open");
    clock.advance(2 * SECOND);
    assert!(poll(&mut other).is_empty(), "it takes the other out");
    let mut successor = named().open().expect("open");
    assert!(poll(&mut successor).is_empty());
    for _ in 0..2 {
        assert!(matches!(old.try_poll(), Err(Error::Fenced { .. })));
    }
    assert!(poll(&mut successor).is_empty());
    successor.commit().expect("it is a member");
}

/// Symptom: a gap was told again after every restart. Cause: it was not done with by coming back from
/// it, as records are, if none came behind it. Fix: it is.
#[test]
fn a_gap_that_was_told_is_committed() {
    let (broker, topic) = broker(1);
    send(&topic, 0, 10);
    let mut consumer = member(&broker).max_records(5).open().expect("open");
    assert_eq!(poll(&mut consumer).len(), 5);
    consumer.commit().expect("commit");
    topic.delete_records(0, 10).expect("delete");
    let told = consumer.try_poll();
    assert!(matches!(told, Err(Error::Gap { from: 5, to: 10, .. })), "{told:?}");
    assert!(poll(&mut consumer).is_empty());
    consumer.commit().expect("commit");
    consumer.close().expect("close");
    assert_eq!(committed(&broker, 0), Some(10));
    assert!(poll(&mut member(&broker).open().expect("open")).is_empty());
}

/// Uses the broker wherever it is called.
#[derive(Debug)]
struct Nosy(Broker);

impl CustomAssignor for Nosy {
    fn name(&self) -> &'static str {
        drop(self.0.groups().expect("groups"));
        "nosy"
    }

    fn assign(
        &self,
        members: &[MemberSubscription],
        topics: &BTreeMap<Arc<str>, u32>,
    ) -> Vec<Vec<TopicPartition>> {
        drop(self.0.groups().expect("groups"));
        Assignor::Range.assign(members, topics)
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        drop(self.0.groups());
    }
}

/// Symptom: a join that never returned. Cause: an assignor, which is user code, was asked for its name, or
/// dropped, under the locks of its group. Fix: it is not.
#[test]
fn an_assignor_may_use_the_broker() {
    in_time(|| {
        let (broker, _topic) = broker(1);
        let open = || {
            let nosy = Assignor::Custom(Arc::new(Nosy(broker.clone())));
            member(&broker).assignor(nosy).open().expect("open")
        };
        let (mut one, mut two) = (open(), open());
        poll_all(&mut [&mut one, &mut two]);
        assert_eq!(broker.describe_group("g").expect("group").assignor.as_deref(), Some("nosy"));
        drop(one);
        drop(open());
        drop(two);
    });
}

/// Symptom: a generation that was lower than one before. Cause: they were counted anew when a group had
/// lost its last member. Fix: they go on.
#[test]
fn generations_grow_over_a_time_without_members() {
    let (broker, _topic, clock) = with_clock(1);
    let mut consumer = watched(&broker, SECOND);
    assert!(poll(&mut consumer).is_empty());
    for _ in 0..3 {
        drop(member(&broker).open().expect("open"));
    }
    broker.create_partitions("t", 2).expect("grow");
    assert!(poll(&mut consumer).is_empty());
    let before = consumer.generation();
    let mut other = member(&broker).open().expect("open");
    clock.advance(2 * SECOND);
    assert!(poll(&mut other).is_empty(), "it takes the other out");
    drop(other);
    assert!(poll(&mut consumer).is_empty());
    assert!(consumer.generation() > before, "{} after {before}", consumer.generation());
}

/// Symptom: a commit that had returned was gone after the next open. Cause: one that was under way when
/// the broker closed went into a file that was begun after all had been synced. Fix: it is refused.
#[test]
fn a_commit_that_returned_while_the_broker_closed_is_there() {
    const GROUPS: [&str; 4] = ["a", "b", "c", "d"];
    for round in 0..15_u64 {
        let dir = tempfile::tempdir().expect("temporary directory");
        let broker = Broker::open(dir.path()).expect("open");
        let topic = create(&broker, 1);
        send(&topic, 0, 20);
        // Back and forth, with long texts, so that a file is soon full.
        let commit_on = |mut consumer: Consumer| {
            let mut last = 0_u64;
            loop {
                let text = format!("{:04000}", last + 1);
                if consumer.rewind_offsets([(("t", 0), (last % 20, text))]).is_err() {
                    return last;
                }
                last += 1;
            }
        };
        let last = std::thread::scope(|scope| {
            let committing = GROUPS.map(|group| {
                let mut consumer = broker.consumer(group).subscribe(["t"]).open().expect("open");
                assert_eq!(consumer.poll(SECOND).expect("poll").len(), 20);
                scope.spawn(move || commit_on(consumer))
            });
            std::thread::sleep(Duration::from_micros(300 * round));
            broker.close().expect("close");
            committing.map(|thread| thread.join().expect("thread"))
        });
        drop((topic, broker));
        let broker = Broker::open(dir.path()).expect("open");
        let found = GROUPS.map(|group| {
            let found = broker.committed(group, "t", 0).expect("committed");
            found.map_or(0, |found| found.metadata.parse().expect("a number"))
        });
        assert_eq!(found, last, "round {round}");
    }
}
