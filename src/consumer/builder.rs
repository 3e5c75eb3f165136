//! How a consumer is described before it is opened.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Consumer, RebalanceListener, Settings};
use super::progress::Done;
use super::subscription::{Subscription, TopicPattern};
use crate::broker::{Broker, BrokerInner};
use crate::error::{Error, Result};
use crate::fetcher::Limits;
use crate::group::{Assignor, check_group_name};
use crate::sender::Acks;
use crate::start::Start;
use crate::topic_partition::TopicPartition;

/// Describes a consumer. Made by [`Broker::consumer`].
///
/// ```
/// use std::time::Duration;
/// use forebay::{Assignor, Broker, Start, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4))?;
/// let consumer = broker
///     .consumer("billing")
///     .subscribe(["orders"])
///     .start(Start::Latest)
///     .auto_commit(Duration::from_secs(5))
///     .assignor(Assignor::RoundRobin)
///     .max_records(100)
///     .open()?;
/// # drop(consumer);
/// # Ok::<(), forebay::Error>(())
/// ```
#[must_use = "a builder does nothing until it is opened"]
pub struct ConsumerBuilder {
    broker: Arc<BrokerInner>,
    settings: Settings,
    listener: Option<Box<dyn RebalanceListener>>,
}

impl Broker {
    /// Starts to describe a consumer, a member of the group of this name.
    ///
    /// A group is there when it has a member or has committed something; it need not be created.
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        let settings = Settings {
            group: group.into(),
            subscription: Subscription::Nothing,
            start: Start::Earliest,
            limits: Limits::DEFAULT,
            assignor: Assignor::default(),
            instance: None,
            max_poll_interval: None,
            auto_commit: None,
            acks: Acks::Written,
        };
        ConsumerBuilder { broker: Arc::clone(&self.inner), settings, listener: None }
    }
}

