//! What one call of a sink is given.

use smallvec::SmallVec;

use super::slice::Slice;
use crate::batch::ConsumerRecord;
use crate::topic_partition::TopicPartition;

/// Records of one partition, in order, as a [`Sink`](crate::Sink) is given them. They are borrowed from
/// the log.
///
/// ```
/// # use std::time::Duration;
/// # use forebay::{Broker, Record, SinkBatch, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
/// let forwarder = broker.forwarder("shipper").subscribe(["orders"]).start(|batch: &SinkBatch| {
///     for record in batch {
///         println!("{} {:?}", record.offset(), record.value());
///     }
///     Ok(())
/// })?;
/// # forwarder.stop(Duration::from_secs(1))?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Debug)]
pub struct SinkBatch {
    name: TopicPartition,
    slices: SmallVec<[Slice; 2]>,
    records: usize,
    bytes: usize,
    /// Counted from 1.
    pub(super) attempt: u32,
}

impl SinkBatch {
    /// A batch of these records, the first of which has not failed yet.
    pub(super) fn new(name: TopicPartition, slices: SmallVec<[Slice; 2]>) -> Self {
        let mut batch = Self { name, slices, records: 0, bytes: 0, attempt: 1 };
        batch.measure();
        batch
    }

    fn measure(&mut self) {
        self.records = self.slices.iter().map(Slice::len).sum();
        self.bytes = self.slices.iter().map(Slice::bytes).sum();
    }

    /// The topic the records were sent to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.name.topic
    }

    /// The partition they lie in.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.name.partition
    }

    /// How many records there are; at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there are none, which does not happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// What their keys, values and headers take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many times the first of these records has been at the front of a delivery, counted from 1:
    /// above 1 it is a retry.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The record at a place, counted from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<ConsumerRecord<'_>> {
        let mut left = index;
        for slice in &self.slices {
            if left < slice.len() {
                return slice.get(left);
            }
            left -= slice.len();
        }
        None
    }

    /// The records, in order.
    #[must_use]
    pub fn iter(&self) -> SinkBatchIter<'_> {
        SinkBatchIter { slices: &self.slices, next: 0, left: self.records }
    }

    pub(super) fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// The offset of the first record.
    pub(super) fn first(&self) -> u64 {
        self.slices.first().map_or(0, Slice::first)
    }

    /// The offset behind the last record. Between the two every offset is a record here.
    pub(super) fn end(&self) -> u64 {
        self.slices.last().map_or(0, Slice::end)
    }

    /// Takes off the first `count` records, which were delivered.
    pub(super) fn skip(&mut self, mut count: usize) {
        while let Some(slice) = self.slices.first_mut() {
            count -= slice.take(count).len();
            if slice.len() > 0 {
                break;
            }
            self.slices.remove(0);
        }
        self.measure();
    }

    pub(super) fn into_slices(self) -> SmallVec<[Slice; 2]> {
        self.slices
    }
}

impl<'a> IntoIterator for &'a SinkBatch {
    type Item = ConsumerRecord<'a>;
    type IntoIter = SinkBatchIter<'a>;

    fn into_iter(self) -> SinkBatchIter<'a> {
        self.iter()
    }
}

/// The records of a [`SinkBatch`], in order.
#[derive(Clone, Debug)]
pub struct SinkBatchIter<'a> {
    slices: &'a [Slice],
    /// The place of the next record in the first of them.
    next: usize,
    left: usize,
}

impl<'a> Iterator for SinkBatchIter<'a> {
    type Item = ConsumerRecord<'a>;

    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        loop {
            let (slice, rest) = self.slices.split_first()?;
            if let Some(record) = slice.get(self.next) {
                self.next += 1;
                self.left -= 1;
                return Some(record);
            }
            (self.slices, self.next) = (rest, 0);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SinkBatchIter<'_> {}
