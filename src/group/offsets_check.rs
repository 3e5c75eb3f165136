//! Everything groups have committed, read without changing anything, and written anew where some of it
//! is damaged.
//!
//! What is kept is what was committed up to the first entry that is not sound. A file that does not say
//! all that was known when it was begun adds to what the one before it says.

use std::io;
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::offset_file::{self, Found, OffsetFile};
use super::offset_files::{MARK, MARK_KIND, Mark, SPARE, is_short, number_of, path_of};
use super::stored_offsets::StoredOffsets;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};
use crate::storage::Storage;
use crate::storage::checked_file;
use crate::storage::durable_mark::{self, DurableMark};

/// What the offset store's directory came to.
#[derive(Debug, Default)]
pub(crate) struct OffsetsCheck {
    pub(crate) findings: Vec<Finding>,
    pub(crate) bytes: u64,
    /// How many groups have committed something or were in use.
    pub(crate) groups: usize,
    /// Files that are damaged, to be put aside.
    pub(crate) damaged: Vec<PathBuf>,
    /// Whether what is known has to be written anew.
    pub(crate) is_to_be_rewritten: bool,
    known: StoredOffsets,
    mark: Option<Mark>,
    durable: Option<DurableMark>,
    /// The highest number of a file, and whether some file says all that was known.
    highest: u64,
    is_complete: bool,
}

