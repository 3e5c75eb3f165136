//! Segments that are open for appending and get no records: they are closed, and gone on with.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::background::{Background, Job, Urgency};
use crate::open_segments::{KEPT, Looked, OpenSegments, Writes};
use crate::partition::Partition;
use crate::{Broker, ManualClock, Reader, Record, Start, Timestamp, Topic, TopicConfig};

fn partition(broker: &Broker, number: u32) -> Arc<Partition> {
    let state = broker.inner.topic("t").expect("topic");
    Arc::clone(state.partition(number).expect("partition"))
}

/// Looks until there is nothing left to see.
fn rest(broker: &Broker, number: u32) {
    let partition = partition(broker, number);
    while partition.look() == Looked::Busy {}
}

/// How many files below `dir` this process has open.
fn open_files(dir: &std::path::Path) -> usize {
    let entries = fs::read_dir("/proc/self/fd").expect("proc").flatten();
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(dir))).count()
}

fn mapped(dir: &std::path::Path) -> usize {
    let dir = dir.to_str().expect("text");
    fs::read_to_string("/proc/self/maps")
        .expect("maps")
        .lines()
        .filter(|line| line.contains(dir))
        .count()
}

fn send(topic: &Topic, partition: u32, numbers: std::ops::Range<u32>) {
    for number in numbers {
        topic.send(Record::new(&number.to_le_bytes()).partition(partition)).expect("send");
    }
}

fn segments(broker: &Broker) -> usize {
    broker.describe_topic("t").expect("describe").partitions[0].segments
}

/// Reads on, and checks that the values are the next numbers.
fn read_on(reader: &mut Reader, next: &mut u32, to: u32) {
    while *next < to {
        let batch = reader.poll(Duration::from_secs(5)).expect("poll");
        assert!(!batch.is_empty(), "{next} of {to}");
        for record in &batch {
            assert_eq!(record.value(), Some(&next.to_le_bytes()[..]));
            assert_eq!(record.offset(), u64::from(*next));
            *next += 1;
        }
    }
}

#[test]
fn a_segment_that_rested_is_gone_on_with_under_the_eyes_of_its_readers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let (mut next, mut held) = (0, Vec::new());
    let quota = || broker.describe_topic("t").expect("describe").usage.bytes;
    let mut used = Vec::new();
    for round in 1..=20 {
        send(&topic, 0, (round - 1) * 100..round * 100);
        held.push(reader.poll(Duration::from_secs(5)).expect("poll"));
        next += held.last().expect("pushed").len() as u32;
        read_on(&mut reader, &mut next, round * 100);
        rest(&broker, 0);
        used.push(quota());
        assert_eq!(open_files(&dir.path().join("topics/t/0")), 0);
        assert_eq!(topic.synced_offset(0).expect("offset"), u64::from(round) * 100);
    }
    assert_eq!(segments(&broker), 1);
    assert!(used.is_sorted() && used[19] < 100 << 10, "what was reserved is given back: {used:?}");
    let mut from_the_start = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    read_on(&mut from_the_start, &mut 0, 2000);
    drop((held, reader, from_the_start));
    assert_eq!(mapped(dir.path()), 0);
    // Killed, it is found as it was: this one is not closed, and what follows was not synced.
    send(&topic, 0, 2000..2100);
    let copy = tempfile::tempdir().expect("temporary directory");
    let mut cp = std::process::Command::new("cp");
    let copied = cp.arg("-r").arg(dir.path().join(".")).arg(copy.path()).status();
    assert!(copied.expect("cp").success());
    fs::remove_file(copy.path().join("LOCK")).expect("remove");
    let again = Broker::open(copy.path()).expect("open");
    let mut reader = again.reader().topic("t", Start::Earliest).open().expect("reader");
    read_on(&mut reader, &mut 0, 2100);
    broker.close().expect("close");
    assert!(Broker::verify(dir.path()).expect("verify").is_sound());
}

#[test]
fn what_comes_while_a_segment_is_being_closed_goes_to_the_next() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&topic, 0, 0..10);
    let partition = partition(&broker, 0);
    assert_eq!(partition.look(), Looked::Busy, "it was written since the last look");
    // As a look does, up to where the lock is given back.
    assert_eq!(partition.lock().writer.look(), crate::log::AtRest::Closed);
    send(&topic, 0, 10..20);
    partition.log().seal_rolled().expect("seal");
    partition.lock().writer.rested();
    send(&topic, 0, 20..30);
    assert_eq!(segments(&broker), 2);
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    read_on(&mut reader, &mut 0, 30);
}

#[test]
fn a_segment_whose_records_are_deleted_while_it_is_being_closed_is_not_gone_on_with() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    send(&topic, 0, 0..10);
    let partition = partition(&broker, 0);
    assert_eq!(partition.look(), Looked::Busy);
    assert_eq!(partition.lock().writer.look(), crate::log::AtRest::Closed);
    // As a deletion does, before it comes to the files.
    partition.lock().writer.roll_below(5);
    partition.log().seal_rolled().expect("seal");
    partition.lock().writer.rested();
    send(&topic, 0, 10..20);
    assert_eq!(segments(&broker), 2);
    topic.delete_records(0, 15).expect("delete");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    read_on(&mut reader, &mut 15, 20);
}

