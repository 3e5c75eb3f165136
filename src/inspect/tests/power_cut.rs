//! Power is cut at every operation of a repair, and every operation fails: the next repair finishes it,
//! and nothing that was sound is lost.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::{Storage, durable_mark};
use crate::testing::{Failure, SimulatedDisk};
use crate::{Acks, Broker, Error, Record, RecoveryMode, Result, Start, TopicConfig};

const RECORDS: u64 = 40;
const PARTITION: &str = "data/topics/t/0";

/// What there is to read: records by offset, and the gaps between them.
type Content = (BTreeMap<u64, Vec<u8>>, Vec<(u64, u64)>);

fn salvage(disk: &SimulatedDisk) -> Result<Broker> {
    Broker::builder("data").simulated_disk(disk).recovery_mode(RecoveryMode::Salvage).open()
}

fn read_all(broker: &Broker) -> Content {
    let (mut records, mut gaps) = (BTreeMap::new(), Vec::new());
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    loop {
        match reader.try_poll() {
            Ok(batch) if batch.is_empty() => return (records, gaps),
            Ok(batch) => records.extend(
                batch
                    .iter()
                    .map(|record| (record.offset(), record.value().expect("value").to_vec())),
            ),
            Err(Error::Gap { from, to, .. }) => gaps.push((from, to)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A log of a few segments and a group, closed or only flushed.
fn make(clean: bool) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let broker = Broker::builder("data").simulated_disk(&disk).open().expect("open");
    let config = TopicConfig::new().segment_bytes(4096);
    let topic = broker.create_topic("t", config).expect("create");
    for number in 0..RECORDS {
        let value = format!("{number} {}", "z".repeat(200));
        topic.send_with(Record::new(&value), Acks::Synced).expect("send");
    }
    let mut consumer =
        broker.consumer("g").subscribe(["t"]).start(Start::Earliest).open().expect("join");
    while consumer.try_poll().expect("poll").is_empty() {}
    consumer.commit().expect("commit");
    if clean {
        drop(consumer);
        broker.close().expect("close");
    } else {
        broker.flush().expect("flush");
        // What tells damage from a torn tail is usually written back by itself.
        let mark = durable_mark::path_in(Path::new(PARTITION));
        disk.shared.open(&mark).expect("mark").sync().expect("sync");
        disk.shared.sync_dir(Path::new(PARTITION)).expect("sync");
    }
    disk.copy()
}

fn is_log(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "log")
}

fn logs(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let dir = Path::new(PARTITION);
    let entries = disk.shared.list(dir).expect("list");
    let names = entries.iter().map(|entry| entry.name.as_str()).filter(|name| is_log(name));
    let mut logs: Vec<_> = names.map(|name| dir.join(name)).collect();
    logs.sort();
    logs
}

/// Flips a bit at each of these places, durably.
fn damage(disk: &SimulatedDisk, places: &[(&Path, usize)]) {
    for (path, place) in places {
        let mut bytes = disk.shared.read(path, 1 << 20).expect("read");
        bytes[*place] ^= 8;
        disk.shared.write(path, &bytes).expect("write").sync().expect("sync");
    }
}

/// Which bytes are to be damaged, from the segments there are.
type Places = fn(&[PathBuf]) -> Vec<(PathBuf, usize)>;

/// What may be wrong with a directory at once.
fn cases(clean: bool) -> Vec<SimulatedDisk> {
    let cases: [Places; 5] = [
        |logs| vec![(logs[0].clone(), 1000), (logs[0].clone(), 2500)],
        |logs| vec![(logs[0].clone(), 70), (logs[1].clone(), 20)],
        |logs| vec![(logs[1].clone(), 900), (logs.last().expect("a log").clone(), 500)],
        |logs| vec![(logs[1].clone(), 2000), (Path::new("data/topics/t/topic").into(), 30)],
        |logs| vec![(logs[1].clone(), 900), (Path::new(PARTITION).join("checkpoint"), 22)],
    ];
    let damaged = |places: Places| {
        let disk = make(clean);
        let places = places(&logs(&disk));
        let places: Vec<_> = places.iter().map(|(path, place)| (path.as_path(), *place)).collect();
        damage(&disk, &places);
        disk
    };
    // Without a close nothing may have been sealed, and then there is no checkpoint.
    let count = if clean { cases.len() } else { cases.len() - 1 };
    cases.into_iter().take(count).map(damaged).collect()
}

/// What a repair that is not interrupted comes to, and how many operations it and the open take.
fn undisturbed(damaged: &SimulatedDisk) -> (Content, u64) {
    let disk = damaged.copy();
    let first = disk.operations();
    let broker = salvage(&disk).expect("salvage");
    let operations = disk.operations() - first;
    let content = read_all(&broker);
    let missing: u64 = content.1.iter().map(|(from, to)| to - from).sum();
    let start = broker.describe_topic("t").expect("describe").partitions[0].earliest_offset;
    assert!(missing > 0 || start > 0, "something is gone");
    assert_eq!(start + content.0.len() as u64 + missing, RECORDS);
    (content, operations)
}

fn assert_finished(disk: &SimulatedDisk, expected: &Content, what: &str) {
    let broker = salvage(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(read_all(&broker), *expected, "{what}");
    let topic = broker.topic("t").expect("topic");
    let sent = topic.send_with(Record::new("on"), Acks::Synced).expect("send");
    assert_eq!(sent.offset, RECORDS, "{what}");
    broker.close().expect("close");
    let broker = salvage(disk).expect("open");
    assert_eq!(broker.recovery_report().salvaged, None, "{what}");
}

#[test]
fn a_power_cut_at_any_operation_of_a_repair_leaves_what_can_be_repaired() {
    for clean in [true, false] {
        for (case, damaged) in cases(clean).iter().enumerate() {
            let (expected, operations) = undisturbed(damaged);
            for at in 1..=operations {
                let disk = damaged.copy();
                disk.cut_power_at(disk.operations() + at);
                drop(salvage(&disk));
                let what = format!("clean {clean}, case {case}, cut at {at} of {operations}");
                assert_finished(&disk.cut_power(), &expected, &what);
            }
        }
    }
}

#[test]
fn an_operation_of_a_repair_that_fails_leaves_what_can_be_repaired() {
    for (case, damaged) in cases(true).iter().enumerate() {
        let (expected, operations) = undisturbed(damaged);
        for at in 1..=operations {
            let disk = damaged.copy();
            disk.fail_at(disk.operations() + at, io::ErrorKind::Other, Failure::Once);
            drop(salvage(&disk));
            let what = format!("case {case}, failure at {at} of {operations}");
            assert_finished(&disk, &expected, &what);
        }
    }
}
