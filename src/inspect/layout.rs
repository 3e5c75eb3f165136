//! What the segments of a partition will be once it is repaired: where each begins and ends, where the
//! log begins, which offsets are gone, and up to where everything is on stable storage.

use super::partition_check::{CheckedSegment, PartitionCheck};
use super::segment_check::Run;
use crate::log::{Checkpoint, Gap, Gaps, RecoveryPoint};
use crate::segment::SEGMENT_HEADER_BYTES;

/// A segment as it will be.
#[derive(Clone, Copy, Debug)]
struct Piece {
    point: RecoveryPoint,
    /// Whether it is written anew, and so is durable.
    is_new: bool,
}

/// How a partition will be.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) checkpoint: Checkpoint,
    /// All gaps, those of earlier repairs too.
    pub(super) gaps: Gaps,
    /// The offsets that are gone now, those before the log's start too.
    pub(super) lost: Vec<Gap>,
}

impl Layout {
    pub(super) fn of(check: &PartitionCheck) -> Self {
        let known: Vec<_> = check.segments.iter().filter(|segment| segment.is_known).collect();
        let pieces: Vec<Piece> = known.iter().flat_map(|segment| pieces(segment)).collect();
        let old_start = check.log_start();
        let first = pieces.first().map_or(check.known, |first| first.point.base_offset);
        let log_start = old_start.max(first);
        let (mut gaps, mut lost) = (check.small.gaps.clone(), Vec::new());
        if old_start < log_start {
            lost.push(Gap { from: old_start, to: log_start });
        }
        for gap in check.lost.iter().filter(|gap| gap.to > log_start) {
            let gap = Gap { from: gap.from.max(log_start), to: gap.to };
            gaps.add(gap);
            lost.push(gap);
        }
        let checkpoint = Checkpoint { log_start, recovery: point(check, &pieces) };
        Self { checkpoint, gaps, lost }
    }
}

/// Up to where everything will be on stable storage.
fn point(check: &PartitionCheck, pieces: &[Piece]) -> Option<RecoveryPoint> {
    let old = check.small.point();
    let stays = |point: &RecoveryPoint| {
        let holds = |segment: &&CheckedSegment| segment.base_offset == point.base_offset;
        check.segments.iter().find(holds).is_some_and(|segment| !segment.is_damaged())
    };
    if let Some(old) = old.filter(|old| !check.small.checkpoint_is_wrong && stays(old)) {
        return Some(old);
    }
    let is_durable = |piece: &&Piece| piece.is_new || piece.point.next_offset <= check.known;
    pieces.iter().rev().find(is_durable).map(|piece| piece.point)
}

/// What a segment will be: itself, or one for each of its runs.
fn pieces(segment: &CheckedSegment) -> Vec<Piece> {
    let piece = |run: &Run, base_offset: u64, position: usize, is_new: bool| {
        let (next_offset, max_timestamp) = (run.offsets.end, run.max_timestamp);
        let position = position as u64;
        Piece { point: RecoveryPoint { base_offset, position, next_offset, max_timestamp }, is_new }
    };
    let runs = &segment.check.runs;
    if !segment.is_damaged() {
        let last = runs.last().map(|run| piece(run, segment.base_offset, run.bytes.end, false));
        return last.into_iter().collect();
    }
    let moved = |run: &Run| piece(run, run.offsets.start, moved_bytes(run), true);
    runs.iter().map(moved).collect()
}

/// What a segment takes that holds this run alone.
pub(super) fn moved_bytes(run: &Run) -> usize {
    SEGMENT_HEADER_BYTES + run.bytes.len()
}
