//! How much went by lately: sums over a window that moves in steps. Pure; called under the lock of
//! the flow.

use std::time::{Duration, Instant};

/// How many steps the window has.
const STEPS: usize = 20;
/// How long a step takes, in milliseconds.
const STEP_MILLIS: u64 = 100;

/// Counts what goes by, and tells how much it was for a second, over the last two.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    /// What went by in each step, the step taken modulo their number.
    steps: [u64; STEPS],
    /// The step that is counted into.
    step: u64,
}

impl Meter {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, steps: [0; STEPS], step: 0 }
    }

    pub(super) fn add(&mut self, now: Instant, count: u64) {
        self.move_to(now);
        let at = self.step as usize % STEPS;
        if let Some(sum) = self.steps.get_mut(at) {
            *sum = sum.saturating_add(count);
        }
    }

    /// What went by for a second.
    pub(super) fn per_second(&mut self, now: Instant) -> u64 {
        self.move_to(now);
        let sum: u64 = self.steps.iter().fold(0, |sum, step| sum.saturating_add(*step));
        // The step that is counted into is only partly over, and in the beginning there are few.
        let passed = self.millis(now);
        let window = passed.min((STEPS as u64 - 1) * STEP_MILLIS + passed % STEP_MILLIS);
        sum.saturating_mul(1000) / window.max(STEP_MILLIS)
    }

    fn millis(&self, now: Instant) -> u64 {
        let passed: Duration = now.saturating_duration_since(self.start);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }

    /// Forgets what has left the window.
    fn move_to(&mut self, now: Instant) {
        let step = self.millis(now) / STEP_MILLIS;
        let passed = step.saturating_sub(self.step).min(STEPS as u64);
        for back in 0..passed {
            let at = (step - back) as usize % STEPS;
            if let Some(sum) = self.steps.get_mut(at) {
                *sum = 0;
            }
        }
        self.step = self.step.max(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_told_as_it_is_and_an_end_is_seen_after_two_seconds() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        for millis in (0..10_000).step_by(10) {
            meter.add(at(millis), 10);
            if millis > 300 {
                let rate = meter.per_second(at(millis));
                assert!((950..=1_050).contains(&rate), "{rate} after {millis} ms");
            }
        }
        assert!(meter.per_second(at(11_000)) < 600);
        assert_eq!(meter.per_second(at(12_100)), 0);
        meter.add(at(u64::from(u32::MAX)), 1);
        assert!(meter.per_second(start) <= 10, "a clock that was read earlier does no harm");
    }
}