impl OffsetsCheck {
    /// Reads what groups have committed in `dir`, which need not exist.
    pub(crate) fn of(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let entries = match storage.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            listed => listed.map_err(|error| Error::io("listing offset directory", dir, error))?,
        };
        let (mut check, mut numbers) = (Self::default(), Vec::new());
        for entry in entries {
            let path = dir.join(&entry.name);
            if checked_file::is_leftover(&entry.name) {
                check.note(FindingKind::Leftover, &path, 0, "an interrupted write left it");
            } else if let Some(number) = number_of(&entry.name) {
                check.bytes += entry.len;
                numbers.push(number);
            } else if ![SPARE, MARK].contains(&&*entry.name) && !durable_mark::is_mark(&entry.name)
            {
                check.note(FindingKind::Stranger, &path, 0, "no broker puts it there");
            }
        }
        numbers.sort_unstable();
        check.highest = numbers.last().copied().unwrap_or(0);
        check.read_mark(storage, dir)?;
        check.read_durable_mark(storage, dir)?;
        for number in &numbers {
            check.read_file(storage, &path_of(dir, *number), *number)?;
        }
        check.groups = check.known.names().count();
        check.judge_whole(dir, &numbers);
        Ok(check)
    }

    fn note(&mut self, kind: FindingKind, path: &Path, position: u64, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, path, position, detail));
    }

    fn read_mark(&mut self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        let path = dir.join(MARK);
        match checked_file::read(storage, &path, MARK_KIND) {
            Ok(mark) => self.mark = mark,
            Err(Error::Corrupt { position, detail, .. }) => {
                self.note(FindingKind::Damaged, &path, position, detail);
                self.damaged.push(path);
            }
            Err(Error::UnsupportedVersion { .. }) => self.note_version(&path),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read_durable_mark(&mut self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        let path = durable_mark::path_in(dir);
        self.durable = DurableMark::load(storage, dir)
            .map_err(|error| Error::io("reading durable mark in", dir, error))?;
        let bytes = storage.read(&path, 1 << 20).unwrap_or_default();
        if self.durable.is_none() && bytes.iter().any(|byte| *byte != 0) {
            let detail = "its checksum does not match, or it is not whole";
            self.note(FindingKind::Mark, &path, 0, detail);
            self.damaged.push(path);
        }
        Ok(())
    }

    fn note_version(&mut self, path: &Path) {
        self.note(FindingKind::UnsupportedVersion, path, 8, "it is of a later version");
    }

    /// Reads one file: it alone counts if it says all that was known when it was begun.
    fn read_file(&mut self, storage: &dyn Storage, path: &Path, number: u64) -> Result<()> {
        let mut known = StoredOffsets::default();
        let (found, wrong) = read(storage, path, number, &mut |entry, at| known.apply(entry, at))?;
        let Some(found) = found else {
            self.note_version(path);
            return Ok(());
        };
        if found.is_complete {
            self.known = known;
            self.is_complete = true;
        } else {
            read(storage, path, number, &mut |entry, at| self.known.apply(entry, at))?;
        }
        let falls_short = |mark: DurableMark| mark.base_offset == number && is_short(&found, &mark);
        let is_short = self.mark.is_some_and(|mark| mark.number == number && found.end < mark.end)
            || self.durable.is_some_and(falls_short);
        if is_short || wrong {
            let detail = format!("{}; what was committed behind it is lost", found.detail);
            self.note(FindingKind::Damaged, path, found.end, detail);
            self.damaged.push(path.to_path_buf());
            self.is_to_be_rewritten = true;
        } else if !found.is_complete && self.is_complete {
            let detail = "it was not finished; the file before it counts";
            self.note(FindingKind::TornTail, path, found.end, detail);
        } else if !found.is_complete {
            self.note(FindingKind::Damaged, path, found.end, found.detail);
            self.damaged.push(path.to_path_buf());
            self.is_to_be_rewritten = true;
        }
        Ok(())
    }

    /// What follows from all files together.
    fn judge_whole(&mut self, dir: &Path, numbers: &[u64]) {
        let path = dir.join(MARK);
        let numbers_said =
            [self.mark.map(|mark| mark.number), self.durable.map(|mark| mark.base_offset)];
        let said = numbers_said.into_iter().flatten().max().unwrap_or(0);
        if said > self.highest {
            let detail = "what groups have committed is not there";
            self.note(FindingKind::Missing, &path_of(dir, said), 0, detail);
            self.is_to_be_rewritten = true;
        }
        if !self.is_complete && !numbers.is_empty() {
            self.is_to_be_rewritten = true;
        }
        // What they say is of files that are no longer there, or are about to go.
        let is_gone = |number: Option<u64>| {
            number.is_some_and(|number| {
                number > self.highest || self.damaged.contains(&path_of(dir, number))
            })
        };
        let [mark_goes, durable_goes] = numbers_said.map(is_gone);
        if mark_goes {
            self.damaged.push(path);
        }
        if durable_goes {
            self.damaged.push(durable_mark::path_in(dir));
        }
    }

    /// Writes a file that says all that is known, durably, behind those that are there.
    pub(crate) fn rewrite(&self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        // Above what was there or was said to be: a mark that comes back is of another file.
        let said = self.mark.map_or(0, |mark| mark.number);
        let said = self.durable.map_or(said, |mark| mark.base_offset.max(said));
        let number = self.highest.max(said).saturating_add(1);
        let path = path_of(dir, number);
        let mut making = path.clone().into_os_string();
        making.push(checked_file::TEMPORARY);
        let making = PathBuf::from(making);
        let snapshot = self.known.snapshot();
        let mut end = Vec::new();
        Entry::SnapshotEnd.encode(&mut end);
        let bodies = snapshot.iter().map(|(_, body)| body.len()).chain([end.len()]);
        let bytes = offset_file::file_bytes(bodies.map(offset_file::frame_bytes).sum());
        drop(storage.remove_file(&making));
        let mut file = OffsetFile::create(storage, &making, number, bytes.next_multiple_of(4096))?;
        for (at, body) in snapshot.iter().map(|(at, body)| (*at, body)).chain([(0, &end)]) {
            assert!(file.append(at, body)?, "the file was made to have room");
        }
        let finish = || {
            file.file().sync()?;
            storage.rename(&making, &path)?;
            storage.sync_dir(dir)
        };
        finish().map_err(|error| Error::space("creating offset file", &path, bytes as u64, error))
    }
}

/// Reads a file, and says whether an entry in it is wrong although its checksum is right. `None` if it
/// is of a later version.
fn read(
    storage: &dyn Storage,
    path: &Path,
    number: u64,
    take: &mut dyn FnMut(&Entry<'_>, i64),
) -> Result<(Option<Found>, bool)> {
    match offset_file::read(storage, path, number, take) {
        Ok(found) => Ok((Some(found), false)),
        Err(Error::Corrupt { position, detail, .. }) => {
            let found = Found { end: position, is_complete: false, salt: None, detail };
            Ok((Some(found), true))
        }
        Err(Error::UnsupportedVersion { .. }) => Ok((None, false)),
        Err(error) => Err(error),
    }
}
