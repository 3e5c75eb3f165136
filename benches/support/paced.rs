//! Calls made at fixed moments, how long each took, and what the kernel counted around the slow ones.
//!
//! Two times are kept of each call. *Service* is from the moment it began to its end. *Response* is from the
//! moment it should have begun: a call that was held up holds up those behind it, and they count too.

use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::usage::Usage;

/// Calls that take longer are looked at, in nanoseconds.
pub const SLOW: u64 = 5_000;
/// How long before a call the kernel's counts are read, so that this delays nothing.
const AHEAD: Duration = Duration::from_micros(1);
/// The most slow calls that are noted.
const NOTED: usize = 2_000_000;

/// A call that took long.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// The number of the call.
    pub number: u64,
    pub nanos: u64,
    /// What the kernel counted for the thread in the meantime.
    pub usage: Usage,
}

/// What came of it.
pub struct Paced {
    pub service: Histogram,
    pub response: Histogram,
    pub slow: Vec<Slow>,
}

/// Makes `calls` calls, one every `pace`.
pub fn run(calls: u64, pace: Duration, mut call: impl FnMut(u64)) -> Paced {
    let mut paced = Paced {
        service: Histogram::new(),
        response: Histogram::new(),
        slow: Vec::with_capacity(NOTED),
    };
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let begun = Instant::now() + Duration::from_millis(1);
    let pace = nanos(pace);
    for number in 0..calls {
        let due = begun + Duration::from_nanos(number * pace);
        spin_until(due.checked_sub(AHEAD).unwrap_or(due));
        let before = Usage::look();
        let start = spin_until(due);
        call(number);
        let end = Instant::now();
        let service = nanos(end - start);
        paced.service.add(service);
        paced.response.add(nanos(end - due));
        if service > SLOW && paced.slow.len() < NOTED {
            let usage = Usage::look().since(before);
            paced.slow.push(Slow { number, nanos: service, usage });
        }
    }
    paced
}

/// Waits, awake, and returns the time.
fn spin_until(due: Instant) -> Instant {
    loop {
        let now = Instant::now();
        if now >= due {
            return now;
        }
        std::hint::spin_loop();
    }
}
