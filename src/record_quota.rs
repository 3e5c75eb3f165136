//! Records of a topic that were not consumed, counted, and how many they may be and how old.
//!
//! A record counts from the append that is about to write it until it was deleted, or until all groups
//! that are to consume it have committed it; the latter is looked at by whoever makes room. The
//! invariant it keeps: the count is the sum, over the partitions that count, of what their appenders were
//! granted less their floors. A partition's grant changes under its append lock alone, a floor under
//! `floors`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::on_full::TopicLimit;

/// The count of a topic's records. Its atomics are Relaxed: they publish nothing but themselves.
#[derive(Debug)]
pub(crate) struct RecordQuota {
    topic: Arc<str>,
    used: AtomicU64,
    /// `u64::MAX` for no limit.
    max: AtomicU64,
    /// Whether there is a record that is older than one may be.
    is_stale: AtomicBool,
    max_age_nanos: AtomicU64,
    /// For each partition that counts, the offset below which records do not. A leaf lock.
    floors: Mutex<BTreeMap<u32, u64>>,
}

impl RecordQuota {
    pub(crate) fn new(topic: &Arc<str>) -> Self {
        Self {
            topic: Arc::clone(topic),
            used: AtomicU64::new(0),
            max: AtomicU64::new(u64::MAX),
            is_stale: AtomicBool::new(false),
            max_age_nanos: AtomicU64::new(0),
            floors: Mutex::default(),
        }
    }

    pub(crate) fn set_limits(&self, max: Option<u64>, max_age: Option<Duration>) {
        self.max.store(max.unwrap_or(u64::MAX), Ordering::Relaxed);
        let nanos = max_age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        self.max_age_nanos.store(nanos, Ordering::Relaxed);
        if max_age.is_none() {
            self.set_stale(false);
        }
    }

    /// Says whether there is a record that is older than one may be, and returns whether that is news.
    pub(crate) fn set_stale(&self, is_stale: bool) -> bool {
        self.is_stale.swap(is_stale, Ordering::Relaxed) != is_stale
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn max(&self) -> Option<u64> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max != u64::MAX)
    }

    /// Begins to count a partition that has records from `start` to `end`. Called under its append lock.
    pub(crate) fn join(&self, partition: u32, start: u64, end: u64) {
        let before = self.floors.lock().insert(partition, start);
        debug_assert!(before.is_none(), "a partition joins once");
        self.used.fetch_add(end - start, Ordering::Relaxed);
    }

    /// Counts a partition no longer that was granted records below `granted`. Called under its append lock.
    pub(crate) fn leave(&self, partition: u32, granted: u64) {
        let floor = self.floors.lock().remove(&partition);
        if let Some(floor) = floor {
            self.used.fetch_sub(granted - floor, Ordering::Relaxed);
        }
    }

    /// Counts records that are about to be appended, or says which limit keeps them out. Called under an
    /// append lock.
    pub(crate) fn take(&self, records: u64) -> Result<()> {
        if self.is_stale.load(Ordering::Relaxed) {
            let age = Duration::from_nanos(self.max_age_nanos.load(Ordering::Relaxed));
            return Err(self.full(TopicLimit::Age(age)));
        }
        let max = self.max.load(Ordering::Relaxed);
        if records > max {
            // They would not fit into an empty topic either.
            let (topic, max) = (self.topic.to_string(), usize::try_from(max).unwrap_or(usize::MAX));
            let count = usize::try_from(records).unwrap_or(usize::MAX);
            return Err(Error::TooManyRecords { topic, count, max });
        }
        let fitting = |used: u64| used.checked_add(records).filter(|sum| *sum <= max);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fitting) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.full(TopicLimit::Records(max))),
        }
    }

    /// Says that records were not appended after all. Called under an append lock.
    pub(crate) fn give_back(&self, records: u64) {
        self.used.fetch_sub(records, Ordering::Relaxed);
    }

    /// Whether seven eighths of the limit are used: time to make room.
    pub(crate) fn is_tight(&self) -> bool {
        self.max().is_some_and(|max| self.used() >= max - max / 8)
    }

    /// Says that records of a partition below `floor` do not count. A floor that goes back, because a
    /// group did, makes them count again. Returns whether there is more room than before.
    pub(crate) fn settle(&self, partition: u32, floor: u64) -> bool {
        let mut floors = self.floors.lock();
        let Some(known) = floors.get_mut(&partition) else { return false };
        let before = std::mem::replace(known, floor);
        if floor >= before {
            self.used.fetch_sub(floor - before, Ordering::Relaxed);
        } else {
            self.used.fetch_add(before - floor, Ordering::Relaxed);
        }
        floor > before
    }

    #[cold]
    fn full(&self, limit: TopicLimit) -> Error {
        Error::TopicFull { topic: self.topic.to_string(), limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(max: u64) -> RecordQuota {
        let quota = RecordQuota::new(&"t".into());
        quota.set_limits(Some(max), None);
        quota
    }

    #[test]
    fn what_was_consumed_does_not_count_until_a_group_goes_back() {
        let quota = quota(10);
        quota.join(0, 5, 12);
        quota.join(1, 0, 2);
        assert_eq!(quota.used(), 9);
        quota.take(1).expect("it fits exactly");
        assert!(quota.take(1).is_err());
        assert!(quota.settle(0, 12));
        assert_eq!(quota.used(), 3);
        assert!(!quota.settle(0, 10));
        assert_eq!(quota.used(), 5);
        quota.leave(0, 13);
        assert_eq!(quota.used(), 2);
        assert!(!quota.settle(0, 13), "it does not count any more");
    }

    #[test]
    fn a_record_that_is_too_old_keeps_all_others_out() {
        let quota = quota(10);
        quota.set_limits(None, Some(Duration::from_secs(3)));
        quota.set_stale(true);
        let full = quota.take(1).expect_err("stale");
        let Error::TopicFull { limit, .. } = full else { panic!("{full}") };
        assert_eq!(limit, TopicLimit::Age(Duration::from_secs(3)));
        quota.set_limits(None, None);
        quota.take(1).expect("there is no limit any more");
    }
}
