//! When a partition is synced although nobody waits for it.
//!
//! The appender asks one question after each append, and it is one comparison: does the log reach to
//! the offset at which a flush is to be asked for? How many records make a flush due is known
//! beforehand; for the interval, the first record after a flush asks for the next.

use std::time::Duration;

use crate::config::TopicConfig;

/// When a log is to be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Now,
    After(Duration),
}

/// Says when a flush is to be asked for. Worked with under the append lock.
#[derive(Debug)]
pub(super) struct FlushSchedule {
    /// The end of the log from which on a flush is to be asked for.
    at: u64,
    /// Whether one was asked for by the interval that has not begun yet.
    is_waiting: bool,
}

impl FlushSchedule {
    pub(super) fn new(config: &TopicConfig, end: u64) -> Self {
        let mut schedule = Self { at: u64::MAX, is_waiting: false };
        schedule.set(config, end);
        schedule
    }

    /// Whether a flush is to be asked for.
    #[inline]
    pub(super) fn is_due(&self, end: u64) -> bool {
        end >= self.at
    }

    /// Begins to count anew, at the end of the log.
    pub(super) fn set(&mut self, config: &TopicConfig, end: u64) {
        let by_records = config.flush_records.map(|records| end.saturating_add(records));
        let by_time = config.flush_interval.filter(|_| !self.is_waiting).map(|_| end + 1);
        self.at = by_records.into_iter().chain(by_time).min().unwrap_or(u64::MAX);
    }

    /// What is to be asked for, now that it is due.
    #[cold]
    pub(super) fn take(&mut self, config: &TopicConfig, end: u64) -> Option<Flush> {
        let flush = match (config.flush_interval, config.flush_records) {
            (Some(interval), _) if !self.is_waiting => {
                self.is_waiting = true;
                Some(Flush::After(interval))
            }
            (_, Some(_)) => Some(Flush::Now),
            _ => None,
        };
        self.set(config, end);
        flush
    }

    /// Says that a flush begins: what comes from here on asks for another.
    pub(super) fn begins(&mut self, config: &TopicConfig, end: u64) {
        self.is_waiting = false;
        self.set(config, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_so_many_records_ask_for_a_flush() {
        let config = TopicConfig::new().flush_records(3);
        let mut schedule = FlushSchedule::new(&config, 10);
        assert_eq!([11, 12, 13].map(|end| schedule.is_due(end)), [false, false, true]);
        assert_eq!(schedule.take(&config, 13), Some(Flush::Now));
        assert_eq!([15, 16].map(|end| schedule.is_due(end)), [false, true]);
    }

    #[test]
    fn the_first_record_after_a_flush_asks_for_the_next() {
        let interval = Duration::from_millis(5);
        let config = TopicConfig::new().flush_interval(interval);
        let mut schedule = FlushSchedule::new(&config, 10);
        assert_eq!([10, 11].map(|end| schedule.is_due(end)), [false, true]);
        assert_eq!(schedule.take(&config, 11), Some(Flush::After(interval)));
        assert!(!schedule.is_due(1000), "one is on its way");
        schedule.begins(&config, 1000);
        assert_eq!([1000, 1001].map(|end| schedule.is_due(end)), [false, true]);
    }

    #[test]
    fn both_are_asked_for_each_in_its_time() {
        let config = TopicConfig::new().flush_interval(Duration::from_secs(1)).flush_records(100);
        let mut schedule = FlushSchedule::new(&config, 0);
        assert_eq!(schedule.take(&config, 1), Some(Flush::After(Duration::from_secs(1))));
        assert!(!schedule.is_due(100));
        assert!(schedule.is_due(101));
        assert_eq!(schedule.take(&config, 101), Some(Flush::Now));
    }

    #[test]
    fn without_either_none_is_ever_due() {
        let config = TopicConfig::new();
        assert!(!FlushSchedule::new(&config, 0).is_due(u64::MAX - 1));
    }
}
