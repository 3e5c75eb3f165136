//! What is to be done about a directory: steps in the order in which they are carried out, and how
//! that is told.

use super::step::Step;
use crate::repair_report::{RepairAction, RepairReport, RepairedGap};

/// What is to be done, and how that is told.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) report: RepairReport,
}

impl Plan {
    pub(super) fn tell(&mut self, action: RepairAction) {
        self.report.actions.push(action);
    }

    pub(super) fn tell_gap(&mut self, gap: RepairedGap) {
        self.report.gaps.push(gap);
    }
}
