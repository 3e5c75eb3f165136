//! How far a partition has come: the offset below which nothing is missing.
//!
//! Ranges of offsets are acknowledged in any order; what lies behind a hole waits until the hole is
//! filled. Offsets that do not exist any more leave a hole like any other, until the log says so.
//! So what is committed is never ahead of what was delivered. Pure; called under the lock of the flow.

use std::collections::BTreeMap;

/// The offsets that were acknowledged in a partition, from some place on.
#[derive(Debug)]
pub(super) struct Acknowledged {
    /// Everything below is done with.
    below: u64,
    /// What is done with beyond a hole: where it begins, and behind where it ends. The ranges neither
    /// overlap nor touch.
    beyond: BTreeMap<u64, u64>,
}

impl Acknowledged {
    /// Nothing, in a partition that is read from `from` on.
    pub(super) fn from(from: u64) -> Self {
        Self { below: from, beyond: BTreeMap::new() }
    }

    /// The offset below which everything is done with.
    pub(super) fn below(&self) -> u64 {
        self.below
    }

    /// The offsets from `from` on and below `to` are done with: they were delivered, or do not exist.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if to <= self.below || from >= to {
            return;
        }
        let (mut from, mut to) = (from.max(self.below), to);
        // Ranges that it overlaps or touches become one with it.
        while let Some((&begin, &end)) = self.beyond.range(..=to).next_back()
            && end >= from
        {
            self.beyond.remove(&begin);
            from = from.min(begin);
            to = to.max(end);
        }
        if from == self.below {
            self.below = to;
        } else {
            self.beyond.insert(from, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::split_mix;

    #[test]
    fn what_lies_behind_a_hole_waits_until_it_is_filled() {
        let mut done = Acknowledged::from(10);
        done.add(20, 30);
        done.add(12, 15);
        assert_eq!(done.below(), 10);
        done.add(10, 12);
        assert_eq!(done.below(), 15);
        done.add(15, 20);
        assert_eq!(done.below(), 30);
        assert!(done.beyond.is_empty());
    }

    #[test]
    fn what_was_acknowledged_before_changes_nothing() {
        let mut done = Acknowledged::from(10);
        done.add(3, 8);
        done.add(8, 12);
        done.add(11, 12);
        done.add(12, 12);
        assert_eq!(done.below(), 12);
        done.add(14, 13);
        assert!(done.beyond.is_empty());
    }

    #[test]
    fn any_order_of_ranges_comes_to_what_a_list_of_offsets_comes_to() {
        for seed in 0..500 {
            let mut random = seed;
            let mut done = Acknowledged::from(5);
            let mut seen = [false; 80];
            seen[..5].fill(true);
            for _ in 0..60 {
                let from = split_mix(&mut random) % 75;
                let to = (from + split_mix(&mut random) % 6).min(80);
                done.add(from, to);
                seen[from as usize..to as usize].fill(true);
                let below = seen.iter().position(|is_done| !is_done).unwrap_or(80);
                assert_eq!(done.below(), below as u64, "seed {seed}");
                let mut last = done.below;
                for (from, to) in &done.beyond {
                    assert!(*from > last && to > from, "seed {seed}: {:?}", done.beyond);
                    last = *to;
                }
            }
        }
    }
}
