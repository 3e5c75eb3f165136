//! What all handles of one broker share: the topics, the groups, the directory's lock, and how it is closed.
//!
//! Locks, in the order they are taken: `admin`, that of who makes room, the groups', a group's own, the
//! offset store's, `topics`, a topic's `changing`, append locks by rising partition number, a log's
//! `sealing`, its `ages`, its `slots`, and leaf locks.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use crate::clock::Clock;
use crate::config::{TopicConfig, check_topic_name};
use crate::description::{RecoveryReport, TopicUsage};
use crate::error::{Error, Result};
use crate::group::{Groups, OffsetStore, check_group_name, clamp_commits};
use crate::opening::{Topics, lock, open_offsets, open_topics, rehearse};
use crate::quota::Quota;
use crate::recovery_mode::RecoveryMode;
use crate::repair_report::RepairReport;
use crate::room_keeper::RoomKeeper;
use crate::storage::{LockGuard, Storage};
use crate::topic::{Surroundings, TopicShape, TopicState};

pub(crate) const TOPICS_DIR: &str = "topics";
pub(crate) const OFFSETS_DIR: &str = "offsets";

/// What all handles of one broker share.
pub(crate) struct BrokerInner {
    pub(super) dir: PathBuf,
    pub(super) around: Surroundings,
    pub(super) room_keeper: Arc<RoomKeeper>,
    house: Arc<House>,
    auto_create_partitions: Option<u32>,
    pub(super) recovery: RecoveryReport,
    /// The open topics. Written when one is created or deleted.
    pub(super) topics: Arc<RwLock<Topics>>,
    /// Held while a topic is created or deleted, and while the broker is closed.
    admin: Mutex<()>,
    /// Set once, under `admin`, when the broker closes. Stored with Release, loaded with Acquire.
    closed: AtomicBool,
    /// A leaf lock, and the bell that rings when closing is done.
    closing: Mutex<Closing>,
    has_closed: Condvar,
    /// The directory's lock, until the broker is closed.
    lock: Mutex<Option<LockGuard>>,
    /// Gives each producer another place to begin its choices. Relaxed: only its values matter.
    producers: AtomicU64,
    pub(super) groups: Groups,
}

/// What it takes to make room. Whoever has it does not keep the broker open, as its handles do.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) topics: Arc<RwLock<Topics>>,
    pub(crate) commits: Arc<OffsetStore>,
    pub(crate) clock: Clock,
    pub(crate) quota: Arc<Quota>,
    pub(crate) room_keeper: Arc<RoomKeeper>,
}

/// What to do when a topic that is to be created exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Refuse,
    Return,
}

/// Repairs a directory whose lock is held.
pub(crate) type Salvage = fn(&Arc<dyn Storage>, &Path) -> Result<RepairReport>;

/// What a broker is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) dir: PathBuf,
    pub(crate) around: Surroundings,
    pub(crate) room_keeper: Arc<RoomKeeper>,
    pub(crate) auto_create_partitions: Option<u32>,
    /// What is done first, once the directory is locked.
    pub(crate) salvage: Option<Salvage>,
    pub(crate) offsets_retention: Option<Duration>,
}

