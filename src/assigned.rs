//! A partition that somebody reads: where they are in it, and what to tell when it has moved on.

use std::sync::Arc;

use crate::batch::{Batch, Source};
use crate::error::{Error, Result};
use crate::log::{Budget, LogCursor};
use crate::partition::Partition;
use crate::topic_partition::TopicPartition;
use crate::waker::Waker;

/// A partition that is read.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) name: TopicPartition,
    pub(crate) partition: Arc<Partition>,
    pub(crate) cursor: LogCursor,
    /// Whether a registration was left in the partition and has not rung.
    pub(crate) registered: bool,
    pub(crate) paused: bool,
}

impl Assigned {
    /// Adds what the partition has to `batch`, as far as `budget` goes. If the log has moved on beyond
    /// the position, or has a gap there, that is the error, and the position moves to where it goes on.
    #[inline]
    pub(crate) fn fill(&mut self, batch: &mut Batch, budget: &mut Budget) -> Result<()> {
        let before = batch.len();
        while !budget.is_spent() {
            let source = batch.next_source();
            let segment = match self.cursor.fetch(source, budget, batch.records_mut()) {
                Ok(Some(segment)) => segment,
                Ok(None) => return Ok(()),
                // What was read before it comes first, and the gap is met again.
                Err(error) if error.is_gap() && batch.len() > before => return Ok(()),
                Err(error) => return Err(self.passed(error)),
            };
            let topic = Arc::clone(&self.name.topic);
            batch.add_source(Source {
                topic,
                partition: self.name.partition,
                view: segment.view(),
            });
        }
        Ok(())
    }

    /// Leaves a registration, to be rung by `waker` with `place` when there is something to read, unless
    /// there is already. Says whether it did.
    pub(crate) fn register(&mut self, waker: &Arc<Waker>, place: usize) -> bool {
        self.registered = self.partition.register(waker, place, self.cursor.offset());
        self.registered
    }

    #[cold]
    fn passed(&mut self, error: Error) -> Error {
        if let Error::Gap { to, .. } = &error {
            // It fails if the log has just moved on beyond it, which is met next.
            drop(self.cursor.seek(*to));
            return error;
        }
        self.overtaken(error)
    }

    #[cold]
    fn overtaken(&mut self, error: Error) -> Error {
        let from = self.cursor.offset();
        let log = Arc::clone(self.partition.log());
        loop {
            let to = log.start_offset();
            if from >= to || log.check_gate().is_err() {
                return error;
            }
            // It fails if the log has just moved on again.
            if self.cursor.seek(to).is_ok() {
                let (topic, partition) = (self.name.topic.to_string(), self.name.partition);
                return Error::Gap { topic, partition, from, to };
            }
        }
    }
}