impl ConsumerBuilder {
    /// Reads its share of these topics, of partitions and topics of these names that are created
    /// later too.
    pub fn subscribe<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        let mut names: Vec<Arc<str>> =
            topics.into_iter().map(|topic| topic.as_ref().into()).collect();
        names.sort_unstable();
        names.dedup();
        self.settings.subscription = Subscription::Topics(names);
        self
    }

    /// Reads its share of all topics whose names match, of those that are created later too: a
    /// pattern in which `*` stands for any characters, or a function, which is called on the thread
    /// that polls.
    ///
    /// ```
    /// # use forebay::{Broker, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let mut consumer = broker.consumer("billing").subscribe_pattern("orders.*").open()?;
    /// broker.create_topic("orders.eu", TopicConfig::new())?;
    /// consumer.try_poll()?;
    /// assert_eq!(&*consumer.assignment()[0].topic, "orders.eu");
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn subscribe_pattern(mut self, pattern: impl Into<TopicPattern>) -> Self {
        self.settings.subscription = Subscription::Pattern(pattern.into());
        self
    }

    /// Reads just these partitions, from [`open`](Self::open) on; nobody shares anything out. Each has
    /// one reader in the group all the same, and its commits are the group's.
    ///
    /// ```
    /// # use forebay::{Broker, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new().partitions(4))?;
    /// let consumer = broker.consumer("billing").assign([("orders", 1), ("orders", 3)]).open()?;
    /// # drop(consumer);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn assign<P: Into<TopicPartition>>(
        mut self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Self {
        let mut partitions: Vec<_> = partitions.into_iter().map(Into::into).collect();
        partitions.sort_unstable();
        partitions.dedup();
        self.settings.subscription = Subscription::Partitions(partitions);
        self
    }

    /// Where to start where the group has committed nothing. Default: [`Start::Earliest`].
    ///
    /// With [`Start::Latest`] and [`Start::Timestamp`] the place is decided, and committed, when the
    /// group first meets a topic: later members begin there too, and partitions that are added to
    /// the topic later, and topics that come to match a pattern later, are read from their
    /// beginning. So nothing is skipped that came after the group did. With [`Start::Error`] a poll
    /// returns [`Error::NoCommittedOffset`].
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// Commits by itself, at the first poll after this interval, when partitions go to another
    /// member, and when it is closed or dropped: those records that an earlier poll returned and the
    /// application came back from. Default: only what the application commits.
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.settings.auto_commit = Some((interval, Done::Finished));
        self
    }

    /// Commits by itself, at the same times, what the application has [marked](Consumer::mark).
    /// Default: only what the application commits.
    pub fn auto_commit_marked(mut self, interval: Duration) -> Self {
        self.settings.auto_commit = Some((interval, Done::Marked));
        self
    }

    /// What commits wait for. Default: [`Acks::Written`].
    pub fn commit_acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// How partitions are shared out; the same for all members of a group. Default:
    /// [`Assignor::CooperativeSticky`].
    pub fn assignor(mut self, assignor: Assignor) -> Self {
        self.settings.assignor = assignor;
        self
    }

    /// A name that one member of the group has at a time; as Kafka's `group.instance.id`. Default:
    /// none.
    ///
    /// A consumer that takes a name which another has, has it out of the group: that one's polls and
    /// commits are [`Error::Fenced`] from then on. When a member leaves, its partitions go to the
    /// others at once; when one comes back under its name, and is to have some, they are those it had
    /// before.
    pub fn static_member(mut self, name: &str) -> Self {
        self.settings.instance = Some(name.into());
        self
    }

    /// Takes this member out of the group when it has not polled for so long; its partitions go to
    /// the others, and its commits are [`Error::Fenced`] until it polls, and so joins, again; as
    /// Kafka's `max.poll.interval.ms`. Default: a member may take as long as it wants.
    ///
    /// It is found out by another member that polls or waits in a poll, and is measured in whole
    /// milliseconds.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.settings.max_poll_interval = Some(interval);
        self
    }

    /// Who is told when partitions come and go. Default: nobody.
    pub fn listener(mut self, listener: impl RebalanceListener + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The most records one poll returns. Default: 500.
    pub fn max_records(mut self, records: usize) -> Self {
        self.settings.limits.records = records;
        self
    }

    /// The most bytes of records one poll returns; a single larger record is returned all the same.
    /// Default: 1 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.bytes = bytes;
        self
    }

    /// Opens the consumer: it is a member of its group from now on, and has partitions from its
    /// first poll on.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGroupName`], [`Error::InvalidConfig`] if there is nothing to subscribe to or
    /// a limit is 0, [`Error::UnknownTopic`], [`Error::UnknownPartition`],
    /// [`Error::InconsistentGroup`] if members there use another assignor, read the partitions
    /// that were named, or do not name theirs where this one does. [`Error::StorageFull`],
    /// [`Error::Io`], [`Error::Closed`].
    pub fn open(self) -> Result<Consumer> {
        let Self { broker, settings, listener } = self;
        check_group_name(&settings.group)?;
        settings.limits.validate()?;
        if settings.max_poll_interval.is_some_and(|interval| interval.as_millis() == 0) {
            return Err(Error::config("max_poll_interval", "it is less than a millisecond"));
        }
        match &settings.subscription {
            Subscription::Topics(names) if !names.is_empty() => {
                for name in names {
                    broker.topic_to_send(name)?;
                }
            }
            Subscription::Partitions(partitions) if !partitions.is_empty() => {
                for one in partitions {
                    broker.topic(&one.topic)?.partition(one.partition)?;
                }
            }
            Subscription::Pattern(_) => {}
            _ => return Err(Error::config("subscribe", "a consumer needs something to read")),
        }
        let is_manual = matches!(settings.subscription, Subscription::Partitions(_));
        let mut consumer = Consumer::new(broker, settings, listener);
        consumer.join(false)?;
        if is_manual {
            consumer.take_at_once()?;
        }
        Ok(consumer)
    }
}

impl std::fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
