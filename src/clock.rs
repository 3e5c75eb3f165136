//! Where time comes from: the second of the two seams that make the broker testable.
//!
//! A broker reads clocks through [`Clock`] alone, so that a test can hold them still, move them, or
//! make the wall clock jump. Intervals are measured by the monotonic clock, which no change of the
//! wall clock moves. How long a thread sleeps is up to the operating system and is not part of this
//! seam.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::timestamp::Timestamp;

/// The clocks of a broker.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The machine's own, read the cheapest way the platform offers; monotonic time counts from the
    /// moment given here.
    System(Instant),
    /// A clock that stands still until it is told otherwise.
    Manual(ManualClock),
}

/// A moment by both clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the Unix epoch, by the clock that can be set.
    pub(crate) wall: i64,
    /// Since some moment, by the clock that cannot.
    pub(crate) monotonic: i64,
}

impl Clock {
    /// The machine's own clock.
    pub(crate) fn system() -> Self {
        Self::System(Instant::now())
    }

    /// The time that has passed since some moment, in milliseconds; it never goes back.
    pub(crate) fn monotonic(&self) -> u64 {
        match self {
            Self::System(start) => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            Self::Manual(clock) => clock.elapsed.load(Ordering::Relaxed),
        }
    }

    /// The current time by both clocks.
    pub(crate) fn moment(&self) -> Moment {
        let monotonic = i64::try_from(self.monotonic()).unwrap_or(i64::MAX);
        Moment { wall: self.now().as_millis(), monotonic }
    }

    /// The current time, never below the Unix epoch and never beyond what a record may carry.
    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        let now = match self {
            Self::System(_) => system_now(),
            Self::Manual(clock) => clock.now(),
        };
        now.clamp(Timestamp::MIN, Timestamp::MAX)
    }
}

/// Linux offers a wall clock that the kernel updates once a tick (1 to 10 ms, usually 4). Reading
/// it costs a few nanoseconds where the exact clock costs tens, which is a third of a whole send.
#[cfg(target_os = "linux")]
fn system_now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    // The kernel counts nanoseconds in 64 bits, so the milliseconds fit.
    Timestamp::from_millis(now.tv_sec.wrapping_mul(1000).wrapping_add(now.tv_nsec / 1_000_000))
}

#[cfg(not(target_os = "linux"))]
fn system_now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// A clock that moves only when it is told to, for tests.
///
/// Clones share one time. Give it to
/// [`BrokerBuilder::manual_clock`](crate::BrokerBuilder::manual_clock).
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, ManualClock, Record, Timestamp, TopicConfig};
///
/// let clock = ManualClock::new(Timestamp::from_millis(1_000));
/// let broker = Broker::builder("unused").in_memory().manual_clock(&clock).open()?;
/// let topic = broker.create_topic("orders", TopicConfig::new())?;
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(topic.send(Record::new("paid"))?.timestamp, Timestamp::from_millis(2_000));
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone)]
pub struct ManualClock {
    /// Stored and loaded with Relaxed, as `elapsed`: they publish nothing but themselves.
    millis: Arc<AtomicI64>,
    /// What [`advance`](Self::advance) came to, in milliseconds: the monotonic clock.
    elapsed: Arc<AtomicU64>,
    /// Who is told when it was moved. A leaf lock.
    listeners: Arc<Mutex<Vec<Weak<Listener>>>>,
}

/// Is told that a manual clock was moved.
pub(crate) type Listener = dyn Fn() + Send + Sync;

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self {
            millis: Arc::new(AtomicI64::new(start.as_millis())),
            elapsed: Arc::default(),
            listeners: Arc::default(),
        }
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::Relaxed))
    }

    /// Moves it forward, and with it what intervals are measured by; parts of a millisecond are
    /// dropped. What a broker does when time has passed, such as deleting what is too old, is done before
    /// this returns, if the broker is in memory or on a simulated disk; otherwise it is begun.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let later = |elapsed: u64| Some(elapsed.saturating_add(millis.unsigned_abs()));
        let moved = self.elapsed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        debug_assert!(moved.is_ok(), "it is always moved");
        self.set(Timestamp::from_millis(self.now().as_millis().saturating_add(millis)));
        for listener in self.take_listeners() {
            listener();
        }
    }

    /// Tells `listener`, for as long as it is there, whenever time has passed.
    pub(crate) fn listen(&self, listener: &Arc<Listener>) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::downgrade(listener));
    }

    /// The listeners that are still there. They are called with no lock held.
    fn take_listeners(&self) -> Vec<Arc<Listener>> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes it jump to `time`, forward or back, as when somebody sets the clock: intervals do not
    /// notice.
    pub fn set(&self, time: Timestamp) {
        self.millis.store(time.as_millis(), Ordering::Relaxed);
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
