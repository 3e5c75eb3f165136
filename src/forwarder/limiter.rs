//! When a batch may go: token buckets, for records and for bytes.
//!
//! A bucket fills with the rate and holds what comes in during the burst. A batch goes when the
//! bucket holds what it takes, or is half full; it may leave a debt behind. Batches that can be cut
//! are cut to half a bucket ([`Limiter::most_records`]), so that
//!
//! - no time `t` has more than `rate × (t + burst)`, but for a single record that is larger than
//!   half a bucket, and
//! - a thread that wakes up late, by up to half the burst, loses nothing of the rate, because what came
//!   in meanwhile still has room.
//!
//! Pure: whoever asks says what time it is. Called under the lock of the flow.

use std::time::{Duration, Instant};

/// Levels are counted in billionths of a token, so that a rate for a second, taken for some
/// nanoseconds, is exact.
const TOKEN: i128 = 1_000_000_000;

/// One limit.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    capacity: i128,
    /// Below 0 after something larger went.
    level: i128,
    filled_at: Instant,
}

impl Bucket {
    /// It starts empty: whoever starts again and again does not exceed the rate.
    fn new(per_second: u64, burst: Duration, now: Instant) -> Self {
        let capacity = i128::from(per_second).saturating_mul(nanos(burst));
        Self { per_second, capacity, level: 0, filled_at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = nanos(now.saturating_duration_since(self.filled_at));
        self.filled_at = self.filled_at.max(now);
        let came = passed.saturating_mul(i128::from(self.per_second));
        self.level = self.level.saturating_add(came).min(self.capacity);
    }

    /// How long until `cost` may go.
    fn wait(&self, cost: u64) -> Duration {
        let needed = (i128::from(cost) * TOKEN).min(self.capacity / 2);
        let missing = (needed - self.level).max(0);
        let rate = i128::from(self.per_second);
        Duration::from_nanos(u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX))
    }

    fn take(&mut self, cost: u64) {
        self.level = self.level.saturating_sub(i128::from(cost) * TOKEN);
    }

    /// The most that can be taken without leaving more debt than the bucket can bear, at least 1.
    fn most(&self) -> usize {
        usize::try_from(self.capacity / 2 / TOKEN).unwrap_or(usize::MAX).max(1)
    }
}

