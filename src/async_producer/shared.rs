//! What the handles, the worker and the thread behind the input share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::inbox::{Inbox, Sleep};
use super::interceptor::Interceptors;
use super::results::{Delivered, Outlet, Undelivered};
use super::settings::Settings;
use crate::broker::BrokerInner;
use crate::sender::{Acks, Sender};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) broker: Arc<BrokerInner>,
    pub(super) settings: Settings,
    pub(super) interceptors: Interceptors,
    /// Chooses partitions.
    pub(super) sender: Sender,
    /// The process all this is in.
    pub(super) owner: u32,
    /// Whether records may go the quick way.
    pub(super) is_quick: bool,
    pub(super) inbox: Mutex<Inbox>,
    /// Rung when the worker has something to do.
    pub(super) work: Condvar,
    /// Rung when room was given back, or none will be.
    pub(super) room: Condvar,
    /// Rung when something that is waited for has come to its end.
    pub(super) end: Condvar,
    pub(super) successes: Outlet<Delivered>,
    pub(super) errors: Outlet<Undelivered>,
    /// Whether anybody wants to see single results. Stored when a channel is asked for, and looked at
    /// by whoever drains; Relaxed: what was sent at that moment may be in the channel or not.
    listens: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        broker: Arc<BrokerInner>,
        settings: Settings,
        interceptors: Interceptors,
        sender: Sender,
    ) -> Self {
        Self {
            broker,
            owner: std::process::id(),
            inbox: Mutex::new(Inbox::new(settings.buffer_bytes)),
            work: Condvar::new(),
            room: Condvar::new(),
            end: Condvar::new(),
            successes: Outlet::new(settings.result_capacity),
            errors: Outlet::new(settings.result_capacity),
            listens: AtomicBool::new(!interceptors.is_empty()),
            is_quick: interceptors.is_empty() && Self::may_be_quick(&settings, &sender),
            settings,
            interceptors,
            sender,
        }
    }

    /// Whether somebody is to be told of every record.
    #[inline]
    pub(super) fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    pub(super) fn listen(&self) {
        self.listens.store(true, Ordering::Relaxed);
    }

    /// Whether a thread that sends may append, too: not where that means to wait for a disk.
    #[inline]
    pub(super) fn senders_drain(&self) -> bool {
        self.settings.acks != Acks::Synced
    }

    /// Gives the lock back, and wakes the worker if there is something for it to do.
    #[inline]
    pub(super) fn leave_to_worker(&self, mut inbox: MutexGuard<'_, Inbox>) {
        let Sleep::Until(until) = inbox.sleep else { return };
        let is_early = match (inbox.next_timer(), until) {
            (Some(next), Some(until)) => next < until,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let has_work = !inbox.is_draining && (!inbox.ready.is_empty() || inbox.closing.is_some());
        if is_early || has_work {
            inbox.sleep = Sleep::Awake;
            drop(inbox);
            self.work.notify_one();
        }
    }
}
