//! How a broker is described before it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::admission::Admission;
use crate::background::{Background, Deferred, Inline};
use crate::broker::{Broker, BrokerInner, Opening, Salvage};
use crate::clock::{Clock, ManualClock};
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::inspect::repair_locked;
use crate::maintenance::Maintenance;
use crate::open_segments::{KEPT, OpenSegments};
use crate::quota::Quota;
use crate::recovery_mode::{HowToOpen, RecoveryMode};
use crate::room_keeper::{By, RoomKeeper};
use crate::storage::disk::{Disk, random};
use crate::storage::memory::MemoryStorage;
use crate::storage::read_only::ReadOnly;
use crate::storage::simulated::SimulatedDisk;
use crate::storage::{Storage, file_system};
use crate::topic::Surroundings;

/// Describes a broker. Made by [`Broker::builder`].
///
/// ```
/// use forebay::{Broker, Record};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let broker = Broker::builder(dir.path()).auto_create_topics(4).open()?;
/// broker.producer().send("born-when-needed", Record::new("first"))?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct BrokerBuilder {
    dir: PathBuf,
    place: Place,
    clock: Clock,
    auto_create_partitions: Option<u32>,
    offsets_retention: Option<Duration>,
    file_access: FileAccess,
    min_free_bytes: Option<u64>,
    max_total_bytes: Option<u64>,
    retention_check_interval: Duration,
    recovery_mode: RecoveryMode,
    read_only: bool,
    allow_remote: bool,
}

/// Where the bytes are kept.
#[derive(Clone, Debug)]
enum Place {
    Disk,
    Memory,
    Simulated(SimulatedDisk),
}

impl Broker {
    /// Opens the broker of a directory, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another broker owns the directory,
    /// [`Error::Corrupt`] and
    /// [`Error::UnsupportedVersion`] if what is in it cannot be
    /// read, [`Error::StorageFull`], [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Starts to describe the broker of a directory.
    pub fn builder(dir: impl AsRef<Path>) -> BrokerBuilder {
        BrokerBuilder {
            dir: dir.as_ref().to_path_buf(),
            place: Place::Disk,
            clock: Clock::system(),
            offsets_retention: None,
            auto_create_partitions: None,
            file_access: FileAccess::Auto,
            min_free_bytes: None,
            max_total_bytes: None,
            retention_check_interval: Duration::from_secs(5),
            recovery_mode: RecoveryMode::default(),
            read_only: false,
            allow_remote: false,
        }
    }

    /// Opens a broker that behaves as any other and keeps nothing on disk.
    ///
    /// ```
    /// use forebay::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// assert_eq!(orders.send(Record::new("paid"))?.offset, 0);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None is known; the signature is that of [`Broker::open`].
    pub fn in_memory() -> Result<Self> {
        Self::builder("memory").in_memory().open()
    }
}

impl BrokerBuilder {
    /// Creates a topic when a record is sent to a name that has none, with this many partitions
    /// and otherwise default settings. Default: such a send is
    /// [`Error::UnknownTopic`].
    pub fn auto_create_topics(mut self, partitions: u32) -> Self {
        self.auto_create_partitions = Some(partitions);
        self
    }

    /// Forgets what a group has committed once it has had no members for this long; as Kafka's
    /// `offsets.retention.minutes`. Default: groups are never forgotten.
    ///
    /// It is looked at when the broker is opened, when a consumer joins or leaves, and when groups are listed
    /// or described; by the wall clock, since it has to outlive the process.
    pub fn offsets_retention(mut self, idle: Duration) -> Self {
        self.offsets_retention = Some(idle);
        self
    }