#[test]
fn one_that_is_too_old_to_be_gone_on_with_stays_as_old_as_it_is() {
    stays_as_old_as_it_is(false);
}

/// Symptom: records were kept longer than they should, in a topic that is opened now and then. Cause: a segment of
/// an earlier broker was taken to be appended to when it was only tried whether it can be.
#[test]
fn a_segment_of_an_earlier_broker_that_is_too_old_to_be_gone_on_with_stays_as_old_as_it_is() {
    stays_as_old_as_it_is(true);
}

fn stays_as_old_as_it_is(by_closing: bool) {
    const HOUR: Duration = Duration::from_secs(3600);
    let dir = tempfile::tempdir().expect("temporary directory");
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let open = || Broker::builder(dir.path()).manual_clock(&clock).open().expect("open");
    let mut broker = open();
    let config = TopicConfig::new().segment_age(Duration::from_secs(60));
    broker.create_topic("t", config.clone()).expect("create");
    send(&broker.topic("t").expect("topic"), 0, 0..10);
    if by_closing {
        broker.close().expect("close");
        broker = open();
    } else {
        rest(&broker, 0);
    }
    clock.advance(2 * HOUR);
    send(&broker.topic("t").expect("topic"), 0, 10..20);
    assert_eq!(segments(&broker), 2);
    broker.close().expect("close");
    let broker = open();
    broker.alter_topic("t", config.retention_age(3 * HOUR)).expect("alter");
    clock.advance(2 * HOUR);
    broker.enforce_retention().expect("retention");
    let topic = broker.topic("t").expect("topic");
    assert_eq!(topic.earliest_offset(0).expect("offset"), 10, "four hours old, and two");
}

#[test]
fn a_deleted_topic_and_a_segment_without_records_are_left_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let partition = partition(&broker, 0);
    assert_eq!(partition.look(), Looked::Closed, "nothing is open");
    send(&topic, 0, 0..10);
    broker.delete_topic("t").expect("delete");
    assert_eq!(partition.look(), Looked::Closed);
}

#[test]
fn a_broker_whose_partitions_were_all_written_keeps_no_more_open_than_it_may() {
    const PARTITIONS: u32 = 300;
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic =
        broker.create_topic("t", TopicConfig::new().partitions(PARTITIONS)).expect("create");
    for round in 0..2 {
        (0..PARTITIONS).for_each(|number| send(&topic, number, round..round + 1));
    }
    let partition = partition(&broker, 0);
    let open = partition.open_segments();
    assert_eq!(open.len(), PARTITIONS as usize, "each is known once");
    let begun = std::time::Instant::now();
    while open_files(&dir.path().join("topics")) > KEPT {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} are open", open.len());
        open.look_at_all();
        std::thread::sleep(Duration::from_millis(10));
    }
    // Whoever rested comes again, and is known again.
    (0..PARTITIONS).for_each(|number| send(&topic, number, 2..3));
    assert_eq!(open_files(&dir.path().join("topics")), PARTITIONS as usize);
    for number in [0, 1, PARTITIONS - 1] {
        let mut reader =
            broker.reader().partition("t", number, Start::Earliest).open().expect("reader");
        read_on(&mut reader, &mut 0, 3);
    }
}

/// Keeps jobs until they are asked for.
#[derive(Default)]
struct Kept(Mutex<Vec<Job>>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Background for Kept {
    fn submit(&self, _urgency: Urgency, job: Job) {
        self.0.lock().push(job);
    }

    fn submit_after(&self, _delay: Duration, job: Job) {
        self.0.lock().push(job);
    }

    fn stop(&self) {}
}

impl Kept {
    fn do_one(&self) -> bool {
        let job = self.0.lock().pop();
        job.map(|job| job()).is_some()
    }
}

/// Is busy for so many looks.
struct Segment(AtomicUsize);

impl Writes for Segment {
    fn look(&self) -> Looked {
        let busy =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if busy.is_ok() { Looked::Busy } else { Looked::Closed }
    }
}

#[test]
fn no_more_stay_open_than_are_kept_or_are_busy_and_nobody_looks_when_that_is_so() {
    let background = Arc::new(Kept::default());
    let as_dyn: Arc<dyn Background> = Arc::<Kept>::clone(&background);
    let open = OpenSegments::new(&as_dyn, Some(50));
    // Every third is always busy.
    let segments: Vec<_> = (0..300)
        .map(|at| Arc::new(Segment(AtomicUsize::new(if at % 3 == 0 { usize::MAX } else { 1 }))))
        .collect();
    for (at, segment) in segments.iter().enumerate() {
        assert_eq!(
            background.0.lock().len(),
            usize::from(at > 50),
            "one job waits, from the 51st on"
        );
        let segment: Arc<dyn Writes> = Arc::<Segment>::clone(segment);
        open.add(Arc::downgrade(&segment));
    }
    for _ in 0..100 {
        assert!(background.do_one());
    }
    assert_eq!(open.len(), 100, "those that are busy");
    drop(segments);
    let rest = (0..100).take_while(|_| background.do_one()).count();
    assert!(rest < 100 && open.len() <= 50, "{rest}: nobody looks when there are few");
}
