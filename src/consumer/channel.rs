//! A consumer as a channel, to be waited for together with others.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};

use super::core::Consumer;
use super::wakeup::Wakeup;
use crate::batch::OwnedRecord;
use crate::error::{Error, Result};

/// How often a thread whose channel is full looks whether partitions have to be let go of.
const LOOK: Duration = Duration::from_millis(20);

/// The room for records is made at once, so it is limited.
const MAX_CAPACITY: usize = 1 << 20;

/// A consumer that hands its records to a channel, on a thread of its own. Made by
/// [`Consumer::into_channel`].
///
/// Dropping it ends the thread, and the consumer leaves its group.
#[derive(Debug)]
pub struct ConsumerChannel {
    receiver: Receiver<Result<OwnedRecord>>,
    orders: Sender<Order>,
    wakeup: Wakeup,
    thread: Option<JoinHandle<Result<()>>>,
    /// The process the thread is in: a forked child has none to wait for.
    owner: u32,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Mark { record: Box<(String, u32, u64)>, answer: Sender<Result<()>> },
    Commit { answer: Sender<Result<()>> },
}

impl Consumer {
    /// Hands records to a channel that holds `capacity` of them, from a thread of its own, for
    /// `select!`.
    ///
    /// Nobody but the application knows which records are done with: it
    /// [marks](ConsumerChannel::mark) them, and what is marked is committed by
    /// [`commit`](ConsumerChannel::commit), or by itself with
    /// [`auto_commit_marked`](crate::ConsumerBuilder::auto_commit_marked). Records that lie in the
    /// channel when their partition goes to another member are received all the same, and read by
    /// that one too; marking them is then refused.
    ///
    /// ```
    /// use crossbeam_channel::{select, tick};
    /// use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?.send(Record::new("paid"))?;
    /// let channel = broker.consumer("billing").subscribe(["orders"]).open()?.into_channel(100)?;
    /// let ticks = tick(Duration::from_secs(60));
    /// select! {
    ///     recv(channel.receiver()) -> received => {
    ///         let record = received.expect("the consumer is there")?;
    ///         assert_eq!(record.value.as_deref(), Some(&b"paid"[..]));
    ///         channel.mark(&record)?;
    ///     }
    ///     recv(ticks) -> _ => println!("nothing for a minute"),
    /// }
    /// channel.commit()?;
    /// channel.close()?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if `capacity` is 0 or above 1,048,576, or the consumer was set up with
    /// [`auto_commit`](crate::ConsumerBuilder::auto_commit), which would commit what was only
    /// handed on. [`Error::Io`] if there can be no thread.
    pub fn into_channel(self, capacity: usize) -> Result<ConsumerChannel> {
        if capacity == 0 || capacity > MAX_CAPACITY {
            let reason = format!("{capacity} is not between 1 and {MAX_CAPACITY}");
            return Err(Error::config("capacity", reason));
        }
        if self.commits_finished() {
            let reason = "records in a channel are not done with; use auto_commit_marked";
            return Err(Error::config("auto_commit", reason));
        }
        let (sender, receiver) = bounded(capacity);
        let (orders, given) = unbounded();
        let wakeup = self.wakeup_handle();
        let dir = self.broker.dir().to_path_buf();
        let hand_on = HandOn { consumer: self, sender, orders: given };
        let thread = std::thread::Builder::new()
            .name("forebay-consumer".to_owned())
            .spawn(move || hand_on.run())
            .map_err(|error| Error::io("starting a consumer thread of", &dir, error))?;
        let owner = std::process::id();
        Ok(ConsumerChannel { receiver, orders, wakeup, thread: Some(thread), owner })
    }
}

impl ConsumerChannel {
    /// Where records arrive, and errors. It is disconnected after [`Error::Closed`] and
    /// [`Error::Fenced`].
    #[must_use]
    pub fn receiver(&self) -> &Receiver<Result<OwnedRecord>> {
        &self.receiver
    }

    /// Says that the application is done with a record, and with all before it in its partition.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`] if the record's partition has gone to another member,
    /// [`Error::Closed`] if the thread has ended.
    pub fn mark(&self, record: &OwnedRecord) -> Result<()> {
        let record = Box::new((record.topic.to_string(), record.partition, record.offset));
        self.order(|answer| Order::Mark { record, answer })
    }

