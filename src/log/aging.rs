//! Finding out how old the segments of a log are ([`Ages`](super::ages::Ages) says how that is known).
//!
//! Done by whoever deletes what is too old, one at a time, and never by an append.

use super::shared::Log;
use super::slot::Slot;
use crate::clock::Moment;

/// The longest a broker is believed to have been closed, in milliseconds.
const LONGEST_ABSENCE: i64 = 30 * 86_400_000;

/// The segment that is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub(crate) base_offset: u64,
    /// When it was last appended to, in milliseconds of the wall clock.
    pub(crate) last_append: i64,
}

impl Log {
    /// Notes what was appended since the last look. `live` is what is being written.
    pub(crate) fn look(&self, now: Moment, live: Option<Live>) {
        let mut ages = self.ages.lock();
        let end = self.end_offset();
        let slots = self.slots.read();
        let live_base = live.map_or(end, |live| live.base_offset);
        let mut behind = end;
        for slot in slots.iter().rev() {
            if behind <= ages.timed_to {
                break;
            }
            if slot.base_offset() < live_base {
                let at = if behind == ages.end {
                    ages.appended
                } else {
                    ages.since_look(slot.last_append(|| now.wall), now)
                };
                slot.set_appended(at);
            } else {
                // What was known is of the time before it was gone on with.
                slot.forget_appended();
            }
            behind = slot.base_offset();
        }
        ages.timed_to = ages.timed_to.max(live_base);
        if let Some(live) = live.filter(|_| end != ages.end) {
            (ages.appended, ages.end) = (ages.since_look(live.last_append, now), end);
        }
        ages.looked = now.monotonic;
    }

    /// When a segment was last appended to, by the monotonic clock in milliseconds; before 0 for one
    /// that is older than the process. `behind` is where it ends. Called after [`look`](Self::look).
    pub(super) fn appended(&self, slot: &Slot, behind: u64) -> i64 {
        if let Some(at) = slot.appended() {
            return at;
        }
        let mut ages = self.ages.lock();
        if behind > ages.former_end {
            // It is being written, or was after the last look: then it is taken to be young.
            return if behind == ages.end { ages.appended } else { ages.looked };
        }
        let (opened, former_end) = (ages.opened, ages.former_end);
        let mut age = opened.wall.saturating_sub(self.last_append(slot, behind, opened.wall));
        if age > LONGEST_ABSENCE {
            let jumps = ages.disbelieved.get_or_insert_with(|| self.jumps(former_end, opened.wall));
            let known = jumps.binary_search_by_key(&slot.base_offset(), |(base, _)| *base);
            let jump = known.ok().and_then(|at| jumps.get(at)).map_or(0, |(_, jump)| *jump);
            age = age.saturating_sub(jump);
        }
        drop(ages);
        let at = opened.monotonic.saturating_sub(age.max(0));
        slot.set_appended(at);
        at
    }

    /// For each segment that begins before `end`, by base offset, how much of what the wall clock says has
    /// passed since is not believed: as much as there is in pieces of more than 30 days between two
    /// segments, or between the last append and the opening.
    fn jumps(&self, end: u64, opened: i64) -> Vec<(u64, i64)> {
        let unbelievable = |from: i64, to: i64| {
            let time = to.saturating_sub(from);
            if time > LONGEST_ABSENCE { time } else { 0 }
        };
        let mut later = self.newest_of(end, opened);
        let mut sum = unbelievable(later, opened);
        let former: Vec<_> = self.slots.read().iter().cloned().collect();
        let mut jumps = Vec::with_capacity(former.len());
        for slot in former.iter().rev().filter(|slot| slot.base_offset() < end) {
            if let Ok(segment) = self.segment(slot) {
                sum += unbelievable(segment.header().created, later);
                later = segment.header().created;
            }
            jumps.push((slot.base_offset(), sum));
        }
        jumps.reverse();
        jumps
    }

    /// When the last record below `end` was appended, by the wall clock.
    fn newest_of(&self, end: u64, otherwise: i64) -> i64 {
        let newest = self.slot_of(end.saturating_sub(1));
        newest.map_or(otherwise, |(slot, behind)| {
            self.last_append(&slot, behind.unwrap_or(end), otherwise)
        })
    }

    /// When a segment was last appended to, by the wall clock: by what its index says, or not later than
    /// the next one was made.
    pub(super) fn last_append(&self, slot: &Slot, behind: u64, otherwise: i64) -> i64 {
        slot.last_append(|| {
            let stored = self.segment(slot).ok().and_then(|segment| segment.stored_last_append());
            stored.unwrap_or_else(|| {
                let next = self.slot_of(behind).filter(|(next, _)| next.base_offset() == behind);
                let next = next.and_then(|(next, _)| self.segment(&next).ok());
                next.map_or(otherwise, |next| next.header().created)
            })
        })
    }
}