    /// How many bytes of the file system are to stay free: with fewer, sends are
    /// [`Error::StorageFull`], while reading, committing, deleting records
    /// and closing go on. Sends work again by themselves when there is room. 0 turns it off. Default:
    /// 64 MiB, or a fiftieth of the file system if that is less.
    ///
    /// It is looked at whenever a segment takes room, and once a second.
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.min_free_bytes = Some(bytes);
        self
    }

    /// The most all topics together may take on disk, in bytes, reserved space and indexes included.
    /// Default: no limit.
    ///
    /// A topic that would pass it is treated as one that has reached its own
    /// [`max_bytes`](TopicConfig::max_bytes), by its own [`on_full`](TopicConfig::on_full): its sends are
    /// [`Error::BrokerFull`], wait, or drop its own oldest records. What other topics hold is
    /// deleted for it only where it was consumed.
    pub fn max_total_bytes(mut self, bytes: u64) -> Self {
        self.max_total_bytes = Some(bytes);
        self
    }

    /// How often it is looked whether records are to be deleted, because of their age or for what else
    /// the settings of their topic say; as Kafka's `log.retention.check.interval.ms`. At least 1 ms.
    /// Default: 5 seconds.
    ///
    /// Without such a topic it is never looked. With a [manual clock](Self::manual_clock) it is looked
    /// whenever that was moved.
    pub fn retention_check_interval(mut self, interval: Duration) -> Self {
        self.retention_check_interval = interval;
        self
    }

    /// Whether segments are reached through mappings or system calls. Default:
    /// [`FileAccess::Auto`].
    pub fn file_access(mut self, access: FileAccess) -> Self {
        self.file_access = access;
        self
    }

    /// What is done about a log that does not end as it should. Default:
    /// [`RecoveryMode::TruncateTail`].
    pub fn recovery_mode(mut self, mode: RecoveryMode) -> Self {
        self.recovery_mode = mode;
        self
    }

    /// Opens what is there to be looked at, as it is at this moment, and changes nothing: no lock is
    /// taken, no file is made, nothing is cut. Default: off.
    ///
    /// Reading works; whatever would change something is
    /// [`Error::ReadOnly`]. It works on a directory that cannot be written to,
    /// and beside the broker that owns the directory, of which what comes later is not seen.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// use forebay::{Broker, Error, Record, Start, TopicConfig};
    ///
    /// let owner = Broker::open(path)?;
    /// owner.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    ///
    /// let broker = Broker::builder(path).read_only().open()?;
    /// let mut reader = broker.reader().topic("orders", Start::Earliest).open()?;
    /// assert_eq!(reader.try_poll()?.len(), 1);
    /// let refused = broker.topic("orders")?.send(Record::new("no"));
    /// assert!(matches!(refused, Err(Error::ReadOnly { .. })));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Opens a directory that lies on a file system of another machine (NFS, SMB, 9P, Ceph and the
    /// like). Default: that is [`Error::RemoteFileSystem`].
    ///
    /// There, another machine can open the same directory at the same time, and a server that goes away
    /// can kill the process.
    pub fn allow_remote_file_system(mut self) -> Self {
        self.allow_remote = true;
        self
    }

    /// Keeps everything in memory, and nothing on disk. Default: on disk.
    pub fn in_memory(mut self) -> Self {
        self.place = Place::Memory;
        self
    }

    /// Keeps everything on a simulated disk, for tests. Default: on disk.
    ///
    /// Work that is otherwise done by a background thread is done by calls that come a little
    /// later, always by the same ones.
    pub fn simulated_disk(mut self, disk: &SimulatedDisk) -> Self {
        self.place = Place::Simulated(disk.clone());
        self
    }

    /// Takes the time from a clock that moves only when told to, for tests. Default: the system's
    /// clock, which on Linux is read to within one tick of the kernel, 1 to 10 ms.
    pub fn manual_clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Clock::Manual(clock.clone());
        self
    }

    /// Opens the broker.
    ///
    /// # Errors
    ///
    /// As [`Broker::open`], and [`Error::InvalidConfig`].
    pub fn open(mut self) -> Result<Broker> {
        if let Place::Disk = self.place {
            // The process may change its working directory later.
            self.dir = std::path::absolute(&self.dir)
                .map_err(|error| Error::io("finding directory", &self.dir, error))?;
        }
        if let Some(partitions) = self.auto_create_partitions {
            TopicConfig::new().partitions(partitions).validate()?;
        }
        if self.retention_check_interval < Duration::from_millis(1) {
            return Err(Error::config("retention_check_interval", "it is below one millisecond"));
        }
        let storage = self.storage()?;
        let admission = Arc::new(Admission::new(&storage, &self.dir, self.min_free_bytes));
        let background: Arc<dyn Background> = match self.place {
            Place::Disk => Arc::new(Maintenance::start(&self.dir, &admission)?),
            Place::Memory => Arc::new(Inline),
            Place::Simulated(_) => Arc::<Deferred>::default(),
        };
        let how = HowToOpen { mode: self.recovery_mode, read_only: self.read_only };
        let quota = Quota::of_broker(self.dir.clone(), self.max_total_bytes);
        let by = match (&self.place, &self.clock) {
            (Place::Simulated(_), _) | (Place::Memory, Clock::Manual(_)) => By::Caller,
            (Place::Disk, Clock::Manual(_)) => By::ThreadOnSignal,
            (Place::Disk | Place::Memory, Clock::System(_)) => By::Thread,
        };
        let room_keeper = RoomKeeper::new(by, self.retention_check_interval);
        let around = Surroundings {
            storage,
            background: Arc::clone(&background),
            admission,
            how,
            clock: self.clock.clone(),
            quota,
            relief: Arc::<RoomKeeper>::clone(&room_keeper),
            open: OpenSegments::new(&background, matches!(self.place, Place::Disk).then_some(KEPT)),
        };
        let salvages = self.recovery_mode == RecoveryMode::Salvage && !self.read_only;
        let salvage = salvages.then_some(repair_locked as Salvage);
        let inner = BrokerInner::open(Opening {
            dir: self.dir,
            around,
            room_keeper: Arc::clone(&room_keeper),
            auto_create_partitions: self.auto_create_partitions,
            salvage,
            offsets_retention: self.offsets_retention,
        });
        match inner {
            Ok(inner) => {
                let inner = Arc::new(inner);
                // Not the broker: who drops its last handle closes it, and nobody else.
                let house = Arc::downgrade(inner.house());
                room_keeper.employ(Box::new(move |topic| {
                    if let Some(house) = house.upgrade() {
                        house.keep_house(topic);
                    }
                }));
                if let Clock::Manual(clock) = &self.clock {
                    room_keeper.listen_to(clock);
                }
                Ok(Broker { inner })
            }
            Err(error) => {
                background.stop();
                Err(error)
            }
        }
    }

    /// The file system, as it is to be used.
    fn storage(&self) -> Result<Arc<dyn Storage>> {
        let storage: Arc<dyn Storage> = match &self.place {
            Place::Disk => self.disk()?,
            Place::Memory => Arc::new(MemoryStorage::new(random())),
            Place::Simulated(disk) => Arc::new(Arc::clone(&disk.shared)),
        };
        Ok(if self.read_only { Arc::new(ReadOnly(storage)) } else { storage })
    }

    fn disk(&self) -> Result<Arc<dyn Storage>> {
        let error = |error| Error::io("looking at the file system of", &self.dir, error);
        let found = file_system::of(&self.dir).map_err(error)?;
        if found.is_remote && !self.allow_remote {
            let (path, kind) = (self.dir.clone(), found.name);
            return Err(Error::RemoteFileSystem { path, kind });
        }
        Ok(Arc::new(Disk::new(&self.dir, self.file_access).map_err(error)?))
    }
}
