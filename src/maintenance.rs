//! The threads that do what appends leave behind: one touches pages ahead of the appenders, one
//! syncs and seals full segments and may wait for the disk.
//!
//! Two a broker. They end when the broker closes, after what was already handed to them.

use std::path::Path;
use std::thread::{JoinHandle, ThreadId};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::background::{Background, Job, Urgency};
use crate::error::{Error, Result};

/// Queues of jobs and the threads that do them.
#[derive(Debug)]
pub(crate) struct Maintenance {
    at_once: Worker,
    later: Worker,
}

impl Maintenance {
    /// Starts the threads.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let start = |name| {
            Worker::start(name)
                .map_err(|error| Error::io("starting a maintenance thread of", dir, error))
        };
        Ok(Self { at_once: start("forebay-prepare")?, later: start("forebay-seal")? })
    }
}

impl Background for Maintenance {
    fn submit(&self, urgency: Urgency, job: Job) {
        match urgency {
            Urgency::AtOnce => self.at_once.submit(job),
            Urgency::Later => self.later.submit(job),
        }
    }

    fn stop(&self) {
        self.at_once.stop();
        self.later.stop();
    }

    fn is_own_thread(&self) -> bool {
        let current = std::thread::current().id();
        self.at_once.id == current || self.later.id == current
    }
}

/// A queue of jobs and the thread that does them; `None` once it has ended.
#[derive(Debug)]
struct Worker {
    running: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
    id: ThreadId,
}

impl Worker {
    fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, queue) = crossbeam_channel::unbounded();
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&queue))?;
        let id = thread.thread().id();
        Ok(Self { running: Mutex::new(Some((jobs, thread))), id })
    }

    fn submit(&self, job: Job) {
        if let Some((jobs, _)) = &*self.running.lock() {
            // It fails only if the thread is gone, and then close() does what is left.
            drop(jobs.send(job));
        }
    }

    fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((jobs, thread)) = running {
            drop(jobs);
            // The result is that of a thread that catches every panic.
            drop(thread.join());
        }
    }
}

fn work(queue: &Receiver<Job>) {
    for job in queue {
        // A job reports its own failures; one that panics must not take the others with it.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            log::error!("a maintenance job panicked");
        }
    }
}
