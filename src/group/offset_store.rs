//! What groups have committed, durably: a small compacted log of its own.
//!
//! Every change is appended to a file through a mapping, as records are, and so survives the end
//! of the process as soon as the call returns. When the file is full, all that is known is written
//! to the beginning of the next one, and the files change places: there are never more than two,
//! and each is at most a few times as large as what is known, whatever the number of commits.
//!
//! | file in `<dir>/offsets` | what it is |
//! |---|---|
//! | `<number, 20 digits>.offsets` | the file being written; while the one with the highest number is not yet known to be on stable storage, the one before it too |
//! | `spare` | blocks for the next file, so that commits go on when the disk is full |
//!
//! Opening takes the file with the highest number that begins with all that was known when it was
//! begun. A file is given up only after its successor and the directory were synced, so there is
//! always one. If a file stands alone and is not whole, it is damaged, and that is an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::entry::{Entry, OffsetEntry, TopicEntry};
use super::offset_file::{self, Found, OffsetFile};
use super::stored_offsets::StoredOffsets;
use crate::background::{Background, Urgency};
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::offset_and_metadata::OffsetAndMetadata;
use crate::storage::{Storage, checked_file};

const SPARE: &str = "spare";
const EXTENSION: &str = ".offsets";
/// What the first file takes on disk, and how far files grow only because much is committed.
const FIRST_BYTES: usize = 64 << 10;
const BUSY_BYTES: usize = 4 << 20;
/// How many times as large as what is known a file is at least.
const SPREAD: usize = 4;

/// What groups have committed.
#[derive(Debug)]
pub(crate) struct OffsetStore {
    storage: Arc<dyn Storage>,
    background: Arc<dyn Background>,
    dir: PathBuf,
    /// A leaf lock but for storage; never held during a sync.
    state: Mutex<State>,
    /// Counts entries: those below its mark are on stable storage.
    durability: Durability,
}

#[derive(Debug, Default)]
struct State {
    known: StoredOffsets,
    /// `None` until something is committed for the first time.
    files: Option<Files>,
    /// How many entries this broker has written.
    written: u64,
    /// The next entry's bytes; kept to be used again.
    body: Vec<u8>,
    /// Whether another file was begun, and the one before is to be given up.
    has_chores: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Files {
    current: OffsetFile,
    /// Whether this broker has begun to write to it.
    is_begun: bool,
    /// Whether the directory entry of `current` is known to be durable.
    entry_durable: bool,
    /// The file before, until `current` is on stable storage.
    previous: Option<PathBuf>,
    /// The size of the spare file, if there is one.
    spare: Option<usize>,
}

/// Offsets to be committed in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicOffsets {
    pub(crate) topic: Arc<str>,
    pub(crate) id: u64,
    pub(crate) offsets: Vec<(u32, OffsetAndMetadata)>,
}

/// What to do with a commit that moves a group back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backwards {
    /// Nothing is committed, and it is an error.
    Refuse,
    /// What would move back stays where it is.
    Keep,
    /// The group is moved back.
    Allow,
}

