//! The threads that do what appends leave behind: one touches pages ahead of the appenders and looks
//! how much room the disk has, one syncs and seals full segments and may wait for the disk.
//!
//! Two a broker. They end when the broker closes, after what was already handed to them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use crate::admission::Admission;
use crate::background::{Background, Job, Urgency};
use crate::error::{Error, Result};

/// How often the room on the disk is looked at, beside when it is needed.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Queues of jobs and the threads that do them.
#[derive(Debug)]
pub(crate) struct Maintenance {
    at_once: Worker,
    later: Worker,
}

impl Maintenance {
    /// Starts the threads.
    pub(crate) fn start(dir: &Path, admission: &Arc<Admission>) -> Result<Self> {
        let error = |error| Error::io("starting a maintenance thread of", dir, error);
        let admission = Arc::clone(admission);
        let measure: Tick = Box::new(move || admission.measure());
        Ok(Self {
            at_once: Worker::start("forebay-prepare", Some((MEASURE_EVERY, measure)))
                .map_err(error)?,
            later: Worker::start("forebay-seal", None).map_err(error)?,
        })
    }
}

impl Background for Maintenance {
    fn submit(&self, urgency: Urgency, job: Job) {
        match urgency {
            Urgency::AtOnce => self.at_once.submit(job),
            Urgency::Soon | Urgency::Later => self.later.submit(job),
        }
    }

    fn submit_after(&self, delay: Duration, job: Job) {
        self.later.submit_after(delay, job);
    }

    fn stop(&self) {
        self.at_once.stop();
        self.later.stop();
    }

    fn is_own_thread(&self) -> bool {
        self.at_once.is_current() || self.later.is_current()
    }
}

/// What a worker does again and again.
pub(crate) type Tick = Box<dyn Fn() + Send>;

enum Task {
    Now(Job),
    At(Delayed),
}

/// A job and when it is due. The earliest is the greatest, as a heap has it.
struct Delayed {
    due: Instant,
    job: Job,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

/// A queue of jobs and the thread that does them; `None` once it has ended.
#[derive(Debug)]
pub(crate) struct Worker {
    running: Mutex<Option<(Sender<Task>, JoinHandle<()>)>>,
    id: ThreadId,
}

impl Worker {
    /// Starts a thread of this name, which does what is submitted, and again and again what it is given.
    pub(crate) fn start(name: &str, tick: Option<(Duration, Tick)>) -> std::io::Result<Self> {
        let (tasks, queue) = crossbeam_channel::unbounded();
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&queue, tick))?;
        let id = thread.thread().id();
        Ok(Self { running: Mutex::new(Some((tasks, thread))), id })
    }

    /// Has a job done, after those that were submitted before.
    pub(crate) fn submit(&self, job: Job) {
        self.put(Task::Now(job));
    }

    /// Has a job done when some time has passed.
    pub(crate) fn submit_after(&self, delay: Duration, job: Job) {
        // A delay beyond what the clock can say never ends.
        if let Some(due) = Instant::now().checked_add(delay) {
            self.put(Task::At(Delayed { due, job }));
        }
    }

    /// Whether the calling thread is its own.
    pub(crate) fn is_current(&self) -> bool {
        self.id == std::thread::current().id()
    }

    fn put(&self, task: Task) {
        if let Some((tasks, _)) = &*self.running.lock() {
            // It fails only if the thread is gone, and then close() does what is left.
            drop(tasks.send(task));
        }
    }

    /// Ends the thread after what was already handed to it.
    pub(crate) fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((tasks, thread)) = running {
            drop(tasks);
            if self.is_current() {
                // A logger called by a job closes the broker: the thread ends when the job does.
                return;
            }
            // The result is that of a thread that catches every panic.
            drop(thread.join());
        }
    }
}

fn work(queue: &Receiver<Task>, tick: Option<(Duration, Tick)>) {
    let mut delayed: BinaryHeap<Delayed> = BinaryHeap::new();
    let after = |interval: Duration| Instant::now().checked_add(interval);
    let mut next_tick = tick.as_ref().and_then(|(interval, _)| after(*interval));
    loop {
        let due = delayed.peek().map(|first| first.due);
        let until = due.into_iter().chain(next_tick).min();
        let received = match until {
            Some(until) => queue.recv_deadline(until),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(Task::Now(job)) => run(job),
            Ok(Task::At(later)) => delayed.push(later),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while delayed.peek().is_some_and(|first| first.due <= now) {
            if let Some(first) = delayed.pop() {
                run(first.job);
            }
        }
        if let (Some((interval, tick)), Some(at)) = (&tick, next_tick)
            && at <= now
        {
            run(tick);
            next_tick = after(*interval);
        }
    }
}

/// A job reports its own failures; one that panics must not take the others with it.
fn run(job: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        // The logger may be what panicked.
        drop(catch_unwind(|| log::error!("a maintenance job panicked")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delayed_jobs_are_done_in_the_order_in_which_they_are_due() {
        let worker = Worker::start("test", None).expect("thread");
        let (done, order) = crossbeam_channel::unbounded();
        for millis in [40, 10, 25] {
            let done = done.clone();
            let job: Job = Box::new(move || done.send(millis).expect("send"));
            let due = Instant::now() + Duration::from_millis(millis);
            worker.put(Task::At(Delayed { due, job }));
        }
        assert_eq!([order.recv(), order.recv(), order.recv()], [Ok(10), Ok(25), Ok(40)]);
        let never: Job = Box::new(|| panic!("it is not due"));
        let due = Instant::now() + Duration::from_secs(3600);
        worker.put(Task::At(Delayed { due, job: never }));
        worker.stop();
    }
}