impl BrokerInner {
    /// Locks the directory and opens every topic in it.
    pub(crate) fn open(opening: Opening) -> Result<Self> {
        let Opening {
            dir,
            around,
            room_keeper,
            auto_create_partitions,
            salvage,
            offsets_retention,
        } = opening;
        let storage = &*around.storage;
        let topics_dir = dir.join(TOPICS_DIR);
        let make = |dir: &Path| {
            // Who only looks finds it, or is told that there is none.
            let made = if around.how.read_only {
                storage.list(dir).map(drop)
            } else {
                storage.create_dir_all(dir)
            };
            made.map_err(|error| Error::space("creating directory", dir, 0, error))
        };
        make(&dir)?;
        let lock = lock(storage, &dir)?;
        make(&topics_dir)?;
        let now = around.clock.now();
        let open = || {
            if around.how.mode == RecoveryMode::Strict && !around.how.read_only {
                rehearse(&around, &topics_dir, dir.join(OFFSETS_DIR))?;
            }
            let salvaged = salvage.map(|salvage| salvage(&around.storage, &dir)).transpose()?;
            let (topics, mut recovery) = open_topics(&around, &topics_dir)?;
            recovery.salvaged = salvaged.filter(|report| !report.is_empty());
            let store = open_offsets(&around, dir.join(OFFSETS_DIR), &topics)?;
            if around.how.read_only {
                return Ok((topics, recovery, Groups::new(store, None)));
            }
            recovery.commits = clamp_commits(
                &store,
                &|topic, number| {
                    Some(topics.get(topic)?.partition(number).ok()?.log().end_offset())
                },
                now,
            )?;
            let groups = Groups::new(store, offsets_retention);
            groups.settle_members(now)?;
            groups.expire(now)?;
            Ok((topics, recovery, groups))
        };
        // If it fails, nothing is to be done in the directory once the lock is gone.
        let (topics, recovery, groups) =
            open().inspect_err(|_: &Error| around.background.stop())?;
        log::info!("opened {}: {} topics", dir.display(), topics.len());
        if !around.how.read_only && topics.values().any(|topic| topic.config().is_bounded()) {
            room_keeper.watch();
        }
        let topics = Arc::new(RwLock::new(topics));
        let house = Arc::new(House {
            topics: Arc::clone(&topics),
            commits: Arc::clone(groups.store()),
            clock: around.clock.clone(),
            quota: Arc::clone(&around.quota),
            room_keeper: Arc::clone(&room_keeper),
        });
        Ok(Self {
            dir,
            around,
            room_keeper,
            house,
            auto_create_partitions,
            recovery,
            topics,
            admin: Mutex::new(()),
            closed: AtomicBool::new(false),
            closing: Mutex::new(Closing::NotYet),
            has_closed: Condvar::new(),
            lock: Mutex::new(Some(lock)),
            producers: AtomicU64::new(0),
            groups,
        })
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.around.clock
    }

    pub(crate) fn room_keeper(&self) -> &Arc<RoomKeeper> {
        &self.room_keeper
    }

    /// What makes room.
    pub(crate) fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// What all topics take on disk.
    pub(crate) fn quota(&self) -> &Quota {
        &self.around.quota
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// How a topic is at this moment.
    pub(crate) fn shape(&self, name: &str) -> Option<TopicShape> {
        self.topics.read().get(name).map(|topic| topic.shape())
    }

    /// The names of all topics, sorted.
    pub(crate) fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.read().keys().map(Arc::clone).collect()
    }

    /// Tells groups that topics were created, deleted or grown. Called with no lock held.
    pub(super) fn topics_changed(&self) {
        self.groups.topics_changed(&|name| self.shape(name));
    }

    /// Where the choices of the next producer begin.
    pub(crate) fn next_seed(&self) -> u64 {
        self.producers.fetch_add(1, Ordering::Relaxed)
    }

    fn topics_dir(&self) -> PathBuf {
        self.dir.join(TOPICS_DIR)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.check_owner()
    }

    /// The error for a forked child. There a lock may be held for ever by a thread that is not there, so
    /// this is looked at before any is taken.
    #[inline]
    pub(crate) fn check_owner(&self) -> Result<()> {
        self.around.admission.check_owner()
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicState>> {
        self.check_owner()?;
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(Arc::clone(topic));
        }
        self.check_open()?;
        Err(Error::UnknownTopic { topic: name.to_owned() })
    }

    /// The topic of this name, created if that is how the broker was set up.
    pub(crate) fn topic_to_send(&self, name: &str) -> Result<Arc<TopicState>> {
        match (self.topic(name), self.auto_create_partitions) {
            (Err(Error::UnknownTopic { .. }), Some(partitions)) => {
                self.create(name, &TopicConfig::new().partitions(partitions), IfPresent::Return)
            }
            (found, _) => found,
        }
    }

    pub(crate) fn create(
        &self,
        name: &str,
        config: &TopicConfig,
        present: IfPresent,
    ) -> Result<Arc<TopicState>> {
        check_topic_name(name)?;
        check_groups(config)?;
        self.check_owner()?;
        let admin = self.admin.lock();
        self.check_open()?;
        if let Ok(topic) = self.topic(name) {
            return match present {
                IfPresent::Return => Ok(topic),
                IfPresent::Refuse => Err(Error::TopicExists { topic: name.to_owned() }),
            };
        }
        let topic = Arc::new(TopicState::create(&self.around, &self.topics_dir(), name, config)?);
        self.topics.write().insert(Arc::clone(topic.name()), Arc::clone(&topic));
        drop(admin);
        self.watch(config);
        self.topics_changed();
        Ok(topic)
    }

