//! Everything in one partition's directory, read: what is known of it, what its segments hold, and what
//! does not fit.
//!
//! What is *known* is the offset below which everything was on stable storage: the recovery point says
//! it, the durable mark, and the gaps of an earlier repair; where there is no recovery point that can be
//! believed, the indexes say it too, because they are written only after their segment was synced, and
//! where there is one that is damaged, all segments but the last count as known. What
//! does not check below is damaged. What does not check above is a torn tail, and is left to recovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index_check;
use super::judge::judge;
use super::segment_check::{Known, SegmentCheck, Stretch};
use super::small_files::{MAX_OFFSET, Mark, SmallFiles};
use crate::error::Result;
use crate::finding::{Finding, FindingKind};
use crate::log::{Checkpoint, Found, Gap, Listing};
use crate::segment::{Segment, SegmentHeader, SparseIndex, log_path};
use crate::storage::Storage;

/// What one partition came to.
#[derive(Debug)]
pub(super) struct PartitionCheck {
    pub(super) dir: PathBuf,
    pub(super) findings: Vec<Finding>,
    pub(super) small: SmallFiles,
    pub(super) segments: Vec<CheckedSegment>,
    /// The offset below which everything was on stable storage.
    pub(super) known: u64,
    /// Offsets that are missing and in no gap that is known.
    pub(super) lost: Vec<Gap>,
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) indexes: u64,
    /// Index files that are wrong or of no segment.
    pub(super) wrong_indexes: Vec<PathBuf>,
}

/// A segment that was read.
#[derive(Debug)]
pub(super) struct CheckedSegment {
    pub(super) base_offset: u64,
    pub(super) path: PathBuf,
    /// What it says about itself; `None` if that cannot be believed, and so nothing in it.
    pub(super) header: Option<SegmentHeader>,
    pub(super) check: SegmentCheck,
    /// Whether anything in it is known to have been on stable storage.
    pub(super) is_known: bool,
}

impl CheckedSegment {
    /// Whether something in it is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_known && (self.header.is_none() || !self.check.damage.is_empty())
    }
}

impl PartitionCheck {
    /// Reads the partition in `dir` of the topic with this identity.
    pub(super) fn of(storage: &Arc<dyn Storage>, dir: &Path, topic_id: u64) -> Result<Self> {
        let (mut check, listing) = Self::begin(storage, dir)?;
        check.known = check.known_end(storage, &listing.segments, topic_id)?;
        let mut next = check.small.checkpoint.unwrap_or_default().log_start;
        next = check.note_beginning(&listing.segments, next);
        let mut is_cut = false;
        for (place, found) in listing.segments.iter().enumerate() {
            let behind = listing.segments.get(place + 1).map(|next| next.base_offset);
            check.read_segment(storage, found, behind, topic_id, &mut next, &mut is_cut)?;
        }
        check.note_end(next);
        check.note_checkpoint(&listing.segments);
        check.findings.extend(check.small.mark_finding());
        check.wrong_indexes.extend(index_check::strangers(&**storage, dir, &listing.segments)?);
        for path in &check.wrong_indexes {
            let detail = "it is of no segment, or does not say what its segment holds";
            check.findings.push(Finding::new(FindingKind::Index, path, 0, detail));
        }
        Ok(check)
    }

    /// What the small files say, and which others there are. In this order, so that the files reach as
    /// far as was said, if their broker goes on writing.
    fn begin(storage: &Arc<dyn Storage>, dir: &Path) -> Result<(Self, Listing)> {
        let mut findings = Vec::new();
        let small = SmallFiles::load(storage, dir, &mut findings)?;
        let listing = Listing::of(&**storage, dir)?;
        for name in &listing.leftovers {
            let detail = "an interrupted write left it";
            findings.push(Finding::new(FindingKind::Leftover, dir.join(name), 0, detail));
        }
        for name in &listing.strangers {
            let detail = "no log puts it there";
            findings.push(Finding::new(FindingKind::Stranger, dir.join(name), 0, detail));
        }
        let check = Self {
            dir: dir.to_path_buf(),
            findings,
            small,
            segments: Vec::new(),
            known: 0,
            lost: Vec::new(),
            bytes: 0,
            records: 0,
            indexes: 0,
            wrong_indexes: Vec::new(),
        };
        Ok((check, listing))
    }

    /// Whether what was found may be due to its broker, which has changed the checkpoint meanwhile.
    pub(super) fn is_outdated(&self, storage: &Arc<dyn Storage>) -> bool {
        self.findings.iter().any(|finding| !finding.kind.is_harmless())
            && Checkpoint::load(&**storage, &self.dir)
                .is_ok_and(|checkpoint| checkpoint != self.small.checkpoint)
    }

