//! A broker's whole directory, damaged: it opens or is refused, and what opens can be used.
//!
//! The input begins with the directory to start from and goes on with changes to its files, each a
//! kind, a file and a place. If the highest bit of a kind is set, that file's checksums are put right
//! when all is done.

use std::sync::LazyLock;
use std::time::Duration;

use forebay::fuzzing::{self, File};
use forebay::{Acks, Broker, ManualClock, Record, ResetTo, Result, Start, Timestamp, TopicConfig};

use crate::checksums;
use crate::directory::{self, DIR, GROUP, Left, TOPIC};
use crate::input::Input;

/// Made once: libFuzzer calls the same process millions of times.
static BASES: LazyLock<[Vec<File>; 3]> =
    LazyLock::new(|| [Left::Closed, Left::Killed, Left::Shortened].map(directory::make));

/// More than any log made here holds: who reads on has met a hang.
const MANY: usize = 100_000;
/// Longer files teach nothing.
const MAX_FILE: usize = 1 << 18;

/// One input.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut files = BASES[usize::from(input.byte()) % BASES.len()].clone();
    let mut to_fix = Vec::new();
    while !input.is_empty() && !files.is_empty() {
        let kind = input.byte();
        let place = usize::from(input.byte()) % files.len();
        if kind & 0x80 != 0 {
            to_fix.push(files[place].0.clone());
        }
        change(kind & 0x7f, place, &mut files, &mut input);
    }
    for (name, bytes) in &mut files {
        if to_fix.contains(name) {
            checksums::fix(name, bytes);
        }
    }
    let disk = fuzzing::disk(DIR, &files);
    let clock = ManualClock::new(Timestamp::from_millis(5_000));
    let Ok(broker) = directory::open(&disk, &clock) else { return };
    drop(use_it(&broker));
    let sent = append(&broker);
    if broker.close().is_err() {
        return;
    }
    drop(broker);
    let broker = directory::open(&disk, &clock).expect("what was opened and closed can be opened");
    for (partition, offset) in sent {
        check_sent(&broker, partition, offset);
    }
    drop(use_it(&broker));
    drop(broker.delete_topic(TOPIC));
    drop(broker.close());
}

/// One change to the file at `place`.
fn change(kind: u8, place: usize, files: &mut Vec<File>, input: &mut Input<'_>) {
    let at = usize::from(input.half());
    let other = files.get(at % files.len()).map(|(_, bytes)| bytes.clone()).unwrap_or_default();
    let Some((_, bytes)) = files.get_mut(place) else { return };
    let at = if bytes.is_empty() { 0 } else { at % (bytes.len() + 1) };
    match kind % 13 {
        0 => put(bytes, at, &[input.byte()]),
        1 => {
            let mask = input.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let len = usize::from(input.half());
            let end = bytes.len().min(at + len);
            bytes[at..end].fill(0);
        }
        4 => {
            let len = usize::from(input.byte());
            put(bytes, at, input.bytes(len));
        }
        5 => put(bytes, at, &input.number().to_le_bytes()),
        6 => put(bytes, at, &(input.number() as u32).to_le_bytes()),
        7 => {
            let len = usize::from(input.half());
            let fill = input.byte();
            bytes.resize((bytes.len() + len).min(MAX_FILE), fill);
        }
        8 => *bytes = other,
        9 => {
            let (from, len) = (usize::from(input.half()), usize::from(input.half()));
            let from = from.min(other.len());
            let run = other[from..other.len().min(from + len)].to_vec();
            put(bytes, at, &run);
        }
        10 => {
            let len = usize::from(input.byte());
            let run = input.bytes(len);
            bytes.splice(at..at, run.iter().copied());
            bytes.truncate(MAX_FILE);
        }
        11 => {
            files.remove(place);
        }
        _ => {
            let (name, bytes) = files[place].clone();
            if let Some(name) = renamed(&name, input) {
                files.retain(|(other, _)| *other != name);
                files.push((name, bytes));
            }
        }
    }
}

/// Overwrites what is there, and goes beyond the end if need be.
fn put(bytes: &mut Vec<u8>, at: usize, run: &[u8]) {
    let end = (at + run.len()).min(MAX_FILE);
    let run = &run[..end.saturating_sub(at)];
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..at + run.len()].copy_from_slice(run);
}

