//! A lane: one partition on its way to the sink.
//!
//! Records come in at the back as they are read, are cut into batches at the front, and one batch at
//! a time is with the sink. That, and that a batch which failed stays in front, keeps the order.
//! Pure; called under the lock of the flow.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::acknowledged::Acknowledged;
use super::sink_batch::SinkBatch;
use super::slice::Slice;
use crate::topic_partition::TopicPartition;

/// The most one batch has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A batch that waits for the sink.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) batch: SinkBatch,
    /// When it may be tried again, if it failed.
    pub(super) not_before: Option<Instant>,
    /// Why it goes to the dead letters instead, if it does.
    pub(super) dead: Option<String>,
}

/// Where a lane stands in the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has nothing to deliver.
    Idle,
    /// It will be ready then.
    Waiting(Instant),
    Ready,
    /// These offsets are with a worker.
    Busy(Range<u64>),
}

/// One partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: TopicPartition,
    pub(super) place: Place,
    pub(super) done: Acknowledged,
    /// What the group has committed.
    pub(super) committed: u64,
    /// What is in front, cut.
    pub(super) trial: Option<Trial>,
    /// Runs of records and when they came.
    stock: VecDeque<(Slice, Instant)>,
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// Records below this offset are delivered one at a time.
    pub(super) singly_below: u64,
    /// Whether its partition is paused, because there is enough in here.
    pub(super) held: bool,
    /// Whether its partition is about to go to another member.
    pub(super) closing: bool,
}

impl Lane {
    /// An empty lane of a partition that is read from `from` on, where the group has come to
    /// `committed`.
    pub(super) fn new(name: TopicPartition, from: u64, committed: u64) -> Self {
        Self {
            name,
            place: Place::Idle,
            done: Acknowledged::from(from),
            committed,
            trial: None,
            stock: VecDeque::new(),
            records: 0,
            bytes: 0,
            singly_below: 0,
            held: false,
            closing: false,
        }
    }

    pub(super) fn push(&mut self, slice: Slice, now: Instant) {
        self.records += slice.len();
        self.bytes += slice.bytes();
        self.stock.push_back((slice, now));
    }

    /// From when on there is something to be delivered; `None` if there is nothing. What does not fill
    /// a batch waits for `linger`.
    pub(super) fn due(&self, now: Instant, linger: Duration, most: Most) -> Option<Instant> {
        if let Some(trial) = &self.trial {
            return Some(trial.not_before.unwrap_or(now));
        }
        let (first, came) = self.stock.front()?;
        let is_full = self.records >= most.records || self.bytes >= most.bytes;
        if is_full || first.first() < self.singly_below {
            return Some(now);
        }
        // A time too far off to be told is looked at again in an hour.
        Some(came.checked_add(linger).unwrap_or(now + Duration::from_secs(3600)))
    }

    /// The batch in front, cut if it was not yet.
    pub(super) fn cut(&mut self, most: Most) -> Option<&Trial> {
        if self.trial.is_none() {
            let slices = self.cut_slices(most);
            if !slices.is_empty() {
                let batch = SinkBatch::new(self.name.clone(), slices);
                self.trial = Some(Trial { batch, not_before: None, dead: None });
            }
        }
        self.trial.as_ref()
    }

    fn cut_slices(&mut self, most: Most) -> SmallVec<[Slice; 2]> {
        let mut slices: SmallVec<[Slice; 2]> = SmallVec::new();
        let (mut records, mut bytes) = (0, 0);
        while let Some((slice, _)) = self.stock.front_mut() {
            let is_single = slice.first() < self.singly_below;
            let most_records = if is_single { 1 } else { most.records };
            // Where offsets are missing, another batch begins.
            let fits_on = slices.last().is_none_or(|last| last.end() == slice.first());
            let (mut count, mut size) = (0, 0);
            for record in
                slice.iter().take(if fits_on { most_records.saturating_sub(records) } else { 0 })
            {
                let larger = bytes + size + record.bytes();
                if larger > most.bytes && records + count > 0 {
                    break;
                }
                (count, size) = (count + 1, larger - bytes);
            }
            if count == 0 {
                break;
            }
            let is_all = count == slice.len();
            slices.push(slice.take(count));
            (records, bytes) = (records + count, bytes + size);
            if !is_all {
                break;
            }
            self.stock.pop_front();
            if is_single {
                break;
            }
        }
        self.records -= records;
        self.bytes -= bytes;
        slices
    }

