//! Work that a call leaves behind to be done later: the third, small seam.
//!
//! The log knows that a sealed segment must be synced and indexed, and that pages ahead of the
//! appender are better touched by somebody else; it does not know by whom. A broker on a
//! real disk hands it to threads; one in memory does it on the spot; one on a simulated disk does it
//! a little later, but always at the same place, so that a test's course does not depend on
//! scheduling.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::time::Duration;

use parking_lot::Mutex;

/// A piece of work. It reports its own failures.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How soon a job is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// An appender gains by it if it is done within a fraction of a millisecond. It never blocks.
    AtOnce,
    /// It was promised that it is done before long. It may wait for the disk.
    Soon,
    /// Nobody waits for it. It may wait for the disk.
    Later,
}

/// Who does the work.
pub(crate) trait Background: Debug + Send + Sync {
    /// Does `job` now or soon. After the broker has begun to close it may not be done at all.
    fn submit(&self, urgency: Urgency, job: Job);
    /// Does `job` when `delay` has passed. Those that wait when the broker closes are not done.
    fn submit_after(&self, delay: Duration, job: Job);
    /// Does what is left, and then takes no more.
    fn stop(&self);
    /// Whether the calling thread is one that does such work, and so must not wait for its end.
    fn is_own_thread(&self) -> bool {
        false
    }
}

/// Does every job at once, on the thread that submits it.
#[derive(Debug)]
pub(crate) struct Inline;

impl Background for Inline {
    fn submit(&self, _urgency: Urgency, job: Job) {
        job();
    }

    fn submit_after(&self, _delay: Duration, job: Job) {
        job();
    }

    fn stop(&self) {}
}

/// Leaves jobs undone until a few have come together, as a busy disk would, on the thread that
/// submits them.
#[derive(Default)]
pub(crate) struct Deferred {
    /// Jobs not done yet, oldest first. Not held while a job is done.
    waiting: Mutex<VecDeque<Job>>,
}

/// How many jobs wait.
const DEFERRED: usize = 3;

impl Deferred {
    fn work_down_to(&self, left: usize) {
        loop {
            let mut waiting = self.waiting.lock();
            if waiting.len() <= left {
                return;
            }
            let job = waiting.pop_front();
            drop(waiting);
            if let Some(job) = job {
                job();
            }
        }
    }
}

impl Background for Deferred {
    fn submit(&self, urgency: Urgency, job: Job) {
        if urgency == Urgency::Soon {
            return job();
        }
        self.waiting.lock().push_back(job);
        self.work_down_to(DEFERRED);
    }

    fn submit_after(&self, _delay: Duration, job: Job) {
        self.submit(Urgency::Soon, job);
    }

    fn stop(&self) {
        self.work_down_to(0);
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("waiting", &self.waiting.lock().len()).finish()
    }
}
