//! What the handles of a producer share that ends with the last of them: its threads.
//!
//! In a forked child the threads are not there, and locks they held are held for ever: nothing is
//! locked, joined or let go of there.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::input::Input;
use super::interceptor::guarded;
use super::outgoing::OutgoingRecord;
use super::shared::Shared;
use super::worker;
use crate::error::{Error, Result};
use crate::unsent::Unsent;

/// How long a close waits, when its time is over, for the last attempt that is made then.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    /// A leaf lock; not held while a thread is waited for.
    worker: Mutex<Option<JoinHandle<()>>>,
    /// The input, once it was asked for; comes before the inbox.
    input: Mutex<Option<Input>>,
    /// The same channel, to be borrowed.
    sender: std::sync::OnceLock<Sender<OutgoingRecord>>,
}

impl Owner {
    pub(super) fn open(shared: Shared) -> Result<Self> {
        let shared = Arc::new(shared);
        let working = Arc::clone(&shared);
        let worker = std::thread::Builder::new()
            .name("forebay-async".to_owned())
            .spawn(move || worker::run(working))
            .map_err(|error| {
                Error::io("starting a producer thread for", shared.broker.dir(), error)
            })?;
        Ok(Self {
            shared,
            worker: Mutex::new(Some(worker)),
            input: Mutex::new(None),
            sender: std::sync::OnceLock::new(),
        })
    }

    pub(super) fn check_process(&self) -> Result<()> {
        let owner = self.shared.owner;
        if owner == std::process::id() { Ok(()) } else { Err(Error::Forked { owner }) }
    }

    /// The way in.
    pub(super) fn input(&self) -> Result<&Sender<OutgoingRecord>> {
        if let Some(sender) = self.sender.get() {
            return Ok(sender);
        }
        self.check_process()?;
        let mut input = self.input.lock();
        if self.shared.inbox.lock().closing.is_some() {
            return Err(Error::ProducerClosed);
        }
        let opened = match input.take() {
            Some(opened) => opened,
            None => Input::open(&self.shared)?,
        };
        let sender = opened.sender.clone();
        *input = Some(opened);
        drop(input);
        Ok(self.sender.get_or_init(|| sender))
    }

    /// Waits until all that was accepted before was sent or given up.
    pub(super) fn flush(&self, timeout: Duration) -> Result<()> {
        self.check_process()?;
        let deadline = Shared::deadline(timeout);
        let shared = &self.shared;
        let must_not_wait = shared.inbox.lock().must_not_wait();
        if let Some(sender) = self.sender.get()
            && !must_not_wait
            && !Input::is_taken_by(sender, deadline)
            && shared.inbox.lock().has_input
        {
            return self.verdict(sender.len());
        }
        let mut inbox = shared.inbox.lock();
        let epoch = inbox.epochs.end();
        inbox.ripen_all(false);
        if shared.senders_drain() && !inbox.is_draining && !inbox.ready.is_empty() {
            inbox = shared.drain_for_a_while(inbox);
        }
        shared.wake_worker(&mut inbox);
        inbox.waiting_for_end += 1;
        while !inbox.epochs.is_done(epoch) && !inbox.has_ended && !must_not_wait {
            if shared.end.wait_until(&mut inbox, deadline).timed_out() {
                break;
            }
        }
        inbox.waiting_for_end -= 1;
        let is_done = inbox.epochs.is_done(epoch);
        drop(inbox);
        if is_done { self.told_failures() } else { self.verdict(0) }
    }

    /// What was not sent, as an error.
    fn verdict(&self, in_input: usize) -> Result<()> {
        let unsent = Unsent { in_input, ..self.shared.inbox.lock().report() };
        if unsent.is_empty() { Ok(()) } else { Err(Error::NotSent { unsent }) }
    }

    /// What was given up, as an error; what waits has come since.
    fn told_failures(&self) -> Result<()> {
        let mut unsent = self.shared.inbox.lock().report();
        unsent.topics.retain_mut(|topic| {
            topic.waiting = 0;
            topic.failed > 0
        });
        if unsent.is_empty() { Ok(()) } else { Err(Error::NotSent { unsent }) }
    }

    /// Sends what is there, with retries until `timeout` has passed, and ends the threads. `patience` is
    /// how long it waits for them then.
    pub(super) fn close(&self, timeout: Duration, patience: Duration) -> Result<()> {
        self.check_process()?;
        let deadline = Shared::deadline(timeout);
        let shared = &self.shared;
        {
            // No input is opened once the inbox says that it closes.
            let mut input = self.input.lock();
            let mut inbox = shared.inbox.lock();
            inbox.closing.get_or_insert(deadline);
            shared.wake_worker(&mut inbox);
            drop(inbox);
            if let Some(input) = &mut *input {
                input.stop();
            }
        }
        shared.room.notify_all();
        let over = Shared::deadline(timeout.saturating_add(patience));
        let mut inbox = shared.inbox.lock();
        if inbox.must_not_wait() {
            drop(inbox);
            return self.verdict(0);
        }
        inbox.waiting_for_end += 1;
        while !inbox.has_ended {
            if shared.end.wait_until(&mut inbox, over).timed_out() {
                break;
            }
        }
        inbox.waiting_for_end -= 1;
        let (has_ended, has_input) = (inbox.has_ended, inbox.has_input);
        drop(inbox);
        if has_ended {
            self.join();
        }
        // The thread behind the input, if it is still at work, has one record in hand.
        let in_input = self.sender.get().filter(|_| has_input).map_or(0, |sender| sender.len() + 1);
        self.verdict(in_input)
    }

    /// Waits for threads that have ended.
    fn join(&self) {
        let worker = self.worker.lock().take();
        let input = self.input.lock().as_mut().and_then(|input| input.thread.take());
        for thread in [worker, input].into_iter().flatten() {
            // What panicked in it has been told by the panic.
            drop(thread.join());
        }
    }

    pub(super) fn grace() -> Duration {
        GRACE
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            // Letting go of a channel or a thread takes locks, which the threads may have held at the
            // fork.
            std::mem::forget(self.worker.get_mut().take());
            std::mem::forget(self.input.get_mut().take());
            std::mem::forget(self.sender.take());
            return;
        }
        guarded("closing a producer", || {
            let begun = Instant::now();
            if let Err(error) = self.close(Duration::ZERO, Duration::MAX) {
                log::warn!("dropping a producer, after {:?}: {error}", begun.elapsed());
            }
        });
    }
}
