//! The handle of an asynchronous producer: any thread may use it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::outgoing::OutgoingRecord;
use super::owner::Owner;
use super::results::{Delivered, Undelivered};
use super::ticket::Ticket;
use crate::error::Result;
use crate::record::Record;

/// Sends records without waiting for them: a send copies the record into memory, and it is appended
/// with others that come close to it.
///
/// Made by [`Broker::async_producer`](crate::Broker::async_producer). Clones share it, and any thread
/// may use it.
///
/// Within a partition, records are sent in the order in which they were accepted, also when some have
/// to be tried again: later ones of the same partition wait for them, those of other partitions do
/// not. One that is given up is reported, and those behind it go on. What became of a record can be
/// asked of its [`Ticket`], or received from [`successes`](Self::successes) and
/// [`errors`](Self::errors), or ignored: nothing ever waits for a result to be looked at. If nobody
/// receives errors, records that were given up are logged.
///
/// When the last clone is dropped, what is there is sent, without retries; what could not be sent is
/// logged.
///
/// ```
/// use std::time::Duration;
/// use forebay::{Acks, Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(8))?;
/// let producer = broker.async_producer().linger(Duration::from_millis(1)).open()?;
/// for number in 0..1_000_u32 {
///     producer.send("orders", Record::new(&number.to_le_bytes()).key("user-7"))?;
/// }
/// let last = producer.send("orders", Record::new("paid").key("user-7"))?;
/// assert_eq!(last.wait()?.offset, 1_000);
/// producer.close(Duration::from_secs(5))?;
/// # Ok::<(), forebay::Error>(())
/// ```
///
/// With channels, as in sarama:
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, OutgoingRecord, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let producer = broker.async_producer().open()?;
/// let (successes, errors) = (producer.successes(), producer.errors());
/// producer.input()?.send(OutgoingRecord::new("orders", "paid").tag(1)).expect("it is open");
/// producer.input()?.send(OutgoingRecord::new("nowhere", "lost").tag(2)).expect("it is open");
/// assert_eq!(successes.recv().expect("it is open").tag, 1);
/// let lost = errors.recv().expect("it is open");
/// assert_eq!(lost.record.tag, 2);
/// println!("{}", lost.error);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AsyncProducer {
    owner: Arc<Owner>,
}