/// The name a copy of a file gets: with another number where it has one.
fn renamed(name: &str, input: &mut Input<'_>) -> Option<String> {
    let (dir, last) = name.rsplit_once('/')?;
    match last.split_once('.') {
        Some((_, end)) => Some(format!("{dir}/{:020}.{end}", input.number())),
        None => match input.byte() % 3 {
            0 => Some(format!("{dir}/{last}~")),
            1 => Some(format!("{dir}/spare")),
            _ => Some(format!("topics/~new/{last}")),
        },
    }
}

/// Everything that reads, and everything of groups; the first error of each kind of use ends it.
fn use_it(broker: &Broker) -> Result<()> {
    let _ = format!("{:?}", broker.recovery_report());
    for name in broker.topics() {
        drop(broker.describe_topic(&name));
        drop(read_all(broker, &name));
        let topic = broker.topic(&name)?;
        for partition in 0..topic.partitions().min(4) {
            let (first, end) = (topic.earliest_offset(partition)?, topic.latest_offset(partition)?);
            assert!(first <= end, "a log ends behind its beginning");
            for offset in [first, first.midpoint(end), end.saturating_sub(1), end, end + 1] {
                drop(read_from(broker, &name, partition, offset));
            }
            for millis in [i64::MIN, -1, 0, 1_100, i64::MAX] {
                let time = Timestamp::from_millis(millis);
                if let Ok(Some((offset, found))) = topic.offset_for_timestamp(partition, time) {
                    assert!(found >= time && offset < end, "a record that is not older");
                }
            }
        }
    }
    drop(consume(broker));
    for group in broker.groups()? {
        drop(broker.describe_group(&group));
        drop(broker.committed(&group, TOPIC, 0));
    }
    drop(broker.reset_offsets(GROUP, ResetTo::Earliest).topic(TOPIC).execute());
    Ok(())
}

fn read_all(broker: &Broker, topic: &str) -> Result<()> {
    let mut reader = broker.reader().topic(topic, Start::Earliest).max_records(7).open()?;
    for _ in 0..MANY {
        let batch = reader.try_poll()?;
        if batch.is_empty() {
            return Ok(());
        }
        for record in &batch {
            let _ = (record.key().map(<[u8]>::len), record.value().map(<[u8]>::len));
            assert_eq!(record.headers().count(), record.headers().len());
        }
    }
    panic!("reading does not come to an end");
}

fn read_from(broker: &Broker, topic: &str, partition: u32, offset: u64) -> Result<()> {
    let mut reader = broker.reader().partition(topic, partition, Start::Offset(offset)).open()?;
    let batch = reader.try_poll()?;
    let first = batch.get(0).map(|record| record.offset());
    assert!(first.is_none_or(|first| first == offset), "the first is the one asked for");
    Ok(())
}

fn consume(broker: &Broker) -> Result<()> {
    let mut consumer = broker.consumer(GROUP).subscribe([TOPIC, "other"]).open()?;
    for _ in 0..3 {
        drop(consumer.try_poll()?);
    }
    consumer.commit_with(Acks::Synced)?;
    consumer.close()
}

/// Where records were put that were sent.
fn append(broker: &Broker) -> Vec<(u32, u64)> {
    let mut sent = Vec::new();
    let Ok(topic) = broker.topic(TOPIC) else {
        drop(broker.create_topic(TOPIC, TopicConfig::new().segment_bytes(4096)));
        return sent;
    };
    for number in 0..12 {
        let key = number.to_string();
        let value = [b's'; 500];
        if let Ok(done) = topic.send(Record::new(&value).key(&key)) {
            sent.push((done.partition, done.offset));
        }
    }
    drop(topic.flush());
    if let Ok(end) = topic.latest_offset(0) {
        drop(topic.delete_records(0, end / 3));
    }
    let pair = [Record::new("a").key("1"), Record::new("b").key("2")];
    drop(topic.send_batch_with(&pair, Acks::Synced));
    sent
}

/// What was sent is what is found there; an error may be in the way, something else may not.
fn check_sent(broker: &Broker, partition: u32, offset: u64) {
    let from = broker.reader().partition(TOPIC, partition, Start::Offset(offset)).open();
    let Ok(mut reader) = from else { return };
    let Ok(batch) = reader.poll(Duration::ZERO) else { return };
    let record = batch.get(0).expect("what was sent is there");
    assert_eq!((record.offset(), record.value()), (offset, Some(&[b's'; 500][..])));
}
