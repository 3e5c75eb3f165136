//! Deleting what need not be kept, and making room where there is none.
//!
//! What goes by age, size or number, or because it was consumed, is decided in `log/retention.rs`; here
//! is which partitions are asked, what groups have consumed, and what is done for a sender that finds its
//! topic full. Records are deleted a bounded piece at a time, never under an append lock.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::{Broker, House};
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::log::Keep;
use crate::on_full::{OnFull, TopicLimit};
use crate::partition::Partition;
use crate::topic::TopicState;

/// How long a sender waits before it looks again whether there is room, if nobody tells it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether a sender waits for room where its topic says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waits {
    #[default]
    AsTopicSays,
    /// It comes back later by itself, or has waited already.
    Never,
}

/// What a sender that waits for room remembers.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    waits: Waits,
    /// Since when it waits; `None` while it has not begun to.
    since: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(waits: Waits) -> Self {
        Self { waits, since: None }
    }
}

/// Why room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// It is time to.
    Nothing,
    /// Bytes on disk.
    Bytes,
    /// Records that do not count.
    Records,
}

impl Wanted {
    fn by(error: &Error) -> Self {
        match error {
            Error::TopicFull { limit: TopicLimit::Bytes(_), .. }
            | Error::BrokerFull { .. }
            | Error::StorageFull { .. } => Self::Bytes,
            _ => Self::Records,
        }
    }
}

/// What came of making room.
#[derive(Debug, Default)]
struct Outcome {
    /// Whether there is more room than before.
    eased: bool,
    /// What went wrong, for which topic.
    troubles: Vec<(Arc<str>, Error)>,
}

