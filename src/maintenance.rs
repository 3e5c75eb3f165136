//! The thread that does what appends leave behind: syncing and sealing full segments.
//!
//! One a broker. It ends when the broker closes, after what was already handed to it.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::background::{Background, Job};
use crate::error::{Error, Result};

/// A queue of jobs and the thread that does them.
#[derive(Debug)]
pub(crate) struct Maintenance {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Maintenance {
    /// Starts the thread.
    pub(crate) fn start(dir: &std::path::Path) -> Result<Self> {
        let (jobs, queue) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new()
            .name("forebay-maintenance".to_owned())
            .spawn(move || work(&queue))
            .map_err(|error| Error::io("starting the maintenance thread of", dir, error))?;
        Ok(Self { running: Mutex::new(Some(Running { jobs, thread })) })
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

impl Background for Maintenance {
    fn submit(&self, job: Job) {
        if let Some(running) = &*self.running.lock() {
            // It fails only if the thread is gone, and then close() does what is left.
            drop(running.jobs.send(job));
        }
    }

    fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(Running { jobs, thread }) = running {
            drop(jobs);
            // The result is that of a thread that catches every panic.
            drop(thread.join());
        }
    }
}
