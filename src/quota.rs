//! Bytes on disk, counted, and how many they may be: of a partition, its topic, and all topics of a
//! broker, one above the other.
//!
//! The invariant it keeps: what is counted is what the files take, reserved space included, and where
//! there is a limit it is taken account of before a block is asked for. Called when a segment is made,
//! grown, cut or removed, never by an append that has room.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::admission::Admission;
use crate::error::{Error, Result};
use crate::on_full::TopicLimit;

/// Stands for no limit.
const NONE: u64 = u64::MAX;

/// Whose bytes they are.
#[derive(Debug)]
enum Owner {
    /// All topics of the broker of this directory.
    Broker(PathBuf),
    Topic(Arc<str>),
    /// A partition has no limit of its own.
    Partition,
}

/// A count of bytes, and its limit. The atomics are Relaxed: they publish nothing but themselves.
#[derive(Debug)]
pub(crate) struct Quota {
    owner: Owner,
    used: AtomicU64,
    max: AtomicU64,
    /// Whether more was asked for than there was room for, and nothing was given back since.
    was_refused: AtomicBool,
    /// Whether what it counts no longer counts above, because the topic was deleted.
    is_detached: AtomicBool,
    above: Option<Arc<Quota>>,
}

impl Quota {
    /// For all topics of a broker.
    pub(crate) fn of_broker(dir: PathBuf, max: Option<u64>) -> Arc<Self> {
        Self::new(Owner::Broker(dir), max, None)
    }

    /// For a topic, under that of its broker.
    pub(crate) fn of_topic(name: &Arc<str>, max: Option<u64>, broker: &Arc<Self>) -> Arc<Self> {
        Self::new(Owner::Topic(Arc::clone(name)), max, Some(Arc::clone(broker)))
    }

    /// For a partition, under that of its topic.
    pub(crate) fn of_partition(topic: &Arc<Self>) -> Arc<Self> {
        Self::new(Owner::Partition, None, Some(Arc::clone(topic)))
    }

    fn new(owner: Owner, max: Option<u64>, above: Option<Arc<Self>>) -> Arc<Self> {
        let (used, max) = (AtomicU64::new(0), AtomicU64::new(max.unwrap_or(NONE)));
        let (was_refused, is_detached) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { owner, used, max, was_refused, is_detached, above })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn max(&self) -> Option<u64> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max != NONE)
    }

    pub(crate) fn set_max(&self, max: Option<u64>) {
        self.max.store(max.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Counts bytes that are about to be used, here and above, or says whose limit they would pass;
    /// then nothing is counted.
    pub(crate) fn take(&self, bytes: u64) -> Result<()> {
        let max = self.max.load(Ordering::Relaxed);
        if bytes > max
            && let Owner::Topic(topic) = &self.owner
        {
            // It would not fit into an empty topic either.
            let topic = topic.to_string();
            return Err(Error::RecordTooLarge { topic, bytes, max_bytes: max });
        }
        let fitting = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= max);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fitting).is_err() {
            self.was_refused.store(true, Ordering::Relaxed);
            return Err(self.full());
        }
        match self.counting_above() {
            Some(above) => above.take(bytes).inspect_err(|_| self.subtract(bytes)),
            None => Ok(()),
        }
    }

    /// Counts bytes that are used already.
    pub(crate) fn charge(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some(above) = self.counting_above() {
            above.charge(bytes);
        }
    }

    /// Says that bytes are free again.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.subtract(bytes);
        self.was_refused.store(false, Ordering::Relaxed);
        if let Some(above) = self.counting_above() {
            above.give_back(bytes);
        }
    }

    /// No longer counts above. Called once, when nobody takes or gives back.
    pub(crate) fn detach(&self) {
        if let Some(above) = self.counting_above() {
            above.give_back(self.used());
        }
        self.is_detached.store(true, Ordering::Relaxed);
    }

    /// Whether seven eighths of a limit are used, here or above, or what is left was not enough for
    /// somebody: time to make room.
    pub(crate) fn is_tight(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        (max != NONE && self.used() >= max - max / 8)
            || self.was_refused.load(Ordering::Relaxed)
            || self.counting_above().is_some_and(Self::is_tight)
    }

    fn counting_above(&self) -> Option<&Self> {
        self.above.as_deref().filter(|_| !self.is_detached.load(Ordering::Relaxed))
    }

    fn subtract(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{:?}: {bytes} given back of {before}", self.owner);
    }

    #[cold]
    fn full(&self) -> Error {
        let max_bytes = self.max.load(Ordering::Relaxed);
        match &self.owner {
            Owner::Broker(path) => Error::BrokerFull { path: path.clone(), max_bytes },
            Owner::Topic(topic) => {
                Error::TopicFull { topic: topic.to_string(), limit: TopicLimit::Bytes(max_bytes) }
            }
            Owner::Partition => unreachable!("a partition has no limit"),
        }
    }
}

/// What a segment asks before it takes bytes: the quotas, and the disk.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) admission: Arc<Admission>,
    pub(crate) quota: Arc<Quota>,
}

impl Room {
    /// Counts bytes that are about to be used, or says why there is no room for them.
    pub(crate) fn take(&self, bytes: u64) -> Result<()> {
        self.quota.take(bytes)?;
        self.admission.check_room(bytes).inspect_err(|_| self.quota.give_back(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(broker: Option<u64>, topic: Option<u64>) -> [Arc<Quota>; 3] {
        let broker = Quota::of_broker(PathBuf::from("data"), broker);
        let topic = Quota::of_topic(&"t".into(), topic, &broker);
        let partition = Quota::of_partition(&topic);
        [broker, topic, partition]
    }

    #[test]
    fn what_passes_a_limit_is_refused_by_its_owner_and_counted_nowhere() {
        let [broker, topic, partition] = three(Some(150), Some(100));
        partition.take(100).expect("it fits exactly");
        let full = partition.take(1).expect_err("the topic is full");
        assert!(matches!(full, Error::TopicFull { limit: TopicLimit::Bytes(100), .. }), "{full}");
        assert_eq!([broker.used(), topic.used(), partition.used()], [100; 3]);
        let other = Quota::of_partition(&Quota::of_topic(&"u".into(), None, &broker));
        let full = other.take(51).expect_err("the broker is full");
        assert!(matches!(full, Error::BrokerFull { max_bytes: 150, .. }), "{full}");
        assert_eq!([broker.used(), other.used()], [100, 0]);
        partition.give_back(60);
        other.take(110).expect("there is room again");
        assert!(partition.take(u64::MAX / 2).is_err(), "no topic holds that");
    }

    #[test]
    fn a_topic_that_is_gone_does_not_count() {
        let [broker, topic, partition] = three(Some(150), None);
        partition.charge(200);
        assert!(topic.is_tight());
        topic.detach();
        assert_eq!(broker.used(), 0);
        partition.give_back(50);
        assert_eq!([broker.used(), topic.used()], [0, 150]);
    }
}
