//! Where what is damaged is kept as it was found: `<dir>/quarantine/<number>/`, under the paths it had.
//!
//! Everything is copied, synced and its directories synced before the original is touched. Nothing in
//! the quarantine is ever changed or removed.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::Storage;

/// The directory in a broker's directory.
pub(super) const QUARANTINE_DIR: &str = "quarantine";

/// The place that one repair copies to.
#[derive(Debug)]
pub(super) struct Quarantine<'a> {
    storage: &'a dyn Storage,
    /// The broker's directory.
    dir: &'a Path,
    /// Made by the first copy.
    place: Option<PathBuf>,
}

impl<'a> Quarantine<'a> {
    pub(super) fn new(storage: &'a dyn Storage, dir: &'a Path) -> Self {
        Self { storage, dir, place: None }
    }

    /// Where the copies are, if there are any.
    pub(super) fn into_place(self) -> Option<PathBuf> {
        self.place
    }

    /// Copies a file, if it is there, or a directory with everything in it, durably.
    pub(super) fn keep(&mut self, path: &Path) -> Result<()> {
        let Ok(below) = path.strip_prefix(self.dir) else { return Ok(()) };
        let place = self.place()?;
        let to = place.join(below);
        self.copy(path, &to).map_err(|error| Error::space("copying to quarantine", path, 0, error))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.storage.list(from) {
            Ok(entries) => {
                self.storage.create_dir_all(to)?;
                for entry in entries {
                    self.copy(&from.join(&entry.name), &to.join(&entry.name))?;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => self.copy_file(from, to),
            Err(error) => Err(error),
        }
    }

    fn copy_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(parent) = to.parent() else { return Ok(()) };
        self.storage.create_dir_all(parent)?;
        let region = self.storage.map(from)?;
        let bytes = region.read(0..region.committed()).unwrap_or_default();
        self.storage.write(to, bytes)?.sync()?;
        self.storage.sync_dir(parent)
    }

    /// The directory of this repair: the first number that is free.
    fn place(&mut self) -> Result<PathBuf> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        let all = self.dir.join(QUARANTINE_DIR);
        let make = || {
            self.storage.create_dir_all(&all)?;
            let numbers = self.storage.list(&all)?;
            let last = numbers.iter().filter_map(|entry| entry.name.parse::<u64>().ok()).max();
            let place = all.join(format!("{:06}", last.map_or(1, |last| last.saturating_add(1))));
            self.storage.create_dir_all(&place)?;
            Ok(place)
        };
        let place = make().map_err(|error| Error::space("making quarantine", &all, 0, error))?;
        self.place = Some(place.clone());
        Ok(place)
    }
}
