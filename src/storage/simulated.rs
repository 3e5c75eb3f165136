//! A disk that forgets what was not synced, for tests of what survives a power cut.
//!
//! It keeps two images of every file and directory: what a running process sees, and what is on
//! stable storage. [`SimulatedDisk::cut_power`] decides, for everything that was changed and not
//! synced, what happened to have been written back:
//!
//! - of a file's bytes any subset, in pages of 4 KiB or torn at 512 bytes, in any order;
//! - of a file's length the synced one or the latest;
//! - of a directory's entries a prefix of the changes made in it since it was synced, each
//!   directory by itself.
//!
//! It can also make the n-th operation fail, once or for good. Used by one thread at a time its
//! course depends on its seed alone.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::durable_image::{DirChange, Durable, reachable};
use super::memory::{MemoryFile, MemoryStorage, Node, NodeId, ROOT};
use super::{DirEntry, LockGuard, Region, RegionWriter, Space, Storage, StorageFile, split_mix};

/// What reaches a disk in one piece at the least.
const SECTOR: usize = 512;
/// What the page cache writes back in one piece, if nothing goes wrong.
const PAGE: usize = 4096;
/// How large the disk says it is.
const SIMULATED_BYTES: u64 = 1 << 40;

/// How often a failing operation fails.
///
/// ```
/// use forebay::testing::{Failure, SimulatedDisk};
/// use forebay::{Broker, Error, TopicConfig};
///
/// let disk = SimulatedDisk::new(1);
/// let broker = Broker::builder("data").simulated_disk(&disk).open()?;
/// disk.fail_at(disk.operations() + 1, std::io::ErrorKind::StorageFull, Failure::Once);
/// let refused = broker.create_topic("orders", TopicConfig::new());
/// assert!(matches!(refused, Err(Error::StorageFull { .. })));
/// broker.create_topic("orders", TopicConfig::new())?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// That one operation fails, those after it work.
    Once,
    /// That operation and all after it fail.
    Forever,
}

/// A disk in memory whose power can be cut and whose operations can be made to fail.
///
/// Give it to [`BrokerBuilder::simulated_disk`](crate::BrokerBuilder::simulated_disk). What was
/// acknowledged with [`Acks::Synced`](crate::Acks::Synced) survives every cut:
///
/// ```
/// use forebay::testing::SimulatedDisk;
/// use forebay::{Acks, Broker, Record, Start, TopicConfig};
///
/// let disk = SimulatedDisk::new(7);
/// let broker = Broker::builder("data").simulated_disk(&disk).open()?;
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send_with(Record::new("safe"), Acks::Synced)?;
/// orders.send(Record::new("perhaps"))?;
///
/// let disk = disk.cut_power();
/// let broker = Broker::builder("data").simulated_disk(&disk).open()?;
/// let mut reader = broker.reader().partition("orders", 0, Start::Earliest).open()?;
/// assert_eq!(reader.try_poll()?.get(0).and_then(|record| record.value()), Some(&b"safe"[..]));
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    pub(crate) shared: Arc<Simulation>,
}

#[derive(Debug)]
pub(crate) struct Simulation {
    memory: MemoryStorage,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: u64,
    /// How many operations were begun.
    operations: u64,
    cut_at: Option<u64>,
    fail: Option<(u64, io::ErrorKind, Failure)>,
    /// Whether there is no room for anything more.
    is_full: bool,
    /// How long all files may be together, in bytes, by what the disk says of its room.
    capacity: Option<u64>,
    /// What files held when a sync of theirs failed: from then on those bytes count as clean, and
    /// are not written by a later sync.
    given_up: HashMap<NodeId, Vec<u8>>,
    /// What the power cut left, once it has happened. From then on every operation fails.
    after_cut: Option<SimulatedDisk>,
    durable: Durable,
    files: HashMap<NodeId, Arc<MemoryFile>>,
    /// Whoever looks at what a cut at each operation would leave.
    #[cfg(test)]
    observer: Option<Observer>,
}

/// How many states it wants to see of each operation, and what it does with one: the number of the
/// operation, that of the state, and the disk as it would be found.
#[cfg(test)]
struct Observer {
    states: u64,
    see: Box<dyn FnMut(u64, u64, SimulatedDisk) + Send>,
}

#[cfg(test)]
impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("states", &self.states).finish_non_exhaustive()
    }
}

