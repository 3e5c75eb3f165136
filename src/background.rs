//! Work that a call leaves behind to be done later: the third, small seam.
//!
//! The log knows that a sealed segment must be synced and indexed, and that pages ahead of the
//! appender are better touched by somebody else; it does not know by whom. A broker on a
//! real disk hands it to a thread; one in memory or on a simulated disk does it on the spot, so
//! that a test's course does not depend on scheduling.

use std::fmt::Debug;

/// A piece of work. It reports its own failures.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How soon a job is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// An appender gains by it if it is done within a fraction of a millisecond. It never blocks.
    AtOnce,
    /// Nobody waits for it. It may wait for the disk.
    Later,
}

/// Who does the work.
pub(crate) trait Background: Debug + Send + Sync {
    /// Does `job` now or soon. After the broker has begun to close it may not be done at all.
    fn submit(&self, urgency: Urgency, job: Job);
    /// Does what is left, and then takes no more.
    fn stop(&self);
}

/// Does every job at once, on the thread that submits it.
#[derive(Debug)]
pub(crate) struct Inline;

impl Background for Inline {
    fn submit(&self, _urgency: Urgency, job: Job) {
        job();
    }

    fn stop(&self) {}
}
