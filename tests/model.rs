//! Random lives of a broker beside a simple model: what the model has is what is read, from any
//! place, through restarts and power cuts.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use forebay::testing::SimulatedDisk;
use forebay::{Acks, Broker, ManualClock, Record, Start, Timestamp, TopicConfig};
use proptest::prelude::*;

const PARTITIONS: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    Send { partition: u32, bytes: usize, acks: Acks },
    Batch { sizes: Vec<(u32, usize)>, acks: Acks },
    Flush,
    Read { partition: u32, from: usize, records: usize, bytes: usize },
    ReadAll { merged: bool },
    FindTime { partition: u32, pick: u16 },
    Pass { millis: u64 },
    Alter { segment_bytes: u64 },
    Reopen,
    CutPower,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    let bytes = prop_oneof![4 => 0..200_usize, 1 => 0..6000_usize];
    let acks = prop_oneof![3 => Just(Acks::Written), 1 => Just(Acks::Synced)];
    prop_oneof![
        10 => (partition.clone(), bytes.clone(), acks.clone())
            .prop_map(|(partition, bytes, acks)| Step::Send { partition, bytes, acks }),
        4 => (prop::collection::vec((partition.clone(), bytes), 0..12), acks)
            .prop_map(|(sizes, acks)| Step::Batch { sizes, acks }),
        1 => Just(Step::Flush),
        4 => (partition.clone(), any::<u16>(), 1..40_usize, 1..3000_usize)
            .prop_map(|(partition, from, records, bytes)| Step::Read { partition, from: from.into(), records, bytes }),
        2 => any::<bool>().prop_map(|merged| Step::ReadAll { merged }),
       4 => (partition, any::<u16>()).prop_map(|(partition, pick)| Step::FindTime { partition, pick }),
        2 => (0..100_u64).prop_map(|millis| Step::Pass { millis }),
        1 => (4096..9000_u64).prop_map(|segment_bytes| Step::Alter { segment_bytes }),
        2 => Just(Step::Reopen),
        1 => Just(Step::CutPower),
    ]
}

