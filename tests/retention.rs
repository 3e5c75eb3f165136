//! What is deleted by itself: by age, size, number, and because it was consumed.

use std::time::{Duration, Instant};

use forebay::testing::SimulatedDisk;
use forebay::{
    Broker, Error, ManualClock, OnFull, Record, RecoveryMode, Start, Timestamp, Topic, TopicConfig,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Some day in 2023.
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn in_memory() -> (Broker, ManualClock) {
    let clock = ManualClock::new(NOW);
    let broker = Broker::builder("unused").in_memory().manual_clock(&clock).open().expect("open");
    (broker, clock)
}

/// Small segments, so that there is something to delete.
fn small() -> TopicConfig {
    TopicConfig::new().segment_bytes(4 << 10)
}

fn send(topic: &Topic, count: u64) {
    for number in 0..count {
        topic.send(Record::new(&format!("{number:0100}"))).expect("send");
    }
}

fn range(topic: &Topic) -> (u64, u64) {
    (topic.earliest_offset(0).expect("earliest"), topic.latest_offset(0).expect("latest"))
}

/// Waits until `is_so`, for what is done by another thread.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < 10 * SECOND, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The broker on this disk, by this clock.
fn open_on(disk: &SimulatedDisk, clock: &ManualClock) -> Broker {
    let builder = Broker::builder("/data").simulated_disk(disk).manual_clock(clock);
    builder.open().expect("open")
}

#[test]
fn a_quiet_topic_expires_within_one_check() {
    let (broker, clock) = in_memory();
    let topic = broker.create_topic("t", small().retention_age(60 * SECOND)).expect("create");
    send(&topic, 5);
    clock.advance(59 * SECOND);
    assert_eq!(range(&topic), (0, 5));
    clock.advance(SECOND);
    assert_eq!(range(&topic), (5, 5), "nobody sent anything, and all of it is gone");
    send(&topic, 1);
    assert_eq!(range(&topic), (5, 6));
}

#[test]
fn on_disk_too_a_quiet_topic_expires_and_its_files_go() {
    let dir = tempfile::tempdir().expect("directory");
    let interval = Duration::from_millis(20);
    let broker =
        Broker::builder(dir.path()).retention_check_interval(interval).open().expect("open");
    let age = Duration::from_millis(300);
    let topic = broker.create_topic("t", small().retention_age(age)).expect("create");
    let sent = Instant::now();
    send(&topic, 200);
    eventually("it expires", || range(&topic) == (200, 200));
    assert!(sent.elapsed() >= age, "not before its time: {:?}", sent.elapsed());
    let bytes = || broker.describe_topic("t").expect("describe").usage.bytes;
    // What is deleted counts until its files are gone.
    eventually("nothing of it is left on the disk", || bytes() == 0);
    let is_segment = |entry: &std::fs::DirEntry| entry.path().extension().is_some();
    let partition = dir.path().join("topics/t/0");
    let left = || std::fs::read_dir(&partition).expect("list").flatten().filter(is_segment).count();
    eventually("its files are removed", || left() == 0);
    broker.close().expect("close");
    assert!(Broker::verify(dir.path()).expect("verify").is_sound());
    for sent in 0..3 {
        let broker = Broker::open(dir.path()).expect("reopen");
        assert!(broker.recovery_report().partitions.is_empty());
        let topic = broker.topic("t").expect("topic");
        assert_eq!(range(&topic), (200, 200 + sent));
        broker.alter_topic("t", small()).expect("alter");
        send(&topic, 1);
        let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
        assert_eq!(reader.try_poll().expect("poll").len() as u64, sent + 1);
    }
}

/// What was deleted as a whole is deleted though the process ends before its files are removed.
#[test]
fn files_of_a_log_all_of_which_was_deleted_are_removed_at_the_next_open() {
    for mode in [RecoveryMode::TruncateTail, RecoveryMode::Strict] {
        let disk = SimulatedDisk::new(3);
        let broker = Broker::builder("/data").simulated_disk(&disk).open().expect("open");
        let topic = broker.create_topic("t", small()).expect("create");
        send(&topic, 100);
        topic.flush().expect("flush");
        // The first file that is removed cannot be.
        let mut failed = false;
        for step in 1..60 {
            let copy = disk.copy();
            let broker = Broker::builder("/data").simulated_disk(&copy).open().expect("open");
            let topic = broker.topic("t").expect("topic");
            copy.cut_power_at(copy.operations() + step);
            let is_deleted = topic.delete_records(0, 100).is_ok();
            drop((topic, broker));
            let copy = copy.cut_power();
            let builder = Broker::builder("/data").simulated_disk(&copy).recovery_mode(mode);
            let broker = builder.open().expect("it can be opened, wherever it ended");
            let topic = broker.topic("t").expect("topic");
            let (start, end) = range(&topic);
            assert!(
                end == 100 && (start == 100 || (start == 0 && !is_deleted)),
                "{start} to {end}"
            );
            failed |= start == 100 && !is_deleted;
            send(&topic, 1);
            assert_eq!(range(&topic), (start, 101));
        }
        assert!(failed, "some cut came after the deletion and before its end");
    }
}

#[test]
fn records_go_by_the_brokers_time_whatever_they_say_of_themselves() {
    let (broker, clock) = in_memory();
    let topic = broker.create_topic("t", small().retention_age(60 * SECOND)).expect("create");
    let stamps = [0, 3_786_912_000_000];
    for stamp in stamps.map(Timestamp::from_millis) {
        topic.send(Record::new("x").timestamp(stamp)).expect("send");
    }
    clock.advance(50 * SECOND);
    assert_eq!(range(&topic), (0, 2), "1970 deletes nothing");
    clock.advance(10 * SECOND);
    assert_eq!(range(&topic), (2, 2), "2090 keeps nothing");
}

#[test]
fn a_clock_that_jumps_wipes_nothing_and_keeps_nothing_for_ever() {
    for jump in [3650 * DAY, 10 * DAY] {
        for is_forward in [true, false] {
            let (broker, clock) = in_memory();
            let topic = broker.create_topic("t", small().retention_age(DAY)).expect("create");
            send(&topic, 100);
            clock.advance(SECOND);
            let by = i64::try_from(jump.as_millis()).expect("fits");
            let to = clock.now().as_millis() + if is_forward { by } else { -by };
            clock.set(Timestamp::from_millis(to));
            clock.advance(SECOND);
            assert_eq!(range(&topic), (0, 100), "nothing is gone");
            send(&topic, 100);
            clock.advance(86_390 * SECOND);
            assert_eq!(range(&topic), (0, 200), "they are not a day old");
            clock.advance(10 * SECOND);
            assert_eq!(range(&topic), (200, 200), "now they are");
        }
    }
}

#[test]
fn time_in_which_the_broker_was_closed_counts_unless_it_is_unbelievable() {
    for (absence, expected) in [(DAY / 2, 0), (2 * DAY, 100), (3650 * DAY, 0)] {
        let dir = tempfile::tempdir().expect("directory");
        let clock = ManualClock::new(NOW);
        let open = || Broker::builder(dir.path()).manual_clock(&clock).open().expect("open");
        let broker = open();
        let topic = broker.create_topic("t", small().retention_age(DAY)).expect("create");
        send(&topic, 100);
        drop(topic);
        broker.close().expect("close");
        clock.advance(absence);
        let broker = open();
        broker.enforce_retention().expect("retention");
        assert_eq!(range(&broker.topic("t").expect("topic")), (expected, 100), "{absence:?}");
        // What was not believed counts from now on.
        clock.advance(DAY);
        broker.enforce_retention().expect("retention");
        assert_eq!(range(&broker.topic("t").expect("topic")), (100, 100), "{absence:?}");
    }
}

#[test]
fn what_was_recovered_after_a_kill_is_not_taken_to_be_old() {
    let clock = ManualClock::new(NOW);
    let disk = SimulatedDisk::new(7);
    let open = |disk: &SimulatedDisk| open_on(disk, &clock);
    let broker = open(&disk);
    let topic = broker.create_topic("t", small().retention_age(DAY)).expect("create");
    send(&topic, 20);
    topic.flush().expect("flush");
    let disk = disk.cut_power();
    drop((topic, broker));
    clock.advance(DAY / 2);
    let broker = open(&disk);
    let topic = broker.topic("t").expect("topic");
    clock.advance(DAY * 3 / 4);
    assert_eq!(range(&topic), (0, 20), "their age is not known, and counts from the recovery");
    clock.advance(DAY / 4);
    assert_eq!(range(&topic), (20, 20));
}

#[test]
fn bytes_and_records_are_kept_at_the_least_and_not_much_more() {
    let (broker, clock) = in_memory();
    let by_bytes = TopicConfig::new().retention_bytes(256 << 10);
    let by_records = TopicConfig::new().retention_records(4_000);
    let (bytes, records) = (
        broker.create_topic("bytes", by_bytes).expect("create"),
        broker.create_topic("records", by_records).expect("create"),
    );
    for _ in 0..50 {
        send(&bytes, 400);
        send(&records, 400);
        clock.advance(SECOND);
    }
    let (start, end) = range(&records);
    assert!((4_000..=4_000 * 9 / 8 + 1).contains(&(end - start)), "{start} to {end}");
    let usage = broker.describe_topic("bytes").expect("describe").usage;
    assert!((256 << 10..=(256 << 10) * 11 / 8).contains(&usage.bytes), "{usage:?}");
    assert!(usage.records > 1_000 && range(&bytes).0 > 0);
}

#[test]
fn what_a_group_has_not_committed_stays_whatever_its_age() {
    let (broker, clock) = in_memory();
    let config = small().consumed_by(["fast", "slow"]).retention_age(60 * SECOND);
    let topic = broker.create_topic("t", config).expect("create");
    send(&topic, 500);
    let mut fast = broker.consumer("fast").subscribe(["t"]).max_records(500).open().expect("open");
    let mut slow = broker.consumer("slow").subscribe(["t"]).max_records(200).open().expect("open");
    assert_eq!(fast.poll(SECOND).expect("poll").len(), 500);
    fast.commit().expect("commit");
    clock.advance(120 * SECOND);
    assert_eq!(range(&topic), (0, 500), "slow has read nothing");
    assert_eq!(slow.poll(SECOND).expect("poll").len(), 200);
    slow.commit().expect("commit");
    clock.advance(SECOND);
    let (start, _) = range(&topic);
    assert!((150..=200).contains(&start), "what both have goes, by segments: {start}");
    let mut read = 200;
    while read < 500 {
        read += slow.poll(SECOND).expect("no gap").len();
    }
    assert_eq!(read, 500, "nothing unread was deleted");
}

#[test]
fn without_other_limits_what_was_consumed_goes_at_once() {
    let (broker, clock) = in_memory();
    let topic = broker.create_topic("t", small().consumed_by(["g"])).expect("create");
    send(&topic, 500);
    clock.advance(SECOND);
    assert_eq!(range(&topic), (0, 500));
    let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("open");
    assert_eq!(consumer.poll(SECOND).expect("poll").len(), 500);
    consumer.commit().expect("commit");
    clock.advance(SECOND);
    let (start, end) = range(&topic);
    assert!(end == 500 && start > 450, "all but what is being written: {start}");
    let usage = broker.describe_topic("t").expect("describe").usage;
    assert_eq!((usage.unconsumed, usage.lag["g"]), (0, 0));
}

#[test]
fn a_hard_limit_takes_what_was_not_consumed_and_the_slow_group_gets_exact_gaps() {
    let (broker, _) = in_memory();
    let config = TopicConfig::new()
        .partitions(2)
        .consumed_by(["fast", "slow"])
        .max_bytes(256 << 10)
        .on_full(OnFull::DropOldest);
    let topic = broker.create_topic("t", config).expect("create");
    let consumer = |group: &str| broker.consumer(group).subscribe(["t"]).open().expect("open");
    let (mut fast, mut slow) = (consumer("fast"), consumer("slow"));
    // It is where the log begins from its first poll on.
    assert!(slow.try_poll().expect("poll").is_empty());
    let (mut fast_read, mut slow_read, mut gaps) = (0, 0, 0);
    for round in 0..100_u32 {
        for number in 0..100 {
            let record = Record::new(b"some hundred bytes or so, which is what a record takes");
            topic.send(record.partition(number % 2)).expect("send");
        }
        while let Ok(batch) = fast.try_poll()
            && !batch.is_empty()
        {
            fast_read += batch.len();
        }
        fast.commit().expect("commit");
        if round % 25 == 24 {
            loop {
                match slow.try_poll() {
                    Ok(batch) if batch.is_empty() => break,
                    Ok(batch) => slow_read += batch.len(),
                    Err(Error::Gap { from, to, .. }) => gaps += to - from,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert_eq!(fast_read, 10_000, "who keeps up misses nothing");
    assert!(gaps > 0, "the slow one was overtaken");
    assert_eq!(slow_read as u64 + gaps, 10_000, "and knows exactly by how much");
}

#[test]
fn records_that_are_held_stay_readable_while_all_of_it_is_deleted() {
    let (broker, clock) = in_memory();
    let topic = broker.create_topic("t", small().retention_age(SECOND)).expect("create");
    send(&topic, 300);
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let held = reader.try_poll().expect("poll");
    clock.advance(2 * SECOND);
    assert_eq!(range(&topic), (300, 300));
    for (number, record) in held.iter().enumerate() {
        assert_eq!(record.value(), Some(format!("{number:0100}").as_bytes()));
    }
}

#[test]
fn retention_can_be_changed_while_records_flow() {
    let (broker, clock) = in_memory();
    let topic = broker.create_topic("t", small()).expect("create");
    send(&topic, 100);
    clock.advance(10 * DAY);
    assert_eq!(range(&topic), (0, 100));
    broker.alter_topic("t", small().retention_age(DAY)).expect("alter");
    clock.advance(DAY);
    assert_eq!(range(&topic), (100, 100));
    broker.alter_topic("t", small()).expect("alter");
    send(&topic, 1);
    clock.advance(10 * DAY);
    assert_eq!(range(&topic), (100, 101));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let (broker, _) = in_memory();
    let refused = |config: TopicConfig| match broker.create_topic("t", config) {
        Err(Error::InvalidConfig { field, .. }) => field,
        Err(Error::InvalidGroupName { .. }) => "group",
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(TopicConfig::new().retention_age(Duration::ZERO)), "retention_age");
    assert_eq!(refused(TopicConfig::new().max_age(Duration::ZERO)), "max_age");
    assert_eq!(refused(TopicConfig::new().max_records(0)), "max_records");
    assert_eq!(refused(TopicConfig::new().partitions(2).max_bytes(100_000)), "max_bytes");
    assert_eq!(refused(TopicConfig::new().consumed_by([""])), "group");
}

#[test]
fn a_segment_that_is_gone_on_with_is_as_young_as_its_last_record() {
    let clock = ManualClock::new(NOW);
    let disk = SimulatedDisk::new(7);
    let open = || {
        let builder = Broker::builder("/data").simulated_disk(&disk).manual_clock(&clock);
        builder.open().expect("open")
    };
    let broker = open();
    let topic = broker.create_topic("t", small().retention_age(80 * SECOND)).expect("create");
    send(&topic, 1);
    drop(topic);
    broker.close().expect("close");
    let broker = open();
    let topic = broker.topic("t").expect("topic");
    clock.advance(9 * SECOND);
    send(&topic, 1);
    clock.advance(79 * SECOND);
    assert_eq!(range(&topic), (0, 2), "the second is 79 seconds old");
    clock.advance(SECOND);
    assert_eq!(range(&topic), (2, 2));
}

#[test]
fn reserved_space_does_not_count_as_kept() {
    let (broker, clock) = in_memory();
    let topic = broker
        .create_topic("t", small().segment_bytes(16 << 10).retention_bytes(32 << 10))
        .expect("create");
    for _ in 0..500 {
        send(&topic, 1);
        clock.advance(SECOND);
        let (start, end) = range(&topic);
        assert!(start == 0 || (end - start) * 140 >= 32 << 10, "{start} {end}");
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_no_segment_from_ending() {
    let (broker, clock) = in_memory();
    let topic = broker.create_topic("t", TopicConfig::new().retention_age(DAY)).expect("create");
    send(&topic, 1);
    clock.set(Timestamp::from_millis(NOW.as_millis() - 365 * 86_400_000));
    for _ in 0..100 {
        send(&topic, 1);
        clock.advance(DAY / 24);
    }
    assert!(range(&topic).0 > 60, "{:?}", range(&topic));
}

#[test]
fn what_a_group_has_committed_goes_when_the_commit_is_durable() {
    let clock = ManualClock::new(NOW);
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let open = |disk: &SimulatedDisk| open_on(disk, &clock);
        let broker = open(&disk);
        let topic = broker.create_topic("t", small().consumed_by(["g"])).expect("create");
        send(&topic, 500);
        let mut consumer =
            broker.consumer("g").subscribe(["t"]).max_records(250).open().expect("open");
        for is_first in [true, false] {
            assert_eq!(consumer.poll(SECOND).expect("poll").len(), 250);
            consumer.commit().expect("commit");
            if is_first {
                broker.flush().expect("flush");
            }
        }
        clock.advance(SECOND);
        assert_eq!(range(&topic), (500, 500));
        let disk = disk.cut_power();
        let broker = open(&disk);
        let topic = broker.topic("t").expect("topic");
        send(&topic, 1);
        let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("open");
        let batch = consumer.poll(SECOND).expect("no gap: all of it was consumed");
        assert_eq!(batch.len(), 1, "{seed}");
    }
}

#[test]
fn retention_goes_on_after_a_deletion_that_was_interrupted() {
    let clock = ManualClock::new(NOW);
    let disk = SimulatedDisk::new(7);
    let open = |disk: &SimulatedDisk| open_on(disk, &clock);
    let broker = open(&disk);
    let topic = broker.create_topic("t", small()).expect("create");
    send(&topic, 4_000);
    topic.flush().expect("flush");
    // The new beginning is stored, and then no file can be removed.
    let mut at = 0;
    let (broker, topic) = loop {
        at += 1;
        let copy = disk.copy();
        let broker = open(&copy);
        let topic = broker.topic("t").expect("topic");
        copy.fail_at(
            copy.operations() + at,
            std::io::ErrorKind::Other,
            forebay::testing::Failure::Forever,
        );
        let deleted = topic.delete_records(0, 3_900);
        let start = range(&topic).0;
        assert!(deleted.is_err());
        if start == 3_900 {
            let copy = copy.copy();
            drop((broker, topic));
            let broker = open(&copy);
            let topic = broker.topic("t").expect("topic");
            break (broker, topic);
        }
    };
    assert_eq!(range(&topic), (3_900, 4_000));
    let before = broker.describe_topic("t").expect("describe").usage.bytes;
    broker.alter_topic("t", small().retention_age(DAY)).expect("alter");
    clock.advance(SECOND);
    let after = broker.describe_topic("t").expect("describe").usage.bytes;
    assert!(after < before / 10, "{before} {after}");
    clock.advance(DAY);
    assert_eq!(range(&topic), (4_000, 4_000));
}

#[test]
fn a_broker_that_is_dropped_while_records_are_deleted_is_closed_then_and_there() {
    let dir = tempfile::tempdir().expect("directory");
    let interval = Duration::from_millis(1);
    for round in 0..50 {
        let opened = Broker::builder(dir.path()).retention_check_interval(interval).open();
        let broker = opened.unwrap_or_else(|error| panic!("round {round}: {error}"));
        if round == 0 {
            let config =
                TopicConfig::new().partitions(500).retention_age(DAY).consumed_by(["a", "b", "c"]);
            broker.create_topic("t", config).expect("create");
        }
        std::thread::sleep(Duration::from_millis(5 + round % 3));
        drop(broker);
    }
}

#[test]
fn a_clock_that_jumped_while_the_broker_was_open_or_killed_wipes_nothing_afterwards() {
    for is_killed in [false, true] {
        for jump_before in [false, true] {
            let clock = ManualClock::new(NOW);
            let disk = SimulatedDisk::new(7);
            let open = |disk: &SimulatedDisk| open_on(disk, &clock);
            let jump = || {
                clock.set(Timestamp::from_millis(clock.now().as_millis() + 10 * 365 * 86_400_000));
            };
            let broker = open(&disk);
            let topic = broker.create_topic("t", small().retention_age(DAY)).expect("create");
            send(&topic, 200);
            clock.advance(SECOND);
            if jump_before {
                jump();
            }
            send(&topic, 200);
            topic.flush().expect("flush");
            let disk = if is_killed {
                disk.copy()
            } else {
                broker.close().expect("close");
                disk
            };
            if !jump_before {
                jump();
            }
            let broker = open(&disk);
            let topic = broker.topic("t").expect("topic");
            broker.enforce_retention().expect("retention");
            assert_eq!(range(&topic), (0, 400), "killed {is_killed}, before {jump_before}");
            clock.advance(DAY + SECOND);
            assert_eq!(range(&topic), (400, 400));
        }
    }
}
