//! How long to wait before something that failed is tried again.
//!
//! The wait doubles with each failure up to a limit, and the second half of it is drawn by chance, so
//! that those who failed together do not come back together: "equal jitter" of the AWS Architecture
//! Blog's "Exponential Backoff And Jitter" (Brooker, 2015). Of its variants this is the one in which
//! a retry never comes at once. Pure; called by the workers and the dispatcher.

use std::time::Duration;

/// The shortest first wait and the longest wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    /// The wait after the `failures`th failure in a row, counted from 1. `random` is any number.
    pub(super) fn wait(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let whole = nanos(self.min).saturating_mul(1 << doublings).min(nanos(self.max));
        let half = whole / 2;
        let jitter = if half == 0 { 0 } else { random % half.saturating_add(1) };
        Duration::from_nanos(whole - half + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::split_mix;

    #[test]
    fn waits_double_up_to_the_limit_and_lie_in_their_upper_half() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };
        let mut random = 1;
        for (failures, whole) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (90, 5000)] {
            let whole = Duration::from_millis(whole);
            let waits: Vec<_> =
                (0..200).map(|_| backoff.wait(failures, split_mix(&mut random))).collect();
            assert!(waits.iter().all(|wait| *wait >= whole / 2 && *wait <= whole), "{failures}");
            assert!(waits.iter().any(|wait| *wait < whole * 6 / 10), "{failures}: chance");
            assert!(waits.iter().any(|wait| *wait > whole * 9 / 10), "{failures}: chance");
        }
    }

    #[test]
    fn any_limits_do() {
        for (min, max) in [(Duration::ZERO, Duration::ZERO), (Duration::ZERO, Duration::MAX)] {
            assert_eq!(Backoff { min, max }.wait(u32::MAX, 7), Duration::ZERO);
        }
        let endless = Backoff { min: Duration::MAX, max: Duration::MAX };
        assert!(endless.wait(u32::MAX, u64::MAX) > Duration::from_secs(1 << 32));
        let one = Duration::from_nanos(1);
        assert_eq!(Backoff { min: one, max: one }.wait(1, 7), one);
    }
}
