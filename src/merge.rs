//! Several partitions as one stream, the earliest timestamp first.
//!
//! For each partition a run of records is read ahead; the earliest of their heads is taken until
//! the batch is full. A run that ends is read on before the next head is taken, so that the stream
//! is ordered among all records that are there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::batch::Batch;
use crate::error::Result;
use crate::log::{Budget, RecordLocation};

/// How far a partition is read ahead.
const AHEAD: Budget = Budget { records: 512, bytes: 1 << 20 };

/// The runs of all partitions of a reader, by their places in it.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    runs: Vec<Run>,
}

/// Records of one partition that were read and not yet handed out.
#[derive(Debug, Default)]
struct Run {
    batch: Batch,
    next: usize,
}

impl Merge {
    /// Reads a partition ahead if its run has ended.
    pub(crate) fn refill(
        &mut self,
        place: usize,
        fill: impl FnOnce(&mut Batch, &mut Budget) -> Result<()>,
    ) -> Result<()> {
        if self.runs.len() <= place {
            self.runs.resize_with(place + 1, Run::default);
        }
        match self.runs.get_mut(place) {
            Some(run) if run.next >= run.batch.len() => {
                *run = Run::default();
                fill(&mut run.batch, &mut AHEAD.clone())
            }
            _ => Ok(()),
        }
    }

    /// Takes records as far as `budget` goes, reading on where a run ends. An error is met again
    /// by the next call if there were records before it.
    pub(crate) fn take(
        &mut self,
        mut budget: Budget,
        mut fill: impl FnMut(usize, &mut Batch, &mut Budget) -> Result<()>,
    ) -> Result<Batch> {
        let mut taken = Batch::default();
        let mut heads: BinaryHeap<_> = (0..self.runs.len())
            .filter_map(|place| Some(Reverse((self.head(place)?, place))))
            .collect();
        while let Some(Reverse((_, place))) = heads.pop() {
            if !self.take_head(place, &mut taken, &mut budget) {
                break;
            }
            if let Err(error) = self.refill(place, |run, ahead| fill(place, run, ahead)) {
                return if taken.is_empty() { Err(error) } else { Ok(taken) };
            }
            heads.extend(self.head(place).map(|head| Reverse((head, place))));
        }
        Ok(taken)
    }

    /// The offset of the next record of a partition, if it was read ahead.
    pub(crate) fn pending_offset(&self, place: usize) -> Option<u64> {
        let run = self.runs.get(place)?;
        run.batch.get(run.next).map(|record| record.offset())
    }

    /// Drops what was read ahead of a partition.
    pub(crate) fn forget(&mut self, place: usize) {
        if let Some(run) = self.runs.get_mut(place) {
            *run = Run::default();
        }
    }

    /// The timestamp of the next record of a partition.
    fn head(&self, place: usize) -> Option<i64> {
        let run = self.runs.get(place)?;
        run.batch.get(run.next).map(|record| record.timestamp().as_millis())
    }

    /// Moves the next record of a partition to `taken`, unless the budget has no room for it.
    fn take_head(&mut self, place: usize, taken: &mut Batch, budget: &mut Budget) -> bool {
        let Some(run) = self.runs.get_mut(place) else { return false };
        let Some(record) = run.batch.get(run.next) else { return false };
        let bytes = record.bytes();
        if budget.is_spent() || (bytes > budget.bytes && !taken.is_empty()) {
            return false;
        }
        let Some((location, source)) = run.batch.located(run.next) else { return false };
        let source = taken.source_number(source);
        taken.records_mut().push(RecordLocation { source, ..*location });
        run.next += 1;
        budget.records -= 1;
        budget.bytes = budget.bytes.saturating_sub(bytes);
        true
    }
}