    /// The offset below which everything was on stable storage.
    fn known_end(
        &mut self,
        storage: &Arc<dyn Storage>,
        found: &[Found],
        topic_id: u64,
    ) -> Result<u64> {
        let mut known = self.small.gaps.end();
        let open = |base_offset| -> Result<Option<Segment>> {
            let opened = judge(Segment::open(storage, &self.dir, base_offset, topic_id));
            Ok(opened?.ok())
        };
        if let Some(mark) = self.small.mark() {
            let is_there = found.iter().any(|found| found.base_offset == mark.base_offset);
            let segment = if is_there { open(mark.base_offset)? } else { None };
            // What was made anew under the same name is not what the mark is of.
            let is_other = segment.is_some_and(|segment| segment.header().salt != mark.salt);
            known = known.max(if is_other { mark.base_offset } else { mark.next_offset });
            if is_other {
                self.small.mark = Mark::Stale;
            }
        }
        if let Some(point) = self.small.point() {
            return Ok(known.max(point.next_offset));
        }
        let possible = found.iter().filter(|found| found.base_offset <= MAX_OFFSET);
        if self.small.checkpoint_is_wrong {
            // It said something. That it cannot be read is no reason to cut what a later segment holds.
            known = known.max(possible.clone().map(|found| found.base_offset).max().unwrap_or(0));
        }
        for found in possible {
            let Some(segment) = open(found.base_offset)? else { continue };
            let salt = segment.header().salt;
            if let Some((_, summary)) = SparseIndex::load(&**storage, segment.path(), salt)
                && summary.next_offset <= MAX_OFFSET
            {
                known = known.max(summary.next_offset);
            }
        }
        Ok(known)
    }

    /// Finds the beginning missing, if it is, and returns the offset the first segment has to have.
    fn note_beginning(&mut self, found: &[Found], log_start: u64) -> u64 {
        let Some(first) = found.first() else { return log_start };
        if self.small.checkpoint.is_none()
            && !self.small.checkpoint_is_wrong
            && first.base_offset > 0
        {
            let detail = "a log whose beginning is gone has one";
            let path = self.small.checkpoint_path();
            self.findings.push(Finding::new(FindingKind::Missing, path, 0, detail));
        }
        // Without a checkpoint the log begins where its first segment does.
        if self.small.checkpoint.is_none() || first.base_offset <= log_start {
            return first.base_offset;
        }
        log_start
    }

    fn read_segment(
        &mut self,
        storage: &Arc<dyn Storage>,
        found: &Found,
        behind: Option<u64>,
        topic_id: u64,
        next: &mut u64,
        is_cut: &mut bool,
    ) -> Result<()> {
        let base_offset = found.base_offset;
        let path = log_path(&self.dir, base_offset);
        let is_known = base_offset < self.known;
        self.pass_to(base_offset, next);
        if base_offset > MAX_OFFSET || (!is_known && base_offset != *next) {
            *is_cut = true;
        }
        let opened = if base_offset > MAX_OFFSET {
            Err(Finding::new(FindingKind::Damaged, &path, 0, "no log has such an offset"))
        } else {
            judge(Segment::open(storage, &self.dir, base_offset, topic_id))?
        };
        self.bytes += found.len;
        let stop = behind.filter(|behind| is_known && *behind <= self.known);
        let mut segment = CheckedSegment {
            base_offset,
            path,
            header: None,
            check: SegmentCheck::default(),
            is_known,
        };
        match opened {
            Ok(opened) => {
                segment.header = Some(*opened.header());
                let known = is_known.then(|| self.known_in(&opened, stop));
                segment.check = SegmentCheck::of(&opened, known, stop, &self.small.gaps);
                if stop.is_some() {
                    leave_nothing_behind(&mut segment.check, base_offset);
                }
                self.check_indexes(storage, &opened, &segment);
                self.note_segment(&segment, next, is_cut);
            }
            Err(wrong) => self.note_unreadable(storage, &segment, wrong, stop, next, is_cut),
        }
        self.records += segment.check.records;
        self.segments.push(segment);
        Ok(())
    }

    /// Notes offsets that are known to have been there and are in no segment before this one.
    fn pass_to(&mut self, base_offset: u64, next: &mut u64) {
        *next = self.small.gaps.skip(*next);
        let to = base_offset.min(self.known);
        if *next < to {
            let detail = format!("offsets {next} to {} are in no segment", to - 1);
            let path = log_path(&self.dir, *next);
            self.findings.push(Finding::new(FindingKind::Missing, path, 0, detail));
            self.lost.push(Gap { from: *next, to });
            *next = to;
        }
    }

    /// Up to where a segment is known, if `stop` is where the next one begins.
    fn known_in(&self, segment: &Segment, stop: Option<u64>) -> Known {
        let next_offset = stop.unwrap_or(self.known);
        let base_offset = segment.base_offset();
        let point = self.small.point();
        let point = point
            .filter(|point| point.base_offset == base_offset && point.next_offset == next_offset);
        let mark = self.small.mark().filter(|mark| {
            mark.base_offset == base_offset
                && mark.next_offset == next_offset
                && mark.salt == segment.header().salt
        });
        let position = point.map(|point| point.position).or(mark.map(|mark| mark.position));
        Known { position, next_offset }
    }

