//! What a forwarder has done so far, in numbers.

use std::time::Instant;

use super::meter::Meter;

/// What a forwarder has done since it was started. Returned by
/// [`Forwarder::stats`](crate::Forwarder::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwarderStats {
    /// Records the sink took. One that it took twice counts twice.
    pub delivered_records: u64,
    /// What their keys, values and headers took, in bytes.
    pub delivered_bytes: u64,
    /// Calls of the sink that took all they were given.
    pub batches: u64,
    /// Calls of the sink for a batch that had failed before.
    pub retries: u64,
    /// Calls of the sink that ended with an error or a panic.
    pub failures: u64,
    /// Calls of the sink that ended with a panic.
    pub panics: u64,
    /// Records that were put aside because they could not be delivered.
    pub dead_lettered: u64,
    /// Records that were deleted before they could be delivered.
    pub gaps: u64,
    /// How often something was committed.
    pub commits: u64,
    /// Batches that are with the sink at this moment.
    pub in_flight: u64,
    /// Records that were read and wait for the sink.
    pub pending: u64,
    /// Records the sink took a second, over the last two seconds.
    pub records_per_second: u64,
    /// Bytes the sink took a second, over the last two seconds.
    pub bytes_per_second: u64,
    /// What went wrong last, in the sink or in here.
    pub last_error: Option<String>,
    /// Whether it is paused.
    pub paused: bool,
}

/// The numbers, and what they are made of. Under the lock of the flow.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) stats: ForwarderStats,
    records: Meter,
    bytes: Meter,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        let (records, bytes) = (Meter::new(now), Meter::new(now));
        Self { stats: ForwarderStats::default(), records, bytes }
    }

    /// The sink took these.
    pub(super) fn delivered(&mut self, now: Instant, records: usize, bytes: usize) {
        self.stats.delivered_records += records as u64;
        self.stats.delivered_bytes += bytes as u64;
        self.records.add(now, records as u64);
        self.bytes.add(now, bytes as u64);
    }

    pub(super) fn snapshot(&mut self, now: Instant) -> ForwarderStats {
        self.stats.records_per_second = self.records.per_second(now);
        self.stats.bytes_per_second = self.bytes.per_second(now);
        self.stats.clone()
    }
}
