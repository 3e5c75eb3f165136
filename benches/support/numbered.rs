//! A topic whose records are numbered, so that it can be told whether all of them are there, in order.

use std::collections::HashMap;
use std::time::Duration;

use forebay::{Batch, Broker, Record, Start, Topic, TopicConfig};

/// A topic that is sent records numbered from 0.
pub struct Numbered {
    pub topic: Topic,
    next: u64,
    value: Vec<u8>,
}

impl Numbered {
    /// A new topic for records of `size` bytes, at least 8.
    pub fn create(broker: &Broker, name: &str, config: TopicConfig, size: usize) -> Self {
        let topic = broker.create_topic(name, config).expect("create");
        Self { topic, next: 0, value: vec![7; size] }
    }

    /// Sends the next record to a partition.
    #[inline]
    pub fn send(&mut self, partition: u32) {
        self.value[..8].copy_from_slice(&self.next.to_le_bytes());
        self.topic.send(Record::new(&self.value).partition(partition)).expect("send");
        self.next += 1;
    }

    /// Sends so many records to partition 0, in batches of 100 at most.
    pub fn send_batches(&mut self, count: u64) {
        let end = self.next + count;
        let mut values = vec![self.value.clone(); 100];
        while self.next < end {
            let here = (end - self.next).min(100);
            let values = &mut values[..usize::try_from(here).expect("100 at most")];
            for (number, value) in (self.next..).zip(values.iter_mut()) {
                value[..8].copy_from_slice(&number.to_le_bytes());
            }
            let records: Vec<Record<'_>> =
                values.iter().map(|value| Record::new(value).partition(0)).collect();
            self.topic.send_batch(&records).expect("send");
            self.next += here;
        }
    }

    /// Reads everything from the first offset on, and checks count, order and content.
    pub fn check(&self, broker: &Broker) {
        let name = self.topic.name();
        let mut reader = broker.reader().topic(name, Start::Earliest).open().expect("reader");
        let mut tally = Tally::default();
        while tally.count < self.next {
            let batch = reader.poll(Duration::from_secs(10)).expect("poll");
            assert!(!batch.is_empty(), "{} of {} records of {name}", tally.count, self.next);
            tally.add(&batch, self.value.len());
        }
        assert!(reader.try_poll().expect("poll").is_empty(), "more than were sent");
        assert_eq!(tally.sum, self.next * self.next.saturating_sub(1) / 2, "of their numbers");
    }
}

/// What was read, for a check at the end.
#[derive(Default)]
struct Tally {
    count: u64,
    sum: u64,
    /// Of each partition, the offset that comes next and the last record's number.
    last: HashMap<u32, (u64, u64)>,
}

impl Tally {
    /// Adds what a poll gave, which must follow on what was added before.
    fn add(&mut self, batch: &Batch, size: usize) {
        for record in batch {
            let value = record.value().expect("a value");
            assert_eq!(value.len(), size);
            let number = u64::from_le_bytes(value[..8].try_into().expect("8 bytes"));
            let before = self.last.insert(record.partition(), (record.offset() + 1, number));
            let (offset, is_later) =
                before.map_or((0, true), |(offset, last)| (offset, number > last));
            assert!(record.offset() == offset && is_later, "record {number} at {offset}");
            self.count += 1;
            self.sum += number;
        }
    }
}
