//! Power cuts at every operation of a small workload, on a disk that loses any part of what was
//! not synced; and operations that fail at every place.
//!
//! After each: what was told Synced is there, what is there is a prefix of what was sent, and the
//! broker goes on from there, through another cut.
//!
//! `FOREBAY_SEEDS` sets how many ways of losing things are tried at each place.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::io;

use forebay::testing::{Failure, SimulatedDisk};
use forebay::{Acks, Broker, Error, Record, Result, Start, Topic, TopicConfig};

const PARTITIONS: usize = 3;

/// What was sent, and what was promised.
#[derive(Clone, Debug, Default)]
struct Model {
    created: bool,
    partitions: [Sent; PARTITIONS],
    lives: usize,
    /// All values are of one length, so that frames of different lives lie at the same places.
    uniform: bool,
}

#[derive(Clone, Debug, Default)]
struct Sent {
    /// Every value that may be in the log, in order.
    values: Vec<String>,
    /// How many of them were told to be on stable storage.
    synced: usize,
    /// After how many of them a frame ends.
    frame_ends: Vec<usize>,
}

impl Sent {
    fn frame(&mut self, values: &[String]) {
        self.values.extend_from_slice(values);
        self.frame_ends.push(self.values.len());
    }
}

fn open(disk: &SimulatedDisk) -> Result<Broker> {
    Broker::builder("data").simulated_disk(disk).open()
}

/// Sends this and that until it is done or the power is gone.
fn work(disk: &SimulatedDisk, model: &mut Model) -> Result<()> {
    model.lives += 1;
    let life = model.lives;
    let broker = open(disk)?;
    adopt(&broker, model, &format!("life {life}"))?;
    let config = TopicConfig::new().partitions(2).segment_bytes(4096).index_interval_bytes(300);
    let topic = broker.create_topic_if_absent("t", config.clone())?;
    model.created = true;
    for step in 0..30 {
        send_step(&topic, model, life, step)?;
        if step == 10 {
            broker.alter_topic("t", topic.config().segment_bytes(5000))?;
        }
        if step == 15 {
            broker.create_partitions("t", 3)?;
        }
        if step == 20 {
            topic.flush()?;
            for partition in 0..topic.partitions() as usize {
                model.partitions[partition].synced = model.partitions[partition].values.len();
            }
        }
    }
    broker.close()?;
    for sent in &mut model.partitions {
        sent.synced = sent.values.len();
    }
    Ok(())
}

fn send_step(topic: &Topic, model: &mut Model, life: usize, step: usize) -> Result<()> {
    let partition = step % topic.partitions() as usize;
    let filler = "x".repeat(if model.uniform { 300 } else { step * 37 % 700 });
    let value = |number: usize| format!("life {life} step {step:02} record {number} {filler}");
    let sent = &mut model.partitions[partition];
    let acks = if step % 4 == 3 { Acks::Synced } else { Acks::Written };
    if step % 5 == 2 {
        let values: Vec<String> = (0..4).map(value).collect();
        let records: Vec<_> =
            values.iter().map(|value| Record::new(value).partition(partition as u32)).collect();
        sent.frame(&values);
        topic.send_batch_with(&records, acks)?;
    } else {
        let values = [value(0)];
        sent.frame(&values);
        topic.send_with(Record::new(&values[0]).partition(partition as u32), acks)?;
    }
    if acks == Acks::Synced {
        sent.synced = sent.values.len();
    }
    Ok(())
}