impl SimulatedDisk {
    /// An empty disk. The same seed and the same operations give the same disk after a cut.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let durable =
            Durable { dirs: HashMap::from([(ROOT, BTreeMap::new())]), ..Durable::default() };
        Self::with(MemoryStorage::new(seed), durable, HashMap::new(), seed)
    }

    fn with(
        memory: MemoryStorage,
        durable: Durable,
        files: HashMap<NodeId, Arc<MemoryFile>>,
        seed: u64,
    ) -> Self {
        let state = State {
            random: seed,
            operations: 0,
            cut_at: None,
            fail: None,
            is_full: false,
            capacity: None,
            given_up: HashMap::new(),
            after_cut: None,
            durable,
            files,
            #[cfg(test)]
            observer: None,
        };
        Self { shared: Arc::new(Simulation { memory, state: Mutex::new(state) }) }
    }

    /// Shows, before each operation, so many of the disks that a cut at this moment could leave.
    #[cfg(test)]
    pub(crate) fn observe(
        &self,
        states: u64,
        see: impl FnMut(u64, u64, SimulatedDisk) + Send + 'static,
    ) {
        self.shared.state.lock().observer = Some(Observer { states, see: Box::new(see) });
    }

    /// How many operations were asked of the disk so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.state.lock().operations
    }

    /// Cuts the power just before operation number `operation` (the first is number 1).
    pub fn cut_power_at(&self, operation: u64) {
        self.shared.state.lock().cut_at = Some(operation);
    }

    /// Makes operation number `operation` (the first is number 1) fail with `kind`.
    pub fn fail_at(&self, operation: u64, kind: io::ErrorKind, failure: Failure) {
        self.shared.state.lock().fail = Some((operation, kind, failure));
    }

    /// Says whether there is no room for anything more: whatever allocates or writes bytes fails then,
    /// and the rest works.
    ///
    /// ```
    /// use forebay::testing::SimulatedDisk;
    /// use forebay::{Broker, Error, TopicConfig};
    ///
    /// let disk = SimulatedDisk::new(1);
    /// let broker = Broker::builder("data").simulated_disk(&disk).open()?;
    /// disk.set_full(true);
    /// let refused = broker.create_topic("orders", TopicConfig::new());
    /// assert!(matches!(refused, Err(Error::StorageFull { .. })));
    /// disk.set_full(false);
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn set_full(&self, is_full: bool) {
        self.shared.state.lock().is_full = is_full;
    }

    /// Says how many bytes are free now, for whoever keeps a reserve of them; `None`, the default, for
    /// a disk without end. From then on files that grow take from it, and what is cut or removed gives
    /// back.
    ///
    /// ```
    /// use forebay::testing::SimulatedDisk;
    /// use forebay::{Broker, Error, Record, TopicConfig};
    ///
    /// let disk = SimulatedDisk::new(1);
    /// let builder = Broker::builder("data").simulated_disk(&disk);
    /// let broker = builder.min_free_bytes(1 << 20).open()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// disk.set_free_bytes(Some(1000));
    /// assert!(matches!(orders.send(Record::new("paid")), Err(Error::StorageFull { .. })));
    /// disk.set_free_bytes(Some(1 << 30));
    /// orders.send(Record::new("paid"))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn set_free_bytes(&self, free: Option<u64>) {
        let used = self.shared.memory.bytes();
        self.shared.state.lock().capacity = free.map(|free| used.saturating_add(free));
    }

    /// A disk of its own that holds what is on stable storage here, and nothing else: what the
    /// unluckiest power cut would leave.
    #[must_use]
    pub fn copy(&self) -> SimulatedDisk {
        let mut state = self.shared.state.lock();
        let mut durable = state.durable.clone();
        durable.pending.clear();
        let reached = reachable(&durable);
        durable.dirs.retain(|id, _| reached.contains(id));
        durable.files.retain(|id, _| reached.contains(id));
        for id in reached.iter().filter(|id| state.files.contains_key(id)) {
            durable.files.entry(*id).or_default();
        }
        state.power_up(durable)
    }

    /// Whether the power is off: every operation fails.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.shared.state.lock().after_cut.is_some()
    }

    /// Cuts the power, if it is still on, and returns the disk as it is found when it is back.
    ///
    /// What is returned is a disk of its own; everything asked of this one fails from here on.
    #[expect(
        clippy::must_use_candidate,
        clippy::return_self_not_must_use,
        reason = "cutting the power is an effect of its own"
    )]
    pub fn cut_power(&self) -> SimulatedDisk {
        self.shared.state.lock().cut()
    }
}

