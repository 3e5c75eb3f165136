//! A topic: its settings and its partitions, and the directory both are kept in.
//!
//! A topic's directory appears and disappears whole: it is made under another name and renamed,
//! and renamed before it is taken apart. What a crash leaves under such a name is removed at the
//! next open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::admission::Admission;
use crate::background::Background;
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::growing_list::GrowingList;
use crate::log::{Around, Gate, PartitionName, Recovery};
use crate::open_segments::OpenSegments;
use crate::partition::Partition;
use crate::quota::Quota;
use crate::record_quota::RecordQuota;
use crate::recovery_mode::HowToOpen;
use crate::relief::Relief;
use crate::storage::{Storage, remove_tree};
use crate::topic_metadata::Metadata;

/// Begins the name of a directory that is being made or taken apart; no topic's name does.
const UNFINISHED: char = '~';

/// A topic as it is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicShape {
    /// Tells it from an earlier one of the same name.
    pub(crate) id: u64,
    pub(crate) partitions: u32,
}

/// What a topic needs of the broker it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) background: Arc<dyn Background>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) how: HowToOpen,
    pub(crate) clock: Clock,
    /// What all topics take on disk.
    pub(crate) quota: Arc<Quota>,
    pub(crate) relief: Arc<dyn Relief>,
    pub(crate) open: Arc<OpenSegments>,
}

/// A topic that is open.
#[derive(Debug)]
pub(crate) struct TopicState {
    name: Arc<str>,
    id: u64,
    dir: PathBuf,
    around: Surroundings,
    partitions: GrowingList<Arc<Partition>>,
    /// What it takes on disk, and how many records it has that count.
    quota: Arc<Quota>,
    records: Arc<RecordQuota>,
    config: RwLock<Arc<TopicConfig>>,
    /// Counts how often the settings were changed. Stored with Release when they were, loaded with Acquire
    /// before they are read.
    changes: AtomicU64,
    /// Held while settings or partitions are changed, and says whether they may be. Comes before the
    /// append locks.
    changing: Mutex<Gate>,
}

impl TopicState {
    /// Makes a topic in `topics`, durably, and opens it.
    pub(crate) fn create(
        around: &Surroundings,
        topics: &Path,
        name: &str,
        config: &TopicConfig,
    ) -> Result<Self> {
        config.validate()?;
        around.admission.check_owner()?;
        let storage = &*around.storage;
        let dir = topics.join(name);
        let making = topics.join(format!("{UNFINISHED}new"));
        let io_error = |error| Error::space("creating topic directory", &dir, 0, error);
        remove_leftover(storage, &making).map_err(io_error)?;
        storage.create_dir(&making).map_err(io_error)?;
        let fill = || {
            for partition in 0..config.partitions {
                storage.create_dir(&making.join(partition.to_string())).map_err(io_error)?;
            }
            let metadata = Metadata { id: storage.random(), config: config.clone() };
            // Syncs the directory too, with the partitions in it.
            metadata.store(storage, &making)?;
            storage.rename(&making, &dir).map_err(io_error)
        };
        // What cannot be removed now is removed by the next creation or the next open.
        fill().inspect_err(|_| drop(remove_leftover(storage, &making)))?;
        let finish = || {
            storage.sync_dir(topics).map_err(io_error)?;
            Self::open(around, topics, name)
        };
        let (topic, _) = finish().inspect_err(|_| {
            if storage.rename(&dir, &making).is_ok() {
                drop(remove_leftover(storage, &making));
            }
        })?;
        Ok(topic)
    }

