//! Everything in one segment, read: the runs of frames that are sound, and the stretches between them
//! that are not.
//!
//! A frame's checksum starts from the salt of its segment, so a frame that checks is one that was
//! written here, wherever it is found. Behind damage the next frame is looked for at every multiple
//! of 4; it counts if its offset is at or above the one that follows.

use std::ops::{ControlFlow, Range};

use crate::log::Gaps;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::storage::checksum::Checksum;
use crate::storage::frame::{self, NoFrame};

/// Up to where a segment is known to have been on stable storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// In bytes, if that was said.
    pub(super) position: Option<u64>,
    /// The offset behind the last record.
    pub(super) next_offset: u64,
}

/// Frames that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) bytes: Range<usize>,
    pub(super) offsets: Range<u64>,
    /// The largest timestamp in it, or -1.
    pub(super) max_timestamp: i64,
}

/// A stretch of bytes in which something else stands than was written.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) position: usize,
    /// The offsets that are missing because of it.
    pub(super) offsets: Range<u64>,
    pub(super) detail: String,
}

/// What one segment came to.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentCheck {
    /// Runs of frames, in order. Two that touch were parted by nothing but bytes.
    pub(super) runs: Vec<Run>,
    pub(super) damage: Vec<Stretch>,
    /// What stands behind the last frame, if that is above what is known: where, and what.
    pub(super) torn: Option<(usize, String)>,
    pub(super) records: u64,
}

impl SegmentCheck {
    /// Reads a segment that is known to be whole up to `known` but for the gaps, and leaves what is
    /// at `stop` or above to the segment behind it.
    pub(super) fn of(
        segment: &Segment,
        known: Option<Known>,
        stop: Option<u64>,
        gaps: &Gaps,
    ) -> Self {
        let mut check = Self::default();
        let (mut position, mut offset) = (SEGMENT_HEADER_BYTES, segment.base_offset());
        loop {
            let end = check.read_run(segment, position, offset, stop);
            let limit = known.filter(|known| gaps.skip(end.offset) < known.next_offset);
            let Some(limit) = limit else {
                if known.is_some() {
                    check.note_short_file(segment, &end);
                }
                check.torn = end.torn(segment);
                return check;
            };
            // What is known to be there is looked for behind the damage.
            let last = limit.position.and_then(|position| usize::try_from(position).ok());
            let next = next_frame(segment, end.position, end.offset, limit.next_offset, last);
            let (at, from) = next.unwrap_or_else(|| {
                let behind = last.unwrap_or_else(|| segment.committed()).max(end.position);
                (behind, limit.next_offset)
            });
            check.damage.push(Stretch {
                position: end.position,
                offsets: end.offset..from,
                detail: end.detail(limit.next_offset),
            });
            (position, offset) = (at, from);
        }
    }

    /// A file that ends within the padding of its last frame holds all records, and cannot be gone on
    /// with.
    fn note_short_file(&mut self, segment: &Segment, end: &RunEnd) {
        let committed = segment.committed();
        if end.position > committed {
            let detail = "the file ends within its last frame".to_owned();
            let offsets = end.offset..end.offset;
            self.damage.push(Stretch { position: committed, offsets, detail });
        }
    }

    /// The offset behind its last record.
    pub(super) fn next_offset(&self) -> Option<u64> {
        self.runs.last().map(|run| run.offsets.end)
    }

    /// Reads frames for as long as they are sound and follow.
    fn read_run(
        &mut self,
        segment: &Segment,
        position: usize,
        offset: u64,
        stop: Option<u64>,
    ) -> RunEnd {
        let stop = stop.unwrap_or(u64::MAX);
        let scan = segment.scan_until(position, offset, stop);
        if scan.position > position {
            self.records += scan.records;
            self.runs.push(Run {
                bytes: position..scan.position,
                offsets: offset..scan.next_offset,
                max_timestamp: scan.max_timestamp,
            });
        }
        RunEnd { position: scan.position, offset: scan.next_offset, reason: scan.reason }
    }
}

/// Where and why a run ended.
struct RunEnd {
    position: usize,
    offset: u64,
    reason: NoFrame,
}

impl RunEnd {
    fn detail(&self, known: u64) -> String {
        match &self.reason {
            NoFrame::Invalid(detail) => detail.clone(),
            NoFrame::End => {
                format!("nothing stands there, records up to offset {known} were there")
            }
        }
    }

    /// What stands behind the run, if something does.
    fn torn(&self, segment: &Segment) -> Option<(usize, String)> {
        let rest = segment.bytes(self.position, usize::MAX);
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        let detail = match &self.reason {
            NoFrame::Invalid(detail) => detail.clone(),
            NoFrame::End => "a frame that was not finished".to_owned(),
        };
        Some((self.position, detail))
    }
}

/// The next sound frame behind `position` whose offset lies between `from` and `to`: its place and its
/// offset. `last` is where such frames end, if that is known.
fn next_frame(
    segment: &Segment,
    position: usize,
    from: u64,
    to: u64,
    last: Option<usize>,
) -> Option<(usize, u64)> {
    let end = last.unwrap_or(usize::MAX).min(segment.committed());
    let bytes = segment.bytes(0, end);
    for at in (position.next_multiple_of(4)..end).step_by(4) {
        let rest = bytes.get(at..)?;
        if !frame::may_begin(rest) {
            continue;
        }
        let Ok(frame) = segment.frame_in(rest) else { continue };
        let offset = segment.base_offset() + u64::from(frame.header.offset_delta);
        let behind = offset + u64::from(frame.header.count);
        if from <= offset && behind <= to && Segment::holds_records(&frame) {
            return Some((at, offset));
        }
    }
    None
}

/// Copies the frames of a run for another segment that begins with the run.
pub(super) fn transplant(segment: &Segment, run: &Run, checksum: Checksum, out: &mut Vec<u8>) {
    let base = run.offsets.start;
    segment.walk(run.bytes.start, base, |at| {
        if at.position >= run.bytes.end {
            return ControlFlow::Break(());
        }
        let delta = u32::try_from(at.offset - base).unwrap_or(u32::MAX);
        frame::transplant(&at.frame, delta, checksum, out);
        ControlFlow::Continue(())
    });
}
