//! How a forwarder is described before it is started.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::dead_letters::DeadLetters;
use super::dispatcher::{Dispatcher, Lanes};
use super::flow::Flow;
use super::handle::Forwarder;
#[cfg(all(test, not(loom)))]
use super::planted::Planted;
use super::report::StopReason;
use super::settings::{Settings, WhenExhausted};
use super::sink::Sink;
use super::topics::Topics;
use super::worker::Worker;
use crate::broker::Broker;
use crate::consumer::{ConsumerBuilder, TopicPattern};
use crate::error::{Error, Result};
use crate::group::Assignor;
use crate::sender::Acks;
use crate::start::Start;

/// Describes a forwarder. Made by [`Broker::forwarder`].
///
/// ```
/// use std::time::Duration;
/// use forebay::{Broker, Record, SinkBatch, TopicConfig, WhenExhausted};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4))?;
/// broker.create_topic("orders-failed", TopicConfig::new())?;
/// let forwarder = broker
///     .forwarder("shipper")
///     .subscribe(["orders"])
///     .rate_records(10_000)
///     .concurrency(4)
///     .retries(5)
///     .when_exhausted(WhenExhausted::DeadLetter("orders-failed".to_owned()))
///     .start(|batch: &SinkBatch| {
///         println!("{} records of partition {}", batch.len(), batch.partition());
///         Ok(())
///     })?;
/// broker.producer().send("orders", Record::new("paid"))?;
/// let report = forwarder.stop(Duration::from_secs(5))?;
/// println!("{report}");
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct ForwarderBuilder {
    broker: Broker,
    group: Arc<str>,
    consumer: ConsumerBuilder,
    topics: Topics,
    acks: Acks,
    settings: Settings,
}

impl Broker {
    /// Starts to describe a forwarder, which drains the group of this name into a [`Sink`].
    pub fn forwarder(&self, group: &str) -> ForwarderBuilder {
        ForwarderBuilder {
            broker: self.clone(),
            group: group.into(),
            consumer: self.consumer(group),
            topics: Topics::Nothing,
            acks: Acks::Written,
            settings: Settings::DEFAULT,
        }
    }
}

