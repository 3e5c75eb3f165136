//! Opening a log: what is kept, what is cut, and what is reported.
//!
//! The rule: what is kept is a prefix of what was appended, and everything below the recovery
//! point is in it. Above it, frames are read until the first that is not whole and does not
//! follow; nothing behind that is kept, later segments included. Below it nothing is read and
//! nothing is cut: damage there is an error for whoever reads it.
//!
//! Between the recovery point and the durable mark everything is read, and nothing is cut either:
//! what does not check there was on stable storage once, and so is damaged and not torn. It stays
//! where it is, is reported, and the reading goes on at the mark.
//!
//! Each step survives a crash in itself, because each leaves less to do for the same end: what is
//! removed is removed from the newest back, and the directory is synced before anything can be
//! appended, so that a removed segment cannot come back behind new records. A segment that was cut
//! or may hold unsynced bytes is never appended to again: the log goes on in a new file with a new
//! salt, where bytes of an earlier life are not valid.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, RecoveryPoint, Tail};
use super::gaps::Gaps;
use super::limit::{Limit, check_mark};
use super::listing::{Found, Listing};
use super::shared::{Log, NewLog, Offsets, PartitionName, recovery_point};
use super::slot::Slot;
use super::writer::LogWriter;
use crate::admission::Admission;
use crate::clock::Moment;
use crate::config::TopicConfig;
use crate::damage::Damage;
use crate::error::{Error, Result};
use crate::quota::{Quota, Room};
use crate::record_quota::RecordQuota;
use crate::recovery_mode::{HowToOpen, RecoveryMode};
use crate::segment::{
    DEFAULT_INDEX_INTERVAL, SEGMENT_HEADER_BYTES, Scan, Segment, Summary, log_path, offset_path,
    time_path,
};
use crate::storage::Storage;
use crate::storage::durable_mark::DurableMark;
use crate::storage::frame::NoFrame;
#[cfg(test)]
use crate::tests::{Planted, is_planted};

/// What opening a log that was not closed cleanly came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// The offset above which records were read and checked.
    pub(crate) from_offset: u64,
    /// The offset behind the last record kept.
    pub(crate) end_offset: u64,
    /// How many records were read and found whole.
    pub(crate) records_kept: u64,
    /// Bytes behind the last record that held something and were cut.
    pub(crate) bytes_cut: u64,
    /// Segments behind the cut that were removed.
    pub(crate) segments_removed: usize,
    /// What stood at the cut, if something did.
    pub(crate) reason: Option<String>,
    /// What is damaged although it was on stable storage.
    pub(crate) damage: Vec<Damage>,
    /// How long it took.
    pub(crate) duration: Duration,
}

/// What a log needs of the broker and the topic it is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) storage: &'a Arc<dyn Storage>,
    pub(crate) admission: &'a Arc<Admission>,
    pub(crate) how: HowToOpen,
    /// What the topic takes on disk.
    pub(crate) quota: &'a Arc<Quota>,
    /// How many records it has.
    pub(crate) records: &'a Arc<RecordQuota>,
    pub(crate) now: Moment,
}

/// Opens the log in `dir`, which exists, recovering it if it was not closed cleanly.
pub(crate) fn open(
    around: &Around<'_>,
    dir: &Path,
    name: PartitionName,
    config: Arc<TopicConfig>,
) -> Result<(LogWriter, Option<Recovery>)> {
    let Around { storage, admission, how, .. } = *around;
    let begun = Instant::now();
    // In this order, so that whoever only looks, while the owner goes on writing, finds segments
    // that reach as far as what he was told before.
    let checkpoint = Checkpoint::load(&**storage, dir)?.unwrap_or_default();
    if !checkpoint.is_possible() {
        let path = dir.join(CHECKPOINT_FILE);
        return Err(Error::corrupt(&path, 0, format!("numbers that no log has: {checkpoint:?}")));
    }
    let early = if how.read_only { load_mark(&**storage, dir)? } else { None };
    let mut listing = Listing::of(&**storage, dir)?;
    for stranger in &listing.strangers {
        let path = dir.join(stranger);
        log::warn!("{} is not a file of this log and is left alone", path.display());
    }
    let gaps = Gaps::load(&**storage, dir)?;
    let mut opening = Opening::new(around, dir, name.topic_id, &checkpoint);
    opening.gaps = gaps;
    opening.clear(&listing.leftovers)?;
    opening.clear_passed(&mut listing.segments)?;
    if listing.has_indexes {
        opening.check_beginning(&listing.segments)?;
    }
    opening.trust(&listing.segments)?;
    let has_mark = listing.has_durable_mark;
    #[cfg(test)]
    let has_mark = has_mark && !is_planted(Planted::ForgetsTheDurableMark);
    let mark = if how.read_only || !has_mark { early } else { load_mark(&**storage, dir)? };
    opening.check_rest(&listing.segments, mark)?;
    opening.pass_gap();
    let mut recovery = opening.finish()?;
    if let Some(recovery) = &mut recovery {
        recovery.duration = begun.elapsed();
        log::info!("recovered {name}: {recovery:?}");
    }
    let start = opening.slots.first().map_or(opening.next_offset, Slot::base_offset);
    let offsets = Offsets {
        start: start.max(checkpoint.log_start),
        end: opening.next_offset,
        synced: opening.durable,
    };
    let (slots, gaps, tail) = (opening.slots, opening.gaps, opening.tail);
    let quota = Quota::of_partition(around.quota);
    let room = Room { admission: Arc::clone(admission), quota: Arc::clone(&quota) };
    let log = Arc::new(Log::new(NewLog {
        name,
        dir,
        storage,
        slots,
        offsets,
        gaps,
        quota,
        opened: around.now,
    }));
    Ok((LogWriter::new(log, config, room, Arc::clone(around.records), tail), recovery))
}

