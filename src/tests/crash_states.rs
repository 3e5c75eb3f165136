//! What a power cut can leave, at every operation of a life and between them.
//!
//! One life runs; at each of its operations the disk is asked many times what a cut at this moment
//! could leave: any subset of what was not synced, in pages or torn at 512 bytes, any prefix of each
//! directory's changes. Each answer is a disk of its own, which is opened and compared with what had
//! been sent and acknowledged by then. Some are gone on with: a second life on what the first left,
//! cut again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::planted::{Planted, with_planted};
use crate::open_segments::{Looked, Writes};
use crate::storage::split_mix;
use crate::testing::{Failure, SimulatedDisk};
use crate::{Acks, Broker, Error, Record, Result, Start, Topic, TopicConfig};

const TOPIC: &str = "t";
const PARTITIONS: usize = 2;

/// What was sent to one partition.
#[derive(Clone, Debug, Default)]
struct Sent {
    values: Vec<String>,
    /// Where a frame ends, by number of records.
    frames: Vec<usize>,
    /// How many of them were told Synced.
    synced: usize,
}

/// What was sent, and whether the topic was there.
#[derive(Clone, Debug, Default)]
struct Model {
    created: bool,
    partitions: [Sent; PARTITIONS],
}

/// How a life goes.
#[derive(Clone, Copy, Debug)]
struct Life {
    seed: u64,
    /// Tells what it sends from what other lives send.
    number: u64,
    steps: u64,
}

impl Life {
    /// Sends, syncs, rolls, and closes, keeping book in `model` of each record before it is sent and
    /// of each acknowledgement after.
    fn live(self, disk: &SimulatedDisk, model: &Mutex<Model>) -> Result<()> {
        let broker = open(disk)?;
        let config = TopicConfig::new().partitions(PARTITIONS as u32).segment_bytes(4096);
        let config = if self.seed.is_multiple_of(3) { config.flush_records(5) } else { config };
        let topic = broker.create_topic_if_absent(TOPIC, config)?;
        model.lock().created = true;
        for step in 0..self.steps {
            self.step(&topic, step, model)?;
            if (self.seed + step).is_multiple_of(7) {
                rest(&broker)?;
            }
        }
        if self.seed.is_multiple_of(2) {
            broker.close()?;
            for sent in &mut model.lock().partitions {
                sent.synced = sent.values.len();
            }
        }
        Ok(())
    }

    fn step(self, topic: &Topic, step: u64, model: &Mutex<Model>) -> Result<()> {
        let mut random = self.seed ^ self.number << 32 ^ step;
        let choice = split_mix(&mut random);
        let partition = (choice % PARTITIONS as u64) as usize;
        // Frames of one length make the bytes of an earlier life fit where new ones end.
        let filler = if self.seed.is_multiple_of(4) { 300 } else { choice / 7 % 900 };
        let count = if choice.is_multiple_of(5) { 3 } else { 1 };
        let values: Vec<String> = (0..count)
            .map(|at| {
                let (seed, life) = (self.seed, self.number);
                format!("seed {seed:04} life {life} step {step:03}.{at} ")
                    + &"x".repeat(filler as usize)
            })
            .collect();
        let acks = if (choice / 11).is_multiple_of(4) { Acks::Synced } else { Acks::Written };
        {
            let sent = &mut model.lock().partitions[partition];
            sent.values.extend(values.iter().cloned());
            sent.frames.push(sent.values.len());
        }
        let records: Vec<_> =
            values.iter().map(|value| Record::new(value).partition(partition as u32)).collect();
        topic.send_batch_with(&records, acks)?;
        if acks == Acks::Synced {
            let sent = &mut model.lock().partitions[partition];
            sent.synced = sent.values.len();
        }
        Ok(())
    }
}

/// Has every segment closed that is open, to be gone on with by the next step.
fn rest(broker: &Broker) -> Result<()> {
    let topic = broker.inner.topic(TOPIC)?;
    for number in 0..PARTITIONS as u32 {
        let partition = topic.partition(number)?;
        while partition.look() == Looked::Busy {}
    }
    Ok(())
}

fn open(disk: &SimulatedDisk) -> Result<Broker> {
    Broker::builder("data").simulated_disk(disk).open()
}