    /// Opens a topic that exists, and says what recovery its partitions needed.
    pub(crate) fn open(
        around: &Surroundings,
        topics: &Path,
        name: &str,
    ) -> Result<(Self, Vec<(u32, Recovery)>)> {
        let dir = topics.join(name);
        let metadata = Metadata::load(&*around.storage, &dir)?;
        // Whoever wrote this may have failed to make it durable; what is used must be.
        around
            .storage
            .sync_dir(&dir)
            .map_err(|error| Error::io("syncing topic directory", &dir, error))?;
        let partitions = metadata.config.partitions;
        let name: Arc<str> = name.into();
        let config = &metadata.config;
        let quota = Quota::of_topic(&name, config.max_bytes, &around.quota);
        let records = Arc::new(RecordQuota::new(&name));
        records.set_limits(config.max_records, config.stale_age());
        let topic = Self {
            name,
            id: metadata.id,
            dir,
            around: around.clone(),
            partitions: GrowingList::new(),
            quota,
            records,
            config: RwLock::new(Arc::new(metadata.config)),
            changes: AtomicU64::new(0),
            changing: Mutex::new(Gate::Open),
        };
        let mut recoveries = Vec::new();
        for number in 0..partitions {
            if let Some(recovery) = topic.open_partition(number)? {
                recoveries.push((number, recovery));
            }
        }
        Ok((topic, recoveries))
    }

    fn open_partition(&self, number: u32) -> Result<Option<Recovery>> {
        let name =
            PartitionName { topic: Arc::clone(&self.name), topic_id: self.id, partition: number };
        let dir = self.dir.join(number.to_string());
        let Surroundings { storage, background, admission, how, clock, relief, open, .. } =
            &self.around;
        let (quota, records, now) = (&self.quota, &self.records, clock.moment());
        let around = Around { storage, admission, how: *how, quota, records, now };
        let (writer, recovery) = crate::log::open(&around, &dir, name, self.config())?;
        let (background, admission) = (Arc::clone(background), Arc::clone(admission));
        let partition =
            Partition::new(writer, background, admission, Arc::clone(relief), Arc::clone(open));
        if recovery.is_some() && !how.read_only {
            partition.seal_later();
        }
        self.partitions.push(partition);
        Ok(recovery)
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What groups have to know of it.
    pub(crate) fn shape(&self) -> TopicShape {
        TopicShape { id: self.id, partitions: self.partition_count() }
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// How often the settings were changed: what was read of them before counts no longer when this has
    /// moved.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What it takes on disk.
    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// How many records it has that count.
    pub(crate) fn records(&self) -> &RecordQuota {
        &self.records
    }

    #[inline]
    pub(crate) fn partition_count(&self) -> u32 {
        self.partitions.len()
    }

    #[inline]
    pub(crate) fn partition(&self, number: u32) -> Result<&Arc<Partition>> {
        match self.partitions.get(number) {
            Some(partition) => Ok(partition),
            None => Err(self.unknown_partition(number)),
        }
    }

    #[cold]
    fn unknown_partition(&self, partition: u32) -> Error {
        Error::UnknownPartition {
            topic: self.name.to_string(),
            partition,
            partitions: self.partition_count(),
        }
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter()
    }

    /// Changes the settings, durably, from the next append on.
    pub(crate) fn alter(&self, config: &TopicConfig) -> Result<()> {
        config.validate()?;
        let _changing = self.change()?;
        if config.partitions != self.partition_count() {
            let reason = format!(
                "the topic has {} partitions, not {}; their number is changed by create_partitions",
                self.partition_count(),
                config.partitions
            );
            return Err(Error::config("partitions", reason));
        }
        self.put_config(config.clone())
    }

    /// Adds partitions until there are `total`.
    pub(crate) fn grow(&self, total: u32) -> Result<()> {
        let _changing = self.change()?;
        let present = self.partition_count();
        let config = TopicConfig { partitions: total, ..(*self.config()).clone() };
        config.validate()?;
        if total < present {
            let reason =
                format!("the topic has {present} partitions and cannot be shrunk to {total}");
            return Err(Error::config("partitions", reason));
        }
        for number in present..total {
            let dir = self.dir.join(number.to_string());
            // An earlier attempt may have got this far.
            if let Err(error) = self.around.storage.create_dir(&dir)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(Error::space("creating partition directory", &dir, 0, error));
            }
        }
        self.put_config(config)?;
        for number in present..total {
            self.open_partition(number)?;
        }
        Ok(())
    }

    /// Writes the metadata file, and then tells everybody. Called under `changing`.
    fn put_config(&self, config: TopicConfig) -> Result<()> {
        let metadata = Metadata { id: self.id, config };
        metadata.store(&*self.around.storage, &self.dir)?;
        let config = Arc::new(metadata.config);
        self.quota.set_max(config.max_bytes);
        self.records.set_limits(config.max_records, config.stale_age());
        *self.config.write() = Arc::clone(&config);
        self.changes.fetch_add(1, Ordering::Release);
        for partition in self.partitions() {
            partition.lock().writer.set_config(Arc::clone(&config));
        }
        Ok(())
    }

    /// Locks settings and partitions against other changes, if the topic is still there.
    fn change(&self) -> Result<MutexGuard<'_, Gate>> {
        self.around.admission.check_owner()?;
        let changing = self.changing.lock();
        match *changing {
            Gate::Open => Ok(changing),
            Gate::Closed => Err(Error::Closed),
            Gate::Deleted => Err(Error::UnknownTopic { topic: self.name.to_string() }),
        }
    }

