//! The files of the offset store: the one that is written, the one before, and a spare one.
//!
//! | file in `<dir>/offsets` | what it is |
//! |---|---|
//! | `<number, 20 digits>.offsets` | the file being written; while the one with the highest number is not yet known to be on stable storage, the one before it too |
//! | `checkpoint` | up to which byte of which file everything was synced when the store was closed last |
//! | `spare` | blocks for the next file, so that commits go on when the disk is full |
//!
//! Opening takes the file with the highest number that begins with all that was known when it was
//! begun. A file is given up only after its successor and the directory were synced, so there is
//! always one. If a file stands alone and is not whole, it is damaged, and that is an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::offset_file::{self, Found, OffsetFile};
use super::stored_offsets::StoredOffsets;
use crate::error::{Error, Result};
use crate::storage::checked_file::{self, Kind};
use crate::storage::durable_mark::{self, DurableMark};
use crate::storage::{Storage, StorageFile};

pub(super) const SPARE: &str = "spare";
pub(super) const MARK: &str = "checkpoint";
pub(super) const MARK_KIND: Kind = Kind { magic: *b"FOREBAYP", version: 1 };
const EXTENSION: &str = ".offsets";
/// What the first file takes on disk, and how far files grow only because much is committed.
const FIRST_BYTES: usize = 64 << 10;
const BUSY_BYTES: usize = 4 << 20;
/// How many times as large as what is known a file is at least.
const SPREAD: usize = 4;

/// Up to where a file was synced when the store was closed: what does not reach so far any more is
/// damaged, and not torn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) number: u64,
    pub(super) end: u64,
}

/// The files of an open store.
#[derive(Debug)]
pub(super) struct Files {
    current: OffsetFile,
    /// Whether the directory entry of `current` is known to be durable.
    entry_durable: bool,
    /// The file before, until `current` is on stable storage.
    previous: Option<PathBuf>,
    /// The size of the spare file, if there is one.
    spare: Option<usize>,
    /// Where the last frame ends of a file that was found.
    found_end: u64,
}

/// The file that was current when somebody began to sync.
#[derive(Debug)]
pub(super) struct ToSync {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) entry_durable: bool,
    /// Up to where it is to be written anew before it is synced, if it is one that was found: its pages
    /// may only seem to be on stable storage.
    pub(super) found: Option<u64>,
    /// What can be said when it is on stable storage.
    pub(super) mark: Option<DurableMark>,
    number: u64,
}

/// The file before the current one, which is no longer needed.
#[derive(Debug)]
pub(super) struct Outgoing {
    path: PathBuf,
    spare: Option<usize>,
    /// How large the spare file is to be.
    wanted: usize,
}

impl Files {
    /// Makes the directory, the first file in it, durably, and a spare one.
    pub(super) fn create(storage: &dyn Storage, dir: &Path) -> Result<Self> {
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
        assert!(current.append(0, &end)?, "a file has room for an end");
        let finish = || {
            current.file().sync()?;
            storage.rename(&making, &path)?;
            storage.sync_dir(dir)
        };
        finish().map_err(|error| Error::space("creating offset file", &path, 0, error))?;
        current.renamed(path);
        Ok(Self { current, entry_durable: true, previous: None, spare: Some(spare), found_end: 0 })
    }

