//! walrus-rust: a topic a partition, through file calls (its default), never synced unless asked for.
//!
//! It is read record by record, because its `batch_read_for_topic` leaves out records of a log that is
//! open for writing: where the byte limit ends a read within the last sealed block, it goes on with the
//! block that is being written and never comes back.

use std::path::Path;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::peer::{About, Ack, Need, Outcome, Peer, Receiver, Sender, Setup};

/// It commits by itself, every so many records, and cannot be told to.
const COMMIT_EVERY: u32 = 500;

pub struct WalrusPeer {
    walrus: Walrus,
    topics: Vec<String>,
}

impl Peer for WalrusPeer {
    const ABOUT: About = About {
        name: "walrus-rust",
        package: Some("walrus-rust"),
        written: "page cache, FNV checksum of the payload",
        synced: "O_SYNC and fsync before return, FNV checksum",
    };

    type Sender<'a> = TopicSender<'a>;
    type Receiver<'a> = TopicReceiver<'a>;

    fn lacks(need: Need) -> Option<&'static str> {
        (need == Need::Parking).then_some("polls only")
    }

    /// Where its files are is said by the environment alone: whoever started this process has set
    /// `WALRUS_DATA_DIR` to a directory above this one.
    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let key = dir.file_name().and_then(|name| name.to_str()).ok_or("a directory has a name")?;
        let persist_every = if setup.commits { COMMIT_EVERY } else { u32::MAX };
        let consistency = ReadConsistency::AtLeastOnce { persist_every };
        let schedule = match setup.ack {
            Ack::Written => FsyncSchedule::NoFsync,
            Ack::Synced => FsyncSchedule::SyncEach,
        };
        let walrus = Walrus::with_consistency_and_schedule_for_key(key, consistency, schedule)?;
        let topics = (0..setup.partitions).map(|partition| format!("t{partition}")).collect();
        Ok(Self { walrus, topics })
    }

    fn sender(&self, partition: usize) -> Outcome<TopicSender<'_>> {
        Ok(TopicSender { walrus: &self.walrus, topic: &self.topics[partition] })
    }

    fn receiver(&self, partition: usize) -> Outcome<TopicReceiver<'_>> {
        Ok(TopicReceiver { walrus: &self.walrus, topic: &self.topics[partition] })
    }
}

pub struct TopicSender<'a> {
    walrus: &'a Walrus,
    topic: &'a str,
}

impl Sender for TopicSender<'_> {
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        Ok(self.walrus.append_for_topic(self.topic, payload)?)
    }

    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        Ok(self.walrus.batch_append_for_topic(self.topic, payloads)?)
    }
}

pub struct TopicReceiver<'a> {
    walrus: &'a Walrus,
    topic: &'a str,
}

impl Receiver for TopicReceiver<'_> {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let mut count = 0;
        while count < most
            && let Some(entry) = self.walrus.read_next(self.topic, true)?
        {
            each(&entry.data);
            count += 1;
        }
        Ok(count)
    }
}
