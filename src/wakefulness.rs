//! How long a reader that finds nothing stays awake before it goes to sleep.
//!
//! To sleep and be woken costs tens of microseconds, to look again some nanoseconds and a core. So a
//! reader whose records follow each other closely stays awake for them, longer each time it is
//! rewarded, and one that waits in vain goes to sleep nearly at once: a reader with nothing to read costs
//! nothing.

use std::time::Duration;

/// What is always spent: a record that is just being sent is met.
const LEAST: Duration = Duration::from_micros(2);
/// The most. A record that comes later than this is not worth a core.
const MOST: Duration = Duration::from_micros(50);

/// How long one reader stays awake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wakefulness(Duration);

impl Default for Wakefulness {
    fn default() -> Self {
        Self(LEAST)
    }
}

impl Wakefulness {
    /// How long to stay awake now.
    pub(crate) fn get(self) -> Duration {
        self.0
    }

    /// Something came after `waited`, while it was awake: the next may take somewhat longer.
    pub(crate) fn was_rewarded(&mut self, waited: Duration) {
        self.0 = self.0.max(waited * 3).min(MOST);
    }

    /// It went to sleep in vain, and something came, or it gave up, after `waited`.
    pub(crate) fn has_slept(&mut self, waited: Duration) {
        // Awake a little longer, it would not have had to sleep. What it took to be woken counts
        // in `waited` too.
        self.0 = if waited < MOST * 2 { (self.0 * 4).min(MOST) } else { (self.0 / 2).max(LEAST) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn it_grows_where_records_follow_each_other_and_shrinks_where_they_do_not() {
        let mut wakefulness = Wakefulness::default();
        assert_eq!(wakefulness.get(), LEAST);
        for _ in 0..3 {
            wakefulness.has_slept(micros(30));
        }
        assert_eq!(wakefulness.get(), MOST, "a record every few microseconds is waited for");
        wakefulness.was_rewarded(micros(10));
        assert_eq!(wakefulness.get(), MOST);
        for _ in 0..5 {
            wakefulness.has_slept(micros(5_000));
        }
        assert_eq!(wakefulness.get(), LEAST, "nothing is spent where nothing comes");
        wakefulness.was_rewarded(micros(1));
        assert_eq!(wakefulness.get(), micros(3));
    }
}
