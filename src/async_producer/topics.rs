//! Topics a producer has resolved by name, and the lanes of their partitions: under the inbox's lock.
//!
//! A topic is what it was when it was resolved; that it was deleted is found out by the gate of its
//! logs, by whoever sends.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::TimestampType;
use crate::topic::TopicState;

/// A topic that was resolved.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) state: Arc<TopicState>,
    /// By partition, the number of the lane.
    pub(super) lanes: Vec<Option<usize>>,
    /// Settings as they were when they were looked at last.
    pub(super) is_append_time: bool,
    pub(super) max_record_bytes: u64,
    /// How often they had been changed then.
    changes: u64,
}

impl Resolved {
    fn new(state: Arc<TopicState>) -> Self {
        let lanes = Vec::new();
        let mut resolved =
            Self { state, lanes, is_append_time: false, max_record_bytes: 0, changes: 0 };
        resolved.look();
        resolved
    }

    /// Whether the settings were changed since they were looked at. What is changed later is met when a
    /// batch is appended.
    #[inline]
    pub(super) fn is_altered(&self) -> bool {
        self.changes != self.state.changes()
    }

    /// Looks at the settings.
    #[cold]
    pub(super) fn look(&mut self) {
        self.changes = self.state.changes();
        let config = self.state.config();
        self.is_append_time = config.timestamp_type == TimestampType::AppendTime;
        self.max_record_bytes = config.max_record_bytes;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.partition(0).is_ok_and(|partition| partition.log().check_gate().is_err())
    }
}

/// How many topics there are before those that were deleted are looked for.
const FIRST_SWEEP: usize = 64;

/// The topics.
#[derive(Debug)]
pub(super) struct Topics {
    list: Vec<Resolved>,
    by_name: HashMap<Arc<str>, usize>,
    /// The place of the one that was found last: whoever sends often sends to the same.
    last: usize,
    sweep_at: usize,
}

impl Default for Topics {
    fn default() -> Self {
        Self { list: Vec::new(), by_name: HashMap::new(), last: 0, sweep_at: FIRST_SWEEP }
    }
}

impl Topics {
    /// The place of a topic that was resolved before.
    #[inline]
    pub(super) fn find(&mut self, name: &str) -> Option<usize> {
        if let Some(last) = self.list.get(self.last)
            && **last.state.name() == *name
        {
            return Some(self.last);
        }
        self.last = *self.by_name.get(name)?;
        Some(self.last)
    }

    /// The topic that was found last, if this is its name.
    #[inline]
    pub(super) fn last(&self, name: &str) -> Option<&Resolved> {
        self.list.get(self.last).filter(|last| **last.state.name() == *name)
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&Resolved> {
        self.list.get(at)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Resolved> {
        self.list.get_mut(at)
    }

    /// Adds a topic, in the place of an earlier one of its name. Returns the lanes of topics that are
    /// gone.
    pub(super) fn add(&mut self, state: Arc<TopicState>) -> Vec<usize> {
        let mut orphans = Vec::new();
        let name = Arc::clone(state.name());
        let added = Resolved::new(state);
        match self.by_name.get(&name).and_then(|at| self.list.get_mut(*at)) {
            Some(there) if there.state.shape().id == added.state.shape().id => return orphans,
            Some(there) => {
                orphans.extend(std::mem::replace(there, added).lanes.into_iter().flatten());
            }
            None => {
                self.by_name.insert(name, self.list.len());
                self.list.push(added);
            }
        }
        if self.list.len() >= self.sweep_at {
            self.sweep(&mut orphans);
        }
        orphans
    }

    /// Forgets topics that were deleted.
    fn sweep(&mut self, orphans: &mut Vec<usize>) {
        for gone in self.list.extract_if(.., |topic| topic.is_gone()) {
            orphans.extend(gone.lanes.into_iter().flatten());
        }
        let names = self.list.iter().map(|topic| Arc::clone(topic.state.name()));
        self.by_name = names.zip(0..).collect();
        self.last = 0;
        self.sweep_at = (2 * self.list.len()).max(FIRST_SWEEP);
    }
}