/// What a partition holds.
fn values(broker: &Broker, partition: u32) -> Result<Vec<String>> {
    let mut reader = broker.reader().partition(TOPIC, partition, Start::Earliest).open()?;
    let mut values = Vec::new();
    loop {
        let batch = reader.try_poll()?;
        if batch.is_empty() {
            return Ok(values);
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        values.extend(batch.iter().map(|record| record.value().map(text).unwrap_or_default()));
    }
}

/// Opens what a cut left, and says what is wrong with it. The model then holds what is there.
fn check(disk: &SimulatedDisk, model: &mut Model) -> std::result::Result<(), String> {
    let broker = open(disk).map_err(|error| format!("it does not open: {error}"))?;
    for partition in &broker.recovery_report().partitions {
        if !partition.damage.is_empty() {
            return Err(format!("a cut is taken for damage: {:?}", partition.damage));
        }
    }
    if broker.topic(TOPIC).is_err() {
        return if model.created { Err("the topic is gone".to_owned()) } else { Ok(()) };
    }
    for (number, sent) in (0..).zip(&mut model.partitions) {
        let found = values(&broker, number).map_err(|error| format!("reading: {error}"))?;
        let count = found.len();
        if count < sent.synced {
            return Err(format!("partition {number} has {count} of {} synced", sent.synced));
        }
        if sent.values.get(..count) != Some(&found[..]) {
            return Err(format!("partition {number} has what was not sent, or not in this order"));
        }
        if count > 0 && !sent.frames.contains(&count) {
            return Err(format!("partition {number} has a part of a batch"));
        }
        sent.values.truncate(count);
        sent.frames.retain(|frame| *frame <= count);
    }
    Ok(())
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// States asked for at each operation.
    states: u64,
    /// Every so many of them is gone on with.
    go_on: u64,
    /// Until when.
    deadline: Instant,
}

/// The states of one life, and of the lives that follow some of them. Returns how many there were and
/// what is wrong with the first that is.
fn explore(seed: u64, effort: Effort) -> (u64, Option<String>) {
    let found = Arc::new(Mutex::new((0_u64, None::<String>)));
    let model = Arc::new(Mutex::new(Model::default()));
    let disk = SimulatedDisk::new(seed);
    observe(&disk, Life { seed, number: 1, steps: 24 }, &model, &found, effort, 2);
    let lived = Life { seed, number: 1, steps: 24 }.live(&disk, &model);
    if let Err(error) = lived {
        found.lock().1.get_or_insert(format!("in peace: {error}"));
    }
    let (states, trouble) = &*found.lock();
    (*states, trouble.as_ref().map(|trouble| format!("seed {seed}: {trouble}")))
}

/// Has every operation of `life` on `disk` looked at.
fn observe(
    disk: &SimulatedDisk,
    life: Life,
    model: &Arc<Mutex<Model>>,
    found: &Arc<Mutex<(u64, Option<String>)>>,
    effort: Effort,
    lives_left: u64,
) {
    let (model, found) = (Arc::clone(model), Arc::clone(found));
    disk.observe(effort.states, move |operation, state, image| {
        if found.lock().1.is_some() || Instant::now() > effort.deadline {
            return;
        }
        let at = format!("life {} operation {operation} state {state}", life.number);
        let mut left = model.lock().clone();
        // The disk as the cut left it is kept: what the check does to it is cut off again.
        let goes_on =
            lives_left > 0 && (operation * effort.states + state).is_multiple_of(effort.go_on);
        let checked = if goes_on { image.copy() } else { image.clone() };
        found.lock().0 += 1;
        if let Err(trouble) = check(&checked, &mut left) {
            found.lock().1.get_or_insert(format!("{at}: {trouble}"));
            return;
        }
        if goes_on {
            let next = Life { number: life.number + 1, steps: 8, seed: life.seed };
            // Only what was synced must survive the next cut.
            let model = Arc::new(Mutex::new(left));
            let fewer = Effort { states: effort.states.min(4), go_on: 64, ..effort };
            observe(&image, next, &model, &found, fewer, lives_left - 1);
            if let Err(error) = next.live(&image, &model) {
                found.lock().1.get_or_insert(format!("{at}, then in peace: {error}"));
            }
        }
    });
}

/// States of many lives, on two threads, for so long or until so many.
fn explore_many(planted: Planted, enough: u64, time: Duration) -> (u64, Option<String>) {
    let states_each = if enough < 10_000 { 2 } else { 16 };
    let deadline = Instant::now() + time;
    let half = |thread: u64| {
        with_planted(planted, || {
            let mut states = 0;
            for seed in (thread..).step_by(2) {
                if states >= enough / 2 || Instant::now() > deadline {
                    return (states, None);
                }
                let (more, trouble) =
                    explore(seed, Effort { states: states_each, go_on: 96, deadline });
                states += more;
                if trouble.is_some() {
                    return (states, trouble);
                }
            }
            (states, None)
        })
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let one = half(0);
        let other = other.join().expect("no panic");
        (one.0 + other.0, one.1.or(other.1))
    })
}

