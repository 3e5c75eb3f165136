//! Directories as brokers leave them, for fuzzers to change.

use std::time::Duration;

use forebay::fuzzing::{self, File};
use forebay::testing::SimulatedDisk;
use forebay::{Acks, Broker, ManualClock, Record, Result, Timestamp, TopicConfig};

/// Where the directory lies on its disk.
pub const DIR: &str = "data";
/// The topic all of them have, and the group that reads it.
pub const TOPIC: &str = "t";
pub const GROUP: &str = "g";

/// How a directory was left.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// The broker was closed.
    Closed,
    /// The process was killed.
    Killed,
    /// The broker was closed after the beginning of the log was deleted, and opened and killed.
    Shortened,
}

/// What a broker with a few small segments and a group leaves.
pub fn make(left: Left) -> Vec<File> {
    let disk = SimulatedDisk::new(3);
    let clock = ManualClock::new(Timestamp::from_millis(1_000));
    let mut files = fill(&disk, &clock, left).expect("nothing fails on a sound disk");
    // Reserved blocks are zeros; fewer of them are faster to copy.
    for (_, bytes) in &mut files {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate((used + 256).min(bytes.len()));
    }
    files.retain(|(name, _)| name != "LOCK" && name != "offsets/spare");
    files
}

fn fill(disk: &SimulatedDisk, clock: &ManualClock, left: Left) -> Result<Vec<File>> {
    let broker = open(disk, clock)?;
    let config =
        TopicConfig::new().segment_bytes(4096).index_interval_bytes(300).max_record_bytes(2048);
    let topic = broker.create_topic(TOPIC, config.clone().partitions(2))?;
    broker.create_topic("other", config)?.send(Record::new("alone"))?;
    for number in 0..70_u64 {
        clock.advance(Duration::from_millis(3));
        let value = format!("record {number} {}", "x".repeat((number * 53 % 170) as usize));
        let key = number.to_string();
        let record = Record::new(&value).key(&key).header("h", &key);
        let acks = if number == 30 { Acks::Synced } else { Acks::Written };
        topic.send_with(record, acks)?;
    }
    topic.send_batch(&[Record::new("one").key("a"), Record::tombstone().key("a")])?;
    let mut consumer = broker.consumer(GROUP).subscribe([TOPIC]).max_records(9).open()?;
    drop(consumer.try_poll()?);
    consumer.commit_with(Acks::Synced)?;
    drop(consumer.try_poll()?);
    consumer.commit()?;
    if matches!(left, Left::Killed) {
        return Ok(fuzzing::files(disk, DIR));
    }
    consumer.close()?;
    if matches!(left, Left::Shortened) {
        topic.delete_records(0, topic.latest_offset(0)? * 2 / 3)?;
    }
    broker.close()?;
    if matches!(left, Left::Shortened) {
        let broker = open(disk, clock)?;
        broker.topic(TOPIC)?.send(Record::new("again").key("b"))?;
        return Ok(fuzzing::files(disk, DIR));
    }
    Ok(fuzzing::files(disk, DIR))
}

/// A broker on that disk, under that clock.
pub fn open(disk: &SimulatedDisk, clock: &ManualClock) -> Result<Broker> {
    Broker::builder(DIR).simulated_disk(disk).manual_clock(clock).open()
}