    /// Puts records back in front, to be cut anew.
    pub(super) fn put_back(&mut self, batch: SinkBatch, now: Instant) {
        self.records += batch.len();
        self.bytes += batch.bytes();
        for slice in batch.into_slices().into_iter().rev() {
            self.stock.push_front((slice, now));
        }
    }

    /// Forgets what was not given to the sink. Whoever reads the partition next reads it again.
    pub(super) fn clear(&mut self) {
        self.trial = None;
        self.stock.clear();
        (self.records, self.bytes) = (0, 0);
    }

    /// How many records lie in here and are not with a worker.
    pub(super) fn pending(&self) -> usize {
        self.records + self.trial.as_ref().map_or(0, |trial| trial.batch.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broker, Record, Start, TopicConfig};

    const MOST: Most = Most { records: 4, bytes: 100 };

    /// A lane with one record for each of these numbers of bytes, in runs of three.
    fn lane(sizes: &[usize]) -> Lane {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        for size in sizes {
            topic.send(Record::new(&vec![b'x'; *size])).expect("send");
        }
        let mut reader =
            broker.reader().topic("t", Start::Earliest).max_records(3).open().expect("reader");
        let mut lane = Lane::new(TopicPartition::new("t", 0), 0, 0);
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                return lane;
            }
            for (_, slice) in Slice::runs(batch) {
                lane.push(slice, Instant::now());
            }
        }
    }

    fn cuts(lane: &mut Lane) -> Vec<Range<u64>> {
        let mut cuts = Vec::new();
        while lane.cut(MOST).is_some() {
            let batch = lane.trial.take().expect("it was cut").batch;
            assert_eq!(batch.iter().len(), batch.len());
            let offsets: Vec<_> = batch.iter().map(|record| record.offset()).collect();
            assert_eq!(offsets, (batch.first()..batch.end()).collect::<Vec<_>>());
            cuts.push(batch.first()..batch.end());
        }
        assert_eq!((lane.records, lane.bytes), (0, 0));
        cuts
    }

    #[test]
    fn batches_are_as_large_as_they_may_be_and_in_order() {
        assert_eq!(cuts(&mut lane(&[10; 10])), [0..4, 4..8, 8..10]);
        assert_eq!(cuts(&mut lane(&[50, 50, 1, 99, 2, 500, 1])), [0..2, 2..4, 4..5, 5..6, 6..7]);
    }

    #[test]
    fn records_that_are_to_be_tried_singly_go_one_at_a_time() {
        let mut lane = lane(&[1; 8]);
        lane.cut(MOST);
        let batch = lane.trial.take().expect("it was cut").batch;
        lane.singly_below = batch.end();
        lane.put_back(batch, Instant::now());
        assert_eq!(lane.pending(), 8);
        assert_eq!(cuts(&mut lane), [0..1, 1..2, 2..3, 3..4, 4..8]);
    }

    #[test]
    fn what_does_not_fill_a_batch_waits_for_the_linger() {
        let now = Instant::now();
        let linger = Duration::from_secs(1);
        assert_eq!(lane(&[]).due(now, linger, MOST), None);
        let few = lane(&[1; 3]).due(now, linger, MOST).expect("a time");
        assert!(few > now + linger / 2);
        for full in [lane(&[1; 4]), lane(&[100])] {
            assert_eq!(full.due(now, linger, MOST), Some(now));
        }
        assert!(lane(&[1]).due(now, Duration::MAX, MOST).expect("a time") > now + linger);
    }

    #[test]
    fn what_is_tried_again_waits_for_its_time_and_what_is_left_of_it_stays_in_front() {
        let mut lane = lane(&[1; 8]);
        lane.cut(MOST);
        let later = Instant::now() + Duration::from_secs(9);
        let mut batch = lane.trial.take().expect("it was cut").batch;
        batch.skip(3);
        lane.trial = Some(Trial { batch, not_before: Some(later), dead: None });
        assert_eq!(lane.due(Instant::now(), Duration::ZERO, MOST), Some(later));
        assert_eq!(lane.pending(), 5);
        assert_eq!(cuts(&mut lane), [3..4, 4..8]);
    }
}
