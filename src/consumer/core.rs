//! A consumer: what it is made of, and how it polls.
//!
//! Used by one thread at a time. A poll that finds records and has nothing else to do takes no lock:
//! it looks at one flag that the group sets when there is something to let go of or to take
//! (`membership.rs`), commits if it is time to (`commit.rs`), and asks its partitions in turn
//! (`fetcher.rs`).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::event::{ConsumerEvent, Events};
use super::lent::Lent;
use super::progress::{Done, Progress};
use super::subscription::Subscription;
use super::wakeup::Wakeup;
use crate::batch::Batch;
use crate::broker::BrokerInner;
use crate::error::{Error, Result};
use crate::fetcher::{Fetcher, Limits};
#[cfg(test)]
use crate::group::Planted;
use crate::group::{Assignor, Group, MemberLink, Taken};
use crate::sender::Acks;
use crate::start::Start;
use crate::topic_partition::TopicPartition;

/// A member of a group: reads its share of the partitions, and says how far the group has come.
///
/// The members of a group share the partitions of its topics out among themselves; every record
/// goes to one of them. A group goes on where it had come to by its last commit, whoever its members
/// are then: nothing is skipped, and what was read and not committed is read again. Groups do not
/// affect each other.
///
/// A consumer is a member from [`open`](crate::ConsumerBuilder::open) until it is closed or dropped, by
/// a panic too. It has partitions from its first poll on. When members come and go, partitions move:
/// a consumer lets go of one when it polls, and only then does the next one take it, from what was
/// committed, when that one polls. So two members on one thread have to be polled in turn. Partitions
/// that stay where they are do not pause. Members beyond the number of partitions have none and stand
/// by: the first to be needed takes over.
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send_batch(&[Record::new("one"), Record::new("two")])?;
///
/// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
/// for record in &consumer.poll(Duration::from_secs(1))? {
///     println!("{:?} {:?}", record.key(), record.value());
/// }
/// consumer.commit()?;
/// drop(consumer);
///
/// orders.send(Record::new("three"))?;
/// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
/// let batch = consumer.poll(Duration::from_secs(1))?;
/// assert_eq!(batch.get(0).and_then(|record| record.value()), Some(&b"three"[..]));
/// # Ok::<(), forebay::Error>(())
/// ```
pub struct Consumer {
    /// Also keeps the broker open.
    pub(super) broker: Arc<BrokerInner>,
    pub(super) settings: Settings,
    /// The group, while this is a member of it.
    pub(super) group: Option<Arc<Group>>,
    pub(super) link: Arc<MemberLink>,
    pub(super) fetcher: Fetcher,
    pub(super) progress: Progress,
    /// Partitions that are held and have no place to start yet, and whether the last poll said why.
    pub(super) unplaced: Vec<Taken>,
    pub(super) complained: bool,
    pub(super) generation: u64,
    /// The topics that match, where it subscribes to a pattern.
    pub(super) matched: Vec<Arc<str>>,
    pub(super) listener: Option<Box<dyn RebalanceListener>>,
    /// Whether the listener is being called: then nothing is polled.
    pub(super) in_listener: bool,
    pub(super) events: Option<Events>,
    wakeup: Wakeup,
    /// When to commit next by itself, by the monotonic clock in milliseconds.
    pub(super) commit_at: u64,
    /// Partitions the listener is to be told of as assigned.
    pub(super) to_announce: Vec<TopicPartition>,
    /// Counts how often partitions came or went.
    pub(super) changes: u64,
    pub(super) lent: Lent,
}

/// How a consumer was set up.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) group: Arc<str>,
    pub(super) subscription: Subscription,
    pub(super) start: Start,
    pub(super) limits: Limits,
    pub(super) assignor: Assignor,
    pub(super) instance: Option<Arc<str>>,
    pub(super) max_poll_interval: Option<Duration>,
    pub(super) auto_commit: Option<(Duration, Done)>,
    pub(super) acks: Acks,
}

/// Is told when partitions come to a consumer and go from it; as Kafka's
/// `ConsumerRebalanceListener`.
///
/// It is called on the thread that polls, from within [`Consumer::poll`] or
/// [`Consumer::close`], with the consumer itself, which may be asked and moved: to commit what is
/// done, or to seek to a place that is kept elsewhere. A poll from within returns nothing.
///
/// ```
/// use forebay::{Broker, Consumer, RebalanceListener, TopicConfig, TopicPartition};
///
/// struct Tell;
///
/// impl RebalanceListener for Tell {
///     fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
///         println!("{partitions:?} go to somebody else");
///         if let Err(error) = consumer.commit() {
///             println!("what was done last will be done again: {error}");
///         }
///     }
/// }
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let consumer = broker.consumer("billing").subscribe(["orders"]).listener(Tell).open()?;
/// # Ok::<(), forebay::Error>(())
/// ```
pub trait RebalanceListener: Send {
    /// The consumer reads these partitions from now on, from where the group had come to.
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// The consumer is about to let go of these partitions. Until this returns nobody else reads
    /// them, and what is committed here is where the next one starts: [`Consumer::commit`] takes all
    /// that was returned for done, from within [`Consumer::close`] too. A commit that fails here
    /// means that the next owner does it again.
    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// The consumer no longer had these partitions when it came back: it had not polled in time, or
    /// another took its name. Others may have read them since; nothing can be committed.
    fn lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }
}