impl ForwarderBuilder {
    /// Forwards these topics; as [`ConsumerBuilder::subscribe`].
    pub fn subscribe<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        let names: Vec<Arc<str>> = topics.into_iter().map(|topic| topic.as_ref().into()).collect();
        self.consumer = self.consumer.subscribe(&names);
        self.topics = Topics::Names(names);
        self
    }

    /// Forwards all topics whose names match; as [`ConsumerBuilder::subscribe_pattern`].
    pub fn subscribe_pattern(mut self, pattern: impl Into<TopicPattern>) -> Self {
        let pattern = pattern.into();
        self.consumer = self.consumer.subscribe_pattern(pattern.clone());
        self.topics = Topics::Pattern(pattern);
        self
    }

    /// Where to start where the group has committed nothing; as [`ConsumerBuilder::start`].
    /// Default: [`Start::Earliest`].
    pub fn start_at(mut self, start: Start) -> Self {
        self.consumer = self.consumer.start(start);
        self
    }

    /// How partitions are shared out among forwarders of the group; as [`ConsumerBuilder::assignor`].
    /// Default: [`Assignor::CooperativeSticky`].
    pub fn assignor(mut self, assignor: Assignor) -> Self {
        self.consumer = self.consumer.assignor(assignor);
        self
    }

    /// The most records one call of the sink is given. Where a rate is limited it may be given fewer:
    /// no more than half of what comes in during the [`burst`](Self::burst). Default: 500.
    pub fn batch_records(mut self, records: usize) -> Self {
        self.settings.batch.records = records;
        self
    }

    /// The most bytes of keys, values and headers one call of the sink is given; a single larger record
    /// goes alone. As [`batch_records`](Self::batch_records) where a rate is limited. Default: 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch.bytes = bytes;
        self
    }

    /// How long records wait for more to fill a batch. Default: zero, what is there goes.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// The most records a second the sink is given, by this forwarder; retries count. It may be set
    /// together with [`rate_bytes`](Self::rate_bytes). Default: no limit.
    pub fn rate_records(mut self, per_second: u64) -> Self {
        self.settings.rate_records = Some(per_second);
        self
    }

    /// The most bytes of keys, values and headers a second the sink is given, by this forwarder; retries
    /// count. Default: no limit.
    pub fn rate_bytes(mut self, per_second: u64) -> Self {
        self.settings.rate_bytes = Some(per_second);
        self
    }

    /// How much of a rate may be saved up while less was to be sent, as the time in which so much comes
    /// in. Default: 50 ms.
    ///
    /// Within any second the sink is given no more than the rate for a second and the burst, unless
    /// a single record is more than half a burst. A call is given at most half a burst, so that
    /// batches of `n` records need a burst of `2n / rate` seconds. With a burst below some milliseconds
    /// the rate may not be reached, since threads wake up late.
    pub fn burst(mut self, burst: Duration) -> Self {
        self.settings.burst = burst;
        self
    }

    /// How many calls of the sink there may be at once, each on a thread of its own; up to 1024. A
    /// partition is with one of them at a time, so its order is kept. Default: 1.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls;
        self
    }

    /// How long a batch that failed waits: about `min` the first time, twice as long each further
    /// time, up to `max`; the second half of each wait is drawn by chance ("equal jitter" of the AWS
    /// Architecture Blog's "Exponential Backoff And Jitter"). Only its partition waits. Default: 100 ms
    /// and 30 s.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.settings.backoff = Backoff { min, max };
        self
    }

    /// How often a batch is tried again that failed. Default: without end.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = Some(retries);
        self
    }

    /// What happens when [`retries`](Self::retries) are used up, or the sink rejects records. Default:
    /// [`WhenExhausted::Stop`].
    pub fn when_exhausted(mut self, then: WhenExhausted) -> Self {
        self.settings.when_exhausted = then;
        self
    }

    /// How long what was delivered may wait to be committed: after a crash it comes again. Default:
    /// 100 ms.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.settings.commit_interval = interval;
        self
    }

    /// What commits and dead letters wait for. With [`Acks::Written`] a power cut may take a dead letter
    /// and leave the commit. Default: [`Acks::Written`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self.consumer = self.consumer.commit_acks(acks);
        self
    }

    /// How long a partition that is to go to another member is kept because the sink has a batch of it.
    /// If that takes longer, the batch comes to the other member again, maybe while it is still in this
    /// one's sink. Nothing is read in the meantime. Default: 5 s.
    pub fn hand_over(mut self, timeout: Duration) -> Self {
        self.settings.hand_over = timeout;
        self
    }

    /// Plants a bug.
    #[cfg(all(test, not(loom)))]
    pub(super) fn plant(mut self, planted: Planted) -> Self {
        self.settings.planted = planted;
        self
    }

    /// Joins the group and begins to deliver to `sink`, on threads of its own: one that reads, and one
    /// for each call there may be at once.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a limit is 0, there is nothing to subscribe to, or the topic for dead
    /// letters is among those that are forwarded; [`Error::UnknownTopic`], for that of dead letters too;
    /// and as [`ConsumerBuilder::open`]. [`Error::Io`] if there can be no thread.
    pub fn start(self, sink: impl Sink) -> Result<Forwarder> {
        let Self { broker, group, consumer, topics, acks, settings } = self;
        settings.validate()?;
        let dead_letters = match &settings.when_exhausted {
            WhenExhausted::Stop => None,
            WhenExhausted::DeadLetter(topic) => {
                if topics.contains(topic) {
                    let reason = format!("topic {topic:?} would be forwarded itself");
                    return Err(Error::config("when_exhausted", reason));
                }
                broker.inner.topic_to_send(topic)?;
                let (producer, topic) = (broker.producer().acks(acks), topic.clone());
                Some(DeadLetters { producer, topic, group: Arc::clone(&group) })
            }
        };
        let consumer = consumer.max_records(settings.batch.records).max_bytes(settings.batch.bytes);
        let concurrency = settings.concurrency;
        let flow = Arc::new(Flow::new(settings, dead_letters));
        let consumer = consumer.listener(Lanes(Arc::clone(&flow))).open()?;
        flow.set_wakeup(consumer.wakeup_handle());
        let sink: Arc<dyn Sink> = Arc::new(sink);
        let mut random = RandomState::new().build_hasher().finish();
        let spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name).spawn(work);
            thread.map_err(|error| {
                // Threads that run already end.
                flow.stop(StopReason::Asked, None);
                Error::io("starting a forwarder thread of", broker.dir(), error)
            })
        };
        for number in 0..concurrency {
            random = random.wrapping_add(1);
            let (flow, sink) = (Arc::clone(&flow), Arc::clone(&sink));
            let worker = Worker { flow: Arc::clone(&flow), sink, random };
            flow.worker_begins();
            let name = format!("forebay-sink-{number}");
            let thread = spawn(name, Box::new(|| worker.run()));
            drop(thread.inspect_err(|_| flow.worker_ended())?);
        }
        drop(sink);
        let dispatcher = Dispatcher::new(consumer, Arc::clone(&flow), random);
        let thread = spawn("forebay-forward".to_owned(), Box::new(|| dispatcher.run()))?;
        Ok(Forwarder::new(broker, group, topics, flow, thread))
    }
}