    /// Commits what was marked.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit`].
    pub fn commit(&self) -> Result<()> {
        self.order(|answer| Order::Commit { answer })
    }

    fn order(&self, order: impl FnOnce(Sender<Result<()>>) -> Order) -> Result<()> {
        self.check_owner()?;
        let (answer, answered) = bounded(1);
        if self.orders.send(order(answer)).is_err() {
            return Err(Error::Closed);
        }
        self.wakeup.wakeup();
        answered.recv().unwrap_or(Err(Error::Closed))
    }

    fn check_owner(&self) -> Result<()> {
        let owner = self.owner;
        if owner == std::process::id() { Ok(()) } else { Err(Error::Forked { owner }) }
    }

    /// Ends the thread, and leaves the group. Records that were not received are read again by whoever
    /// reads their partition next, as is what was not marked and committed.
    ///
    /// # Errors
    ///
    /// As [`Consumer::close`].
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if let Err(error) = self.check_owner() {
            // Letting go of a channel takes a lock, which the thread may have held at the fork.
            std::mem::forget(thread);
            std::mem::forget(std::mem::replace(&mut self.orders, unbounded().0));
            std::mem::forget(std::mem::replace(&mut self.receiver, never()));
            return Err(error);
        }
        // The thread ends when nobody can give orders any more.
        self.orders = unbounded().0;
        self.receiver = never();
        self.wakeup.wakeup();
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for ConsumerChannel {
    fn drop(&mut self) {
        if std::thread::panicking() && self.check_owner().is_ok() {
            self.orders = unbounded().0;
            self.wakeup.wakeup();
        } else if let Err(error) = self.end() {
            log::warn!("closing a consumer: {error}");
        }
    }
}

/// The thread's own.
struct HandOn {
    consumer: Consumer,
    sender: Sender<Result<OwnedRecord>>,
    orders: Receiver<Order>,
}

/// Whether to go on.
type GoOn = bool;

impl HandOn {
    fn run(mut self) -> Result<()> {
        while self.obey_all() {
            let (is_sent, is_over) = match self.consumer.poll_singly() {
                Ok(batch) => (self.send_all(&batch), false),
                Err(error) => {
                    let is_over = matches!(error, Error::Closed | Error::Fenced { .. });
                    (self.send(Err(error)), is_over)
                }
            };
            if is_over || !is_sent {
                break;
            }
        }
        self.consumer.close()
    }

    fn send_all(&mut self, batch: &crate::Batch) -> GoOn {
        let changes = self.consumer.changes;
        for (at, record) in batch.iter().enumerate() {
            if !self.send(Ok(record.to_owned())) {
                return false;
            }
            if self.consumer.changes != changes {
                // Some of the rest may have gone to others: read again what is still ours.
                self.consumer.hand_back(batch, at + 1);
                return true;
            }
        }
        true
    }

    /// Waits until there is room, doing meanwhile what is to be done.
    fn send(&mut self, item: Result<OwnedRecord>) -> GoOn {
        let mut item = Some(item);
        while let Some(next) = item.take() {
            let orders = self.orders.clone();
            // A channel that is full and one that is closed are told apart by trying.
            match self.sender.try_send(next) {
                Ok(()) => return true,
                Err(crossbeam_channel::TrySendError::Disconnected(_)) => return false,
                Err(crossbeam_channel::TrySendError::Full(again)) => item = Some(again),
            }
            select! {
                recv(orders) -> order => match order {
                    Ok(order) => self.obey(order),
                    Err(_) => return false,
                },
                default(LOOK) => self.consumer.look_after(),
            }
        }
        true
    }

    /// Does what was ordered; `false` when nobody can give orders any more.
    fn obey_all(&mut self) -> GoOn {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(crossbeam_channel::TryRecvError::Empty) => return true,
                Err(crossbeam_channel::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let (result, answer) = match order {
            Order::Mark { record, answer } => {
                let (topic, partition, offset) = *record;
                (self.consumer.mark_offset(&topic, partition, offset), answer)
            }
            Order::Commit { answer } => (self.consumer.commit_marked(), answer),
        };
        // Whoever asked waits, unless it panicked.
        drop(answer.send(result));
    }
}