fn load_mark(storage: &dyn Storage, dir: &Path) -> Result<Option<DurableMark>> {
    DurableMark::load(storage, dir)
        .map_err(|error| Error::io("reading durable mark in", dir, error))
}

/// A log on its way to being open.
struct Opening<'a> {
    storage: &'a Arc<dyn Storage>,
    dir: &'a Path,
    topic_id: u64,
    how: HowToOpen,
    /// The wall clock, in milliseconds.
    now: i64,
    point: Option<RecoveryPoint>,
    log_start: u64,
    slots: Vec<Slot>,
    /// The offset the next frame must have.
    next_offset: u64,
    /// The offset below which everything is durable.
    durable: u64,
    tail: Tail,
    recovery: Option<Recovery>,
    /// Offsets that no segment holds.
    gaps: Gaps,
    /// Segments behind the cut.
    doomed: Vec<u64>,
}

impl<'a> Opening<'a> {
    fn new(around: &Around<'a>, dir: &'a Path, topic_id: u64, checkpoint: &Checkpoint) -> Self {
        let point = checkpoint.recovery;
        let next_offset = point.map_or(checkpoint.log_start, |point| point.next_offset);
        Self {
            storage: around.storage,
            dir,
            topic_id,
            how: around.how,
            now: around.now.wall,
            point,
            log_start: checkpoint.log_start,
            slots: Vec::new(),
            next_offset,
            durable: next_offset,
            tail: Tail::Empty,
            recovery: None,
            gaps: Gaps::default(),
            doomed: Vec::new(),
        }
    }

    /// Goes on behind a gap. A segment before one is not written again: it could not hold what follows.
    fn pass_gap(&mut self) {
        let behind = self.gaps.skip(self.next_offset);
        if behind == self.next_offset {
            return;
        }
        if self.durable == self.next_offset {
            self.durable = behind;
        }
        self.next_offset = behind;
        if let Tail::Clean(point) = self.tail {
            self.tail = Tail::Sealed(point);
        }
    }

    /// Removes what interrupted writes left behind.
    fn clear(&self, leftovers: &[String]) -> Result<()> {
        for leftover in leftovers.iter().filter(|_| !self.how.read_only) {
            let path = self.dir.join(leftover);
            self.storage
                .remove_file(&path)
                .map_err(|error| Error::io("removing leftover", &path, error))?;
        }
        Ok(())
    }

    /// Removes segments of a log all of which was deleted: without a recovery point, nothing that begins
    /// before the log is a part of it.
    fn clear_passed(&self, found: &mut Vec<Found>) -> Result<()> {
        if self.point.is_some() {
            return Ok(());
        }
        let passed = found.partition_point(|found| found.base_offset < self.log_start);
        for passed in found.drain(..passed).filter(|_| !self.how.read_only) {
            self.remove(passed.base_offset)?;
        }
        Ok(())
    }

    /// Refuses a log that was sealed before and has neither a recovery point nor its first segment: what
    /// is there is not behind a torn tail, but behind a checkpoint that is missing.
    fn check_beginning(&self, found: &[Found]) -> Result<()> {
        match found.first() {
            Some(first) if self.point.is_none() && first.base_offset > self.log_start => {
                let first = first.base_offset;
                let detail = format!("it is missing, and the first segment begins with {first}");
                Err(Error::corrupt(&self.dir.join(CHECKPOINT_FILE), 0, detail))
            }
            _ => Ok(()),
        }
    }