impl Consumer {
    /// A consumer that is no member yet.
    pub(super) fn new(
        broker: Arc<BrokerInner>,
        settings: Settings,
        listener: Option<Box<dyn RebalanceListener>>,
    ) -> Self {
        let fetcher = Fetcher::new(settings.limits, false);
        let waker = Arc::clone(fetcher.waker());
        let id = broker.groups().member_id(settings.instance.as_deref());
        let link = Arc::new(MemberLink::new(id, Arc::clone(&waker)));
        Self {
            broker,
            settings,
            group: None,
            link,
            fetcher,
            progress: Progress::default(),
            unplaced: Vec::new(),
            complained: false,
            generation: 0,
            matched: Vec::new(),
            listener,
            in_listener: false,
            events: None,
            wakeup: Wakeup::new(waker),
            commit_at: u64::MAX,
            to_announce: Vec::new(),
            changes: 0,
            lent: Lent::default(),
        }
    }

    /// Returns records, waiting up to `timeout` for the first; an empty batch if there is none in
    /// time, or if it is [woken up](Wakeup::wakeup).
    ///
    /// By calling it the application says that it is done with what earlier polls returned: that may
    /// be committed from now on. Partitions come and go in here, and listeners are called.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the broker was closed. [`Error::Fenced`] when another took its static
    /// name. [`Error::Gap`] when records the group had not read were deleted: told once, reading
    /// goes on behind them. [`Error::NoCommittedOffset`] with [`Start::Error`]. [`Error::Corrupt`]
    /// when what follows is damaged, [`Error::Io`]. What a commit on the way can meet; that is tried
    /// again after a while. Where an error concerns one partition, the next poll may be used to read
    /// the others.
    pub fn poll(&mut self, timeout: Duration) -> Result<Batch> {
        if self.in_listener {
            return Ok(Batch::default());
        }
        self.broker.check_owner()?;
        self.settle_lent();
        let fetcher = &self.fetcher;
        self.progress.finish(|place| fetcher.position(place));
        let result = if self.settings.max_poll_interval.is_some() {
            self.poll_watched(timeout)
        } else {
            self.poll_until(timeout)
        };
        match result {
            Ok(batch) => {
                self.fetcher.take_touched(self.progress.touched_mut());
                #[cfg(test)]
                if self.group.as_ref().is_some_and(|group| group.planted() == Planted::CommitsAhead)
                {
                    let fetcher = &self.fetcher;
                    self.progress.finish(|place| fetcher.position(place));
                }
                Ok(batch)
            }
            Err(error) => {
                if let Error::Gap { topic, partition, .. } = &error
                    && let Ok(place) = self.place_of(topic, *partition)
                {
                    // Who was told of what is gone, and comes back, is done with it.
                    self.progress.touched_mut().push(place);
                }
                Err(self.told(error))
            }
        }
    }

