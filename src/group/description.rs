//! What a group tells about itself: plain values, taken at one moment.

use std::sync::Arc;

use crate::topic_partition::TopicPartition;

/// What [`Broker::describe_group`](crate::Broker::describe_group) tells about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// Whether it has members, and whether their partitions are where they belong.
    pub state: GroupState,
    /// How often its partitions were shared out since its first member came.
    pub generation: u64,
    /// The name of the assignor its members use; `None` without members, and where members name their
    /// partitions themselves.
    pub assignor: Option<String>,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
    /// Where it has come to in each partition, by topic and number: in all partitions of the topics
    /// it has committed something in or its members subscribe to, and in those its members read.
    pub offsets: Vec<GroupOffset>,
}

/// The state of a group, in Kafka's words where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// It has committed something and has no members.
    Empty,
    /// Partitions are on their way from one member to another, or to one that has not polled yet.
    Rebalancing,
    /// Every partition is read by the member it belongs to.
    Stable,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// Its id, which no other member has.
    pub member: String,
    /// The name it was given by [`static_member`](crate::ConsumerBuilder::static_member).
    pub static_member: Option<String>,
    /// The topics it subscribes to; none if it names its partitions itself.
    pub topics: Vec<Arc<str>>,
    /// The partitions it reads.
    pub assignment: Vec<TopicPartition>,
    /// The partitions it is to read; the others it lets go of when it polls.
    pub target: Vec<TopicPartition>,
}

/// Where a group has come to in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// What the group has committed.
    pub committed: Option<u64>,
    /// The text that was committed with it.
    pub metadata: String,
    /// The first offset that can be read.
    pub earliest_offset: u64,
    /// The offset the next record will get.
    pub latest_offset: u64,
    /// How many records lie between what is committed, or else the beginning, and the end.
    pub lag: u64,
    /// The member that reads it.
    pub member: Option<String>,
}