impl OffsetStore {
    /// Opens the store in `dir`, which need not exist, and forgets topics `is_topic` does not know
    /// by name and identity.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        background: &Arc<dyn Background>,
        dir: PathBuf,
        is_topic: impl Fn(&str, u64) -> bool,
    ) -> Result<Self> {
        let (mut known, files) = load(&**storage, &dir)?;
        known.retain(is_topic);
        Ok(Self {
            storage: Arc::clone(storage),
            background: Arc::clone(background),
            dir,
            state: Mutex::new(State { known, files, ..State::default() }),
            durability: Durability::new(0),
        })
    }

    /// Makes the files, so that what is committed later finds its blocks.
    pub(crate) fn prepare(&self) -> Result<()> {
        let mut state = self.ready()?;
        if state.files.is_none() {
            state.files = Some(create(&*self.storage, &self.dir)?);
        }
        Ok(())
    }

    /// Commits offsets for a group, all of them or none. Returns the number of the entry, for
    /// [`sync_to`](Self::sync_to).
    pub(crate) fn commit(
        self: &Arc<Self>,
        group: &str,
        commits: &[TopicOffsets],
        backwards: Backwards,
        at: i64,
    ) -> Result<u64> {
        let state = self.ready()?;
        let mut topics = Vec::with_capacity(commits.len());
        for commit in commits {
            let stored = state.known.topic(group, &commit.topic, commit.id);
            let mut offsets = Vec::with_capacity(commit.offsets.len());
            for (partition, wanted) in &commit.offsets {
                let present = stored.and_then(|stored| stored.partitions.get(partition));
                match present {
                    Some(present) if present == wanted => continue,
                    Some(present) if wanted.offset < present.offset => match backwards {
                        Backwards::Keep => continue,
                        Backwards::Allow => {}
                        Backwards::Refuse => {
                            return Err(Error::CommitBackwards {
                                group: group.to_owned(),
                                topic: commit.topic.to_string(),
                                partition: *partition,
                                committed: present.offset,
                                offset: wanted.offset,
                            });
                        }
                    },
                    _ => {}
                }
                let (offset, metadata) = (wanted.offset, wanted.metadata.as_str());
                offsets.push(OffsetEntry { partition: *partition, offset, metadata });
            }
            if !offsets.is_empty() {
                topics.push(TopicEntry { topic: &commit.topic, id: commit.id, offsets });
            }
        }
        if topics.is_empty() && state.known.contains(group) {
            return Ok(state.written);
        }
        self.write(state, &Entry::Commit { group, topics }, at)
    }

    /// Writes down that a group is in use.
    pub(crate) fn touch(self: &Arc<Self>, group: &str, at: i64) -> Result<u64> {
        let state = self.ready()?;
        self.write(state, &Entry::Commit { group, topics: Vec::new() }, at)
    }

    /// Deletes a group and all it has committed.
    pub(crate) fn delete(self: &Arc<Self>, group: &str, at: i64) -> Result<u64> {
        let state = self.ready()?;
        self.write(state, &Entry::Delete { group }, at)
    }

    /// Forgets what all groups have committed in a topic.
    pub(crate) fn forget(self: &Arc<Self>, topic_id: u64, at: i64) -> Result<u64> {
        let state = self.ready()?;
        if !state.known.has_topic(topic_id) {
            return Ok(state.written);
        }
        self.write(state, &Entry::Forget { topic_id }, at)
    }

    /// Waits until the entries up to this number are on stable storage, and takes those behind it
    /// along.
    pub(crate) fn sync_to(&self, number: u64) -> Result<()> {
        let synced = self.durability.wait(number, || self.write_out());
        synced.map_err(|cause| Error::OffsetsPoisoned { cause })
    }

    /// Waits until everything that was committed is on stable storage.
    pub(crate) fn flush(&self) -> Result<()> {
        let written = self.state.lock().written;
        self.sync_to(written)
    }

    /// What a group has committed in a topic: by partition, in the order of their numbers.
    pub(crate) fn committed(
        &self,
        group: &str,
        topic: &str,
        id: u64,
    ) -> Vec<(u32, OffsetAndMetadata)> {
        let state = self.state.lock();
        let stored = state.known.topic(group, topic, id);
        let partitions = stored.into_iter().flat_map(|stored| &stored.partitions);
        partitions.map(|(partition, stored)| (*partition, stored.clone())).collect()
    }

    /// What a group has committed in one partition.
    pub(crate) fn committed_in(
        &self,
        group: &str,
        topic: &str,
        id: u64,
        partition: u32,
    ) -> Option<OffsetAndMetadata> {
        let state = self.state.lock();
        state.known.topic(group, topic, id)?.partitions.get(&partition).cloned()
    }

    /// Whether the group has committed something in the topic.
    pub(crate) fn has_topic(&self, group: &str, topic: &str, id: u64) -> bool {
        self.state.lock().known.topic(group, topic, id).is_some()
    }

    /// All a group has committed, or `None` if it is not known here.
    pub(crate) fn group(&self, group: &str) -> Option<Vec<TopicOffsets>> {
        let state = self.state.lock();
        if !state.known.contains(group) {
            return None;
        }
        let topics = state.known.topics(group).map(|(topic, stored)| TopicOffsets {
            topic: Arc::clone(topic),
            id: stored.id,
            offsets: stored.partitions.iter().map(|(at, stored)| (*at, stored.clone())).collect(),
        });
        Some(topics.collect())
    }

    /// The names of all groups known here, sorted.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.state.lock().known.names().map(Arc::clone).collect()
    }

    /// When something was last written down for a group, in milliseconds since the Unix epoch.
    pub(crate) fn active_at(&self, group: &str) -> Option<i64> {
        self.state.lock().known.active_at(group)
    }

    /// The state, if it may be written to.
    fn ready(&self) -> Result<MutexGuard<'_, State>> {
        if let Some(cause) = self.durability.poison() {
            return Err(Error::OffsetsPoisoned { cause });
        }
        let state = self.state.lock();
        if state.is_closed { Err(Error::Closed) } else { Ok(state) }
    }

    /// Writes an entry and makes the change it stands for.
    fn write<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        entry: &Entry<'_>,
        at: i64,
    ) -> Result<u64> {
        let mut body = std::mem::take(&mut state.body);
        entry.encode(&mut body);
        let mut changed_files = false;
        let result = loop {
            if state.append(&*self.storage, at, &body) {
                break Ok(());
            }
            if let Some(files) = &state.files
                && files.previous.is_some()
            {
                // The file before is given up only when this one is on stable storage.
                let written = state.written;
                drop(state);
                let synced = self.settle(written);
                state = self.state.lock();
                if let Err(error) = synced {
                    break Err(error);
                }
                continue;
            }
            match state.next_file(&*self.storage, &self.dir, body.len()) {
                Ok(()) => changed_files = true,
                Err(error) => break Err(error),
            }
        };
        if result.is_ok() {
            state.known.apply(entry, at);
            state.written += 1;
        }
        state.body = body;
        state.has_chores |= changed_files;
        result.map(|()| state.written)
    }

    /// Has done what commits have left to be done, soon. Called with no lock held.
    pub(crate) fn follow_up(self: &Arc<Self>) {
        let written = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.has_chores) {
                return;
            }
            state.written
        };
        let store = Arc::clone(self);
        let settle = move || {
            if let Err(error) = store.settle(written) {
                log::error!("syncing committed offsets: {error}");
            }
        };
        self.background.submit(Urgency::Later, Box::new(settle));
    }

    /// Takes no more commits, and waits until all that there were are on stable storage.
    pub(crate) fn close(&self) -> Result<()> {
        let written = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.written
        };
        let synced = self.sync_to(written);
        self.state.lock().files = None;
        synced
    }

    /// Has the current file synced and the one before given up, if that has not been done.
    fn settle(&self, written: u64) -> Result<()> {
        loop {
            self.sync_to(written)?;
            let mut state = self.state.lock();
            let Some(files) = &state.files else { return Ok(()) };
            if files.previous.is_none() {
                return Ok(());
            }
            // All that is written was synced before this file was begun: sync it for its own sake.
            state.written += 1;
            let next = state.written;
            drop(state);
            self.sync_to(next)?;
        }
    }

    /// Syncs the current file, and gives up the one before. Called by one thread at a time.
    fn write_out(&self) -> io::Result<u64> {
        let (written, file, number, capacity, entry_durable) = {
            let state = self.state.lock();
            let Some(files) = &state.files else { return Ok(state.written) };
            let current = &files.current;
            let (file, number) = (Arc::clone(current.file()), current.number());
            (state.written, file, number, current.capacity(), files.entry_durable)
        };
        file.sync()?;
        if entry_durable {
            return Ok(written);
        }
        self.storage.sync_dir(&self.dir)?;
        let (previous, spare) = {
            let mut state = self.state.lock();
            let files = state.files.as_mut().filter(|files| files.current.number() == number);
            let Some(files) = files else { return Ok(written) };
            files.entry_durable = true;
            (files.previous.clone(), files.spare)
        };
        // Until `previous` is taken away no other file is begun, so these are ours.
        let Some(previous) = previous else { return Ok(written) };
        let spare = retire(&*self.storage, &self.dir, &previous, spare, capacity);
        let mut state = self.state.lock();
        if let Some(files) = &mut state.files {
            files.previous = None;
            files.spare = spare;
        }
        Ok(written)
    }
}

