//! Counts of durations in buckets that are at most a sixty-fourth of what they hold wide, from 1 ns on.

/// Buckets for each power of two.
const FINE: usize = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();

/// How many durations there were of each length.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; FINE * 60], total: 0, max: 0 }
    }

    /// Which bucket a number of nanoseconds is in.
    fn bucket(nanos: u64) -> usize {
        let shift = nanos.checked_ilog2().unwrap_or(0).saturating_sub(FINE_BITS);
        (shift as usize) * FINE + (nanos >> shift) as usize
    }

    /// The most nanoseconds that are in a bucket.
    fn most(bucket: usize) -> u64 {
        let shift = (bucket / FINE).saturating_sub(1);
        (((bucket - shift * FINE) as u64 + 1) << shift) - 1
    }

    #[inline]
    pub fn add(&mut self, nanos: u64) {
        self.counts[Self::bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many durations are not above a [`quantile`](Self::quantile).
    pub fn up_to(&self, nanos: u64) -> u64 {
        self.counts[..=Self::bucket(nanos)].iter().sum()
    }

    /// The number of nanoseconds that so many of a million are not above.
    pub fn quantile(&self, millionths: u64) -> u64 {
        let wanted = (self.total * millionths).div_ceil(1_000_000);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::most(bucket).min(self.max);
            }
        }
        self.max
    }
}
