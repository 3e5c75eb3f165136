//! A thread that calls the sink.
//!
//! The sink is user code: it may fail, hang and panic. It is called with no lock held, and a worker
//! that hangs in it holds up its own batch and nothing else. A worker keeps neither the consumer nor
//! the broker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::flow::Flow;
use super::outcome::Failure;
use super::schedule::Job;
use super::sink::Sink;
use super::sink_batch::SinkBatch;
use crate::storage::split_mix;

/// One of the threads.
pub(super) struct Worker {
    pub(super) flow: Arc<Flow>,
    pub(super) sink: Arc<dyn Sink>,
    /// Where the waits it draws begin.
    pub(super) random: u64,
}

impl Worker {
    /// Delivers until there is nothing more to be delivered.
    pub(super) fn run(mut self) {
        while let Some(job) = self.flow.next_job() {
            self.work(job);
        }
        let Self { flow, sink, .. } = self;
        // The last one takes the sink with it, and what that does is the user's.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(sink)));
        dropped.unwrap_or_else(discard);
        flow.worker_ended();
    }

    fn work(&mut self, job: Job) {
        let Job { lane, trial, .. } = job;
        let batch = trial.batch;
        if let Some(why) = trial.dead {
            return self.put_aside(lane, batch, why);
        }
        if batch.attempt() > 1 {
            self.flow.lock().tally.stats.retries += 1;
        }
        let Err(failure) = deliver(&*self.sink, &batch) else {
            self.flow.delivered(lane, &batch);
            return;
        };
        let random = split_mix(&mut self.random);
        say(|| {
            let (name, offset, attempt) = (batch.name(), batch.first(), batch.attempt());
            let message = &failure.message;
            log::debug!("delivering from offset {offset} of {name}, attempt {attempt}: {message}");
        });
        if let Some((batch, why)) = self.flow.failed(lane, batch, failure, random) {
            self.put_aside(lane, batch, why);
        }
    }

    /// Appends a record to the dead letters.
    fn put_aside(&mut self, lane: u64, batch: SinkBatch, why: String) {
        let Some(dead_letters) = self.flow.dead_letters() else {
            // It has ended; nothing is committed any more.
            self.flow.not_put_aside(lane, batch, why, crate::Error::Closed, 0);
            return;
        };
        let result = dead_letters.put(&batch, &why);
        drop(dead_letters);
        match result {
            Ok(()) => {
                let (name, offset) = (batch.name(), batch.first());
                say(|| log::warn!("offset {offset} of {name} goes to the dead letters: {why}"));
                self.flow.put_aside(lane, &batch);
            }
            Err(error) => {
                let (name, offset) = (batch.name(), batch.first());
                say(|| log::warn!("putting offset {offset} of {name} aside: {error}"));
                let random = split_mix(&mut self.random);
                self.flow.not_put_aside(lane, batch, why, error, random);
            }
        }
    }
}

/// Calls the sink.
fn deliver(sink: &dyn Sink, batch: &SinkBatch) -> Result<(), Failure> {
    match catch_unwind(AssertUnwindSafe(|| sink.deliver(batch))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure {
            message: error.to_string(),
            permanent: error.is_permanent(),
            panicked: false,
            delivered: error.delivered_records(),
        }),
        Err(panic) => Err(Failure {
            message: format!("the sink panicked: {}", message_of(panic)),
            permanent: false,
            panicked: true,
            delivered: 0,
        }),
    }
}

/// What a panic said.
pub(super) fn message_of(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    discard(panic);
    text.unwrap_or_else(|| "it did not say why".to_owned())
}

/// Drops what a panic carried, which may panic again.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// Logs. A logger is user code, and its panic must not take a batch with it.
pub(super) fn say(message: impl FnOnce()) {
    catch_unwind(AssertUnwindSafe(message)).unwrap_or_else(discard);
}
