//! Moving a group that has no members: the one way back, and the way around records it cannot use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Broker, BrokerInner};
use crate::error::{Error, Result};
use crate::group::{TopicOffsets, check_group_name};
use crate::partition::Partition;
use crate::start::Start;
use crate::timestamp::Timestamp;
use crate::topic_partition::TopicPartition;

/// Where to move a group to; as the choices of Kafka's `kafka-consumer-groups --reset-offsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetTo {
    /// The first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// This offset, which must lie in the log or just behind it.
    Offset(u64),
    /// The first record that is not older; behind the last one if all are.
    Timestamp(Timestamp),
    /// The first record that is not older than this before now.
    Duration(Duration),
    /// So many records further, or back if it is negative; no further than the log reaches.
    Shift(i64),
    /// Where it is; where that is no longer in the log, the nearest place that is.
    Current,
}

/// A partition in which a group is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResetOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// What the group has committed.
    pub from: Option<u64>,
    /// What it will have committed.
    pub to: u64,
}

/// Describes how to move a group. Made by [`Broker::reset_offsets`].
#[derive(Clone, Debug)]
#[must_use = "nothing is moved before it is executed"]
pub struct OffsetReset {
    broker: Arc<BrokerInner>,
    group: String,
    to: ResetTo,
    /// Topics, all of them or one partition.
    wanted: Vec<(Arc<str>, Option<u32>)>,
}

impl Broker {
    /// Starts to describe how to move a group that has no members: in all partitions where it has
    /// committed something, unless topics or partitions are named.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// use forebay::ResetTo;
    ///
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send_batch(&[Record::new("one"), Record::new("two")])?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// consumer.poll(Duration::from_secs(1))?;
    /// consumer.commit()?;
    /// drop(consumer);
    ///
    /// let reset = broker.reset_offsets("billing", ResetTo::Shift(-1));
    /// assert_eq!((reset.dry_run()?[0].from, reset.dry_run()?[0].to), (Some(2), 1));
    /// reset.execute()?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn reset_offsets(&self, group: &str, to: ResetTo) -> OffsetReset {
        let broker = Arc::clone(&self.inner);
        OffsetReset { broker, group: group.to_owned(), to, wanted: Vec::new() }
    }
}

impl OffsetReset {
    /// Moves it in all partitions of a topic, be something committed there or not.
    pub fn topic(mut self, topic: &str) -> Self {
        self.wanted.push((topic.into(), None));
        self
    }

    /// Moves it in a partition, be something committed there or not.
    pub fn partition(mut self, topic: &str, partition: u32) -> Self {
        self.wanted.push((topic.into(), Some(partition)));
        self
    }

    /// What would be done.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn dry_run(&self) -> Result<Vec<ResetOffset>> {
        Ok(self.plan()?.into_iter().map(|(_, reset)| reset).collect())
    }

    /// Moves the group, durably, in all these partitions or in none. Returns what was done.
    ///
    /// # Errors
    ///
    /// [`Error::GroupNotEmpty`] while the group has members, [`Error::UnknownGroup`] if it has
    /// committed nothing and no topic is named, [`Error::InvalidGroupName`],
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::OffsetOutOfRange`],
    /// [`Error::OffsetsPoisoned`], [`Error::StorageFull`], [`Error::Corrupt`], [`Error::Io`],
    /// [`Error::Closed`].
    pub fn execute(&self) -> Result<Vec<ResetOffset>> {
        let plan = self.plan()?;
        let mut commits: Vec<TopicOffsets> = Vec::new();
        for (id, reset) in &plan {
            let offset = (reset.partition, reset.to.into());
            match commits.last_mut().filter(|last| last.topic == reset.topic) {
                Some(last) => last.offsets.push(offset),
                None => commits.push(TopicOffsets {
                    topic: Arc::clone(&reset.topic),
                    id: *id,
                    offsets: vec![offset],
                }),
            }
        }
        self.broker.groups().reset(&self.group, &commits, self.broker.clock().now())?;
        Ok(plan.into_iter().map(|(_, reset)| reset).collect())
    }

    /// What is to be done, by topic and number, and the identities of the topics.
    fn plan(&self) -> Result<Vec<(u64, ResetOffset)>> {
        check_group_name(&self.group)?;
        self.broker.check_open()?;
        let groups = self.broker.groups();
        groups.check_without_members(&self.group)?;
        let mut plan = Vec::new();
        for name in self.partitions()? {
            let topic = self.broker.topic(&name.topic)?;
            let id = topic.shape().id;
            let committed =
                groups.store().committed_in(&self.group, &name.topic, id, name.partition);
            let from = committed.map(|committed| committed.offset);
            let to = self.target(topic.partition(name.partition)?, from)?;
            let TopicPartition { topic, partition } = name;
            plan.push((id, ResetOffset { topic, partition, from, to }));
        }
        Ok(plan)
    }

    fn partitions(&self) -> Result<BTreeSet<TopicPartition>> {
        let mut partitions = BTreeSet::new();
        if self.wanted.is_empty() {
            let unknown = || Error::UnknownGroup { group: self.group.clone() };
            let known = self.broker.groups().store().group(&self.group).ok_or_else(unknown)?;
            let is_there = |topic: &TopicOffsets| {
                self.broker.shape(&topic.topic).is_some_and(|shape| shape.id == topic.id)
            };
            for topic in known.into_iter().filter(is_there) {
                let name =
                    |(number, _): &(u32, _)| TopicPartition::new(Arc::clone(&topic.topic), *number);
                partitions.extend(topic.offsets.iter().map(name));
            }
            return Ok(partitions);
        }
        for (topic, number) in &self.wanted {
            let state = self.broker.topic(topic)?;
            let numbers = match number {
                Some(number) => *number..=*number,
                None => 0..=state.partition_count() - 1,
            };
            partitions.extend(numbers.map(|number| TopicPartition::new(Arc::clone(topic), number)));
        }
        Ok(partitions)
    }

    fn target(&self, partition: &Partition, from: Option<u64>) -> Result<u64> {
        let log = partition.log();
        let (earliest, latest) = (log.start_offset(), log.end_offset());
        let current = from.unwrap_or(earliest);
        match self.to {
            ResetTo::Earliest => Start::Earliest.resolve(partition),
            ResetTo::Latest => Start::Latest.resolve(partition),
            ResetTo::Offset(offset) if offset < earliest || offset > latest => {
                Err(log.out_of_range(offset))
            }
            ResetTo::Offset(offset) => Ok(offset),
            ResetTo::Timestamp(timestamp) => Start::Timestamp(timestamp).resolve(partition),
            ResetTo::Duration(ago) => {
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                let then = self.broker.clock().now().as_millis().saturating_sub(ago);
                Start::Timestamp(Timestamp::from_millis(then)).resolve(partition)
            }
            ResetTo::Shift(by) => Ok(current.saturating_add_signed(by).clamp(earliest, latest)),
            ResetTo::Current => Ok(current.clamp(earliest, latest)),
        }
    }
}
