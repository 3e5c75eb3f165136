//! Groups as an operator sees them: which there are, who is in them, how far they have come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::group::{GroupDescription, GroupOffset, GroupState};
use crate::offset_and_metadata::OffsetAndMetadata;

impl Broker {
    /// The names of the groups that have members or have committed something, sorted.
    ///
    /// ```
    /// # use forebay::{Broker, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
    /// assert_eq!(broker.groups()?, ["billing"]);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; what forgetting groups that were idle for too long can meet.
    pub fn groups(&self) -> Result<Vec<String>> {
        self.inner.check_open()?;
        self.inner.groups().expire(self.inner.clock().now())?;
        Ok(self.inner.groups().names().iter().map(ToString::to_string).collect())
    }

    /// Who is in a group, what they read, and how far the group has come.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forebay::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::new())?;
    /// orders.send_batch(&[Record::new("one"), Record::new("two")])?;
    /// let mut consumer = broker.consumer("billing").subscribe(["orders"]).max_records(1).open()?;
    /// consumer.poll(Duration::from_secs(1))?;
    /// consumer.commit()?;
    /// let billing = broker.describe_group("billing")?;
    /// assert_eq!((billing.members.len(), billing.offsets[0].lag), (1, 1));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`], [`Error::Closed`]; what forgetting groups that were idle for too
    /// long can meet.
    pub fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        self.inner.check_open()?;
        let groups = self.inner.groups();
        groups.expire(self.inner.clock().now())?;
        let committed = groups.store().group(group);
        let active = groups.active(group);
        if committed.is_none() && active.is_none() {
            return Err(Error::UnknownGroup { group: group.to_owned() });
        }
        let described = active.map(|active| active.describe());
        let (generation, assignor, members, state) =
            described.unwrap_or((0, None, Vec::new(), GroupState::Empty));
        let mut places: BTreeMap<(Arc<str>, u32), Place> = BTreeMap::new();
        for topic in committed.unwrap_or_default() {
            // What was committed in another topic of that name does not count.
            if self.inner.shape(&topic.topic).is_none_or(|shape| shape.id != topic.id) {
                continue;
            }
            for (number, committed) in topic.offsets {
                let place = (Arc::clone(&topic.topic), number);
                places.entry(place).or_default().committed = Some(committed);
            }
        }
        // Where nothing was committed and nobody reads yet there is something to be read all the same.
        let subscribed = members.iter().flat_map(|member| &member.topics).map(Arc::clone);
        let topics: BTreeSet<_> =
            places.keys().map(|(topic, _)| Arc::clone(topic)).chain(subscribed).collect();
        for topic in topics {
            let partitions = self.inner.shape(&topic).map_or(0, |shape| shape.partitions);
            for number in 0..partitions {
                places.entry((Arc::clone(&topic), number)).or_default();
            }
        }
        for member in &members {
            for read in &member.assignment {
                let place = (Arc::clone(&read.topic), read.partition);
                places.entry(place).or_default().member = Some(member.member.clone());
            }
        }
        let describe = |((topic, number), place): ((Arc<str>, u32), Place)| {
            // A topic that is being deleted has no offsets to tell of.
            self.offset(topic, number, place)
        };
        let offsets = places.into_iter().filter_map(describe).collect();
        let group = group.to_owned();
        Ok(GroupDescription { group, state, generation, assignor, members, offsets })
    }

    fn offset(&self, topic: Arc<str>, partition: u32, place: Place) -> Option<GroupOffset> {
        let state = self.inner.topic(&topic).ok()?;
        let log = state.partition(partition).ok()?.log();
        let (earliest_offset, latest_offset) = (log.start_offset(), log.end_offset());
        let OffsetAndMetadata { offset, metadata } = place.committed.clone().unwrap_or_default();
        Some(GroupOffset {
            topic,
            partition,
            committed: place.committed.map(|committed| committed.offset),
            metadata,
            earliest_offset,
            latest_offset,
            lag: latest_offset.saturating_sub(offset.max(earliest_offset)),
            member: place.member,
        })
    }

    /// What a group has committed in a partition; `None` if nothing, or if there is no such group.
    ///
    /// ```
    /// # use forebay::{Broker, ResetTo, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// assert_eq!(broker.committed("billing", "orders", 0)?, None);
    /// broker.reset_offsets("billing", ResetTo::Earliest).topic("orders").execute()?;
    /// assert_eq!(broker.committed("billing", "orders", 0)?, Some(0.into()));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::Closed`].
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
    ) -> Result<Option<OffsetAndMetadata>> {
        let state = self.inner.topic(topic)?;
        state.partition(partition)?;
        Ok(self.inner.groups().store().committed_in(group, topic, state.shape().id, partition))
    }

    /// Deletes a group and all it has committed, durably.
    ///
    /// ```
    /// # use forebay::{Broker, Error, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let consumer = broker.consumer("billing").assign([("orders", 0)]).open()?;
    /// let refused = broker.delete_group("billing");
    /// assert!(matches!(refused, Err(Error::GroupNotEmpty { members: 1, .. })));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::GroupNotEmpty`] while it has members, [`Error::UnknownGroup`],
    /// [`Error::OffsetsPoisoned`], [`Error::StorageFull`], [`Error::Io`], [`Error::Closed`].
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.inner.check_open()?;
        self.inner.groups().delete(group, self.inner.clock().now())
    }
}

/// What is known of a partition.
#[derive(Default)]
struct Place {
    committed: Option<OffsetAndMetadata>,
    member: Option<String>,
}