    /// Polls, and says when that began and ended, by a panic too.
    fn poll_watched(&mut self, timeout: Duration) -> Result<Batch> {
        self.link.set_polling();
        let result = catch_unwind(AssertUnwindSafe(|| self.poll_until(timeout)));
        self.link.set_idle(self.broker.clock().monotonic());
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Returns records that are there, without waiting.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn try_poll(&mut self) -> Result<Batch> {
        self.poll(Duration::ZERO)
    }

    fn poll_until(&mut self, timeout: Duration) -> Result<Batch> {
        let mut deadline = None;
        loop {
            self.tend()?;
            let batch = self.fetch(!timeout.is_zero() && deadline.is_none())?;
            if !batch.is_empty() || self.wakeup.take() || timeout.is_zero() {
                return Ok(batch);
            }
            // A time too far off to be told is one that never comes.
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(timeout));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(batch);
            }
            // Asking the partitions has taken away what was rung before. Whatever is rung from here on
            // ends the wait.
            if !self.link.is_changed() {
                self.fetcher.wait(self.next_chore(deadline));
            }
        }
    }

    /// Asks the partitions, calmly if there is time. One whose topic was deleted is let go of.
    fn fetch(&mut self, calmly: bool) -> Result<Batch> {
        let fetched = if calmly { self.fetcher.fetch_calmly() } else { self.fetcher.fetch() };
        match fetched {
            Err(Error::UnknownTopic { topic }) => {
                let gone = |(name, _): &(&TopicPartition, usize)| *name.topic == *topic;
                let gone: Vec<_> = self.fetcher.partitions().filter(gone).collect();
                let gone: Vec<_> = gone.into_iter().map(|(name, _)| name.clone()).collect();
                for name in &gone {
                    self.fetcher.leave_alone(name);
                }
                Ok(Batch::default())
            }
            other => other,
        }
    }

    /// Does what is to be done between polls: partitions that come and go, commits, members that do
    /// not poll.
    #[inline]
    fn tend(&mut self) -> Result<()> {
        // It comes first, because it may free partitions for this one.
        if self.group.as_ref().is_some_and(|group| group.look_at() != u64::MAX) {
            self.evict_if_due();
        }
        if self.link.is_changed() {
            self.reconcile()?;
        }
        if !self.unplaced.is_empty() {
            self.place_taken()?;
        }
        if self.settings.auto_commit.is_some() {
            self.auto_commit_if_due()?;
        }
        Ok(())
    }

    /// Until when to sleep, if nothing happens before.
    fn next_chore(&self, deadline: Option<Instant>) -> Option<Instant> {
        let mut due = u64::MAX;
        if self.settings.auto_commit.is_some_and(|(_, done)| self.progress.is_ahead(done)) {
            due = due.min(self.commit_at);
        }
        if let Some(group) = &self.group {
            due = due.min(group.look_at());
        }
        if due == u64::MAX {
            return deadline;
        }
        // The clock that intervals go by may be one that stands still.
        let left = due.saturating_sub(self.broker.clock().monotonic()).max(1);
        let chore = Instant::now().checked_add(Duration::from_millis(left));
        deadline.into_iter().chain(chore).min()
    }

    /// Takes out members of the group that have not polled in time.
    fn evict_if_due(&mut self) {
        let now = self.broker.clock().monotonic();
        let due = self.group.as_ref().filter(|group| group.look_at() <= now);
        let Some(group) = due.map(Arc::clone) else { return };
        if group.evict_overdue(now) {
            let broker = &self.broker;
            group.rebalance(&|name| broker.shape(name));
        }
    }

    /// Does what a poll does besides reading, on behalf of an application that is still busy.
    pub(super) fn look_after(&mut self) {
        self.link.set_polling();
        if let Err(error) = self.tend() {
            // A poll meets it again, unless it concerned a commit, which is tried again.
            self.told(error);
        }
    }

    /// Whether what was returned is committed without being marked.
    pub(super) fn commits_finished(&self) -> bool {
        matches!(self.settings.auto_commit, Some((_, Done::Finished)))
    }

    /// Sends an error to whoever listens to events.
    pub(super) fn told(&self, error: Error) -> Error {
        self.tell(|| ConsumerEvent::Error(error.clone()));
        error
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> ConsumerEvent) {
        if let Some(events) = &self.events {
            events.send(event());
        }
    }

    /// The group it is in.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.settings.group
    }

    /// Its name as a member, which no other has.
    #[must_use]
    pub fn member_id(&self) -> &str {
        self.link.id()
    }

    /// The generation of the group, as it was when partitions last came or went here. It grows with
    /// every rebalance, for as long as the broker is open.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The partitions it reads at this moment, sorted.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let mut assignment: Vec<_> =
            self.fetcher.partitions().map(|(name, _)| name.clone()).collect();
        assignment.sort_unstable();
        assignment
    }

    /// What makes a poll return from another thread.
    #[must_use]
    pub fn wakeup_handle(&self) -> Wakeup {
        self.wakeup.clone()
    }

    /// Rebalances and errors as messages, from now on; as the notifications and errors of
    /// sarama-cluster. They need not be received: of more than 1024 the oldest are dropped.
    ///
    /// ```
    /// use forebay::{Broker, ConsumerEvent, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// let events = consumer.events();
    /// consumer.try_poll()?;
    /// let Ok(ConsumerEvent::Rebalanced(rebalance)) = events.try_recv() else { panic!() };
    /// assert_eq!(rebalance.assigned.len(), 2);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn events(&mut self) -> Receiver<ConsumerEvent> {
        self.events.get_or_insert_with(Events::new).receiver()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.settings.group)
            .field("member", self.link.id())
            .field("generation", &self.generation)
            .field("partitions", &self.fetcher.partitions().count())
            .finish_non_exhaustive()
    }
}