fn expect_none(enough: u64, time: Duration) {
    let begun = Instant::now();
    let (states, trouble) = explore_many(Planted::Nothing, enough, time);
    println!("{states} crash states in {:.1?}", begun.elapsed());
    assert_eq!(trouble, None);
    assert!(states >= enough, "{states} of {enough} crash states in {time:?}");
}

#[test]
#[cfg_attr(miri, ignore = "far too many for Miri")]
fn no_crash_state_loses_or_invents_anything() {
    expect_none(4_000, Duration::from_secs(120));
}

/// `cargo test --release --lib a_hundred_thousand -- --ignored --nocapture`
#[test]
#[ignore = "the long form of the test above: see tests/README.md"]
fn a_hundred_thousand_crash_states_lose_and_invent_nothing() {
    expect_none(100_000, Duration::from_secs(60));
}

#[test]
#[cfg_attr(miri, ignore = "far too many for Miri")]
fn planted_bugs_are_found_in_crash_states() {
    for planted in [
        Planted::SkipsTheSync,
        Planted::SkipsTheDirectorySync,
        Planted::SkipsTheChecksum,
        Planted::LeavesTheTail,
        Planted::KeepsLaterSegments,
        Planted::MovesTheRecoveryPointEarly,
    ] {
        let (states, trouble) = explore_many(planted, 1_000_000, Duration::from_secs(40));
        let Some(trouble) = trouble else { panic!("{planted:?} was not found in {states} states") };
        println!("{planted:?} was found after {states} states: {trouble}");
    }
}

/// A sync fails, the broker is opened again and everything written before is told Synced: it must be.
fn after_a_failed_sync(seed: u64) -> std::result::Result<(), String> {
    let disk = SimulatedDisk::new(seed);
    let sent = |broker: &Broker| -> Result<()> {
        let topic = broker.create_topic_if_absent(TOPIC, TopicConfig::new())?;
        for number in 0..5 {
            topic.send(Record::new(&format!("record {number}")))?;
        }
        disk.fail_at(disk.operations() + 1, io::ErrorKind::Other, Failure::Forever);
        assert!(matches!(topic.flush(), Err(Error::Poisoned { .. })));
        disk.fail_at(u64::MAX, io::ErrorKind::Other, Failure::Forever);
        Ok(())
    };
    let broker = open(&disk).map_err(|error| error.to_string())?;
    sent(&broker).map_err(|error| error.to_string())?;
    drop(broker);
    // The page cache is still there, and so is everything in it.
    let broker = open(&disk).map_err(|error| error.to_string())?;
    let found = values(&broker, 0).map_err(|error| error.to_string())?;
    assert_eq!(found.len(), 5, "seed {seed}");
    broker.flush().map_err(|error| error.to_string())?;
    let broker = open(&disk.cut_power()).map_err(|error| format!("it does not open: {error}"))?;
    let found = values(&broker, 0).map_err(|error| format!("reading: {error}"))?;
    if found.len() == 5 { Ok(()) } else { Err(format!("{} of 5 are there", found.len())) }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_anew_before_it_is_called_synced() {
    for seed in 0..50 {
        assert_eq!(after_a_failed_sync(seed), Ok(()), "seed {seed}");
    }
    let caught = (0..50).any(|seed| {
        with_planted(Planted::BelievesTheNextSync, || after_a_failed_sync(seed)).is_err()
    });
    assert!(caught, "a sync that is believed after one that failed is found");
}
