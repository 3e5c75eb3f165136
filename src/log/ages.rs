//! How old segments are, by a clock that nobody can set.
//!
//! Times of appends are kept by the wall clock, because they outlive the process; what they are worth
//! is found out by the monotonic clock. Each look notes when it was: what was appended since the look
//! before was appended between the two, whatever the wall clock says. So a wall clock that jumps makes a
//! record at most as much too old or too young as lies between two looks. Of the time in which the
//! broker was closed only the wall clock knows; what it says of more than 30 days without a new segment
//! is taken for a jump of that clock, and not believed.

use crate::clock::Moment;

/// What is known of the age of a log's segments.
#[derive(Debug)]
pub(super) struct Ages {
    pub(super) opened: Moment,
    /// Where the log ended when it was opened.
    pub(super) former_end: u64,
    /// For each segment it had then, by base offset, how much of the time since is not believed; found out
    /// when that matters.
    pub(super) disbelieved: Option<Vec<(u64, i64)>>,
    /// The last look, by the monotonic clock.
    pub(super) looked: i64,
    /// Where the log ended then, and when the last record had been appended.
    pub(super) end: u64,
    pub(super) appended: i64,
    /// Where the first segment begins that was not timed when it was rolled.
    pub(super) timed_to: u64,
}

impl Ages {
    pub(super) fn new(opened: Moment, end: u64) -> Self {
        Self {
            opened,
            former_end: end,
            disbelieved: None,
            looked: opened.monotonic,
            end,
            appended: opened.monotonic,
            timed_to: end,
        }
    }

    /// When something was appended that the wall clock says was appended at `wall`, and that was not
    /// there at the last look.
    pub(super) fn since_look(&self, wall: i64, now: Moment) -> i64 {
        now.monotonic
            .saturating_sub(now.wall.saturating_sub(wall))
            .clamp(self.looked, now.monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, monotonic: i64) -> Moment {
        Moment { wall, monotonic }
    }

    #[test]
    fn a_wall_clock_that_jumps_changes_an_age_by_less_than_the_time_between_two_looks() {
        let mut ages = Ages::new(at(1_000, 0), 0);
        assert_eq!(ages.since_look(1_500, at(2_000, 1_000)), 500, "the clocks agree");
        ages.looked = 1_000;
        let years = 10 * 365 * 86_400_000;
        assert_eq!(ages.since_look(2_500, at(3_000 + years, 2_000)), 1_000, "not before the look");
        assert_eq!(ages.since_look(2_500, at(3_000 - years, 2_000)), 2_000, "not in the future");
    }
}
