//! What is to be done about one partition.

use super::layout::Layout;
use super::partition_check::{CheckedSegment, PartitionCheck};
use super::plan::Plan;
use super::small_files::Mark;
use super::step::{Rewrite, Step};
use crate::log::Checkpoint;
use crate::repair_report::{RepairAction, RepairedGap};
use crate::segment::{offset_path, time_path};

/// Adds to `plan` what is to be done about a partition, if anything is.
///
/// In this order: copies of all that will be changed; the gaps; new segments from the last one back, so
/// that the one they are taken from says what is left to be done for as long as it is there; the
/// checkpoint, which says until then what is known; the durable mark, for the same reason.
pub(super) fn plan_partition(
    plan: &mut Plan,
    topic: &str,
    number: u32,
    topic_id: u64,
    check: &PartitionCheck,
) {
    let damaged: Vec<_> = check.segments.iter().filter(|segment| segment.is_damaged()).collect();
    let layout = Layout::of(check);
    let writes_checkpoint = needs_checkpoint(check, &layout, !damaged.is_empty());
    let drops_mark = needs_no_mark(check, &damaged);
    let writes_gaps = check.small.gaps_are_wrong || layout.gaps != check.small.gaps;
    let is_sound = damaged.is_empty() && check.wrong_indexes.is_empty();
    if is_sound && !writes_checkpoint && !drops_mark && !writes_gaps {
        return;
    }
    let checkpoint_path = check.small.checkpoint_path();
    let mark_path = check.small.mark_path();
    for segment in &damaged {
        keep_segment(plan, segment);
    }
    let small = [
        (check.small.gaps_are_wrong, check.small.gaps_path()),
        (writes_checkpoint, checkpoint_path.clone()),
        (drops_mark, mark_path.clone()),
    ];
    let small = small.into_iter().filter(|(is_touched, _)| *is_touched).map(|(_, path)| path);
    plan.steps.extend(small.chain(check.wrong_indexes.iter().cloned()).map(Step::Keep));
    for path in &check.wrong_indexes {
        plan.tell(RepairAction::new(path, "the index is wrong, and goes to the quarantine"));
    }
    if writes_gaps {
        plan.tell(RepairAction::new(check.small.gaps_path(), "it lists the offsets that are gone"));
        plan.steps.push(Step::WriteGaps { dir: check.dir.clone(), gaps: layout.gaps });
    }
    for segment in damaged.iter().rev() {
        replace_segment(plan, check, segment, topic_id);
    }
    plan.steps.extend(check.wrong_indexes.iter().cloned().map(Step::Remove));
    if writes_checkpoint {
        tell_checkpoint(plan, check, &layout.checkpoint);
        let (dir, checkpoint) = (check.dir.clone(), layout.checkpoint);
        plan.steps.push(Step::WriteCheckpoint { dir, checkpoint });
    }
    if drops_mark {
        plan.tell(RepairAction::new(&mark_path, "it no longer says what is there, and goes"));
        plan.steps.push(Step::Remove(mark_path));
    }
    plan.steps.push(Step::SyncDir(check.dir.clone()));
    for gap in layout.lost {
        plan.tell_gap(RepairedGap::new(topic, number, gap.from, gap.to));
    }
}

fn needs_checkpoint(check: &PartitionCheck, layout: &Layout, is_damaged: bool) -> bool {
    if check.small.checkpoint_is_wrong {
        return true;
    }
    if let Some(checkpoint) = check.small.checkpoint {
        return checkpoint != layout.checkpoint;
    }
    is_damaged || !layout.lost.is_empty() || check.log_start() > 0
}

/// Whether the durable mark cannot be believed, or is of a segment that is damaged or is not there.
fn needs_no_mark(check: &PartitionCheck, damaged: &[&CheckedSegment]) -> bool {
    let mark = match check.small.mark {
        Mark::Absent => return false,
        Mark::Stale | Mark::Wrong => return true,
        Mark::Sound(mark) => mark,
    };
    let is_its = |segment: &CheckedSegment| segment.base_offset == mark.base_offset;
    // It may be old: then what it says is said by the recovery point too, and nobody looks at it.
    damaged.iter().any(|segment| is_its(segment))
        || (!check.segments.iter().any(is_its) && !check.lost.is_empty())
}

fn keep_segment(plan: &mut Plan, segment: &CheckedSegment) {
    let log = &segment.path;
    plan.steps.extend([log.clone(), offset_path(log), time_path(log)].map(Step::Keep));
}

/// Puts what is good of a segment in its place.
fn replace_segment(
    plan: &mut Plan,
    check: &PartitionCheck,
    segment: &CheckedSegment,
    topic_id: u64,
) {
    let log = &segment.path;
    let runs = &segment.check.runs;
    let Some(header) = segment.header.filter(|_| !runs.is_empty()) else {
        plan.tell(RepairAction::new(log, "nothing in it can be read; it goes to the quarantine"));
        plan.steps.extend([offset_path(log), time_path(log), log.clone()].map(Step::Remove));
        return;
    };
    let offsets: Vec<_> = runs
        .iter()
        .map(|run| format!("{} to {}", run.offsets.start, run.offsets.end - 1))
        .collect();
    let what = format!(
        "it is damaged in {} places and goes to the quarantine; what is sound of it is written anew: offsets {}",
        segment.check.damage.len(),
        offsets.join(", ")
    );
    plan.tell(RepairAction::new(log, what));
    let keeps_name = runs.iter().any(|run| run.offsets.start == segment.base_offset);
    plan.steps.extend([offset_path(log), time_path(log)].map(Step::Remove));
    plan.steps.push(Step::Rewrite(Rewrite {
        dir: check.dir.clone(),
        base_offset: segment.base_offset,
        topic_id,
        header,
        runs: runs.clone(),
    }));
    if !keeps_name {
        plan.steps.push(Step::Remove(log.clone()));
    }
}

fn tell_checkpoint(plan: &mut Plan, check: &PartitionCheck, checkpoint: &Checkpoint) {
    let what = match &checkpoint.recovery {
        Some(point) => format!(
            "it is made anew: the log begins with offset {}, and is known to be sound up to {}",
            checkpoint.log_start, point.next_offset
        ),
        None => format!(
            "it is made anew: the log begins with offset {}, and is read as a whole by the next open",
            checkpoint.log_start
        ),
    };
    plan.tell(RepairAction::new(check.small.checkpoint_path(), what));
}
