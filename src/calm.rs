//! How long a reader right behind an appender holds still before it looks for more.
//!
//! Who reads right behind an appender takes the cache lines away from it that it is about to store to, and
//! both are slower for it than if some records come together. So a reader that finds few at a time waits for a
//! little longer each time, as long as that makes them more, and not at all where they come one by one
//! because no more are sent: there it would only come late.

/// With this many at a time it is not right behind.
const ENOUGH: usize = 32;
/// The least and the most it holds still, in turns of a spin loop: a quarter of a microsecond, and
/// two.
const LEAST: u32 = 16;
const MOST: u32 = 128;

/// Holds still.
#[derive(Debug)]
pub(crate) struct Calm {
    /// Whether the last records were few.
    were_few: bool,
    turns: u32,
}

impl Default for Calm {
    fn default() -> Self {
        Self { were_few: false, turns: LEAST }
    }
}

impl Calm {
    /// Says how many records were found.
    #[inline]
    pub(crate) fn found(&mut self, records: usize) {
        self.were_few = (1..ENOUGH).contains(&records);
    }

    /// Holds still, if the last records were few.
    #[inline]
    pub(crate) fn hold(&self) {
        if self.were_few {
            for _ in 0..self.turns {
                std::hint::spin_loop();
            }
        }
    }

    /// Says that somebody held still, and that what was [`found`](Self::found) then was there at once: or that
    /// nothing was, and no more are sent than are read.
    #[inline]
    pub(crate) fn held(&mut self, found: bool) {
        if self.were_few {
            self.turns = (self.turns * 2).min(MOST);
        } else if !found {
            self.turns = (self.turns / 2).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader does that finds so many records at each look.
    fn read(calm: &mut Calm, found: usize, times: usize) -> u32 {
        for _ in 0..times {
            calm.hold();
            calm.found(found);
            calm.held(found > 0);
        }
        calm.turns
    }

    #[test]
    fn it_holds_still_longer_as_long_as_few_come_at_once_and_no_longer_when_none_do() {
        let mut calm = Calm::default();
        assert!(!calm.were_few, "nothing was found yet");
        assert_eq!(read(&mut calm, 1, 1), 2 * LEAST);
        assert_eq!(read(&mut calm, ENOUGH - 1, 20), MOST);
        assert_eq!(read(&mut calm, ENOUGH, 1), MOST, "it is worth it");
        assert!(!calm.were_few, "and not needed next time");
        assert_eq!(read(&mut calm, 0, 20), LEAST, "nothing comes");
    }

    #[test]
    fn records_that_come_slowly_are_not_held_up() {
        let mut calm = Calm::default();
        for _ in 0..100 {
            // Nothing is there at once; it waits, and one comes.
            calm.hold();
            calm.found(0);
            calm.held(false);
            calm.found(1);
        }
        assert_eq!(calm.turns, LEAST);
    }
}