    /// What the files in `dir` come to.
    pub(super) fn load(
        storage: &dyn Storage,
        dir: &Path,
        read_only: bool,
    ) -> Result<(StoredOffsets, Option<Self>)> {
        let entries = match storage.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((StoredOffsets::default(), None));
            }
            listed => listed.map_err(|error| Error::io("listing offset directory", dir, error))?,
        };
        let (mut numbers, mut spare) = (Vec::new(), None);
        for entry in entries {
            let path = dir.join(&entry.name);
            if read_only && number_of(&entry.name).is_none() {
                continue;
            }
            if checked_file::is_leftover(&entry.name) {
                storage
                    .remove_file(&path)
                    .map_err(|error| Error::io("removing leftover", &path, error))?;
            } else if entry.name == SPARE {
                // One that was restored from a backup may have holes where blocks were reserved.
                let is_whole = storage.open(&path).and_then(|file| file.is_whole()).unwrap_or(true);
                spare = usize::try_from(entry.len).ok().filter(|_| is_whole);
            } else if entry.name == MARK || durable_mark::is_mark(&entry.name) {
                // It is read below.
            } else if let Some(number) = number_of(&entry.name) {
                numbers.push(number);
            } else {
                log::warn!(
                    "{} is not a file of the offset store and is left alone",
                    path.display()
                );
            }
        }
        let mark: Option<Mark> = checked_file::read(storage, &dir.join(MARK), MARK_KIND)?;
        let durable = DurableMark::load(storage, dir)
            .map_err(|error| Error::io("reading durable mark in", dir, error))?;
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        let mut unfinished: Option<Error> = None;
        let mut doomed = Vec::new();
        let mut numbers = numbers.into_iter();
        for number in numbers.by_ref() {
            let path = path_of(dir, number);
            let mut known = StoredOffsets::default();
            let found =
                offset_file::read(storage, &path, number, |entry, at| known.apply(entry, at))?;
            if mark.is_some_and(|mark| mark.number == number && found.end < mark.end) {
                return Err(Error::corrupt(&path, found.end, found.detail));
            }
            // The same, said by each sync and never made durable itself.
            if durable.is_some_and(|mark| mark.base_offset == number && is_short(&found, &mark)) {
                return Err(Error::corrupt(&path, found.end, found.detail));
            }
            if !found.is_complete {
                let Found { detail, .. } = found;
                unfinished.get_or_insert_with(|| Error::corrupt(&path, 0, detail));
                doomed.push(path);
                continue;
            }
            if read_only {
                return Ok((known, None));
            }
            // What was begun behind it was not finished; nothing was promised that is only there.
            for path in &doomed {
                log::warn!("{} was not finished and is removed", path.display());
                storage
                    .remove_file(path)
                    .map_err(|error| Error::io("removing unfinished offset file", path, error))?;
            }
            let current = OffsetFile::found(storage, &path, number)?;
            let mut older: Vec<_> = numbers.map(|number| path_of(dir, number)).collect();
            let previous = if older.is_empty() { None } else { Some(older.remove(0)) };
            for path in older {
                storage
                    .remove_file(&path)
                    .map_err(|error| Error::io("removing old offset file", &path, error))?;
            }
            let found_end = found.end;
            let files = Self { current, entry_durable: false, previous, spare, found_end };
            return Ok((known, Some(files)));
        }
        match unfinished {
            None => Ok((StoredOffsets::default(), None)),
            Some(error) => Err(error),
        }
    }

    /// Appends an entry of that time, unless there is no room for it, or the file is one that was
    /// found: each broker begins a file of its own.
    pub(super) fn append(&mut self, at: i64, body: &[u8]) -> Result<bool> {
        self.current.append(at, body)
    }

    /// Begins the next file with entries that say all that is known, with room for another of `body`
    /// bytes. The one before must have been given up.
    pub(super) fn begin_next(
        &mut self,
        storage: &dyn Storage,
        dir: &Path,
        snapshot: &[(i64, Vec<u8>)],
        body: usize,
    ) -> Result<()> {
        debug_assert!(self.is_settled(), "there is one file before, at most");
        let mut end = Vec::new();
        Entry::SnapshotEnd.encode(&mut end);
        let bodies = snapshot.iter().map(|(_, body)| body.len()).chain([end.len(), body]);
        let needed = offset_file::file_bytes(bodies.map(offset_file::frame_bytes).sum());
        let grown = (2 * self.current.capacity()).min(BUSY_BYTES);
        let wanted = (SPREAD * needed).next_power_of_two().max(grown);
        let mut next = self.open_next(storage, dir, wanted, needed)?;
        for (at, body) in snapshot.iter().map(|(at, body)| (*at, body)).chain([(0, &end)]) {
            match next.append(at, body) {
                Ok(is_written) => assert!(is_written, "the file was chosen to have room"),
                Err(error) => {
                    self.take_back(storage, dir, &next);
                    return Err(error);
                }
            }
        }
        let before = std::mem::replace(&mut self.current, next);
        self.previous = Some(before.path().to_path_buf());
        self.entry_durable = false;
        Ok(())
    }

    /// Has a file that was begun and not finished out of the way of the next attempt, as the spare one if
    /// there is none.
    fn take_back(&mut self, storage: &dyn Storage, dir: &Path, next: &OffsetFile) {
        if self.spare.is_none() && storage.rename(next.path(), &dir.join(SPARE)).is_ok() {
            self.spare = Some(next.capacity());
        } else {
            drop(storage.remove_file(next.path()));
        }
    }

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
            // An attempt that failed may have left it; what is ours has a lower number.
            drop(storage.remove_file(&path));
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

    /// Says up to where the current file is on stable storage, when it will not be written any more. That
    /// it cannot be said costs nothing but that damage will be taken for a torn tail.
    pub(super) fn leave_mark(&self, storage: &dyn Storage, dir: &Path) {
        if let Some(end) = self.current.end() {
            let mark = Mark { number: self.current.number(), end };
            drop(checked_file::replace(storage, &dir.join(MARK), MARK_KIND, &mark));
        }
    }

    /// Whether the file before the current one has been given up.
    pub(super) fn is_settled(&self) -> bool {
        self.previous.is_none()
    }

    /// What is to be synced.
    pub(super) fn to_sync(&self) -> ToSync {
        let (file, number) = (Arc::clone(self.current.file()), self.current.number());
        let mark = self.current.end().map(|position| DurableMark {
            base_offset: number,
            salt: self.current.salt(),
            position,
            next_offset: 0,
        });
        let found = if mark.is_some() { None } else { Some(self.found_end) };
        ToSync { file, entry_durable: self.entry_durable, found, mark, number }
    }

    /// Says that a file and the directory were synced. If it is the current one still, what stands
    /// before it can be given up.
    pub(super) fn entry_synced(&mut self, synced: &ToSync) -> Option<Outgoing> {
        if synced.number != self.current.number() {
            return None;
        }
        self.entry_durable = true;
        let path = self.previous.clone()?;
        Some(Outgoing { path, spare: self.spare, wanted: self.current.capacity() })
    }

    /// Says that the file before was given up, and how large the spare one is.
    pub(super) fn settled(&mut self, spare: Option<usize>) {
        self.previous = None;
        self.spare = spare;
    }
}

