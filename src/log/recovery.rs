//! Opening a log: what is kept, what is cut, and what is reported.
//!
//! The rule: what is kept is a prefix of what was appended, and everything below the recovery
//! point is in it. Above it, frames are read until the first that is not whole and does not
//! follow; nothing behind that is kept, later segments included. Below it nothing is read and
//! nothing is cut: damage there is an error for whoever reads it.
//!
//! Each step survives a crash in itself, because each leaves less to do for the same end: what is
//! removed is removed from the newest back, and the directory is synced before anything can be
//! appended, so that a removed segment cannot come back behind new records. A segment that was cut
//! or may hold unsynced bytes is never appended to again: the log goes on in a new file with a new
//! salt, where bytes of an earlier life are not valid.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{self, Checkpoint, RecoveryPoint, Tail};
use super::shared::{Log, Offsets, PartitionName, recovery_point};
use super::slot::Slot;
use super::writer::LogWriter;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::segment::{
    self, SEGMENT_HEADER_BYTES, Scan, Segment, Summary, log_path, offset_path, time_path,
};
use crate::storage::frame::NoFrame;
use crate::storage::{Storage, checked_file};

/// What opening a log that was not closed cleanly came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// The offset above which records were read and checked.
    pub(crate) from_offset: u64,
    /// The offset behind the last record kept.
    pub(crate) end_offset: u64,
    /// Bytes behind the last record that held something and were cut.
    pub(crate) bytes_cut: u64,
    /// Segments behind the cut that were removed.
    pub(crate) segments_removed: usize,
    /// What stood at the cut, if something did.
    pub(crate) reason: Option<String>,
}

/// A `.log` file found in the directory.
#[derive(Clone, Copy, Debug)]
struct Found {
    base_offset: u64,
    len: u64,
}

/// Opens the log in `dir`, which exists, recovering it if it was not closed cleanly.
pub(crate) fn open(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    name: PartitionName,
    config: Arc<TopicConfig>,
) -> Result<(LogWriter, Option<Recovery>)> {
    let found = list(&**storage, dir)?;
    let checkpoint = Checkpoint::load(&**storage, dir)?.unwrap_or_default();
    if !checkpoint.is_possible() {
        let path = dir.join(checkpoint::FILE);
        return Err(Error::corrupt(&path, 0, format!("numbers that no log has: {checkpoint:?}")));
    }
    let mut opening = Opening::new(storage, dir, name.topic_id, &checkpoint);
    opening.trust(&found)?;
    opening.check_rest(&found)?;
    let recovery = opening.finish()?;
    if let Some(recovery) = &recovery {
        log::info!("recovered {name}: {recovery:?}");
    }
    let start = opening.slots.first().map_or(opening.next_offset, Slot::base_offset);
    let offsets = Offsets {
        start: start.max(checkpoint.log_start),
        end: opening.next_offset,
        synced: opening.durable,
    };
    let log = Arc::new(Log::new(name, dir, storage, opening.slots, offsets));
    Ok((LogWriter::new(log, config, opening.tail), recovery))
}

/// Lists the segments in order, and removes what an interrupted write left behind.
fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<Found>> {
    let entries =
        storage.list(dir).map_err(|error| Error::io("listing partition directory", dir, error))?;
    let mut found = Vec::new();
    for entry in entries {
        if checked_file::is_leftover(&entry.name) {
            let path = dir.join(&entry.name);
            storage
                .remove_file(&path)
                .map_err(|error| Error::io("removing leftover", &path, error))?;
        } else if let Some(base_offset) = base_offset_of(&entry.name) {
            found.push(Found { base_offset, len: entry.len });
        } else if entry.is_dir || !is_ours(&entry.name) {
            log::warn!(
                "{} is not a file of this log and is left alone",
                dir.join(&entry.name).display()
            );
        }
    }
    found.sort_unstable_by_key(|found| found.base_offset);
    Ok(found)
}

fn base_offset_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn is_ours(name: &str) -> bool {
    checkpoint::is_checkpoint(name) || segment::is_index(Path::new(name))
}

