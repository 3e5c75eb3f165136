//! What groups have committed, durably: a small compacted log of its own.
//!
//! Every change is appended to a file through a mapping, as records are, and so survives the end
//! of the process as soon as the call returns. When the file is full, all that is known is written
//! to the beginning of the next one, and the files change places: there are never more than two,
//! and each is at most a few times as large as what is known, whatever the number of commits.
//!
//! The files are in `offset_files.rs`; here is what is known, and the order in which it becomes durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};

use super::entry::{Entry, MAX_ENTRY_BYTES, OffsetEntry, TopicEntry};
use super::offset_files::{Files, ToSync};
use super::stored_offsets::StoredOffsets;
use crate::background::{Background, Urgency};
use crate::durability::{Durability, WaitError};
use crate::error::{Error, Result};
use crate::offset_and_metadata::OffsetAndMetadata;
use crate::storage::durable_mark::MarkFile;
use crate::storage::{Storage, not_begun};

/// What groups have committed.
#[derive(Debug)]
pub(crate) struct OffsetStore {
    storage: Arc<dyn Storage>,
    background: Arc<dyn Background>,
    dir: PathBuf,
    /// A leaf lock but for storage; never held during a sync.
    state: Mutex<State>,
    /// Held while files get other names or are removed, and while the store is closed. Comes before
    /// `state`.
    moving: Mutex<()>,
    /// Counts entries: those below its mark are on stable storage.
    durability: Durability,
    /// Where it is written down how far the current file was synced; opened by the first sync. A leaf
    /// lock.
    mark: Mutex<Option<MarkFile>>,
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
        read_only: bool,
        is_topic: impl Fn(&str, u64) -> bool,
    ) -> Result<Self> {
        let (mut known, files) = Files::load(&**storage, &dir, read_only)?;
        known.retain(is_topic);
        Ok(Self {
            storage: Arc::clone(storage),
            background: Arc::clone(background),
            dir,
            // What is found may be in the page cache alone: it counts as written and not synced.
            state: Mutex::new(State {
                written: u64::from(files.is_some()),
                known,
                files,
                ..State::default()
            }),
            moving: Mutex::new(()),
            durability: Durability::new(0),
            mark: Mutex::default(),
        })
    }

    /// Makes the files, so that what is committed later finds its blocks.
    pub(crate) fn prepare(&self) -> Result<()> {
        if self.state.lock().files.is_some() {
            // Who is to read only may do so, whatever became of commits.
            return Ok(());
        }
        let mut state = self.ready()?;
        if state.files.is_none() {
            state.files = Some(Files::create(&*self.storage, &self.dir)?);
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
        loop {
            let state = self.ready()?;
            let topics = state.to_write(group, commits, backwards)?;
            if topics.is_empty() {
                return Ok(state.written);
            }
            if let Some(written) = self.write(state, &Entry::Commit { group, topics }, at)? {
                return Ok(written);
            }
        }
    }

    /// Writes down that a group has members from now on, or none. Nothing is written of a group that has
    /// committed nothing.
    pub(crate) fn set_members(self: &Arc<Self>, group: &str, any: bool, at: i64) -> Result<u64> {
        let is_known = |state: &State| state.known.contains(group);
        self.write_if(is_known, &Entry::Members { group, any }, at)
    }

    /// Deletes a group and all it has committed.
    pub(crate) fn delete(self: &Arc<Self>, group: &str, at: i64) -> Result<u64> {
        self.write_if(|_| true, &Entry::Delete { group }, at)
    }

    /// Forgets what all groups have committed in a topic.
    pub(crate) fn forget(self: &Arc<Self>, topic_id: u64, at: i64) -> Result<u64> {
        let is_known = |state: &State| state.known.has_topic(topic_id);
        self.write_if(is_known, &Entry::Forget { topic_id }, at)
    }

    fn write_if(
        self: &Arc<Self>,
        is_needed: impl Fn(&State) -> bool,
        entry: &Entry<'_>,
        at: i64,
    ) -> Result<u64> {
        loop {
            let state = self.ready()?;
            if !is_needed(&state) {
                return Ok(state.written);
            }
            if let Some(written) = self.write(state, entry, at)? {
                return Ok(written);
            }
        }
    }

    /// Waits until the entries up to this number are on stable storage, and takes those behind it
    /// along.
    pub(crate) fn sync_to(&self, number: u64) -> Result<()> {
        let synced = self.durability.wait(number, || self.write_out());
        synced.map_err(|error| match error {
            WaitError::Poisoned(cause) => Error::OffsetsPoisoned { cause },
            WaitError::NotBegun(error) => {
                Error::NotSynced { path: self.dir.clone(), source: Arc::new(error) }
            }
        })
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

    /// Whether a group has members, as far as that was written down.
    pub(crate) fn has_members(&self, group: &str) -> bool {
        self.state.lock().known.has_members(group)
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

    /// Writes an entry and makes the change it stands for. `None` if the state had to be let go of before:
    /// then whatever the entry was made from has to be looked at again.
    fn write(
        &self,
        mut state: MutexGuard<'_, State>,
        entry: &Entry<'_>,
        at: i64,
    ) -> Result<Option<u64>> {
        let mut body = std::mem::take(&mut state.body);
        entry.encode(&mut body);
        if body.len() > MAX_ENTRY_BYTES {
            let (bytes, max_bytes) = (body.len(), MAX_ENTRY_BYTES);
            return Err(Error::CommitMetadataTooLong { bytes, max_bytes });
        }
        while !state.append(at, &body)? {
            if state.files.as_ref().is_some_and(|files| !files.is_settled()) {
                // The file before is given up only when this one is on stable storage.
                let written = state.written;
                drop(state);
                self.settle(written)?;
                return Ok(None);
            }
            state.next_file(&*self.storage, &self.dir, body.len())?;
            state.has_chores = true;
        }
        state.known.apply(entry, at);
        state.written += 1;
        state.body = body;
        Ok(Some(state.written))
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
        // Whoever is moving files at this moment is waited for; whoever comes later finds none.
        let _moving = self.moving.lock();
        let files = self.state.lock().files.take();
        if let (Ok(()), Some(files)) = (&synced, files) {
            files.leave_mark(&*self.storage, &self.dir);
        }
        synced
    }

    /// Has the current file synced and the one before given up, if that has not been done.
    fn settle(&self, written: u64) -> Result<()> {
        loop {
            self.sync_to(written)?;
            let mut state = self.state.lock();
            if state.files.as_ref().is_none_or(Files::is_settled) {
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
        let (written, current) = {
            let state = self.state.lock();
            let Some(files) = &state.files else { return Ok(state.written) };
            (state.written, files.to_sync())
        };
        if let Some(end) = current.found {
            current.file.rewrite(0..end).map_err(not_begun)?;
        }
        current.file.sync()?;
        if current.entry_durable {
            self.put_mark(&current);
            return Ok(written);
        }
        let _moving = self.moving.lock();
        if self.state.lock().files.is_none() {
            // It was closed, and the directory may be another's. What is in the file was synced.
            return Ok(written);
        }
        self.storage.sync_dir(&self.dir)?;
        let outgoing = {
            let mut state = self.state.lock();
            state.files.as_mut().and_then(|files| files.entry_synced(&current))
        };
        self.put_mark(&current);
        // Until that is done no other file is begun, so those it names are ours.
        if let Some(outgoing) = outgoing {
            let spare = outgoing.retire(&*self.storage, &self.dir);
            if let Some(files) = &mut self.state.lock().files {
                files.settled(spare);
            }
        }
        Ok(written)
    }
}

impl OffsetStore {
    /// Notes how far the current file was synced. Without it, damage to what was synced could be taken
    /// for a torn tail: no more.
    fn put_mark(&self, synced: &ToSync) {
        let Some(mark) = synced.mark else { return };
        let mut file = self.mark.lock();
        if file.is_none() {
            *file = MarkFile::open(&*self.storage, &self.dir).ok();
        }
        if let Some(file) = &*file {
            drop(file.put(&mark));
        }
    }
}

impl State {
    /// Appends an entry, if there is a file that has room for it.
    fn append(&mut self, at: i64, body: &[u8]) -> Result<bool> {
        self.files.as_mut().map_or(Ok(false), |files| files.append(at, body))
    }

    /// What of these commits is news, by topic.
    fn to_write<'a>(
        &self,
        group: &str,
        commits: &'a [TopicOffsets],
        backwards: Backwards,
    ) -> Result<Vec<TopicEntry<'a>>> {
        let mut topics = Vec::with_capacity(commits.len());
        for commit in commits {
            let stored = self.known.topic(group, &commit.topic, commit.id);
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
        Ok(topics)
    }

    /// Begins the first file, or the next one with all that is known and room for an entry of `body`
    /// bytes.
    fn next_file(&mut self, storage: &dyn Storage, dir: &Path, body: usize) -> Result<()> {
        match &mut self.files {
            None => self.files = Some(Files::create(storage, dir)?),
            Some(files) => files.begin_next(storage, dir, &self.known.snapshot(), body)?,
        }
        Ok(())
    }
}
