//! What waits for one partition: a batch that is being filled, and those before it.
//!
//! The invariant it keeps: batches leave in the order they came; one that has to be tried again goes
//! back to the front, and nothing passes it. Under the inbox's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use crate::partition::Partition;

/// What waits for one partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: Arc<Partition>,
    pub(super) open: Option<Batch>,
    pub(super) closed: VecDeque<Batch>,
    /// Whether it is in the list of those that have something to be sent.
    pub(super) is_ready: bool,
    /// Whether the open batch is to be sent although it is not full.
    pub(super) takes_open: bool,
    /// Nothing is sent before this moment, because it could not be.
    pub(super) backoff: Option<Instant>,
    /// When it will be looked at, at the latest.
    pub(super) timer: Option<Instant>,
    /// How many records wait, those that are being sent included.
    pub(super) records: usize,
    /// Whether its topic was deleted: it goes when it is empty.
    pub(super) is_orphan: bool,
}

impl Lane {
    pub(super) fn new(partition: &Arc<Partition>) -> Self {
        Self {
            partition: Arc::clone(partition),
            open: None,
            closed: VecDeque::new(),
            is_ready: false,
            takes_open: false,
            backoff: None,
            timer: None,
            records: 0,
            is_orphan: false,
        }
    }

    /// Fills the open batch no further.
    pub(super) fn close_open(&mut self) {
        self.closed.extend(self.open.take());
        self.takes_open = false;
    }

    /// The next batch to be sent, if it is time.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.takes_open && self.closed.is_empty() {
            self.close_open();
        }
        self.closed.pop_front()
    }

    /// Whether [`take`](Self::take) has something.
    pub(super) fn has_more(&self) -> bool {
        !self.closed.is_empty() || (self.takes_open && self.open.is_some())
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_orphan && self.records == 0 && !self.is_ready
    }
}
