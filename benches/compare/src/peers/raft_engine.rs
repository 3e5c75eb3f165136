//! raft-engine: a raft group a partition. The application numbers the entries of a group, one after the
//! other, so senders of one group take turns; threads that sync have a group each, as raft groups do.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::peer::{About, Ack, Need, Outcome, Peer, Receiver, Sender, Setup};

/// An entry as the engine sees it: the index, then the payload.
#[derive(Clone)]
struct Indexed;

const INDEX: usize = 8;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let index = entry.value.get(..INDEX).and_then(|bytes| bytes.try_into().ok());
        index.map_or(0, u64::from_le_bytes)
    }
}

pub struct RaftEngine {
    engine: Engine,
    /// The last index of each group.
    last: Vec<Mutex<u64>>,
    sync: bool,
}

impl Peer for RaftEngine {
    const ABOUT: About = About {
        name: "raft-engine",
        package: Some("raft-engine"),
        written: "page cache, CRC of the payload",
        synced: "fdatasync before return, CRC of the payload",
    };
    const LOG_PER_SYNCING_THREAD: bool = true;

    type Sender<'a> = GroupSender<'a>;
    type Receiver<'a> = GroupReceiver<'a>;

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Nothing | Need::Files | Need::Synced => None,
            Need::Commits => Some("no consumer positions"),
            Need::Parking => Some("polls only"),
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let config = Config {
            dir: dir.to_str().ok_or("a directory has a name")?.to_owned(),
            // Nobody else compresses here.
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        let engine = Engine::open(config)?;
        let last = |partition| Mutex::new(engine.last_index(group(partition)).unwrap_or(0));
        let last = (0..setup.partitions).map(last).collect();
        Ok(Self { engine, last, sync: setup.ack == Ack::Synced })
    }

    fn sender(&self, partition: usize) -> Outcome<GroupSender<'_>> {
        let (entries, batch) = (Vec::new(), LogBatch::default());
        Ok(GroupSender { peer: self, partition, entries, batch })
    }

    fn receiver(&self, partition: usize) -> Outcome<GroupReceiver<'_>> {
        let group = group(partition);
        let next = self.engine.first_index(group).unwrap_or(1);
        Ok(GroupReceiver { engine: &self.engine, group, next, entries: Vec::new() })
    }
}

fn group(partition: usize) -> u64 {
    partition as u64 + 1
}

pub struct GroupSender<'a> {
    peer: &'a RaftEngine,
    partition: usize,
    entries: Vec<BytesValue>,
    batch: LogBatch,
}

impl Sender for GroupSender<'_> {
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        self.send_batch(&[payload])
    }

    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        let mut last =
            self.peer.last[self.partition].lock().unwrap_or_else(PoisonError::into_inner);
        self.entries.resize_with(payloads.len(), BytesValue::default);
        for (entry, payload) in self.entries.iter_mut().zip(payloads) {
            *last += 1;
            entry.value.clear();
            entry.value.extend_from_slice(&last.to_le_bytes());
            entry.value.extend_from_slice(payload);
        }
        self.batch.add_entries::<Indexed>(group(self.partition), &self.entries)?;
        self.peer.engine.write(&mut self.batch, self.peer.sync)?;
        Ok(())
    }
}

pub struct GroupReceiver<'a> {
    engine: &'a Engine,
    group: u64,
    next: u64,
    entries: Vec<BytesValue>,
}

impl Receiver for GroupReceiver<'_> {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let end = self.engine.last_index(self.group).map_or(0, |last| last + 1);
        let end = end.min(self.next + most as u64);
        if end <= self.next {
            return Ok(0);
        }
        self.entries.clear();
        let (group, next) = (self.group, self.next);
        self.engine.fetch_entries_to::<Indexed>(group, next, end, None, &mut self.entries)?;
        for entry in &self.entries {
            each(&entry.value[INDEX..]);
        }
        self.next = end;
        Ok(self.entries.len())
    }
}