/// Opens what the cut left and compares it with the model, which then holds what is there.
fn check(disk: &SimulatedDisk, model: &mut Model, what: &str) {
    let broker = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    adopt(&broker, model, what).unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// As [`check`], on a disk that stays as the cut left it: what the check does is cut off again.
fn check_kept(disk: &SimulatedDisk, model: &mut Model, what: &str) {
    check(&disk.copy(), model, what);
}

/// Compares what a broker found with the model, which then holds what is there.
fn adopt(broker: &Broker, model: &mut Model, what: &str) -> Result<()> {
    let topic = match broker.topic("t") {
        Ok(topic) => topic,
        Err(error) => {
            assert!(!model.created, "{what}: {error}");
            return Ok(());
        }
    };
    for (partition, sent) in (0..).zip(&mut model.partitions) {
        if partition >= topic.partitions() {
            assert_eq!(sent.synced, 0, "{what}: partition {partition} is gone");
            *sent = Sent::default();
            continue;
        }
        let found = values(broker, partition)?;
        let count = found.len();
        assert!(
            count >= sent.synced,
            "{what}: partition {partition} has {count} of {} synced",
            sent.synced
        );
        assert!(
            sent.values.starts_with(&found),
            "{what}: partition {partition} is no prefix: {found:?} of {:?}",
            sent.values
        );
        assert!(
            count == 0 || sent.frame_ends.contains(&count),
            "{what}: partition {partition} ends within a batch, after {count}"
        );
        sent.values.truncate(count);
        sent.frame_ends.retain(|end| *end <= count);
    }
    Ok(())
}

fn values(broker: &Broker, partition: u32) -> Result<Vec<String>> {
    let mut reader = broker.reader().partition("t", partition, Start::Earliest).open()?;
    let mut values = Vec::new();
    loop {
        let batch = reader.try_poll()?;
        if batch.is_empty() {
            return Ok(values);
        }
        for record in &batch {
            assert_eq!(record.offset(), values.len() as u64);
            values.push(String::from_utf8(record.value().expect("value").to_vec()).expect("text"));
        }
    }
}

fn seeds() -> u64 {
    let default = if cfg!(miri) { 1 } else { 8 };
    std::env::var("FOREBAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// How many operations the workload takes when nothing goes wrong.
fn operations() -> u64 {
    let disk = SimulatedDisk::new(0);
    work(&disk, &mut Model::default()).expect("nothing goes wrong");
    disk.operations()
}

fn stride() -> usize {
    if cfg!(miri) { 23 } else { 1 }
}

#[test]
fn a_cut_at_any_operation_loses_nothing_synced_and_keeps_a_prefix() {
    let mut states = 0;
    for at in (1..=operations()).step_by(stride()) {
        for seed in 0..seeds() {
            let what = format!("cut at operation {at}, seed {seed}");
            let mut model = Model { uniform: seed % 2 == 1, ..Model::default() };
            let disk = SimulatedDisk::new(seed);
            disk.cut_power_at(at);
            assert!(work(&disk, &mut model).is_err(), "{what} was reached");
            let disk = disk.cut_power();
            // What is kept is not yet known to be durable: only what was synced must survive the
            // next cut, and what is sent in the next life must not bring the first one back.
            let second = seed * 31 + at;
            disk.cut_power_at(1 + second % 150);
            drop(work(&disk, &mut model));
            let mut disk = disk.cut_power();
            let what = format!("{what}, then another");
            check(&disk, &mut model, &what);
            work(&disk, &mut model)
                .unwrap_or_else(|error| panic!("{what}, then in peace: {error}"));
            check(&disk, &mut model, &what);
            // A life that begins after a clean close, and two cuts in it and in the next.
            for (life, after) in [(4, second * 7), (5, second * 13)] {
                disk.cut_power_at(disk.operations() + 1 + after % 120);
                drop(work(&disk, &mut model));
                disk = disk.cut_power();
                check_kept(&disk, &mut model, &format!("{what}, then in life {life}"));
            }
            states += 5;
        }
    }
    println!("{states} crash states");
}

#[test]
fn a_cut_between_operations_loses_nothing_synced_either() {
    for step in (0..30).step_by(stride()) {
        for seed in 0..seeds() {
            let what = format!("cut after step {step}, seed {seed}");
            let disk = SimulatedDisk::new(seed);
            let mut model = Model { lives: 1, ..Model::default() };
            let broker = open(&disk).expect("open");
            let config = TopicConfig::new().partitions(2).segment_bytes(4096);
            let topic = broker.create_topic("t", config).expect("create");
            model.created = true;
            for step in 0..=step {
                send_step(&topic, &mut model, 1, step).expect("send");
            }
            check(&disk.cut_power(), &mut model, &what);
        }
    }
}

#[test]
fn a_cut_during_recovery_changes_nothing() {
    for at in (20..=operations()).step_by(7 * stride()) {
        for seed in 0..seeds().min(4) {
            let mut model = Model::default();
            let disk = SimulatedDisk::new(seed);
            disk.cut_power_at(at);
            drop(work(&disk, &mut model));
            let mut disk = disk.cut_power();
            // Each attempt gets a little further, until one gets through.
            for cut in 1.. {
                disk.cut_power_at(cut);
                let opened = open(&disk);
                if !disk.is_off() {
                    drop(opened);
                    break;
                }
                disk = disk.cut_power();
            }
            check(
                &disk.cut_power(),
                &mut model,
                &format!("cut at operation {at}, seed {seed}, then during recovery"),
            );
        }
    }
}

/// Sends until it is done, whatever fails, keeping book of what was accepted.
fn work_on(disk: &SimulatedDisk, model: &mut Model, what: &str) -> Option<Broker> {
    let broker = open(disk).ok()?;
    let config = TopicConfig::new().partitions(2).segment_bytes(4096);
    let topic = broker.create_topic_if_absent("t", config).ok()?;
    model.created = true;
    for step in 0..30 {
        let partition = step % 2;
        let before = model.partitions[partition].clone();
        let result = send_step(&topic, model, 1, step);
        let sent = &mut model.partitions[partition];
        match result {
            Ok(()) => {}
            Err(Error::StorageFull { .. } | Error::Io { .. }) => *sent = before,
            // The record may have been written before its sync failed.
            Err(Error::Poisoned { .. }) => {
                let latest = topic.latest_offset(partition as u32).expect("offset") as usize;
                assert!([before.values.len(), sent.values.len()].contains(&latest), "{what}");
                if latest == before.values.len() {
                    *sent = before;
                }
            }
            Err(error) => panic!("{what}: {error}"),
        }
        assert_eq!(
            topic.latest_offset(partition as u32).expect("offset") as usize,
            sent.values.len(),
            "{what}"
        );
    }
    Some(broker)
}

#[test]
fn an_operation_that_fails_anywhere_is_an_error_and_loses_nothing() {
    let total = {
        let disk = SimulatedDisk::new(0);
        drop(work_on(&disk, &mut Model::default(), "in peace"));
        disk.operations()
    };
    for at in (1..=total).step_by(stride()) {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            for failure in [Failure::Once, Failure::Forever] {
                let what = format!("operation {at} fails with {kind:?} {failure:?}");
                let disk = SimulatedDisk::new(at);
                disk.fail_at(at, kind, failure);
                let mut model = Model::default();
                let broker = work_on(&disk, &mut model, &what);
                if failure == Failure::Once
                    && let Some(broker) = &broker
                {
                    // It may not have happened yet, and this is not the place for it.
                    disk.fail_at(u64::MAX, kind, failure);
                    for (partition, sent) in (0..2).zip(&model.partitions) {
                        assert_eq!(values(broker, partition).expect(&what), sent.values, "{what}");
                    }
                }
                drop(broker);
                // The process ends here, the disk is mended, and everything accepted is there.
                disk.fail_at(u64::MAX, kind, Failure::Once);
                let kept = model.clone();
                check(&disk, &mut model, &what);
                for (kept, found) in kept.partitions.iter().zip(&model.partitions) {
                    assert_eq!(kept.values, found.values, "{what}");
                }
                work(&disk, &mut model)
                    .unwrap_or_else(|error| panic!("{what}, then in peace: {error}"));
                check(&disk.cut_power(), &mut model, &what);
            }
        }
    }
}

#[test]
fn after_a_failed_sync_a_partition_takes_nothing_until_it_is_reopened() {
    let disk = SimulatedDisk::new(5);
    let broker = open(&disk).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    topic.send_with(Record::new("safe").partition(0), Acks::Synced).expect("send");
    disk.fail_at(disk.operations() + 1, io::ErrorKind::StorageFull, Failure::Once);
    let failed = topic.send_with(Record::new("unsure").partition(0), Acks::Synced);
    assert!(matches!(failed, Err(Error::Poisoned { partition: 0, .. })));
    for acks in [Acks::Written, Acks::Synced] {
        let refused = topic.send_with(Record::new("no").partition(0), acks);
        assert!(matches!(refused, Err(Error::Poisoned { partition: 0, .. })));
        topic.send_with(Record::new("other partition").partition(1), acks).expect("send");
    }
    assert!(matches!(topic.flush(), Err(Error::Poisoned { .. })));
    assert_eq!(values(&broker, 0).expect("poisoned").len(), 2, "reading goes on");
    assert!(matches!(broker.close(), Err(Error::Poisoned { .. })));
    let disk = disk.cut_power();
    let broker = open(&disk).expect("reopen");
    assert_eq!(values(&broker, 0).expect("reopened")[..1], ["safe"]);
    assert_eq!(values(&broker, 1).expect("reopened").len(), 2);
    broker.topic("t").expect("topic").send(Record::new("again").partition(0)).expect("send");
}

#[test]
fn a_full_disk_is_an_error_and_sending_goes_on_when_there_is_room() {
    let disk = SimulatedDisk::new(5);
    let broker = open(&disk).expect("open");
    let topic =
        broker.create_topic("t", TopicConfig::new().segment_bytes(1 << 20)).expect("create");
    topic.send(Record::new("first")).expect("send");
    disk.fail_at(disk.operations() + 1, io::ErrorKind::StorageFull, Failure::Forever);
    let value = [1; 1000];
    let refused =
        (0..1000).find_map(|_| topic.send(Record::new(&value)).err()).expect("it is full");
    assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
    let accepted = topic.latest_offset(0).expect("offset");
    assert!(matches!(topic.send(Record::new(&value)), Err(Error::StorageFull { .. })));
    assert_eq!(values_len(&broker), accepted);
    disk.fail_at(u64::MAX, io::ErrorKind::StorageFull, Failure::Once);
    assert_eq!(topic.send(Record::new(&value)).expect("room again").offset, accepted);
    broker.close().expect("close");
}

fn values_len(broker: &Broker) -> u64 {
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let polls =
        std::iter::from_fn(|| Some(reader.try_poll().expect("poll").len()).filter(|len| *len > 0));
    polls.sum::<usize>() as u64
}

/// Small enough for Miri, which looks at every access to memory: a life with a roll, a cut,
/// recovery, and a batch that outlives its broker.
#[test]
fn a_short_life_and_what_follows() {
    let disk = SimulatedDisk::new(3);
    let broker = open(&disk).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    for number in 0..4 {
        let value = number.to_string().repeat(1500);
        topic.send_with(Record::new(&value).key("k").header("h", "v"), Acks::Synced).expect("send");
    }
    let records = [Record::new("one"), Record::tombstone().key("two")];
    topic.send_batch(&records).expect("send");
    let disk = disk.cut_power();
    let broker = open(&disk).expect("reopen");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let batch = reader.try_poll().expect("poll");
    assert!(batch.len() >= 4);
    broker.topic("t").expect("topic").send(Record::new("next")).expect("send");
    assert_eq!(reader.try_poll().expect("poll").len(), 1);
    broker.close().expect("close");
    drop((reader, broker));
    assert_eq!(batch.get(3).expect("record").value(), Some("3".repeat(1500).as_bytes()));
    assert_eq!(batch.get(0).expect("record").header("h"), Some(&b"v"[..]));
}

/// A group that has committed more than a power cut left must not skip what is sent in its place.
#[test]
fn commits_beyond_the_end_are_moved_back_for_good_and_reported() {
    let mut moved = 0;
    for seed in 0..60 {
        let disk = SimulatedDisk::new(seed);
        let open = |disk: &SimulatedDisk| {
            Broker::builder("data").simulated_disk(disk).open().expect("open")
        };
        let broker = open(&disk);
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        for _ in 0..10 {
            topic.send_with(Record::new("first life"), Acks::Synced).expect("send");
        }
        let group = |broker: &Broker| {
            broker.consumer("g").subscribe(["t"]).commit_acks(Acks::Synced).open().expect("open")
        };
        let mut consumer = group(&broker);
        for _ in 0..40 {
            topic.send(Record::new("first life")).expect("send");
        }
        assert_eq!(consumer.try_poll().expect("poll").len(), 50);
        consumer.commit().expect("commit");
        drop(consumer);
        let disk = disk.cut_power();
        let broker = open(&disk);
        let end = broker.topic("t").expect("topic").latest_offset(0).expect("offset");
        let report = &broker.recovery_report().commits;
        if end == 50 {
            assert!(report.is_empty());
            continue;
        }
        moved += 1;
        assert_eq!(report.len(), 1);
        let [one] = &report[..] else { panic!("{report:?}") };
        assert_eq!((one.group.as_str(), one.committed, one.end_offset), ("g", 50, end));
        // The log grows past what was committed, and the power is cut again before anybody reads.
        for _ in 0..80 {
            let record = Record::new("second life");
            broker.topic("t").expect("topic").send_with(record, Acks::Synced).expect("send");
        }
        let disk = disk.cut_power();
        let broker = open(&disk);
        assert!(broker.recovery_report().commits.is_empty(), "it was moved for good");
        let mut consumer = group(&broker);
        let batch = consumer.try_poll().expect("poll");
        assert_eq!((batch.len(), batch.get(0).expect("a record").offset()), (80, end));
        assert!(batch.iter().all(|record| record.value() == Some(b"second life")));
    }
    assert!(moved > 20, "{moved} lost records that had been committed");
}

/// Whatever operation fails: a group loses no commit that returned, and skips nothing.
#[test]
fn an_operation_that_fails_while_a_group_commits_loses_no_commit() {
    for at in 1.. {
        let disk = SimulatedDisk::new(at);
        let open = || Broker::builder("data").simulated_disk(&disk).open();
        disk.fail_at(at, io::ErrorKind::Other, Failure::Once);
        let (mut committed, mut position) = (0, 0);
        let live = |committed: &mut u64, position: &mut u64| -> forebay::Result<()> {
            let broker = open()?;
            let topic =
                broker.create_topic_if_absent("t", TopicConfig::new().segment_bytes(4096))?;
            let mut consumer = broker.consumer("g").subscribe(["t"]).open()?;
            for round in 0..30 {
                topic.send(Record::new(&[7; 300]))?;
                for record in &consumer.try_poll()? {
                    assert!(record.offset() <= *position, "operation {at}: skipped");
                    *position = record.offset() + 1;
                }
                let acks = if round % 5 == 0 { Acks::Synced } else { Acks::Written };
                consumer.commit_with(acks)?;
                *committed = *position;
            }
            consumer.close()?;
            broker.close()
        };
        drop(live(&mut committed, &mut position));
        let was_reached = disk.operations() >= at;
        let (before, mut ignored) = (committed, position);
        live(&mut ignored, &mut position).expect("it fails once");
        let broker = open().expect("open");
        let group = broker.describe_group("g").expect("group");
        assert!(group.offsets[0].committed >= Some(before), "operation {at}");
        drop(broker);
        if !was_reached {
            assert!(at > 40, "{at} operations");
            break;
        }
    }
}
