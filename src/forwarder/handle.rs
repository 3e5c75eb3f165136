//! The handle of a forwarder: what the application asks it and tells it, from any thread.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::flow::Flow;
use super::report::{ForwarderReport, StopReason};
use super::stats::ForwarderStats;
use super::topics::Topics;
use super::worker::say;
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::topic_partition::TopicPartition;

/// How long a forwarder that is dropped waits for the sink.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long stopping takes beyond waiting for the sink, to commit and leave.
const GRACE: Duration = Duration::from_millis(500);

/// Drains a group into a [`Sink`](crate::Sink), at a steady rate. Made by
/// [`Broker::forwarder`](crate::Broker::forwarder).
///
/// Everything is delivered at least once: what the sink took is committed after that, and never
/// anything before. What was delivered and not yet committed comes again after a crash. Within a
/// partition records are first delivered in order. A sink that fails, hangs or panics holds up the
/// partitions whose batches it has, and, if it hangs, one thread for each; nothing else. At most three batches'
/// worth of records of each partition are read ahead, and their bytes stay in the log's mapped files.
///
/// Several forwarders of one group share its partitions. A forwarder is a member of its group as a
/// [`Consumer`](crate::Consumer) is: it can be described, and moved when it has stopped. It goes by the
/// machine's clock, also where the broker has a clock of its own.
///
/// Dropping it stops it, waits for the sink for up to 5 seconds, and logs what is left.
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use forebay::{Broker, Record, SinkBatch, SinkError, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::new())?;
/// orders.send(Record::new("paid"))?;
///
/// let (sender, received) = mpsc::channel();
/// let forwarder = broker
///     .forwarder("shipper")
///     .subscribe(["orders"])
///     .rate_records(1_000)
///     .start(move |batch: &SinkBatch| {
///         for (at, record) in batch.iter().enumerate() {
///             let value = record.value().unwrap_or_default().to_vec();
///             sender.send(value).map_err(|error| SinkError::from(error).delivered(at))?;
///         }
///         Ok(())
///     })?;
/// assert_eq!(received.recv().unwrap(), b"paid");
///
/// let report = forwarder.stop(Duration::from_secs(5))?;
/// assert_eq!((report.stats.delivered_records, report.uncommitted), (1, 0));
/// assert_eq!(forwarder.lag()?, 0);
/// # Ok::<(), forebay::Error>(())
/// ```
pub struct Forwarder {
    broker: Broker,
    group: Arc<str>,
    topics: Topics,
    flow: Arc<Flow>,
    /// The thread that reads, until somebody has waited for its end. A leaf lock.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process the threads are in: a forked child has none to wait for.
    owner: u32,
}

impl Forwarder {
    pub(super) fn new(
        broker: Broker,
        group: Arc<str>,
        topics: Topics,
        flow: Arc<Flow>,
        thread: JoinHandle<()>,
    ) -> Self {
        let (thread, owner) = (Mutex::new(Some(thread)), std::process::id());
        Self { broker, group, topics, flow, thread, owner }
    }

    fn check_owner(&self) -> Result<()> {
        let owner = self.owner;
        if owner == std::process::id() { Ok(()) } else { Err(Error::Forked { owner }) }
    }

    /// The group it drains.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Gives the sink nothing more until [`resume`](Self::resume). What it has it may end. The forwarder
    /// stays a member of its group and keeps its partitions. In a forked child it does nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, SinkBatch, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// let forwarder = broker.forwarder("g").subscribe(["orders"]).start(|_: &SinkBatch| Ok(()))?;
    /// forwarder.pause();
    /// orders.send(Record::new("paid"))?;
    /// assert_eq!(forwarder.stop(Duration::from_secs(5))?.stats.delivered_records, 0);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn pause(&self) {
        if self.check_owner().is_ok() {
            self.flow.set_paused(true);
        }
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        if self.check_owner().is_ok() {
            self.flow.set_paused(false);
        }
    }

    /// How many records of its topics the group has not committed as delivered, whichever forwarder of
    /// the group has their partitions.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::UnknownGroup`] if the group was deleted after it had stopped,
    /// [`Error::Forked`].
    pub fn lag(&self) -> Result<u64> {
        Ok(self.partition_lag()?.values().sum())
    }

    /// As [`lag`](Self::lag), by partition.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn partition_lag(&self) -> Result<BTreeMap<TopicPartition, u64>> {
        self.check_owner()?;
        let offsets = self.broker.describe_group(&self.group)?.offsets.into_iter();
        let offsets = offsets.filter(|offset| self.topics.contains(&offset.topic));
        Ok(offsets
            .map(|offset| (TopicPartition::new(offset.topic, offset.partition), offset.lag))
            .collect())
    }

    /// What it has done so far. In a forked child all numbers are 0.
    #[must_use]
    pub fn stats(&self) -> ForwarderStats {
        match self.check_owner() {
            Ok(()) => self.flow.stats(),
            Err(error) => {
                ForwarderStats { last_error: Some(error.to_string()), ..ForwarderStats::default() }
            }
        }
    }

    /// Why it has stopped, or is about to; `None` while it runs.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        match self.check_owner() {
            Ok(()) => self.flow.stop_reason(),
            Err(error) => Some(StopReason::Failed(error)),
        }
    }

    /// Stops it: gives the sink nothing more, waits up to `timeout` for what it has, commits what was
    /// delivered and leaves the group. A sink that has not returned by then is left to itself: its
    /// thread ends when it returns, and what it delivered comes again.
    ///
    /// It may be called again, and when it has stopped by itself: the report is the same.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`].
    pub fn stop(&self, timeout: Duration) -> Result<ForwarderReport> {
        self.check_owner()?;
        let deadline = Instant::now().checked_add(timeout);
        self.flow.stop(StopReason::Asked, deadline);
        let patience = deadline.and_then(|deadline| deadline.checked_add(GRACE));
        match self.flow.wait_until_ended(patience) {
            Some(report) => {
                self.join();
                Ok(report)
            }
            None => Ok(self.flow.report(None, false)),
        }
    }

    /// Waits until it has stopped, by itself or because another thread stopped it, for up to `timeout`;
    /// `None` if it has not.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`].
    pub fn wait(&self, timeout: Duration) -> Result<Option<ForwarderReport>> {
        self.check_owner()?;
        let report = self.flow.wait_until_ended(Instant::now().checked_add(timeout));
        if report.is_some() {
            self.join();
        }
        Ok(report)
    }

    /// Waits for the thread that reads, which has nothing left to do. A sink, or a logger, that is on
    /// it would wait for itself.
    fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if self.check_owner().is_err() {
            // Letting go of a thread that is not here could wait for a lock that nobody gives back.
            std::mem::forget(self.thread.get_mut().take());
            return;
        }
        if std::thread::panicking() {
            self.flow.stop(StopReason::Asked, Some(Instant::now() + DROP_TIMEOUT));
            return;
        }
        let was_stopped = self.stopped().is_some();
        if let Ok(report) = self.stop(DROP_TIMEOUT)
            && !was_stopped
        {
            let is_clean = report.in_sink.is_empty() && report.commit_error.is_none();
            let group = &self.group;
            if !is_clean || !report.finished {
                say(|| log::warn!("forwarder of group {group} was dropped: {report}"));
            } else {
                say(|| log::info!("forwarder of group {group} was dropped: {report}"));
            }
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("group", &self.group)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