/// A broker and what should be in it: for each partition the number, the length and the time of
/// each record.
struct World {
    disk: SimulatedDisk,
    clock: ManualClock,
    broker: Broker,
    records: Vec<Vec<(u64, usize, i64)>>,
    synced: Vec<usize>,
    next: u64,
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + bytes, number as u8);
    value
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let clock = ManualClock::new(Timestamp::from_millis(1000));
        let broker = open(&disk, &clock);
        let config =
            TopicConfig::new().partitions(PARTITIONS).segment_bytes(4096).index_interval_bytes(200);
        broker.create_topic("t", config).expect("create");
        let records = vec![Vec::new(); PARTITIONS as usize];
        Self { disk, clock, broker, records, synced: vec![0; PARTITIONS as usize], next: 0 }
    }

    fn take(&mut self, step: Step) {
        let topic = self.broker.topic("t").expect("topic");
        match step {
            Step::Send { partition, bytes, acks } => self.send(&[(partition, bytes)], acks, false),
            Step::Batch { sizes, acks } => self.send(&sizes, acks, true),
            Step::Flush => {
                topic.flush().expect("flush");
                self.note_synced();
            }
            Step::Read { partition, from, records, bytes } => {
                self.read(partition, from, records, bytes);
            }
            Step::ReadAll { merged } => self.read_all(merged),
            Step::FindTime { partition, pick } => {
                // The time of a record, or one just beside it.
                let records = &self.records[partition as usize];
                let near =
                    records.get(pick as usize % records.len().max(1)).map_or(0, |record| record.2);
                let millis = near + i64::from(pick % 3) - 1;
                let time = Timestamp::from_millis(millis);
                let found = topic.offset_for_timestamp(partition, time).expect("search");
                let expected = records.iter().position(|(_, _, time)| *time >= millis);
                assert_eq!(found.map(|(offset, _)| offset as usize), expected);
            }
            Step::Pass { millis } => self.clock.advance(std::time::Duration::from_millis(millis)),
            Step::Alter { segment_bytes } => {
                self.broker
                    .alter_topic("t", topic.config().segment_bytes(segment_bytes))
                    .expect("alter");
            }
            Step::Reopen => {
                drop(topic);
                self.broker.close().expect("close");
                self.note_synced();
                self.broker = open(&self.disk, &self.clock);
                assert_eq!(self.broker.recovery_report().partitions, []);
                self.check_kept();
            }
            Step::CutPower => {
                self.disk = self.disk.cut_power();
                self.broker = open(&self.disk, &self.clock);
                self.check_kept();
            }
        }
    }

    fn send(&mut self, sizes: &[(u32, usize)], acks: Acks, batch: bool) {
        let topic = self.broker.topic("t").expect("topic");
        let time = self.clock.now().as_millis();
        let values: Vec<_> =
            (self.next..).zip(sizes).map(|(number, (_, bytes))| value(number, *bytes)).collect();
        let records: Vec<_> = values
            .iter()
            .zip(sizes)
            .map(|(value, (partition, _))| Record::new(value).partition(*partition))
            .collect();
        let sent = if batch {
            topic.send_batch_with(&records, acks).expect("send")
        } else {
            records.into_iter().map(|record| topic.send_with(record, acks).expect("send")).collect()
        };
        for (sent, (partition, bytes)) in sent.iter().zip(sizes) {
            let records = &mut self.records[*partition as usize];
            assert_eq!((sent.partition, sent.offset), (*partition, records.len() as u64));
            records.push((self.next, *bytes, time));
            self.next += 1;
            if acks == Acks::Synced {
                self.synced[*partition as usize] = records.len();
            }
        }
    }

    fn note_synced(&mut self) {
        self.synced = self.records.iter().map(Vec::len).collect();
    }

    /// After a cut: all that was synced is there, and what is there is a prefix.
    fn check_kept(&mut self) {
        let topic = self.broker.topic("t").expect("topic");
        for (partition, (records, synced)) in (0..).zip(self.records.iter_mut().zip(&self.synced)) {
            let kept = topic.latest_offset(partition).expect("offset") as usize;
            assert!(
                (*synced..=records.len()).contains(&kept),
                "{kept} of {}, {synced} synced",
                records.len()
            );
            records.truncate(kept);
        }
        self.read_all(false);
    }

    fn read(&self, partition: u32, from: usize, records: usize, bytes: usize) {
        let expected = &self.records[partition as usize];
        let from = from % (expected.len() + 1);
        let start = Start::Offset(from as u64);
        let reader = self
            .broker
            .reader()
            .partition("t", partition, start)
            .max_records(records)
            .max_bytes(bytes);
        let mut reader = reader.open().expect("reader");
        let mut at = from;
        loop {
            let batch = reader.try_poll().expect("poll");
            assert!(batch.len() <= records);
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                let (number, bytes, time) = expected[at];
                assert_eq!((record.offset(), record.timestamp().as_millis()), (at as u64, time));
                assert_eq!(record.value(), Some(&value(number, bytes)[..]));
                at += 1;
            }
        }
        assert_eq!(at, expected.len());
    }

    fn read_all(&self, merged: bool) {
        let builder = self.broker.reader().topic("t", Start::Earliest).max_records(7);
        let builder = if merged { builder.merge_by_timestamp() } else { builder };
        let mut reader = builder.open().expect("reader");
        let mut at = vec![0; PARTITIONS as usize];
        let mut last = i64::MIN;
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                let next = &mut at[record.partition() as usize];
                let (number, bytes, time) = self.records[record.partition() as usize][*next];
                assert_eq!((record.offset(), record.timestamp().as_millis()), (*next as u64, time));
                assert_eq!(record.value(), Some(&value(number, bytes)[..]));
                *next += 1;
                assert!(!merged || last <= time, "merged records are in order of time");
                last = time;
            }
        }
        assert!(at.iter().zip(&self.records).all(|(at, records)| *at == records.len()));
    }
}

fn open(disk: &SimulatedDisk, clock: &ManualClock) -> Broker {
    Broker::builder("data").simulated_disk(disk).manual_clock(clock).open().expect("open")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_broker_does_what_the_model_does(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new(seed);
        for step in steps {
            world.take(step);
        }
        world.read_all(false);
    }
}