impl State {
    /// Appends an entry to the current file, if there is one and it has room.
    fn append(&mut self, storage: &dyn Storage, at: i64, body: &[u8]) -> bool {
        let Some(files) = &mut self.files else { return false };
        if !files.is_begun {
            let mut opened = Vec::new();
            Entry::Opened { nonce: storage.random() }.encode(&mut opened);
            if !files.current.append(at, &opened) {
                return false;
            }
            files.is_begun = true;
        }
        files.current.append(at, body)
    }

    /// Begins the next file with all that is known, with room for an entry of `body` bytes.
    fn next_file(&mut self, storage: &dyn Storage, dir: &Path, body: usize) -> Result<()> {
        let Some(files) = &mut self.files else {
            self.files = Some(create(storage, dir)?);
            return Ok(());
        };
        let snapshot = self.known.snapshot();
        let mut end = Vec::new();
        Entry::SnapshotEnd.encode(&mut end);
        let bodies = snapshot.iter().map(|(_, body)| body.len()).chain([end.len(), body]);
        let needed: usize = bodies.map(offset_file::frame_bytes).sum();
        let needed = offset_file::file_bytes(needed);
        let grown = (2 * files.current.capacity()).min(BUSY_BYTES);
        let wanted = (SPREAD * needed).next_power_of_two().max(grown);
        let mut next = files.open_next(storage, dir, wanted, needed)?;
        for (at, body) in snapshot.iter().map(|(at, body)| (*at, body)).chain([(0, &end)]) {
            assert!(next.append(at, body), "the file was chosen to have room");
        }
        let before = std::mem::replace(&mut files.current, next);
        files.previous = Some(before.path().to_path_buf());
        files.entry_durable = false;
        // Its checksums follow from a salt of its own.
        files.is_begun = true;
        Ok(())
    }
}

