//! Making a poll return from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::group::GROUP_TOKEN;
use crate::waker::Waker;

/// Makes a consumer's poll return from another thread. Made by [`Consumer::wakeup_handle`](crate::Consumer::wakeup_handle).
#[derive(Clone, Debug)]
pub struct Wakeup {
    /// Stored with Release, taken with Acquire by the next poll.
    woken: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Wakeup {
    /// One for the consumer that waits with `waker`.
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self { woken: Arc::default(), waker }
    }

    /// Makes the poll that is under way, or else the next one, return what there is at once, be it
    /// nothing; as Kafka's `wakeup`, without the exception.
    ///
    /// ```
    /// use std::time::Duration;
    /// use forebay::{Broker, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// let wakeup = consumer.wakeup_handle();
    /// std::thread::spawn(move || wakeup.wakeup());
    /// assert!(consumer.poll(Duration::MAX)?.is_empty());
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn wakeup(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.ring(GROUP_TOKEN);
    }

    pub(super) fn take(&self) -> bool {
        self.woken.load(Ordering::Acquire) && self.woken.swap(false, Ordering::AcqRel)
    }
}