/// A log on its way to being open.
struct Opening<'a> {
    storage: &'a Arc<dyn Storage>,
    dir: &'a Path,
    topic_id: u64,
    point: Option<RecoveryPoint>,
    log_start: u64,
    slots: Vec<Slot>,
    /// The offset the next frame must have.
    next_offset: u64,
    /// The offset below which everything is durable.
    durable: u64,
    tail: Tail,
    recovery: Option<Recovery>,
    /// Segments behind the cut.
    doomed: Vec<u64>,
}

impl<'a> Opening<'a> {
    fn new(
        storage: &'a Arc<dyn Storage>,
        dir: &'a Path,
        topic_id: u64,
        checkpoint: &Checkpoint,
    ) -> Self {
        let point = checkpoint.recovery;
        let next_offset = point.map_or(checkpoint.log_start, |point| point.next_offset);
        Self {
            storage,
            dir,
            topic_id,
            point,
            log_start: checkpoint.log_start,
            slots: Vec::new(),
            next_offset,
            durable: next_offset,
            tail: Tail::Empty,
            recovery: None,
            doomed: Vec::new(),
        }
    }

    /// Takes the segments below the recovery point as they are, and checks that the one it lies in
    /// is there.
    fn trust(&mut self, found: &[Found]) -> Result<()> {
        let Some(point) = self.point else { return Ok(()) };
        let below = found.iter().filter(|found| found.base_offset < point.base_offset);
        self.slots.extend(below.map(|found| Slot::stored(found.base_offset)));
        if let Some(first) = found.first().filter(|first| first.base_offset > self.log_start) {
            let path = log_path(self.dir, self.log_start);
            let (starts, first) = (self.log_start, first.base_offset);
            let detail = format!(
                "the segment is missing: the log starts with offset {starts}, the first segment with {first}"
            );
            return Err(Error::corrupt(&path, 0, detail));
        }
        let path = log_path(self.dir, point.base_offset);
        let Some(last) = found.iter().find(|found| found.base_offset == point.base_offset) else {
            return Err(Error::corrupt(&path, 0, "the segment with the recovery point is missing"));
        };
        if last.len < point.position {
            let detail = format!(
                "the file ends below the recovery point, which is at byte {}",
                point.position
            );
            return Err(Error::corrupt(&path, last.len, detail));
        }
        Ok(())
    }

    /// Reads what lies above the recovery point.
    fn check_rest(&mut self, found: &[Found]) -> Result<()> {
        let first = self.point.map_or(0, |point| point.base_offset);
        for found in found.iter().filter(|found| found.base_offset >= first) {
            let kept = match self.point.filter(|point| point.base_offset == found.base_offset) {
                Some(point) => self.check_from(found, &point)?,
                None => self.check_whole(found)?,
            };
            if !kept {
                self.doomed.push(found.base_offset);
            }
        }
        Ok(())
    }

    /// The segment with the recovery point in it. It is always kept.
    fn check_from(&mut self, found: &Found, point: &RecoveryPoint) -> Result<bool> {
        self.tail = Tail::Clean(*point);
        if found.len == point.position {
            self.slots.push(Slot::stored(found.base_offset));
            return Ok(true);
        }
        let segment = Segment::open(self.storage, self.dir, found.base_offset, self.topic_id)?;
        let position = usize::try_from(point.position)
            .map_err(|_| segment.corrupt(0, "the recovery point lies beyond what can be mapped"))?;
        let scan = segment.scan(position, point.next_offset, point.max_timestamp, u64::MAX);
        let cut = self.cut(segment, found, &scan)?;
        if scan.position == position && cut == 0 {
            // Nothing but reserved space behind what was durable.
            self.slots.push(Slot::stored(found.base_offset));
        } else {
            self.keep(found, &scan)?;
        }
        Ok(true)
    }

