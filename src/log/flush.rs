//! When a partition is synced although nobody waits for it.
//!
//! The appender asks one question after each append, and it is one comparison: does the log reach to
//! the offset at which a flush is to be asked for? How many records make a flush due is known
//! beforehand; for the interval, the first record after a flush asks for the next. Of each kind at most
//! one is on its way, however slow the disk is.

use std::time::Duration;

use crate::config::TopicConfig;

/// What is to be asked for: a sync as soon as can be, and one after some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flush {
    pub(crate) now: bool,
    pub(crate) after: Option<Duration>,
}

/// Which of the two begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushKind {
    Records,
    Interval,
}

/// Says when a flush is to be asked for. Worked with under the append lock.
#[derive(Debug)]
pub(super) struct FlushSchedule {
    /// The end of the log from which on a flush is to be asked for.
    at: u64,
    /// The end of the log from which on there are records enough for one.
    enough_at: u64,
    /// Whether one was asked for that has not begun yet, because there were records enough.
    is_queued: bool,
    /// Whether one was asked for that has not begun yet, for the interval.
    is_waiting: bool,
}

impl FlushSchedule {
    pub(super) fn new(config: &TopicConfig, end: u64) -> Self {
        let mut schedule = Self { at: 0, enough_at: 0, is_queued: false, is_waiting: false };
        schedule.set(config, end);
        schedule
    }

    /// The end of the log from which on a flush is to be asked for.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Whether a flush is to be asked for.
    #[inline]
    pub(super) fn is_due(&self, end: u64) -> bool {
        end >= self.at
    }

    /// Begins anew with other settings, at the end of the log. What is on its way is forgotten: it does
    /// no harm.
    pub(super) fn set(&mut self, config: &TopicConfig, end: u64) {
        (self.is_queued, self.is_waiting) = (false, false);
        self.count_from(config, end);
        self.look_ahead(config, end);
    }

    fn count_from(&mut self, config: &TopicConfig, end: u64) {
        self.enough_at =
            config.flush_records.map_or(u64::MAX, |records| end.saturating_add(records));
    }

    /// Works out which append asks for the next flush.
    fn look_ahead(&mut self, config: &TopicConfig, end: u64) {
        let by_records = if self.is_queued { u64::MAX } else { self.enough_at };
        let is_wanted = config.flush_interval.is_some() && !self.is_waiting;
        self.at = if is_wanted { by_records.min(end + 1) } else { by_records };
    }

    /// What is to be asked for, now that something is due.
    #[cold]
    pub(super) fn take(&mut self, config: &TopicConfig, end: u64) -> Flush {
        let now = !self.is_queued && end >= self.enough_at;
        let after = config.flush_interval.filter(|_| !self.is_waiting);
        self.is_queued |= now;
        self.is_waiting |= after.is_some();
        self.look_ahead(config, end);
        Flush { now, after }
    }

    /// Says that a flush begins, for all there is: what comes from here on asks for another.
    pub(super) fn begins(&mut self, kind: FlushKind, config: &TopicConfig, end: u64) {
        match kind {
            FlushKind::Records => self.is_queued = false,
            FlushKind::Interval => self.is_waiting = false,
        }
        self.count_from(config, end);
        self.look_ahead(config, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Flush = Flush { now: true, after: None };

    #[test]
    fn each_so_many_records_ask_for_one_flush_until_it_has_begun() {
        let config = TopicConfig::new().flush_records(3);
        let mut schedule = FlushSchedule::new(&config, 10);
        assert_eq!([11, 12, 13].map(|end| schedule.is_due(end)), [false, false, true]);
        assert_eq!(schedule.take(&config, 13), NOW);
        assert!(!schedule.is_due(1000), "one is on its way");
        schedule.begins(FlushKind::Records, &config, 1000);
        assert_eq!([1002, 1003].map(|end| schedule.is_due(end)), [false, true]);
    }

    #[test]
    fn the_first_record_after_a_flush_asks_for_the_next() {
        let interval = Duration::from_millis(5);
        let config = TopicConfig::new().flush_interval(interval);
        let mut schedule = FlushSchedule::new(&config, 10);
        assert_eq!([10, 11].map(|end| schedule.is_due(end)), [false, true]);
        assert_eq!(schedule.take(&config, 11), Flush { now: false, after: Some(interval) });
        assert!(!schedule.is_due(1000), "one is on its way");
        schedule.begins(FlushKind::Interval, &config, 1000);
        assert_eq!([1000, 1001].map(|end| schedule.is_due(end)), [false, true]);
    }

    #[test]
    fn both_are_asked_for_each_in_its_time_and_neither_twice() {
        let hour = Duration::from_secs(3600);
        let config = TopicConfig::new().flush_interval(hour).flush_records(1);
        let mut schedule = FlushSchedule::new(&config, 0);
        assert_eq!(schedule.take(&config, 1), Flush { now: true, after: Some(hour) });
        for end in 1..10 {
            schedule.begins(FlushKind::Records, &config, end);
            assert!(!schedule.is_due(end) && schedule.is_due(end + 1));
            assert_eq!(schedule.take(&config, end + 1), NOW, "the timer is still on its way");
        }
        schedule.begins(FlushKind::Interval, &config, 10);
        assert_eq!(schedule.take(&config, 11), Flush { now: false, after: Some(hour) });
    }

    #[test]
    fn other_settings_do_not_wait_for_what_is_on_its_way() {
        let config = TopicConfig::new().flush_interval(Duration::MAX);
        let mut schedule = FlushSchedule::new(&config, 0);
        schedule.take(&config, 1);
        let soon = Duration::from_millis(10);
        let config = config.flush_interval(soon);
        schedule.set(&config, 1);
        assert!(schedule.is_due(2));
        assert_eq!(schedule.take(&config, 2).after, Some(soon));
    }

    #[test]
    fn without_either_none_is_ever_due() {
        let config = TopicConfig::new();
        assert!(!FlushSchedule::new(&config, 0).is_due(u64::MAX - 1));
    }
}
