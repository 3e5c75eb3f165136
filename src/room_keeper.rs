//! Who is told that room is wanted, when it is looked for, and how a sender waits for it.
//!
//! Room is made by deleting records (`housekeeping.rs`): at intervals, when a topic says that it is nearly
//! full, and when a sender waits for it. On a disk that is done by a thread, which is started when the
//! first topic has something to be looked at; a broker whose time stands still, or whose disk is
//! simulated, does it on the thread that moves the clock or asks, so that a test's course is its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::{Listener, ManualClock};
use crate::maintenance::Worker;
use crate::relief::Relief;

/// How soon after a send was refused room is looked for. Those that are refused meanwhile share it.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// Makes room: for the topic of this name, or wherever it is time to.
pub(crate) type Work = Box<dyn Fn(Option<&Arc<str>>) + Send + Sync>;

/// Who makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A thread, at intervals of real time and when it is asked.
    Thread,
    /// A thread, when a manual clock was moved and when it is asked.
    ThreadOnSignal,
    /// Whoever asks, or moves the manual clock.
    Caller,
}

/// Has room made.
pub(crate) struct RoomKeeper {
    by: By,
    interval: Duration,
    work: OnceLock<Work>,
    /// Whether there is a topic to be looked after. Stored once with Relaxed: the thread is started by
    /// whoever finds that there is.
    is_wanted: AtomicBool,
    /// `None` if it could not be started.
    worker: OnceLock<Option<Worker>>,
    /// Topics that want room, until somebody begins to make it. A leaf lock.
    asked: Mutex<Vec<Arc<str>>>,
    /// Held while records are deleted to make room. Comes before the offset store's locks.
    making: Mutex<()>,
    /// Counts how often there was more room than before. A leaf lock.
    eased: Mutex<u64>,
    bell: Condvar,
    /// How many wait for the bell. Relaxed: one that is missed looks again soon.
    waiting: AtomicUsize,
    /// Is told when a manual clock was moved.
    listener: OnceLock<Arc<Listener>>,
    weak: Weak<RoomKeeper>,
}

impl RoomKeeper {
    pub(crate) fn new(by: By, interval: Duration) -> Arc<Self> {
        Arc::new_cyclic(|weak| Self {
            by,
            interval,
            work: OnceLock::new(),
            is_wanted: AtomicBool::new(false),
            worker: OnceLock::new(),
            asked: Mutex::default(),
            making: Mutex::default(),
            eased: Mutex::default(),
            bell: Condvar::new(),
            waiting: AtomicUsize::new(0),
            listener: OnceLock::new(),
            weak: weak.clone(),
        })
    }

    /// Says how room is made; once, before the first topic is watched.
    pub(crate) fn employ(&self, work: Work) {
        drop(self.work.set(work));
        if self.is_wanted.load(Ordering::Relaxed) {
            self.worker();
        }
    }

    /// Makes room when this clock was moved, too.
    pub(crate) fn listen_to(&self, clock: &ManualClock) {
        let keeper = Weak::clone(&self.weak);
        let listener: Arc<Listener> = Arc::new(move || {
            if let Some(keeper) = keeper.upgrade() {
                keeper.clock_moved();
            }
        });
        clock.listen(self.listener.get_or_init(|| listener));
    }

    /// Looks after topics from now on.
    pub(crate) fn watch(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
        if self.work.get().is_some() {
            self.worker();
        }
    }

    fn worker(&self) -> Option<&Worker> {
        if self.by == By::Caller {
            return None;
        }
        let start = || {
            let keeper = Weak::clone(&self.weak);
            let tick: Box<dyn Fn() + Send> = Box::new(move || {
                if let Some(keeper) = keeper.upgrade() {
                    keeper.work(None);
                }
            });
            let tick = (self.by == By::Thread).then_some((self.interval, tick));
            // Without a thread, whoever asks makes room.
            Worker::start("forebay-retain", tick).ok()
        };
        self.worker.get_or_init(start).as_ref()
    }

    fn work(&self, topic: Option<&Arc<str>>) {
        if let Some(work) = self.work.get() {
            work(topic);
        }
    }

    /// Says that a manual clock was moved.
    fn clock_moved(&self) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let keeper = Weak::clone(&self.weak);
        match self.worker() {
            Some(worker) => worker.submit(Box::new(move || {
                if let Some(keeper) = keeper.upgrade() {
                    keeper.work(None);
                }
            })),
            None => self.work(None),
        }
    }

    /// Says that a send to a topic was refused.
    pub(crate) fn refused(&self, topic: &Arc<str>) {
        self.ask_in(AFTER_REFUSAL, topic);
    }

    fn ask_in(&self, delay: Duration, topic: &Arc<str>) {
        let Some(worker) = self.worker() else { return self.work(Some(topic)) };
        let mut asked = self.asked.lock();
        if asked.contains(topic) {
            return;
        }
        asked.push(Arc::clone(topic));
        drop(asked);
        let (keeper, topic) = (Weak::clone(&self.weak), Arc::clone(topic));
        let job = Box::new(move || {
            let Some(keeper) = keeper.upgrade() else { return };
            keeper.asked.lock().retain(|asked| *asked != topic);
            keeper.work(Some(&topic));
        });
        if delay.is_zero() {
            worker.submit(job);
        } else {
            worker.submit_after(delay, job);
        }
    }

    /// Whether whoever asks makes room before the call returns.
    pub(crate) fn is_inline(&self) -> bool {
        self.worker().is_none()
    }

    /// Keeps others from deleting records to make room.
    pub(crate) fn make(&self) -> MutexGuard<'_, ()> {
        self.making.lock()
    }

    /// How often there was more room than before.
    pub(crate) fn eased(&self) -> u64 {
        *self.eased.lock()
    }

    /// Says that there is more room than before.
    pub(crate) fn ease(&self) {
        *self.eased.lock() += 1;
        self.bell.notify_all();
    }

    /// Says that a group has come further, which may be room for somebody who waits.
    #[inline]
    pub(crate) fn consumed(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.ease();
        }
    }

    /// Waits until there is more room than at `before`, or until `deadline`.
    pub(crate) fn wait(&self, before: u64, deadline: Instant) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut eased = self.eased.lock();
        while *eased == before {
            if self.bell.wait_until(&mut eased, deadline).timed_out() {
                break;
            }
        }
        drop(eased);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        if let Some(Some(worker)) = self.worker.get() {
            worker.stop();
        }
    }

    /// Whether the calling thread is the one that makes room.
    pub(crate) fn is_own_thread(&self) -> bool {
        matches!(self.worker.get(), Some(Some(worker)) if worker.is_current())
    }
}

impl Relief for RoomKeeper {
    fn ask(&self, topic: &Arc<str>) {
        self.ask_in(Duration::ZERO, topic);
    }
}

impl fmt::Debug for RoomKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKeeper").field("by", &self.by).finish_non_exhaustive()
    }
}
