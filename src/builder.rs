//! How a broker is described before it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::background::{Background, Deferred, Inline};
use crate::broker::{Broker, BrokerInner, Opening};
use crate::clock::{Clock, ManualClock};
use crate::config::TopicConfig;
use crate::error::Result;
use crate::maintenance::Maintenance;
use crate::storage::Storage;
use crate::storage::disk::Disk;
use crate::storage::memory::MemoryStorage;
use crate::storage::simulated::SimulatedDisk;
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
    /// [`Error::Locked`](crate::Error::Locked) if another broker owns the directory,
    /// [`Error::Corrupt`](crate::Error::Corrupt) and
    /// [`Error::UnsupportedVersion`](crate::Error::UnsupportedVersion) if what is in it cannot be
    /// read, [`Error::StorageFull`](crate::Error::StorageFull), [`Error::Io`](crate::Error::Io).
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
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic).
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
    /// As [`Broker::open`], and [`Error::InvalidConfig`](crate::Error::InvalidConfig).
    pub fn open(self) -> Result<Broker> {
        if let Some(partitions) = self.auto_create_partitions {
            TopicConfig::new().partitions(partitions).validate()?;
        }
        let (storage, background): (Arc<dyn Storage>, Arc<dyn Background>) = match self.place {
            Place::Disk => (Arc::new(Disk), Arc::new(Maintenance::start(&self.dir)?)),
            Place::Memory => (Arc::new(MemoryStorage::new(Disk.random())), Arc::new(Inline)),
            Place::Simulated(disk) => (Arc::new(disk.shared), Arc::<Deferred>::default()),
        };
        let inner = BrokerInner::open(Opening {
            dir: self.dir,
            around: Surroundings { storage, background: Arc::clone(&background) },
            clock: self.clock,
            auto_create_partitions: self.auto_create_partitions,
            offsets_retention: self.offsets_retention,
        });
        match inner {
            Ok(inner) => Ok(Broker { inner: Arc::new(inner) }),
            Err(error) => {
                background.stop();
                Err(error)
            }
        }
    }
}
