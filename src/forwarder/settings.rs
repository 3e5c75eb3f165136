//! How a forwarder was set up.

use std::time::Duration;

use super::backoff::Backoff;
use super::lane::Most;
#[cfg(test)]
use super::planted::Planted;
use crate::error::{Error, Result};

/// What is to happen to records that could not be delivered: retries are used up, or the sink
/// [rejected](crate::SinkError::reject) them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenExhausted {
    /// The forwarder stops in front of them.
    #[default]
    Stop,
    /// They are appended to this topic, and forwarding goes on behind them; as the dead letter queue of
    /// Kafka Connect.
    ///
    /// Of a batch, its records are first delivered one at a time, each with all its retries, and only
    /// those that fail alone are put aside. They keep key, value, headers and timestamp, and get
    /// the headers `dead-letter.topic`, `dead-letter.partition`, `dead-letter.offset`,
    /// `dead-letter.group`, `dead-letter.attempts` and `dead-letter.reason`, all text.
    ///
    /// While this topic is full its [`OnFull::DropOldest`](crate::OnFull::DropOldest) is followed; otherwise
    /// the partition of the record waits, and no other.
    DeadLetter(String),
}

/// What the threads need to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) batch: Most,
    pub(super) linger: Duration,
    pub(super) rate_records: Option<u64>,
    pub(super) rate_bytes: Option<u64>,
    pub(super) burst: Duration,
    pub(super) concurrency: usize,
    pub(super) backoff: Backoff,
    pub(super) retries: Option<u32>,
    pub(super) when_exhausted: WhenExhausted,
    pub(super) commit_interval: Duration,
    pub(super) hand_over: Duration,
    #[cfg(test)]
    pub(super) planted: Planted,
}

/// Each is a thread.
const MAX_CONCURRENCY: usize = 1024;

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        batch: Most { records: 500, bytes: 1 << 20 },
        linger: Duration::ZERO,
        rate_records: None,
        rate_bytes: None,
        burst: Duration::from_millis(50),
        concurrency: 1,
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) },
        retries: None,
        when_exhausted: WhenExhausted::Stop,
        commit_interval: Duration::from_millis(100),
        hand_over: Duration::from_secs(5),
        #[cfg(test)]
        planted: Planted::Nothing,
    };

    pub(super) fn validate(&self) -> Result<()> {
        for (field, is_zero) in [
            ("batch_records", self.batch.records == 0),
            ("batch_bytes", self.batch.bytes == 0),
            ("rate_records", self.rate_records == Some(0)),
            ("rate_bytes", self.rate_bytes == Some(0)),
            ("concurrency", self.concurrency == 0),
        ] {
            if is_zero {
                return Err(Error::config(field, "it is 0"));
            }
        }
        if self.concurrency > MAX_CONCURRENCY {
            let reason = format!("{} is more than {MAX_CONCURRENCY}", self.concurrency);
            return Err(Error::config("concurrency", reason));
        }
        if self.backoff.min > self.backoff.max {
            return Err(Error::config("backoff", "its shortest wait is longer than its longest"));
        }
        Ok(())
    }

    /// Whether this bug is planted.
    #[cfg(test)]
    pub(super) fn is_planted(&self, planted: Planted) -> bool {
        self.planted == planted
    }
}