    /// The error for a topic that is there to be read alone.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.around.how.read_only {
            return Err(Error::ReadOnly { path: self.dir.clone() });
        }
        Ok(())
    }

    /// Waits until everything appended before is on stable storage. The first failure is returned,
    /// the other partitions are synced all the same.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_writable()?;
        let mut result = Ok(());
        for log in self.partitions().map(|partition| partition.log()) {
            result = result.and(log.sync_to(log.end_offset()));
        }
        result
    }

    /// Takes no more records and no more changes.
    pub(crate) fn close(&self) {
        *self.changing.lock() = Gate::Closed;
        for partition in self.partitions() {
            partition.shut(Gate::Closed);
        }
    }

    /// Takes the topic out of `topics`, durably. From then on every use of it is an error; what
    /// readers hold stays readable. Returns the directory that is left to be removed.
    ///
    /// On failure the topic is as it was, or, if its directory could not be put back, deleted.
    pub(crate) fn delete(&self, topics: &Path) -> (Result<()>, Option<PathBuf>) {
        let mut changing = match self.change() {
            Ok(changing) => changing,
            Err(error) => return (Err(error), None),
        };
        let storage = &*self.around.storage;
        let doomed = topics.join(format!("{UNFINISHED}del-{:016x}", storage.random()));
        // Nobody appends or seals while the directory changes its name, and whoever syncs a file
        // that is no longer where it was knows why.
        let locked: Vec<_> =
            self.partitions().map(|partition| (partition, partition.lock())).collect();
        let held: Vec<_> =
            self.partitions().map(|partition| partition.log().hold_paths()).collect();
        let set_gates = |gate| {
            for (partition, _) in &locked {
                partition.log().set_gate(gate);
            }
        };
        set_gates(Gate::Deleted);
        let renamed = storage.rename(&self.dir, &doomed);
        let moved = renamed.is_ok();
        let result = renamed
            .and_then(|()| storage.sync_dir(topics))
            .map_err(|error| Error::io("deleting topic directory", &self.dir, error));
        if result.is_err() && (!moved || storage.rename(&doomed, &self.dir).is_ok()) {
            set_gates(Gate::Open);
            return (result, None);
        }
        *changing = Gate::Deleted;
        self.quota.detach();
        drop(held);
        for (partition, appender) in locked {
            partition.shut_locked(appender, Gate::Deleted);
        }
        (result, Some(doomed))
    }
}

/// Whether `name` is what an interrupted creation or deletion left.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

fn remove_leftover(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match remove_tree(storage, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