/// The limits of a forwarder.
#[derive(Debug)]
pub(super) struct Limiter {
    records: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Limiter {
    /// Limits for a second, where there are any, and for how long they may be saved up.
    pub(super) fn new(
        records: Option<u64>,
        bytes: Option<u64>,
        burst: Duration,
        now: Instant,
    ) -> Self {
        let bucket = |per_second| Bucket::new(per_second, burst, now);
        Self { records: records.map(bucket), bytes: bytes.map(bucket) }
    }

    /// The most records that may go together.
    pub(super) fn most_records(&self) -> usize {
        self.records.as_ref().map_or(usize::MAX, Bucket::most)
    }

    /// The most bytes that may go together, but for a single record.
    pub(super) fn most_bytes(&self) -> usize {
        self.bytes.as_ref().map_or(usize::MAX, Bucket::most)
    }

    /// Takes what a batch costs, or says from when on it may go.
    pub(super) fn take(
        &mut self,
        now: Instant,
        records: usize,
        bytes: usize,
    ) -> Result<(), Instant> {
        let mut costs =
            [(self.records.as_mut(), records as u64), (self.bytes.as_mut(), bytes as u64)];
        let mut wait = Duration::ZERO;
        for (bucket, cost) in &mut costs {
            if let Some(bucket) = bucket {
                bucket.fill(now);
                wait = wait.max(bucket.wait(*cost));
            }
        }
        if wait > Duration::ZERO {
            // What is further off than can be told is looked at again in an hour.
            let hour = Duration::from_secs(3600);
            return Err(now.checked_add(wait).unwrap_or(now + hour));
        }
        for (bucket, cost) in costs {
            if let Some(bucket) = bucket {
                bucket.take(cost);
            }
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::split_mix;

    const BURST: Duration = Duration::from_millis(50);

    /// What goes when, for `time`, if threads wake up late by up to `late` microseconds.
    fn goes(
        limiter: &mut Limiter,
        start: Instant,
        time: Duration,
        late: u64,
        mut cost: impl FnMut() -> (usize, usize),
    ) -> Vec<(Instant, usize, usize)> {
        let (mut now, mut gone, mut random) = (start, Vec::new(), 7);
        let (mut records, mut bytes) = cost();
        while now < start + time {
            match limiter.take(now, records, bytes) {
                Ok(()) => {
                    gone.push((now, records, bytes));
                    (records, bytes) = cost();
                }
                Err(until) => {
                    assert!(until > now, "it waits for what is to come");
                    now = until + Duration::from_micros(split_mix(&mut random) % (late + 1));
                }
            }
        }
        gone
    }

    /// The most in any window of this length.
    fn most(gone: &[(Instant, u64)], window: Duration) -> u64 {
        let windows = gone.iter().map(|(from, _)| {
            gone.iter()
                .filter(|(at, _)| at >= from && *at <= *from + window)
                .map(|(_, cost)| cost)
                .sum()
        });
        windows.max().unwrap_or(0)
    }

    #[test]
    fn the_rate_is_met_and_no_second_has_more_than_rate_and_burst() {
        let start = Instant::now();
        for rate in [40, 1_000, 10_000, 1_000_000] {
            for late in [0, 1_000, 24_000] {
                let mut limiter = Limiter::new(Some(rate), None, BURST, start);
                let (most_records, mut random) = (limiter.most_records() as u64, 3);
                let cost = || ((1 + split_mix(&mut random) % most_records) as usize, 0);
                let gone = goes(&mut limiter, start, Duration::from_secs(3), late, cost);
                let gone: Vec<_> = gone.iter().map(|(at, cost, _)| (*at, *cost as u64)).collect();
                let total: u64 = gone.iter().map(|(_, cost)| cost).sum();
                let slack = rate / 20 + 3 * most_records;
                assert!(total.abs_diff(rate * 3) <= slack.max(3), "{rate}, {late}: {total}");
                let second = most(&gone, Duration::from_secs(1));
                // Where half a burst is not even one record, there is one more.
                let bound = (rate + rate / 20).max(rate + 1 + rate / 20);
                assert!(second <= bound, "{rate}, {late}: {second} in a second");
            }
        }
    }

    #[test]
    fn bytes_are_limited_and_a_record_of_any_size_goes() {
        let start = Instant::now();
        let mut limiter = Limiter::new(None, Some(1_000_000), BURST, start);
        let mut sizes = [10, 3_000_000, 500, 25_000, 40_000].into_iter().cycle();
        let cost = || (1, sizes.next().expect("a cycle"));
        let gone = goes(&mut limiter, start, Duration::from_secs(60), 5_000, cost);
        let total: usize = gone.iter().map(|(_, _, bytes)| bytes).sum();
        assert!(total.abs_diff(60_000_000) <= 3_100_000, "{total}");
        assert!(gone.len() > 90);
    }

    #[test]
    fn of_two_limits_the_tighter_one_holds() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for (records, bytes) in [(1_000, 1_000_000_000), (1_000_000, 10_000)] {
            let mut limiter = Limiter::new(Some(records), Some(bytes), BURST, start);
            let gone = goes(&mut limiter, start, second, 0, || (1, 10));
            assert!((950..=1_050).contains(&gone.len()), "{}", gone.len());
        }
    }

    #[test]
    fn what_was_not_used_is_saved_up_for_the_burst_and_no_longer() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Some(1_000), None, BURST, start);
        assert!(limiter.take(start, 1, 0).is_err(), "it starts empty");
        let later = start + Duration::from_secs(3600);
        let at_once = (0..100).take_while(|_| limiter.take(later, 1, 0).is_ok()).count();
        assert_eq!(at_once, 50);
        // A clock that was read a little earlier gives nothing and takes nothing.
        assert!(limiter.take(start, 1, 0).is_err());
        assert!(limiter.take(later + Duration::from_millis(1), 1, 0).is_ok());
    }

    #[test]
    fn rates_and_bursts_of_any_size_do() {
        let start = Instant::now();
        for burst in [Duration::ZERO, Duration::MAX] {
            for rate in [1, u64::MAX] {
                let mut limiter = Limiter::new(Some(rate), Some(rate), burst, start);
                assert!(limiter.most_records() >= 1);
                let mut now = start;
                for _ in 0..4 {
                    if let Err(until) = limiter.take(now, 1, usize::MAX) {
                        now = until;
                    }
                }
            }
        }
    }
}
