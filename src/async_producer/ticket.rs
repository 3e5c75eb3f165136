//! What an asynchronous send returns: a place in a batch, to ask later what became of it. Used by any
//! thread; it holds no lock and keeps no producer open.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fate::Fate;
use crate::error::{Error, Result};
use crate::sent::Sent;
use crate::timestamp::Timestamp;

/// Stands for a record that an [`AsyncProducer`](crate::AsyncProducer) has accepted, and tells what
/// became of it.
///
/// It may be asked as often as one likes, or dropped: the record is sent all the same.
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let producer = broker.async_producer().linger(Duration::from_millis(5)).open()?;
/// let placed = producer.send("orders", Record::new("placed"))?;
/// let paid = producer.send("orders", Record::new("paid"))?;
/// assert_eq!(paid.wait()?.offset, 1);
/// let placed = placed.try_wait().expect("it was sent before the other")?;
/// assert_eq!(placed.offset, 0);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone)]
pub struct Ticket(Inner);

#[derive(Clone)]
enum Inner {
    Known(Sent),
    Waiting { fate: Arc<Fate>, index: u32, timestamp: Timestamp },
}

impl Ticket {
    #[inline]
    pub(super) fn known(sent: Sent) -> Self {
        Self(Inner::Known(sent))
    }

    #[inline]
    pub(super) fn waiting(fate: Arc<Fate>, index: u32, timestamp: Timestamp) -> Self {
        Self(Inner::Waiting { fate, index, timestamp })
    }

    /// Waits until the record was sent as durably as the producer's [`Acks`](crate::Acks) ask for, or
    /// was given up.
    ///
    /// # Errors
    ///
    /// What the record could not be sent for, after all retries:
    /// [`Error::StorageFull`], [`Error::UnknownTopic`] if the topic was deleted meanwhile,
    /// [`Error::Closed`] if the broker was closed meanwhile, [`Error::ProducerClosed`] if the producer
    /// was before it came to this record, [`Error::Poisoned`], [`Error::NotSynced`],
    /// [`Error::RecordTooLarge`] if the topic was altered meanwhile, [`Error::Io`]. In a forked child
    /// [`Error::Forked`].
    pub fn wait(&self) -> Result<Sent> {
        self.look(None).unwrap_or(Err(Error::ProducerClosed))
    }

    /// What became of the record, or `None` if that is not known yet.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    #[must_use]
    pub fn try_wait(&self) -> Option<Result<Sent>> {
        match &self.0 {
            Inner::Known(sent) => Some(Ok(*sent)),
            Inner::Waiting { fate, index, timestamp } => {
                Some(fate.outcome()?.of(*index, fate.partition, *timestamp))
            }
        }
    }

    /// As [`wait`](Self::wait), for at most `timeout`; `None` if nothing is known by then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Sent>> {
        self.look(Instant::now().checked_add(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at the latest; `None` if nothing is known by then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    #[must_use]
    pub fn wait_deadline(&self, deadline: Instant) -> Option<Result<Sent>> {
        self.look(Some(deadline))
    }

    fn look(&self, deadline: Option<Instant>) -> Option<Result<Sent>> {
        match &self.0 {
            Inner::Known(sent) => Some(Ok(*sent)),
            Inner::Waiting { fate, index, timestamp } => match fate.wait(deadline) {
                Ok(outcome) => Some(outcome?.of(*index, fate.partition, *timestamp)),
                Err(error) => Some(Err(error)),
            },
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.try_wait()).finish()
    }
}