    /// Takes the segments below the recovery point as they are, and checks that the one it lies in
    /// is there.
    fn trust(&mut self, found: &[Found]) -> Result<()> {
        let Some(point) = self.point else { return Ok(()) };
        let below = found.iter().filter(|found| found.base_offset < point.base_offset);
        self.slots.extend(below.map(Slot::stored));
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
    fn check_rest(&mut self, found: &[Found], mark: Option<DurableMark>) -> Result<()> {
        let first = self.point.map_or(0, |point| point.base_offset);
        let rest: Vec<_> =
            found.iter().copied().filter(|found| found.base_offset >= first).collect();
        let salt = mark.and_then(|mark| {
            Segment::open(self.storage, self.dir, mark.base_offset, self.topic_id).ok()
        });
        let salt = salt.map(|segment| segment.header().salt);
        let mark = check_mark(mark, self.next_offset, self.dir, &rest, salt)?;
        for (place, found) in rest.iter().enumerate() {
            let behind = rest.get(place + 1).map(|next| next.base_offset);
            let limit = Limit::of(found, mark.as_ref(), behind);
            if found.base_offset > first {
                self.pass_gap();
            }
            let kept = match self.point.filter(|point| point.base_offset == found.base_offset) {
                Some(point) => self.check_from(found, &point, limit)?,
                None => self.check_whole(found, limit)?,
            };
            if !kept {
                self.doomed.push(found.base_offset);
            }
        }
        Ok(())
    }

    /// The segment with the recovery point in it. It is always kept.
    fn check_from(
        &mut self,
        found: &Found,
        point: &RecoveryPoint,
        limit: Option<Limit>,
    ) -> Result<bool> {
        self.tail = Tail::Clean(*point);
        if found.len == point.position {
            self.slots.push(Slot::stored(found));
            return Ok(true);
        }
        let segment = Segment::open(self.storage, self.dir, found.base_offset, self.topic_id)?;
        let position = usize::try_from(point.position)
            .map_err(|_| segment.corrupt(0, "the recovery point lies beyond what can be mapped"))?;
        let scan = segment.scan(position, point.next_offset, point.max_timestamp, u64::MAX);
        let scan = self.pass_damage(&segment, scan, limit)?;
        let cut = self.cut(segment, found, &scan)?;
        if scan.position == position && cut == 0 {
            // Nothing but reserved space behind what was durable. Who wrote it did not close, so it is
            // not gone on with: what was lost there could come back behind what is written anew.
            self.slots.push(Slot::stored(&self.as_cut(found, &scan)));
            self.tail = Tail::Sealed(*point);
        } else {
            self.keep(found, &scan)?;
        }
        Ok(true)
    }

    /// A segment all of which lies above the recovery point.
    fn check_whole(&mut self, found: &Found, limit: Option<Limit>) -> Result<bool> {
        self.recovery();
        if found.base_offset != self.next_offset {
            let (base, next) = (found.base_offset, self.next_offset);
            let detail = format!("a segment with offset {base} where {next} follows");
            return self.doom(found, limit, &detail);
        }
        let segment = match Segment::open(self.storage, self.dir, found.base_offset, self.topic_id)
        {
            Ok(segment) => segment,
            // The process ended between making the file and filling it.
            Err(Error::Corrupt { .. }) if limit.is_none() && self.is_blank(found)? => {
                return Ok(false);
            }
            Err(Error::Corrupt { detail, .. }) => return self.doom(found, limit, &detail),
            Err(error) => return Err(error),
        };
        let scan = segment.scan(SEGMENT_HEADER_BYTES, found.base_offset, -1, u64::MAX);
        let scan = self.pass_damage(&segment, scan, limit)?;
        self.cut(segment, found, &scan)?;
        if scan.next_offset == found.base_offset {
            return Ok(false);
        }
        self.keep(found, &scan)?;
        Ok(true)
    }

    /// Gives a segment up, unless it holds what was on stable storage.
    fn doom(&mut self, found: &Found, limit: Option<Limit>, detail: &str) -> Result<bool> {
        if limit.is_some() || self.how.mode == RecoveryMode::Strict {
            return Err(Error::corrupt(&log_path(self.dir, found.base_offset), 0, detail));
        }
        self.note_reason(found.base_offset, detail);
        Ok(false)
    }

    /// Whether a file holds nothing but zeros.
    fn is_blank(&self, found: &Found) -> Result<bool> {
        let path = log_path(self.dir, found.base_offset);
        let region =
            self.storage.map(&path).map_err(|error| Error::io("mapping segment", &path, error))?;
        let bytes = region.read(0..region.committed()).unwrap_or_default();
        Ok(bytes.iter().all(|byte| *byte == 0))
    }

    /// Goes on at the limit of what was on stable storage, if the reading ended below it: what
    /// stands there is damaged, not torn.
    fn pass_damage(&mut self, segment: &Segment, scan: Scan, limit: Option<Limit>) -> Result<Scan> {
        if scan.records > 0 {
            self.recovery().records_kept += scan.records;
        }
        let Some(limit) = limit else { return Ok(scan) };
        let is_other = limit.salt.is_some_and(|salt| salt != segment.header().salt);
        if is_other || self.gaps.skip(scan.next_offset) >= limit.next_offset {
            return Ok(scan);
        }
        let detail = match &scan.reason {
            NoFrame::Invalid(detail) => detail.clone(),
            NoFrame::End => format!("records up to {} were there", limit.next_offset),
        };
        let path = segment.path().to_path_buf();
        let damage = Damage { path, position: scan.position as u64, detail };
        if self.how.mode == RecoveryMode::Strict {
            return Err(damage.into());
        }
        log::error!("{damage}");
        self.recovery().damage.push(damage);
        let position = usize::try_from(limit.position).unwrap_or(usize::MAX);
        let (offset, newest) = (limit.next_offset, scan.max_timestamp);
        let scan = segment.scan(position, offset, newest, DEFAULT_INDEX_INTERVAL);
        self.recovery().records_kept += scan.records;
        Ok(scan)
    }

    /// Cuts the file behind its last whole frame and returns how many bytes held something. The
    /// mapping goes first.
    fn cut(&mut self, segment: Segment, found: &Found, scan: &Scan) -> Result<u64> {
        let rest = segment.bytes(scan.position, usize::MAX);
        let cut = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let path = segment.path().to_path_buf();
        drop(segment);
        self.recovery();
        if cut > 0 {
            let reason = match &scan.reason {
                NoFrame::Invalid(detail) => detail.clone(),
                NoFrame::End => "a frame that was not finished".to_owned(),
            };
            if self.how.mode == RecoveryMode::Strict {
                return Err(Error::corrupt(&path, scan.position as u64, reason));
            }
            self.recovery().bytes_cut += cut;
            self.note_reason(found.base_offset, &format!("byte {}: {reason}", scan.position));
        }
        #[cfg(test)]
        if is_planted(Planted::LeavesTheTail) {
            return Ok(cut);
        }
        let end = scan.position as u64;
        if found.len != end && !self.how.read_only {
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
        let summary = Summary {
            log_bytes: scan.position as u64,
            next_offset: scan.next_offset,
            max_timestamp: scan.max_timestamp,
            // What is not known is not taken to be long ago: nothing is deleted too early for it.
            last_append: self.now,
        };
        let found = &self.as_cut(found, scan);
        if self.how.read_only {
            self.slots.push(Slot::stored(found));
        } else {
            let path = log_path(self.dir, found.base_offset);
            let file = self
                .storage
                .open(&path)
                .map_err(|error| Error::io("opening segment", &path, error))?;
            if self.recovery().damage.last().is_some_and(|damage| damage.path == path) {
                self.keep_way(found, scan, &summary)?;
            }
            // What lies below the recovery point was synced.
            let point = self.point.filter(|point| point.base_offset == found.base_offset);
            let from = point.map_or(0, |point| point.position);
            self.slots.push(Slot::recovered(found, file, from, summary));
        }
        self.tail = Tail::Sealed(recovery_point(found.base_offset, &summary));
        #[cfg(test)]
        if is_planted(Planted::LeavesTheTail) {
            self.tail = Tail::Clean(recovery_point(found.base_offset, &summary));
        }
        self.next_offset = scan.next_offset;
        Ok(())
    }

    /// The segment as it is once its file ends with its last frame.
    fn as_cut(&self, found: &Found, scan: &Scan) -> Found {
        if self.how.read_only { *found } else { Found { len: scan.position as u64, ..*found } }
    }

    /// Writes down how what lies behind damage is found: nobody finds it by reading the segment from
    /// its beginning.
    fn keep_way(&self, found: &Found, scan: &Scan, summary: &Summary) -> Result<()> {
        let segment = Segment::open(self.storage, self.dir, found.base_offset, self.topic_id)?;
        if segment.has_stored_index() {
            return Ok(());
        }
        let stored = segment.store_index(Some(scan.index.clone()), summary);
        let stored = stored.map(drop);
        stored.map_err(|error| Error::space("writing the indexes of", segment.path(), 0, error))
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
        if !self.how.read_only {
            for base_offset in doomed.iter().rev() {
                self.remove(*base_offset)?;
            }
            if !doomed.is_empty() {
                self.storage
                    .sync_dir(self.dir)
                    .map_err(|error| Error::io("syncing partition directory", self.dir, error))?;
            }
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
        #[cfg(test)]
        if is_planted(Planted::KeepsLaterSegments) {
            return Ok(());
        }
        let log = log_path(self.dir, base_offset);
        for path in [offset_path(&log), time_path(&log), log] {
            match self.storage.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("removing segment", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