impl AsyncProducer {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner: Arc::new(owner) }
    }

    /// Accepts one record, and returns at once unless there is no room for it.
    ///
    /// # Errors
    ///
    /// Nothing was accepted: [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition),
    /// [`Error::RecordTooLarge`](crate::Error::RecordTooLarge),
    /// [`Error::TooManyHeaders`](crate::Error::TooManyHeaders),
    /// [`Error::TimestampOutOfRange`](crate::Error::TimestampOutOfRange),
    /// [`Error::LargerThanBuffer`](crate::Error::LargerThanBuffer),
    /// [`Error::BufferFull`](crate::Error::BufferFull) as [`WhenFull`](crate::WhenFull) says,
    /// [`Error::ProducerClosed`](crate::Error::ProducerClosed),
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Forked`](crate::Error::Forked). If nothing else
    /// waits and [`linger`](crate::AsyncProducerBuilder::linger) is zero, the record is appended at
    /// once, and [`Error::Poisoned`](crate::Error::Poisoned) is known at once, too.
    #[inline]
    pub fn send(&self, topic: &str, record: Record<'_>) -> Result<Ticket> {
        self.owner.shared.send(topic, &record)
    }

    /// As [`send`](Self::send), for a record of which nobody asks what became: it costs about a third
    /// less. One that could not be sent is found in [`errors`](Self::errors), or in the log of the
    /// program.
    ///
    /// ```
    /// use std::time::Duration;
    /// use forebay::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// let clicks = broker.create_topic("clicks", TopicConfig::new())?;
    /// let producer = broker.async_producer().linger(Duration::from_millis(1)).open()?;
    /// for _ in 0..1_000 {
    ///     producer.post("clicks", Record::new("click"))?;
    /// }
    /// producer.flush(Duration::from_secs(5))?;
    /// assert_eq!(clicks.latest_offset(0)?, 1_000);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn post(&self, topic: &str, record: Record<'_>) -> Result<()> {
        self.owner.shared.post(topic, &record)
    }

    /// A channel that accepts records, with room for 1,024 or
    /// [`buffer_records`](crate::AsyncProducerBuilder::buffer_records), whichever is less; that
    /// room comes on top of the buffer. A thread takes records from it from the first time this is
    /// called on.
    ///
    /// That thread waits for room in the buffer whatever [`WhenFull`](crate::WhenFull) says, and so the
    /// channel fills up: whether to wait for it is up to `send`, `try_send` and `send_timeout` of
    /// [crossbeam](crate::crossbeam_channel). What [`send`](Self::send) would refuse comes out of
    /// [`errors`](Self::errors). What is put in while the producer is being closed may be lost; in a
    /// forked child nobody takes it.
    ///
    /// # Errors
    ///
    /// [`Error::ProducerClosed`](crate::Error::ProducerClosed),
    /// [`Error::Forked`](crate::Error::Forked), [`Error::Io`](crate::Error::Io) if there can be no
    /// thread.
    pub fn input(&self) -> Result<&Sender<OutgoingRecord>> {
        self.owner.input()
    }

    /// Records that were sent, from the first time this is called on; in order within a partition.
    ///
    /// It has room for [`result_capacity`](crate::AsyncProducerBuilder::result_capacity) of them. If
    /// it is not drained in time, the oldest are dropped and
    /// [counted](Self::dropped_successes). With [`Acks::None`](crate::Acks::None), too, a record comes
    /// out of it when it was appended. All receivers share one channel.
    #[must_use]
    pub fn successes(&self) -> Receiver<Delivered> {
        self.owner.shared.listen();
        self.owner.shared.successes.receiver()
    }

    /// Records that were accepted and given up, with the reason, from the first time this is called
    /// on. As [`successes`](Self::successes) otherwise.
    #[must_use]
    pub fn errors(&self) -> Receiver<Undelivered> {
        self.owner.shared.listen();
        self.owner.shared.errors.receiver()
    }

    /// How many records were dropped from [`successes`](Self::successes), because it was full.
    #[must_use]
    pub fn dropped_successes(&self) -> u64 {
        self.owner.shared.successes.dropped()
    }

    /// How many records were dropped from [`errors`](Self::errors), because it was full.
    #[must_use]
    pub fn dropped_errors(&self) -> u64 {
        self.owner.shared.errors.dropped()
    }

    /// How many records were accepted and wait to be sent, without those in the
    /// [input](Self::input).
    ///
    /// # Errors
    ///
    /// [`Error::Forked`](crate::Error::Forked).
    pub fn waiting_records(&self) -> Result<usize> {
        self.owner.check_process()?;
        Ok(self.owner.shared.inbox.lock().records)
    }

    /// What the records that wait take of [`buffer_bytes`](crate::AsyncProducerBuilder::buffer_bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Forked`](crate::Error::Forked).
    pub fn waiting_bytes(&self) -> Result<usize> {
        self.owner.check_process()?;
        Ok(self.owner.shared.inbox.lock().bytes)
    }

    /// Sends what was accepted before without lingering, and waits until all of it was sent or given
    /// up, for at most `timeout`. What waits for its next attempt goes on waiting for it.
    ///
    /// # Errors
    ///
    /// [`Error::NotSent`](crate::Error::NotSent) names how many records of which topics wait still,
    /// and how many were given up since the last time this was said.
    /// [`Error::Forked`](crate::Error::Forked).
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.owner.flush(timeout)
    }

    /// Accepts nothing any more, sends what is there, with retries for at most `timeout`, and ends.
    /// When the time is over, what is left is tried once more and then given up. The call returns half a
    /// second later at the latest, even if a sync hangs.
    ///
    /// It closes the producer for all its clones. Another call waits as this one does.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn close(&self, timeout: Duration) -> Result<()> {
        self.owner.close(timeout, Owner::grace())
    }
}