impl State {
    /// As [`begin`](Self::begin), for an operation that needs room.
    fn begin_growing(&mut self) -> io::Result<()> {
        self.begin()?;
        if self.is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Counts an operation and decides whether it happens.
    fn begin(&mut self) -> io::Result<()> {
        self.operations += 1;
        #[cfg(test)]
        self.show();
        if self.cut_at == Some(self.operations) {
            self.cut();
        }
        if self.after_cut.is_some() {
            return Err(io::Error::other("the power is off"));
        }
        match self.fail {
            Some((at, kind, Failure::Once)) if at == self.operations => Err(kind.into()),
            Some((at, kind, Failure::Forever)) if at <= self.operations => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// Says that bytes of a file were written since a sync of it failed.
    fn make_dirty(&mut self, id: NodeId, range: Range<u64>) {
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        let Some(clean) = self.given_up.get_mut(&id) else { return };
        let end = at(range.end).min(clean.len());
        for byte in clean.get_mut(at(range.start)..end).unwrap_or_default() {
            *byte = !*byte;
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = split_mix(&mut self.random);
        usize::try_from(number % bound.max(1) as u64).unwrap_or(0)
    }

    #[cfg(test)]
    fn show(&mut self) {
        let Some(mut observer) = self.observer.take() else { return };
        for state in 0..observer.states {
            let disk = self.image();
            (observer.see)(self.operations, state, disk);
        }
        self.observer = Some(observer);
    }

    fn cut(&mut self) -> SimulatedDisk {
        if let Some(disk) = &self.after_cut {
            return disk.clone();
        }
        let disk = self.image();
        self.after_cut = Some(disk.clone());
        disk
    }

    /// A disk as a cut at this moment could leave it.
    fn image(&mut self) -> SimulatedDisk {
        let mut durable = self.durable.clone();
        self.write_back_entries(&mut durable);
        let reached = reachable(&durable);
        durable.dirs.retain(|id, _| reached.contains(id));
        // In order of identity, so that the course of the random numbers is the same every time.
        let mut ids: Vec<NodeId> =
            self.files.keys().copied().filter(|id| reached.contains(id)).collect();
        ids.sort_unstable();
        let mut images = HashMap::new();
        for id in ids {
            let synced = durable.files.get(&id).cloned().unwrap_or_default();
            let latest = self.files.get(&id).map(|file| file.snapshot()).unwrap_or_default();
            images.insert(id, self.write_back_bytes(synced, &latest));
        }
        durable.files = images;
        self.power_up(durable)
    }

    /// Lets a prefix of each directory's pending changes reach the disk.
    fn write_back_entries(&mut self, durable: &mut Durable) {
        let pending = std::mem::take(&mut durable.pending);
        let mut dirs: Vec<NodeId> = pending.iter().map(|(dir, _)| *dir).collect();
        dirs.sort_unstable();
        dirs.dedup();
        for dir in dirs {
            let changes: Vec<_> = pending.iter().filter(|(at, _)| *at == dir).collect();
            let kept = self.below(changes.len() + 1);
            for (_, change) in changes.into_iter().take(kept) {
                durable.apply(dir, change);
            }
        }
    }

    /// Lets a subset of the bytes that differ from the synced ones reach the disk.
    fn write_back_bytes(&mut self, synced: Vec<u8>, latest: &[u8]) -> Vec<u8> {
        let len = if self.below(2) == 0 { synced.len() } else { latest.len() };
        let mut image = synced;
        image.resize(len, 0);
        let piece = match self.below(4) {
            0 => return image,
            1 => len.max(1),
            2 => SECTOR,
            _ => PAGE,
        };
        let all = piece >= len;
        for start in (0..len).step_by(piece) {
            let end = (start + piece).min(len).min(latest.len());
            if let (Some(to), Some(from)) = (image.get_mut(start..end), latest.get(start..end))
                && to != from
                && (all || self.below(2) == 0)
            {
                to.copy_from_slice(from);
            }
        }
        image
    }

    /// A running disk that holds what is durable and nothing else.
    fn power_up(&mut self, durable: Durable) -> SimulatedDisk {
        let mut nodes = HashMap::new();
        let mut files = HashMap::new();
        for (id, entries) in &durable.dirs {
            nodes.insert(*id, Node::Dir(entries.clone()));
        }
        for (id, bytes) in &durable.files {
            let file = Arc::new(MemoryFile::new(bytes.clone()));
            nodes.insert(*id, Node::File(Arc::clone(&file)));
            files.insert(*id, file);
        }
        let seed = split_mix(&mut self.random);
        SimulatedDisk::with(MemoryStorage::with_nodes(seed, nodes), durable, files, seed)
    }
}

impl Simulation {
    /// Does one operation, and notes the change to the directory that holds `path`.
    fn operate<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&MemoryStorage) -> io::Result<T>,
        change: impl FnOnce(String) -> Option<DirChange>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        state.begin()?;
        let (parent, name) = self.memory.parent(path)?;
        let result = work(&self.memory)?;
        if let Some(change) = change(name) {
            state.durable.pending.push((parent, change));
        }
        Ok(result)
    }

    fn simulated_file(self: &Arc<Self>, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let (id, file) = (self.memory.id(path)?, self.memory.file(path)?);
        self.state.lock().files.insert(id, Arc::clone(&file));
        Ok(Arc::new(SimulatedFile { disk: Arc::clone(self), id, file }))
    }
}

impl Storage for Arc<Simulation> {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if self.memory.id(path).is_ok() {
            drop(self.sync_dir(parent));
            return Ok(());
        }
        self.create_dir_all(parent)?;
        self.create_dir(path)?;
        self.sync_dir(parent)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(path, |memory| memory.create_dir(path), |_| None)?;
        let mut state = self.state.lock();
        let id = self.memory.id(path)?;
        let (parent, name) = self.memory.parent(path)?;
        state.durable.dirs.entry(id).or_default();
        state.durable.pending.push((parent, DirChange::Link(name, id)));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.state.lock().begin()?;
        self.memory.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.operate(path, |memory| memory.create(path), |_| None)?;
        let id = self.memory.id(path)?;
        let (parent, name) = self.memory.parent(path)?;
        self.state.lock().durable.pending.push((parent, DirChange::Link(name, id)));
        self.simulated_file(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.state.lock().begin()?;
        self.simulated_file(path)
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.state.lock().begin()?;
        self.memory.read(path, max_bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>> {
        if self.state.lock().is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.memory.id(path).is_err() {
            self.create(path)?;
        }
        self.operate(path, |memory| memory.write(path, bytes), |_| None)?;
        self.simulated_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to_name = self.memory.parent(to)?.1;
        self.operate(
            from,
            |memory| memory.rename(from, to),
            |from_name| Some(DirChange::Rename(from_name, to_name)),
        )
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.operate(path, |memory| memory.remove_file(path), |name| Some(DirChange::Unlink(name)))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(path, |memory| memory.remove_dir(path), |name| Some(DirChange::Unlink(name)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        let id = self.memory.id(path)?;
        state.durable.sync_dir(id);
        Ok(())
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Option<LockGuard>> {
        self.state.lock().begin()?;
        self.memory.lock(path, owner)
    }

    fn map(&self, path: &Path) -> io::Result<Arc<Region>> {
        self.state.lock().begin()?;
        let (id, file) = (self.memory.id(path)?, self.memory.file(path)?);
        self.state.lock().files.insert(id, Arc::clone(&file));
        file.map_reader()
    }

    fn space(&self, _path: &Path) -> io::Result<Option<Space>> {
        let capacity = self.state.lock().capacity;
        Ok(capacity.map(|capacity| {
            let free = capacity.saturating_sub(self.memory.bytes());
            Space { free, total: SIMULATED_BYTES }
        }))
    }

    fn random(&self) -> u64 {
        self.memory.random()
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: Arc<Simulation>,
    id: NodeId,
    file: Arc<MemoryFile>,
}

impl SimulatedFile {
    fn begin(&self) -> io::Result<()> {
        self.disk.state.lock().begin()
    }
}

impl StorageFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.disk.state.lock().begin_growing()?;
        self.file.allocate(from, to)
    }

    fn keep_in_place(&self) {}

    fn is_whole(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.begin()?;
        self.file.trim(len)
    }

    /// As Linux does it, a failure is told once: what was to be written then counts as clean, and a
    /// later sync succeeds without it.
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let latest = self.file.snapshot();
        if let Err(error) = state.begin() {
            state.given_up.insert(self.id, latest);
            return Err(error);
        }
        let image = match state.given_up.get(&self.id) {
            None => latest,
            Some(clean) => {
                let before = state.durable.files.get(&self.id).map_or(&[][..], Vec::as_slice);
                without_clean(latest, clean, before)
            }
        };
        state.durable.files.insert(self.id, image);
        Ok(())
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin_growing()?;
        self.file.write_at(position, bytes)?;
        state.make_dirty(self.id, position..position + bytes.len() as u64);
        Ok(())
    }

    fn rewrite(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin()?;
        state.make_dirty(self.id, range);
        Ok(())
    }

    fn call_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        self.map_writer(capacity, committed)
    }

    fn map_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        self.begin()?;
        self.file.map_writer(capacity, committed)
    }
}

/// What a sync makes durable of `latest`, if pages that are as they were in `clean` are not written:
/// there stays what was on stable storage `before`.
fn without_clean(latest: Vec<u8>, clean: &[u8], before: &[u8]) -> Vec<u8> {
    let mut image = latest;
    for start in (0..image.len()).step_by(PAGE) {
        let end = (start + PAGE).min(image.len());
        let Some(page) = image.get_mut(start..end) else { continue };
        if clean.get(start..end).is_some_and(|clean| clean == page) {
            page.fill(0);
            let kept = before.get(start..end.min(before.len())).unwrap_or_default();
            if let Some(slot) = page.get_mut(..kept.len()) {
                slot.copy_from_slice(kept);
            }
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn write(disk: &SimulatedDisk, path: &str, bytes: &[u8]) -> Arc<dyn StorageFile> {
        disk.shared.write(Path::new(path), bytes).expect("write")
    }

    fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
        disk.shared.read(Path::new(path), 1 << 20).ok()
    }

    #[test]
    fn what_is_synced_with_its_directory_survives_every_cut() {
        for seed in 0..50 {
            let disk = SimulatedDisk::new(seed);
            write(&disk, "/file", b"kept").sync().expect("sync");
            disk.shared.sync_dir(Path::new("/")).expect("sync");
            let after = disk.cut_power();
            assert_eq!(read(&after, "/file").as_deref(), Some(&b"kept"[..]));
            assert!(disk.shared.list(Path::new("/")).is_err(), "the old disk is off");
        }
    }

    #[test]
    fn every_outcome_of_an_unsynced_write_occurs() {
        let mut seen = HashSet::new();
        for seed in 0..300 {
            let disk = SimulatedDisk::new(seed);
            let mut bytes = vec![1; SECTOR];
            bytes.extend([2; SECTOR]);
            write(&disk, "/file", &bytes);
            let found = read(&disk.cut_power(), "/file");
            seen.insert(
                found
                    .map(|found| (found.len(), found.first().copied(), found.get(SECTOR).copied())),
            );
        }
        let whole = 2 * SECTOR;
        assert!(seen.contains(&None), "the entry lost");
        assert!(seen.contains(&Some((0, None, None))), "the length lost");
        for outcome in
            [(Some(0), Some(0)), (Some(1), Some(0)), (Some(0), Some(2)), (Some(1), Some(2))]
        {
            assert!(seen.contains(&Some((whole, outcome.0, outcome.1))), "{outcome:?}");
        }
    }

    #[test]
    fn a_rename_shows_the_old_file_or_the_new_one() {
        let mut seen = HashSet::new();
        for seed in 0..50 {
            let disk = SimulatedDisk::new(seed);
            write(&disk, "/file", b"old").sync().expect("sync");
            disk.shared.sync_dir(Path::new("/")).expect("sync");
            write(&disk, "/temp", b"new").sync().expect("sync");
            disk.shared.rename(Path::new("/temp"), Path::new("/file")).expect("rename");
            seen.insert(read(&disk.cut_power(), "/file"));
        }
        assert_eq!(seen, HashSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
    }

    #[test]
    fn the_operation_named_fails_once_or_for_good() {
        let disk = SimulatedDisk::new(1);
        disk.fail_at(2, io::ErrorKind::StorageFull, Failure::Once);
        let list = || disk.shared.list(Path::new("/")).map(|_| ()).map_err(|error| error.kind());
        assert_eq!([list(), list(), list()], [Ok(()), Err(io::ErrorKind::StorageFull), Ok(())]);
        disk.fail_at(5, io::ErrorKind::Other, Failure::Forever);
        assert_eq!(
            [list(), list(), list()],
            [Ok(()), Err(io::ErrorKind::Other), Err(io::ErrorKind::Other)]
        );
    }
}
