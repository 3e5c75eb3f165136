//! fjall, a key-value store used as a log: a keyspace a partition, and the offset as the key.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::peer::{About, Ack, Need, Outcome, Peer, Receiver, Sender, Setup};

pub struct Fjall {
    database: Database,
    /// Each with the key of the next record.
    keyspaces: Vec<(Keyspace, AtomicU64)>,
    sync: bool,
}

impl Peer for Fjall {
    const ABOUT: About = About {
        name: "fjall",
        package: Some("fjall"),
        written: "page cache, checksum of the payload",
        synced: "fdatasync before return, checksum of the payload",
    };

    type Sender<'a> = KeyspaceSender<'a>;
    type Receiver<'a> = KeyspaceReceiver<'a>;

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Nothing | Need::Files | Need::Synced => None,
            Need::Commits => Some("no consumer positions"),
            Need::Parking => Some("polls only"),
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        // Nobody else compresses here.
        let database = Database::builder(dir).journal_compression(CompressionType::None).open()?;
        let options = || {
            let none = CompressionPolicy::disabled();
            KeyspaceCreateOptions::default().data_block_compression_policy(none)
        };
        let open = |partition: usize| {
            let keyspace = database.keyspace(&format!("t{partition}"), options)?;
            let next = match keyspace.last_key_value() {
                Some(last) => key_number(&last.key()?) + 1,
                None => 0,
            };
            Ok((keyspace, AtomicU64::new(next)))
        };
        let keyspaces = (0..setup.partitions).map(open).collect::<Outcome<_>>()?;
        Ok(Self { database, keyspaces, sync: setup.ack == Ack::Synced })
    }

    fn sender(&self, partition: usize) -> Outcome<KeyspaceSender<'_>> {
        let (keyspace, next) = &self.keyspaces[partition];
        Ok(KeyspaceSender { peer: self, keyspace, next })
    }

    fn receiver(&self, partition: usize) -> Outcome<KeyspaceReceiver<'_>> {
        Ok(KeyspaceReceiver { keyspace: &self.keyspaces[partition].0, next: 0 })
    }
}

/// Keys are compared byte by byte, so the first byte has to count most.
#[allow(clippy::big_endian_bytes, reason = "the order of keys")]
fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

#[allow(clippy::big_endian_bytes, reason = "the order of keys")]
fn key_number(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}

pub struct KeyspaceSender<'a> {
    peer: &'a Fjall,
    keyspace: &'a Keyspace,
    next: &'a AtomicU64,
}

impl KeyspaceSender<'_> {
    fn synced(&self) -> Outcome<()> {
        if self.peer.sync {
            self.peer.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Sender for KeyspaceSender<'_> {
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        self.keyspace.insert(key(self.next.fetch_add(1, Ordering::Relaxed)), payload)?;
        self.synced()
    }

    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        let mut batch = self.peer.database.batch();
        let first = self.next.fetch_add(payloads.len() as u64, Ordering::Relaxed);
        for (number, payload) in (first..).zip(payloads) {
            batch.insert(self.keyspace, key(number), *payload);
        }
        batch.commit()?;
        self.synced()
    }
}

pub struct KeyspaceReceiver<'a> {
    keyspace: &'a Keyspace,
    next: u64,
}

impl Receiver for KeyspaceReceiver<'_> {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let mut count = 0;
        for entry in self.keyspace.range(key(self.next)..).take(most) {
            let (key, value) = entry.into_inner()?;
            each(&value);
            self.next = key_number(&key) + 1;
            count += 1;
        }
        Ok(count)
    }
}
