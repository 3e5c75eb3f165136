//! The channel into a producer, and the thread `forebay-async-input` behind it, which does with each
//! record what a send does. It is there once it is asked for.
//!
//! Whoever flushes puts a marker into the channel: when it is met, all before it was taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::accept::Source;
use super::outgoing::OutgoingRecord;
use super::results::Undelivered;
use super::shared::Shared;
use crate::error::{Error, Result};

/// The most records the channel has room for, because that room is made at once.
const MAX_CAPACITY: usize = 1024;

/// The near end of the channel.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) sender: Sender<OutgoingRecord>,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Input {
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self> {
        let (sender, receiver) = bounded(shared.settings.buffer_records.min(MAX_CAPACITY));
        let (stop, stopped) = bounded(0);
        shared.inbox.lock().has_input = true;
        let taking = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("forebay-async-input".to_owned())
            .spawn(move || run(&taking, &receiver, &stopped))
            .map_err(|error| {
                shared.inbox.lock().has_input = false;
                Error::io("starting an input thread for", shared.broker.dir(), error)
            })?;
        Ok(Self { sender, stop: Some(stop), thread: Some(thread) })
    }

    /// Has the thread take what is in the channel, and end.
    pub(super) fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until the thread has taken what is in the channel; `false` if that takes too long.
    pub(super) fn is_taken_by(sender: &Sender<OutgoingRecord>, deadline: Instant) -> bool {
        let (marker, taken) = bounded(0);
        if sender.send_deadline(OutgoingRecord::marking(marker), deadline).is_err() {
            return false;
        }
        // The marker is dropped when it is met.
        taken.recv_deadline(deadline) == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
    }
}

/// Says that the thread has ended, if it does by a panic too.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox.lock();
        inbox.has_input = false;
        self.0.wake_worker(&mut inbox);
        drop(inbox);
        self.0.end.notify_all();
    }
}

fn run(shared: &Shared, receiver: &Receiver<OutgoingRecord>, stopped: &Receiver<()>) {
    let _ended = Ended(shared);
    shared.inbox.lock().input = Some(std::thread::current().id());
    loop {
        select! {
            recv(receiver) -> record => match record {
                Ok(record) => shared.take(record),
                Err(_) => return,
            },
            recv(stopped) -> _ => break,
        }
    }
    // Others may go on putting records in for ever.
    for record in receiver.try_iter().take(receiver.len()) {
        shared.take(record);
    }
}

impl Shared {
    /// Takes a record from the input.
    fn take(&self, mut record: OutgoingRecord) {
        if record.marker.is_some() {
            return;
        }
        if !self.interceptors.is_empty() {
            self.interceptors.on_send(&mut record);
        }
        let accept = || self.accept(&record.topic, &record.as_record(), record.tag, Source::Input);
        // A partitioner of the user's own may panic.
        let accepted = catch_unwind(AssertUnwindSafe(accept)).unwrap_or_else(|_| {
            let panic = std::io::Error::other("it panicked");
            Err(Error::io("choosing a partition for a record to", self.broker.dir(), panic))
        });
        if let Err(error) = accepted {
            let topic = Arc::clone(&record.topic);
            *self.inbox.lock().failed.entry(topic).or_default() += 1;
            if !self.errors.is_wanted() {
                super::interceptor::guarded("a logger", || {
                    log::error!("a record for topic {:?} was not sent: {error}", record.topic);
                });
            }
            self.give_up(Undelivered { record, partition: None, error });
        }
    }
}