impl Outgoing {
    /// Gives up the file: it, or a new one as large as the current file, becomes the spare. Returns
    /// the spare's size. What goes wrong here costs room on the disk and nothing else.
    pub(super) fn retire(self, storage: &dyn Storage, dir: &Path) -> Option<usize> {
        let Self { path, spare, wanted } = self;
        let length = storage.open(&path).and_then(|file| file.len()).unwrap_or(0);
        let length = usize::try_from(length).unwrap_or(0);
        let moved = if spare.is_none_or(|spare| spare < length) {
            storage.rename(&path, &dir.join(SPARE)).map(|()| Some(length))
        } else {
            storage.remove_file(&path).map(|()| spare)
        };
        let spare = moved.unwrap_or(spare);
        if spare.is_some_and(|spare| spare >= wanted) {
            return spare;
        }
        make_spare(storage, dir, wanted).map_or(spare, Some)
    }
}

/// Whether a file does not reach to a mark that was left in it.
pub(super) fn is_short(found: &Found, mark: &DurableMark) -> bool {
    found.salt.is_none_or(|salt| salt == mark.salt) && found.end < mark.position
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{EXTENSION}"))
}

pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION).filter(|digits| digits.len() == 20)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Makes a spare file of this size in place of one that may be there. Returns the size.
fn make_spare(storage: &dyn Storage, dir: &Path, bytes: usize) -> Result<usize> {
    let path = dir.join(SPARE);
    let mut making = path.clone().into_os_string();
    making.push(checked_file::TEMPORARY);
    let making = PathBuf::from(making);
    let make = || {
        drop(storage.remove_file(&making));
        let file = storage.create(&making)?;
        file.keep_in_place();
        let allocated = file.allocate(0, bytes as u64);
        allocated.and_then(|()| storage.rename(&making, &path)).inspect_err(|_| {
            drop(storage.remove_file(&making));
        })
    };
    make()
        .map_err(|error| Error::space("creating spare offset file", &path, bytes as u64, error))?;
    Ok(bytes)
}