impl Broker {
    /// Deletes what is due to be deleted by the settings of all topics, now, and returns when that is
    /// done. It is done by itself every
    /// [`retention_check_interval`](crate::BrokerBuilder::retention_check_interval).
    ///
    /// ```
    /// use std::time::Duration;
    /// use forebay::{Broker, ManualClock, Record, Timestamp, TopicConfig};
    ///
    /// let clock = ManualClock::new(Timestamp::from_millis(0));
    /// let broker = Broker::builder("unused").in_memory().manual_clock(&clock).open()?;
    /// let config = TopicConfig::new().retention_age(Duration::from_secs(60));
    /// let orders = broker.create_topic("orders", config)?;
    /// orders.send(Record::new("paid"))?;
    /// clock.advance(Duration::from_secs(60));
    /// broker.enforce_retention()?;
    /// assert_eq!(orders.earliest_offset(0)?, 1);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first failure; the other topics are looked after all the same. [`Error::Closed`].
    pub fn enforce_retention(&self) -> Result<()> {
        self.inner.check_open()?;
        let outcome = self.inner.house().tidy_all();
        outcome.troubles.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl House {
    fn all_topics(&self) -> Vec<Arc<TopicState>> {
        self.topics.read().values().cloned().collect()
    }

    /// Makes room in a topic, or deletes whatever is due. Called by the room keeper, with no lock held.
    pub(crate) fn keep_house(&self, topic: Option<&Arc<str>>) {
        let outcome = match topic {
            None => self.tidy_all(),
            Some(name) => self.relieve(name),
        };
        for (topic, error) in outcome.troubles {
            log::warn!("deleting records of {topic}: {error}");
        }
    }

    fn tidy_all(&self) -> Outcome {
        let mut outcome = Outcome::default();
        for topic in self.all_topics() {
            self.tidy(&topic, Wanted::Nothing, &mut outcome);
        }
        outcome
    }

    /// Makes room for a topic that is nearly full: in it, and in the others if it is the broker that is.
    fn relieve(&self, name: &Arc<str>) -> Outcome {
        let mut outcome = Outcome::default();
        let topic = self.topics.read().get(name).cloned();
        if let Some(topic) = topic {
            self.tidy(&topic, Wanted::Nothing, &mut outcome);
        }
        if self.quota.is_tight() {
            for topic in self.all_topics().iter().filter(|topic| topic.name() != name) {
                self.tidy(topic, Wanted::Nothing, &mut outcome);
            }
        }
        outcome
    }

    /// Makes room for a sender that was refused with `error`, or waits until somebody does. Returns
    /// when it is worth trying again, and otherwise the error it was given.
    #[cold]
    pub(crate) fn make_room(
        &self,
        topic: &Arc<TopicState>,
        error: Error,
        patience: &mut Patience,
    ) -> Result<()> {
        let keeper = &self.room_keeper;
        let before = keeper.eased();
        let config = topic.config();
        if self.settle(topic, &config) {
            keeper.ease();
            return Ok(());
        }
        match config.on_full {
            OnFull::DropOldest => self.drop_for(topic, error, before),
            OnFull::Block { timeout } if patience.waits == Waits::AsTopicSays => {
                let now = Instant::now();
                // A time too far off to be told is one that never comes.
                let deadline = patience.since.get_or_insert(now).checked_add(timeout);
                if deadline.is_some_and(|deadline| deadline <= now) {
                    return Err(error);
                }
                crate::relief::Relief::ask(&**keeper, topic.name());
                let again = now + LOOK_AGAIN;
                keeper.wait(before, deadline.map_or(again, |deadline| deadline.min(again)));
                Ok(())
            }
            OnFull::Block { .. } | OnFull::Reject => {
                keeper.refused(topic.name());
                if keeper.eased() == before || !keeper.is_inline() { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Drops the oldest records of a topic, unless somebody else has just done so.
    fn drop_for(&self, topic: &Arc<TopicState>, error: Error, before: u64) -> Result<()> {
        let keeper = &self.room_keeper;
        let making = keeper.make();
        if keeper.eased() != before {
            return Ok(());
        }
        let mut outcome = Outcome::default();
        self.tidy_alone(topic, Wanted::by(&error), &mut outcome);
        drop(making);
        if outcome.eased || keeper.eased() != before {
            return Ok(());
        }
        // What kept records from being deleted says more than that there is no room.
        Err(outcome.troubles.into_iter().next().map_or(error, |(_, trouble)| trouble))
    }

    /// Counts records no longer that were consumed. Returns whether there is more room than before.
    fn settle(&self, topic: &TopicState, config: &TopicConfig) -> bool {
        let mut eased = false;
        for (partition, number) in topic.partitions().zip(0..) {
            eased |= topic.records().settle(number, self.floor(topic, config, partition, number));
        }
        eased
    }

    /// The offset below which records of a partition do not count: they are gone, or were consumed.
    fn floor(
        &self,
        topic: &TopicState,
        config: &TopicConfig,
        partition: &Partition,
        number: u32,
    ) -> u64 {
        let end = partition.log().end_offset();
        let consumed = self.consumed(topic, config, number).unwrap_or(0).min(end);
        consumed.max(partition.log().start_offset())
    }

    /// The offset below which all groups have committed that are to consume the topic; `None` if none
    /// are.
    fn consumed(&self, topic: &TopicState, config: &TopicConfig, number: u32) -> Option<u64> {
        let (name, id, store) = (topic.name(), topic.shape().id, &self.commits);
        let committed = |group: &String| {
            let committed = store.committed_in(group, name, id, number);
            committed.map_or(0, |committed| committed.offset)
        };
        config.consumed_by.iter().map(committed).min()
    }

    /// Deletes what is due in a topic, and what is in the way of something that is wanted.
    fn tidy(&self, topic: &Arc<TopicState>, wanted: Wanted, outcome: &mut Outcome) {
        if topic.config().is_bounded() {
            let _making = self.room_keeper.make();
            self.tidy_alone(topic, wanted, outcome);
        }
    }

    /// As [`tidy`](Self::tidy), by one who keeps others from it.
    fn tidy_alone(&self, topic: &Arc<TopicState>, wanted: Wanted, outcome: &mut Outcome) {
        let config = topic.config();
        let mut troubles = Vec::new();
        let mut eased = self.delete_due(topic, &config, &mut troubles);
        eased |= self.settle(topic, &config);
        self.look_for_stale(topic, &config);
        if config.on_full == OnFull::DropOldest {
            // What was due may have been enough.
            let wanted = if eased { Wanted::Nothing } else { wanted };
            eased |= drop_bytes(topic, wanted == Wanted::Bytes, &mut troubles);
            eased |= self.drop_records(topic, &config, wanted, &mut troubles);
        }
        if eased {
            self.room_keeper.ease();
            outcome.eased = true;
        }
        // What is closed or deleted meanwhile needs no room.
        troubles.retain(|error| !matches!(error, Error::Closed | Error::UnknownTopic { .. }));
        let name = topic.name();
        outcome.troubles.extend(troubles.into_iter().map(|error| (Arc::clone(name), error)));
    }

    fn delete_due(
        &self,
        topic: &TopicState,
        config: &TopicConfig,
        troubles: &mut Vec<Error>,
    ) -> bool {
        let now = self.clock.moment();
        let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let is_tight = topic.quota().is_tight();
        let mut eased = false;
        for (partition, number) in topic.partitions().zip(0..) {
            let consumed = self.consumed(topic, config, number);
            let hard_age = config.max_age.filter(|_| config.on_full == OnFull::DropOldest);
            let mut keep = Keep {
                age: config.retention_age.map(millis),
                bytes: config.retention_bytes,
                records: config.retention_records,
                consumed,
                hard_age: hard_age.map(millis),
            };
            if is_tight && consumed.is_some() {
                // What was consumed is kept for as long as there is room for it.
                keep = Keep { consumed, hard_age: keep.hard_age, ..Keep::default() };
            }
            // What a power cut takes of the commits must not be gone from the log already.
            let store = &self.commits;
            let allow = || consumed.map_or(Ok(()), |_| store.flush());
            loop {
                match partition.delete_due(&keep, now, allow) {
                    Ok(true) => eased = true,
                    Ok(false) => break,
                    Err(error) => {
                        troubles.push(error);
                        break;
                    }
                }
            }
        }
        eased
    }

    /// Finds out whether the topic holds a record that is older than one may be.
    fn look_for_stale(&self, topic: &TopicState, config: &TopicConfig) {
        let now = self.clock.moment();
        let is_older = |max_age: Duration| {
            topic.partitions().zip(0..).any(|(partition, number)| {
                let floor = self.floor(topic, config, partition, number);
                let age = partition.log().age_of(floor, now);
                age.is_some_and(|age| {
                    u128::try_from(age).is_ok_and(|age| age > max_age.as_millis())
                })
            })
        };
        let is_stale = config.stale_age().is_some_and(is_older);
        if topic.records().set_stale(is_stale) && !is_stale {
            self.room_keeper.ease();
        }
    }

    /// Drops the oldest records until seven eighths of what is allowed are left, and at least an eighth if
    /// records are wanted; from each partition its share.
    fn drop_records(
        &self,
        topic: &TopicState,
        config: &TopicConfig,
        wanted: Wanted,
        troubles: &mut Vec<Error>,
    ) -> bool {
        let Some(max) = topic.records().max() else { return false };
        let used = topic.records().used();
        let piece = max.div_ceil(8);
        let excess = match wanted {
            Wanted::Records => used.saturating_sub(max - piece).max(piece),
            _ if used >= max => used - (max - piece),
            _ => return false,
        };
        let mut eased = false;
        for (partition, number) in topic.partitions().zip(0..) {
            let floor = self.floor(topic, config, partition, number);
            let present = partition.log().end_offset().saturating_sub(floor);
            let share =
                (u128::from(excess) * u128::from(present)).div_ceil(u128::from(used.max(1)));
            if present == 0 || share == 0 {
                continue;
            }
            let share = u64::try_from(share).unwrap_or(u64::MAX).min(present);
            match partition.delete_below(floor + share) {
                Ok(start) => eased |= start > floor,
                Err(error) => troubles.push(error),
            }
        }
        self.settle(topic, config) || eased
    }
}

/// Drops the oldest segments until seven eighths of what is allowed are left, and at least one if bytes
/// are wanted.
fn drop_bytes(topic: &TopicState, is_wanted: bool, troubles: &mut Vec<Error>) -> bool {
    let quota = topic.quota();
    let mut eased = false;
    while quota.max().is_some_and(|max| quota.used() > max - max / 8) || (is_wanted && !eased) {
        let oldest = topic
            .partitions()
            .filter_map(|partition| Some((partition.log().oldest_droppable()?, partition)))
            // Of those that seem equally old, the one that has most.
            .min_by_key(|(oldest, partition)| {
                (oldest.last_append, Reverse(partition.log().quota().used()))
            });
        let Some((_, partition)) = oldest else {
            return eased || (is_wanted && drop_only(topic, troubles));
        };
        match partition.drop_oldest() {
            Ok(true) => eased = true,
            Ok(false) => break,
            Err(error) => {
                troubles.push(error);
                break;
            }
        }
    }
    eased
}

/// Drops the oldest of the segments that are the only ones of their partition.
fn drop_only(topic: &TopicState, troubles: &mut Vec<Error>) -> bool {
    let oldest = topic
        .partitions()
        .filter_map(|partition| Some((partition.log().only_segment()?, partition)))
        .min_by_key(|(created, _)| *created);
    let Some((_, partition)) = oldest else { return false };
    match partition.drop_all() {
        Ok(has_dropped) => has_dropped,
        Err(error) => {
            troubles.push(error);
            false
        }
    }
}
