//! What sinks were seen to be given, and what was wrong with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::{Broker, SinkBatch};

pub(super) const TOPIC: &str = "t";
pub(super) const GROUP: &str = "g";

/// What all forwarders of a group delivered, by partition.
#[derive(Clone, Default)]
pub(super) struct Account(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<u32, Seen>,
    trouble: Option<String>,
}

#[derive(Default)]
struct Seen {
    /// Every record below was delivered.
    below: u64,
    /// How many were delivered more than once.
    again: u64,
    /// Which forwarder has a batch in its sink.
    owner: Option<u64>,
}

impl Account {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().expect("the account"))
    }

    fn complain(&self, trouble: String) {
        self.with(|inner| inner.trouble.get_or_insert(trouble).truncate(500));
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.with(|inner| inner.trouble.clone())
    }

    /// How many records were delivered, and how many of these more than once.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.with(|inner| {
            inner.partitions.values().fold((0, 0), |(all, again), seen| {
                (all + seen.below + seen.again, again + seen.again)
            })
        })
    }

    /// A sink is called.
    pub(super) fn enter(&self, forwarder: u64, batch: &SinkBatch) {
        let partition = batch.partition();
        let other = self
            .with(|inner| inner.partitions.entry(partition).or_default().owner.replace(forwarder));
        if let Some(other) = other {
            self.complain(format!(
                "partition {partition}: {forwarder} is given a batch while {other} has one"
            ));
        }
        let offsets: Vec<_> = batch.iter().map(|record| record.offset()).collect();
        let follows = offsets.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if !follows || offsets.is_empty() {
            self.complain(format!("partition {partition}: a batch of {offsets:?}"));
        }
    }

    /// A sink has delivered the first `count` records and is about to say so.
    pub(super) fn leave(&self, batch: &SinkBatch, count: usize) {
        let partition = batch.partition();
        for record in batch.iter().take(count) {
            let offset = record.offset();
            let below = self.with(|inner| {
                let seen = inner.partitions.entry(partition).or_default();
                let below = seen.below;
                seen.again += u64::from(offset < below);
                seen.below += u64::from(offset == below);
                below
            });
            if offset > below {
                self.complain(format!("partition {partition}: {offset} comes, {below} is due"));
            }
        }
        self.with(|inner| inner.partitions.entry(partition).or_default().owner = None);
    }

    /// Looks at whether more is committed than was delivered.
    pub(super) fn check_commits(&self, broker: &Broker, partitions: u32) {
        for partition in 0..partitions {
            let committed = broker.committed(GROUP, TOPIC, partition).ok().flatten();
            let committed = committed.map_or(0, |committed| committed.offset);
            let below = self.with(|inner| inner.partitions.entry(partition).or_default().below);
            if committed > below {
                self.complain(format!(
                    "partition {partition}: {committed} is committed, {below} are delivered"
                ));
            }
        }
    }

    /// Whether everything up to these ends was delivered.
    pub(super) fn is_complete(&self, ends: &[u64]) -> bool {
        self.with(|inner| {
            (0..).zip(ends).all(|(partition, end)| {
                inner.partitions.get(&partition).map_or(0, |seen| seen.below) == *end
            })
        })
    }
}
