//! A run of records of one partition within a batch that was polled.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{Batch, ConsumerRecord};
use crate::topic_partition::TopicPartition;

/// Records of one partition whose offsets follow each other. Keeps the batch, and so the mappings the
/// records lie in; nothing is copied.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    batch: Arc<Batch>,
    places: Range<usize>,
    /// The offset of its first record.
    first: u64,
}

impl Slice {
    /// The runs of a batch, each with its partition.
    pub(super) fn runs(batch: Batch) -> Vec<(TopicPartition, Self)> {
        let batch = Arc::new(batch);
        let mut runs: Vec<(TopicPartition, Self)> = Vec::new();
        for (at, record) in batch.iter().enumerate() {
            let (topic, partition) = (record.topic(), record.partition());
            if let Some((name, run)) = runs.last_mut()
                && name.partition == partition
                && *name.topic == *topic
                && run.end() == record.offset()
            {
                run.places.end += 1;
                continue;
            }
            let name = TopicPartition::new(topic, partition);
            let (places, first) = (at..at + 1, record.offset());
            runs.push((name, Self { batch: Arc::clone(&batch), places, first }));
        }
        runs
    }

    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The offset of its first record, if it has one.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The offset behind its last record.
    pub(super) fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// The record at a place, counted from 0.
    pub(super) fn get(&self, at: usize) -> Option<ConsumerRecord<'_>> {
        self.batch.get(self.places.clone().nth(at)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConsumerRecord<'_>> {
        self.places.clone().filter_map(|at| self.batch.get(at))
    }

    /// What its records take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.iter().map(|record| record.bytes()).sum()
    }

    /// Takes off the first `count` records, or all, and returns them.
    pub(super) fn take(&mut self, count: usize) -> Self {
        let count = count.min(self.len());
        let middle = self.places.start + count;
        let taken = Self {
            batch: Arc::clone(&self.batch),
            places: self.places.start..middle,
            first: self.first,
        };
        self.places.start = middle;
        self.first += count as u64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broker, Record, Start, TopicConfig};

    #[test]
    fn a_batch_falls_into_runs_of_one_partition_without_holes() {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
        for number in 0..10 {
            topic.send(Record::new("x").partition(number % 2)).expect("send");
        }
        let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
        let runs = Slice::runs(reader.try_poll().expect("poll"));
        let ends: Vec<_> = runs.iter().map(|(name, run)| (name.partition, run.end())).collect();
        assert_eq!(ends, [(0, 5), (1, 5)]);
        let mut run = runs[0].1.clone();
        let taken = run.take(2);
        assert_eq!((taken.first(), taken.end(), run.first(), run.end()), (0, 2, 2, 5));
        let offsets: Vec<_> = run.iter().map(|record| record.offset()).collect();
        assert_eq!(offsets, [2, 3, 4]);
        assert_eq!(run.get(1).map(|record| record.offset()), Some(3));
        assert!(run.get(3).is_none() && taken.bytes() == 2);
        assert_eq!((run.take(9).len(), run.len(), run.first()), (3, 0, 5));
    }
}