    /// A segment all of which lies above the recovery point.
    fn check_whole(&mut self, found: &Found) -> Result<bool> {
        self.recovery();
        if found.base_offset != self.next_offset {
            let (base, next) = (found.base_offset, self.next_offset);
            self.note_reason(base, &format!("a segment with offset {base} where {next} follows"));
            return Ok(false);
        }
        let segment = match Segment::open(self.storage, self.dir, found.base_offset, self.topic_id)
        {
            Ok(segment) => segment,
            Err(Error::Corrupt { detail, .. }) => {
                self.note_reason(found.base_offset, &detail);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let scan = segment.scan(SEGMENT_HEADER_BYTES, found.base_offset, -1, u64::MAX);
        self.cut(segment, found, &scan)?;
        if scan.next_offset == found.base_offset {
            return Ok(false);
        }
        self.keep(found, &scan)?;
        Ok(true)
    }

    /// Cuts the file behind its last whole frame and returns how many bytes held something. The
    /// mapping goes first.
    fn cut(&mut self, segment: Segment, found: &Found, scan: &Scan) -> Result<u64> {
        let rest = segment.bytes(scan.position, usize::MAX);
        let cut = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let path = segment.path().to_path_buf();
        drop(segment);
        self.recovery().bytes_cut += cut;
        if cut > 0 {
            let reason = match &scan.reason {
                NoFrame::Invalid(detail) => detail.clone(),
                NoFrame::End => "a frame that was not finished".to_owned(),
            };
            self.note_reason(found.base_offset, &format!("byte {}: {reason}", scan.position));
        }
        let end = scan.position as u64;
        if found.len != end {
            self.storage
                .open(&path)
                .and_then(|file| {
                    if found.len < end {
                        // It was cut in the padding of its last frame, which is whole without.
                        return file.allocate(found.len, end);
                    }
                    file.trim(end)?;
                    // What held something must not come back: not behind the records that follow,
                    // and not below a recovery point that will have passed this file.
                    if cut > 0 { file.sync() } else { Ok(()) }
                })
                .map_err(|error| Error::space("cutting segment", &path, end, error))?;
        }
        Ok(cut)
    }

    /// Keeps a segment that was read, as one that waits to be synced and is not written again.
    fn keep(&mut self, found: &Found, scan: &Scan) -> Result<()> {
        let path = log_path(self.dir, found.base_offset);
        let file =
            self.storage.open(&path).map_err(|error| Error::io("opening segment", &path, error))?;
        let summary = Summary {
            log_bytes: scan.position as u64,
            next_offset: scan.next_offset,
            max_timestamp: scan.max_timestamp,
            last_append: -1,
        };
        self.slots.push(Slot::recovered(found.base_offset, file, summary));
        self.tail = Tail::Sealed(recovery_point(found.base_offset, &summary));
        self.next_offset = scan.next_offset;
        Ok(())
    }

    fn recovery(&mut self) -> &mut Recovery {
        let from_offset = self.durable;
        self.recovery.get_or_insert_with(|| Recovery { from_offset, ..Recovery::default() })
    }

    /// Notes why the log ends where it does; the first reason is the one that counts.
    fn note_reason(&mut self, base_offset: u64, reason: &str) {
        self.recovery().reason.get_or_insert_with(|| format!("segment {base_offset}: {reason}"));
    }

    /// Removes what lies behind the cut.
    fn finish(&mut self) -> Result<Option<Recovery>> {
        let doomed = std::mem::take(&mut self.doomed);
        for base_offset in doomed.iter().rev() {
            self.remove(*base_offset)?;
        }
        if !doomed.is_empty() {
            self.storage
                .sync_dir(self.dir)
                .map_err(|error| Error::io("syncing partition directory", self.dir, error))?;
        }
        let end_offset = self.next_offset;
        let mut recovery = self.recovery.take();
        if let Some(recovery) = &mut recovery {
            recovery.end_offset = end_offset;
            recovery.segments_removed = doomed.len();
        }
        Ok(recovery)
    }

    fn remove(&self, base_offset: u64) -> Result<()> {
        let log = log_path(self.dir, base_offset);
        for path in [offset_path(&log), time_path(&log), log] {
            match self.storage.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("removing segment behind the cut", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
