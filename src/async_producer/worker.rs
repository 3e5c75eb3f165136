//! The thread `forebay-async`: it sends what nobody else does, when it is time, and sleeps otherwise.
//! With `Acks::Synced` it sends everything, because that means to wait for the disk.

use std::sync::Arc;
use std::time::Instant;

use super::inbox::Sleep;
use super::shared::Shared;

/// Says that the worker has ended, if it does by a panic too.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox.lock();
        inbox.closing.get_or_insert_with(Instant::now);
        inbox.has_ended = true;
        drop(inbox);
        self.0.end.notify_all();
        self.0.room.notify_all();
    }
}

/// Works until the producer is closed and nothing is left to be sent.
pub(super) fn run(shared: Arc<Shared>) {
    let _ended = Ended(&shared);
    let mut inbox = shared.inbox.lock();
    inbox.worker = Some(std::thread::current().id());
    loop {
        let now = Instant::now();
        inbox.expire(now);
        if let Some(until) = inbox.closing {
            inbox.ripen_all(until <= now);
        }
        if !inbox.ready.is_empty() && !inbox.is_draining {
            inbox = shared.drain_all(inbox);
            continue;
        }
        if inbox.closing.is_some() && inbox.is_idle() && !inbox.has_input {
            break;
        }
        let wake = [inbox.next_timer(), inbox.closing.filter(|until| *until > now)];
        let until = wake.into_iter().flatten().min();
        inbox.sleep = Sleep::Until(until);
        match until {
            Some(until) => drop(shared.work.wait_until(&mut inbox, until)),
            None => shared.work.wait(&mut inbox),
        }
        inbox.sleep = Sleep::Awake;
    }
}
