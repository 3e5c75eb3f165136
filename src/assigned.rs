//! A partition that somebody reads: where they are in it, and what to tell when it has moved on.

use std::sync::Arc;

use crate::batch::{Batch, Source};
use crate::error::{Error, Result};
use crate::log::{Budget, LogCursor};
use crate::partition::Partition;
use crate::topic_partition::TopicPartition;

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
    /// the position, that is the error, and the position moves to where the log begins.
    #[inline]
    pub(crate) fn fill(&mut self, batch: &mut Batch, budget: &mut Budget) -> Result<()> {
        while !budget.is_spent() {
            let source = batch.next_source();
            let fetched = self.cursor.fetch(source, budget, batch.records_mut());
            let Some(segment) = fetched.map_err(|error| self.overtaken(error))? else {
                return Ok(());
            };
            let topic = Arc::clone(&self.name.topic);
            batch.add_source(Source { topic, partition: self.name.partition, segment });
        }
        Ok(())
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
