//! `Broker::repair`: what is damaged is put aside, and all the rest can be opened.

use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::directory_plan::plan_directory;
use super::plan::Plan;
use super::quarantine::Quarantine;
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::opening::lock;
use crate::repair_report::{Repair, RepairReport};
use crate::storage::Storage;
use crate::storage::disk::Disk;
use crate::storage::read_only::ReadOnly;

impl Broker {
    /// Makes a damaged directory one that can be opened, with every record in it that is sound. Nothing
    /// is deleted: what is damaged is copied to `quarantine/<number>/` in the directory, under the
    /// path it had, before anything is changed.
    ///
    /// - A segment that is damaged in places is written anew without them, as several if need be. What
    ///   is missing becomes a gap: offsets stay what they were, and whoever reads there, or has committed
    ///   there, is told once by [`Error::Gap`] and goes on behind it. What is missing at the beginning of
    ///   a log moves its beginning.
    /// - A segment whose header is damaged cannot be read, because the checksums of its records depend
    ///   on it: all of it is a gap. So is one that is missing.
    /// - A checkpoint, an index, a durable mark that is damaged or does not fit is put aside, and made anew
    ///   where there has to be one. Where a log had begun may be lost with its checkpoint: then it begins
    ///   with its first segment.
    /// - The file of a topic's settings is made anew with default settings, and with the identity that
    ///   the segments say. If none says it, the topic's directory is put aside as a whole.
    /// - What groups have committed is kept up to the first entry that is damaged.
    /// - A torn tail is left to the next open, which cuts it.
    ///
    /// Doing it again finds nothing to do. If it is interrupted, it can be done again.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// use forebay::{Broker, Record, Repair, TopicConfig};
    ///
    /// let broker = Broker::open(path)?;
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// broker.close()?;
    /// let checkpoint = path.join("topics/orders/0/checkpoint");
    /// std::fs::write(&checkpoint, "something else").unwrap();
    /// assert!(Broker::open(path).is_err());
    ///
    /// println!("{}", Broker::repair(path, Repair::DryRun)?);
    /// let report = Broker::repair(path, Repair::Apply)?;
    /// assert!(report.gaps.is_empty());
    /// let kept = report.quarantine.unwrap().join("topics/orders/0/checkpoint");
    /// assert_eq!(std::fs::read(kept).unwrap(), b"something else");
    /// Broker::open(path)?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if a broker has the directory open and something is to be changed.
    /// [`Error::Corrupt`] if something is of a later version: then nothing is changed.
    /// [`Error::StorageFull`] if there is no room for the copies, [`Error::Io`]; then what was done so far
    /// is no harm, and it can be done again.
    pub fn repair(dir: impl AsRef<Path>, repair: Repair) -> Result<RepairReport> {
        let dir = dir.as_ref();
        let disk = Disk::new(dir, FileAccess::Calls)
            .map_err(|error| Error::io("looking at the file system of", dir, error))?;
        let disk: Arc<dyn Storage> = Arc::new(disk);
        if repair == Repair::DryRun {
            let storage: Arc<dyn Storage> = Arc::new(ReadOnly(disk));
            return Ok(plan_directory(&Directory { storage: &storage, dir })?.report);
        }
        disk.list(dir).map_err(|error| Error::io("listing directory", dir, error))?;
        let _lock = lock(&*disk, dir)?;
        repair_locked(&disk, dir)
    }
}

/// Repairs a directory whose lock is held.
pub(crate) fn repair_locked(storage: &Arc<dyn Storage>, dir: &Path) -> Result<RepairReport> {
    let Plan { steps, mut report } = plan_directory(&Directory { storage, dir })?;
    let mut quarantine = Quarantine::new(&**storage, dir);
    for step in steps {
        step.apply(storage, &mut quarantine)?;
    }
    report.quarantine = quarantine.into_place();
    for action in &report.actions {
        log::warn!("repaired {action}");
    }
    for gap in &report.gaps {
        log::error!("{gap}");
    }
    Ok(report)
}