    /// What a topic takes, and who has not read it yet.
    pub(super) fn usage(&self, topic: &TopicState) -> TopicUsage {
        let (config, store) = (topic.config(), self.groups.store());
        let mut usage = TopicUsage { bytes: topic.quota().used(), ..TopicUsage::default() };
        for (partition, number) in topic.partitions().zip(0..) {
            let log = partition.log();
            let (start, end) = (log.start_offset(), log.end_offset());
            let mut slowest = end;
            for group in &config.consumed_by {
                let committed = store.committed_in(group, topic.name(), topic.shape().id, number);
                let from = committed.map_or(start, |committed| committed.offset.clamp(start, end));
                *usage.lag.entry(group.clone()).or_default() += end - from;
                slowest = slowest.min(from);
            }
            usage.records += end - start;
            usage.unconsumed += end - if config.consumed_by.is_empty() { start } else { slowest };
        }
        usage
    }

    /// Looks after topics with such settings from now on.
    pub(super) fn watch(&self, config: &TopicConfig) {
        if config.is_bounded() {
            self.room_keeper.watch();
        }
    }

    /// Deletes a topic, and returns how that went and the directory that is left to be removed.
    pub(super) fn delete(&self, name: &str) -> Result<(Result<()>, Option<PathBuf>)> {
        self.check_owner()?;
        let _admin = self.admin.lock();
        let topic = self.topic(name)?;
        let (result, doomed) = topic.delete(&self.topics_dir());
        if doomed.is_some() {
            self.topics.write().remove(name);
            // What cannot be written down now is found out when the broker is opened again.
            drop(self.groups.store().forget(topic.shape().id, self.clock().now().as_millis()));
        }
        Ok((result, doomed))
    }

    pub(super) fn close(&self) -> Result<()> {
        // In a forked child nothing of it is this process's: neither files, nor threads, nor the lock.
        self.around.admission.check_process()?;
        let admin = self.admin.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            drop(admin);
            return self.wait_until_closed();
        }
        *self.closing.lock() = Closing::By(std::thread::current().id());
        let topics = std::mem::take(&mut *self.topics.write());
        for topic in topics.values() {
            topic.close();
        }
        let mut result = Ok(());
        for partition in topics.values().flat_map(|topic| topic.partitions()) {
            // What went wrong without doing harm is put right by the next open.
            result = result.and(partition.log().seal_rolled().map(drop));
        }
        result = result.and(self.groups.close(self.clock().now()));
        drop(admin);
        // A job may log, and so call user code, which may use the broker: no lock is held.
        self.room_keeper.stop();
        self.around.background.stop();
        *self.lock.lock() = None;
        self.groups.call_all();
        *self.closing.lock() = Closing::Done(result.clone());
        self.has_closed.notify_all();
        // It comes last: a logger may panic.
        log::info!("closed {}", self.dir.display());
        result
    }

    /// Waits until whoever closes is done, and returns what came of it. One whose end the closing waits
    /// for does not: a logger, say, that closes the broker it is called by.
    fn wait_until_closed(&self) -> Result<()> {
        let mut closing = self.closing.lock();
        loop {
            match &*closing {
                Closing::Done(result) => return result.clone(),
                Closing::By(thread) if *thread == std::thread::current().id() => return Ok(()),
                _ if self.around.background.is_own_thread() => return Ok(()),
                _ if self.room_keeper.is_own_thread() => return Ok(()),
                _ => self.has_closed.wait(&mut closing),
            }
        }
    }
}

/// Refuses groups that cannot be.
pub(super) fn check_groups(config: &TopicConfig) -> Result<()> {
    config.consumed_by.iter().try_for_each(|group| check_group_name(group))
}

/// How far closing has come.
#[derive(Debug)]
enum Closing {
    NotYet,
    By(ThreadId),
    Done(Result<()>),
}

impl Drop for BrokerInner {
    fn drop(&mut self) {
        if self.around.admission.check_process().is_err() {
            // Letting go of the queues takes locks, which their threads may have held at the fork.
            std::mem::forget(Arc::clone(&self.around.background));
            std::mem::forget(Arc::clone(&self.room_keeper));
            return;
        }
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let close = || {
            if let Err(error) = self.close() {
                log::error!("closing {}: {error}", self.dir.display());
            }
        };
        // A logger that panics must not do so in here: it may be that another panic goes by.
        drop(catch_unwind(AssertUnwindSafe(close)));
    }
}

impl fmt::Debug for BrokerInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerInner").field("dir", &self.dir).finish_non_exhaustive()
    }
}