    fn check_indexes(
        &mut self,
        storage: &Arc<dyn Storage>,
        segment: &Segment,
        checked: &CheckedSegment,
    ) {
        let indexes = index_check::check(&**storage, segment, &checked.check);
        self.indexes += indexes.files;
        self.bytes += indexes.bytes;
        self.wrong_indexes.extend(indexes.wrong);
        let point = self.small.point();
        let is_sealed = point.is_some_and(|point| checked.base_offset < point.base_offset);
        if is_sealed && indexes.files < 2 {
            let detail = "an index is missing; the log is read without it";
            self.findings.push(Finding::new(FindingKind::Index, &checked.path, 0, detail));
        }
    }

    /// What a segment that can be read came to.
    fn note_segment(&mut self, segment: &CheckedSegment, next: &mut u64, is_cut: &mut bool) {
        let CheckedSegment { path, check, .. } = segment;
        for damage in &check.damage {
            let Gap { from, to } = Gap { from: damage.offsets.start, to: damage.offsets.end };
            let detail = if from < to {
                format!("{}; records with offsets {from} to {} are lost", damage.detail, to - 1)
            } else {
                damage.detail.clone()
            };
            let position = damage.position as u64;
            self.findings.push(Finding::new(FindingKind::Damaged, path, position, detail));
            if !self.small.gaps.covers(from, to) {
                self.lost.push(Gap { from, to });
            }
        }
        if *is_cut {
            let detail = "it stands behind a torn tail";
            self.findings.push(Finding::new(FindingKind::TornTail, path, 0, detail));
            return;
        }
        if let Some((position, detail)) = &check.torn {
            let position = *position as u64;
            self.findings.push(Finding::new(FindingKind::TornTail, path, position, detail));
        }
        let last = check.damage.last().map_or(0, |damage| damage.offsets.end);
        *next = (*next).max(last).max(check.next_offset().unwrap_or(0));
    }

    /// What a segment that cannot be believed comes to.
    fn note_unreadable(
        &mut self,
        storage: &Arc<dyn Storage>,
        segment: &CheckedSegment,
        wrong: Finding,
        stop: Option<u64>,
        next: &mut u64,
        is_cut: &mut bool,
    ) {
        if wrong.kind == FindingKind::UnsupportedVersion {
            self.findings.push(wrong);
            *is_cut |= !segment.is_known;
            return;
        }
        if segment.is_known {
            let (from, to) = (*next, stop.unwrap_or(self.known));
            let to_say = to.saturating_sub(1);
            let detail =
                format!("{}; records with offsets {from} to {to_say} are lost", wrong.detail);
            self.findings.push(Finding { detail, ..wrong });
            if from < to {
                self.lost.push(Gap { from, to });
            }
            *next = (*next).max(to);
            return;
        }
        *is_cut = true;
        let region = storage.map(&segment.path);
        let is_blank = region.is_ok_and(|region| {
            let bytes = region.read(0..region.committed()).unwrap_or_default();
            bytes.iter().all(|byte| *byte == 0)
        });
        if !is_blank {
            self.findings.push(Finding { kind: FindingKind::TornTail, ..wrong });
        }
    }

    /// Notes offsets that are known to have been there and lie behind the last segment.
    fn note_end(&mut self, mut next: u64) {
        if self.segments.is_empty() && self.small.checkpoint.is_none() && self.known == 0 {
            return;
        }
        let known = self.known;
        self.pass_to(known, &mut next);
    }

    /// Finds the recovery point wrong if it lies where no segment is.
    fn note_checkpoint(&mut self, found: &[Found]) {
        let Some(point) = self.small.point() else {
            return;
        };
        let len =
            found.iter().find(|one| one.base_offset == point.base_offset).map(|found| found.len);
        if len.is_none_or(|len| len < point.position) {
            self.small.checkpoint_is_wrong = true;
            if self.findings.iter().any(|finding| !finding.kind.is_harmless()) {
                // That is why.
                return;
            }
            let detail = format!(
                "the recovery point lies at byte {} of segment {}, which is not there",
                point.position, point.base_offset
            );
            let path = self.small.checkpoint_path();
            self.findings.push(Finding::new(FindingKind::Damaged, path, 0, detail));
        }
    }

    /// Where the log begins, as far as that is known.
    pub(super) fn log_start(&self) -> u64 {
        let first = self.segments.first().map_or(0, |first| first.base_offset);
        self.small.checkpoint.map_or(first, |checkpoint| checkpoint.log_start)
    }
}

/// In a segment that another follows nothing but zeros may stand behind the last frame.
fn leave_nothing_behind(check: &mut SegmentCheck, base_offset: u64) {
    if let Some((position, detail)) = check.torn.take() {
        let end = check.next_offset().unwrap_or(base_offset);
        check.damage.push(Stretch { position, offsets: end..end, detail });
    }
}