impl Files {
    /// A file with the next number: of `wanted` bytes, or else of whatever holds `needed`.
    fn open_next(
        &mut self,
        storage: &dyn Storage,
        dir: &Path,
        wanted: usize,
        needed: usize,
    ) -> Result<OffsetFile> {
        let number = self.current.number() + 1;
        let path = path_of(dir, number);
        let spare_holds = |bytes: usize| self.spare.is_some_and(|spare| spare >= bytes);
        if !spare_holds(wanted) {
            match OffsetFile::create(storage, &path, number, wanted) {
                Err(Error::StorageFull { .. }) if spare_holds(needed) => {}
                made => return made,
            }
        }
        let spare = dir.join(SPARE);
        let mut next = OffsetFile::reuse(storage, &spare, number)?;
        storage
            .rename(&spare, &path)
            .map_err(|error| Error::io("renaming spare offset file", &spare, error))?;
        next.renamed(path);
        self.spare = None;
        Ok(next)
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{EXTENSION}"))
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION).filter(|digits| digits.len() == 20)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Makes the directory, the first file in it, durably, and a spare one.
fn create(storage: &dyn Storage, dir: &Path) -> Result<Files> {
    storage
        .create_dir_all(dir)
        .map_err(|error| Error::space("creating offset directory", dir, 0, error))?;
    let spare = make_spare(storage, dir, FIRST_BYTES)?;
    let path = path_of(dir, 1);
    let mut making = path.clone().into_os_string();
    making.push(checked_file::TEMPORARY);
    let making = PathBuf::from(making);
    drop(storage.remove_file(&making));
    let mut current = OffsetFile::create(storage, &making, 1, FIRST_BYTES)?;
    let mut end = Vec::new();
    Entry::SnapshotEnd.encode(&mut end);
    assert!(current.append(0, &end), "a file has room for an end");
    let finish = || {
        current.file().sync()?;
        storage.rename(&making, &path)?;
        storage.sync_dir(dir)
    };
    finish().map_err(|error| Error::space("creating offset file", &path, 0, error))?;
    current.renamed(path);
    Ok(Files { current, is_begun: true, entry_durable: true, previous: None, spare: Some(spare) })
}

/// Makes a spare file of this size in place of one that may be there. Returns the size.
fn make_spare(storage: &dyn Storage, dir: &Path, bytes: usize) -> Result<usize> {
    let path = dir.join(SPARE);
    let mut making = path.clone().into_os_string();
    making.push(checked_file::TEMPORARY);
    let making = PathBuf::from(making);
    let make = || {
        drop(storage.remove_file(&making));
        let allocated = storage.create(&making)?.allocate(0, bytes as u64);
        allocated.and_then(|()| storage.rename(&making, &path)).inspect_err(|_| {
            drop(storage.remove_file(&making));
        })
    };
    make()
        .map_err(|error| Error::space("creating spare offset file", &path, bytes as u64, error))?;
    Ok(bytes)
}

/// Gives up the file at `previous`: it, or a new file as large as the current one, becomes the
/// spare. Returns the spare's size. What goes wrong here costs room on the disk and nothing else.
fn retire(
    storage: &dyn Storage,
    dir: &Path,
    previous: &Path,
    spare: Option<usize>,
    wanted: usize,
) -> Option<usize> {
    let length = storage.open(previous).and_then(|file| file.len()).unwrap_or(0);
    let length = usize::try_from(length).unwrap_or(0);
    let is_better = spare.is_none_or(|spare| spare < length);
    let moved = if is_better {
        storage.rename(previous, &dir.join(SPARE)).map(|()| Some(length))
    } else {
        storage.remove_file(previous).map(|()| spare)
    };
    let spare = moved.unwrap_or(spare);
    if spare.is_some_and(|spare| spare >= wanted) {
        return spare;
    }
    make_spare(storage, dir, wanted).map_or(spare, Some)
}

/// What the files in `dir` come to.
fn load(storage: &dyn Storage, dir: &Path) -> Result<(StoredOffsets, Option<Files>)> {
    let entries = match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        listed => listed.map_err(|error| Error::io("listing offset directory", dir, error))?,
    };
    let (mut numbers, mut spare) = (Vec::new(), None);
    for entry in entries {
        let path = dir.join(&entry.name);
        if checked_file::is_leftover(&entry.name) {
            storage
                .remove_file(&path)
                .map_err(|error| Error::io("removing leftover", &path, error))?;
        } else if entry.name == SPARE {
            spare = usize::try_from(entry.len).ok();
        } else if let Some(number) = number_of(&entry.name) {
            numbers.push(number);
        } else {
            log::warn!("{} is not a file of the offset store and is left alone", path.display());
        }
    }
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let mut unfinished: Option<Error> = None;
    let mut doomed = Vec::new();
    let mut numbers = numbers.into_iter();
    for number in numbers.by_ref() {
        let path = path_of(dir, number);
        let mut known = StoredOffsets::default();
        let found = offset_file::read(storage, &path, number, |entry, at| known.apply(entry, at))?;
        if !found.is_complete {
            let Found { detail, .. } = found;
            unfinished.get_or_insert_with(|| Error::corrupt(&path, 0, detail));
            doomed.push(path);
            continue;
        }
        // What was begun behind it was not finished; nothing was promised that is only there.
        for path in &doomed {
            log::warn!("{} was not finished and is removed", path.display());
            storage
                .remove_file(path)
                .map_err(|error| Error::io("removing unfinished offset file", path, error))?;
        }
        let current = OffsetFile::resume(storage, &path, number, &found)?;
        let mut older: Vec<_> = numbers.map(|number| path_of(dir, number)).collect();
        let previous = if older.is_empty() { None } else { Some(older.remove(0)) };
        for path in older {
            storage
                .remove_file(&path)
                .map_err(|error| Error::io("removing old offset file", &path, error))?;
        }
        let files = Files { current, is_begun: false, entry_durable: false, previous, spare };
        return Ok((known, Some(files)));
    }
    match unfinished {
        None => Ok(Default::default()),
        Some(error) => Err(error),
    }
}
