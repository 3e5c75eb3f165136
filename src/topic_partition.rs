//! The name of a partition: its topic and its number.

use std::fmt;
use std::sync::Arc;

/// A partition of a topic, by name.
///
/// ```
/// use forebay::TopicPartition;
///
/// let partition = TopicPartition::from(("orders", 3));
/// assert_eq!((&*partition.topic, partition.partition), ("orders", 3));
/// assert_eq!(partition.to_string(), "orders-3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, counted from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// The partition of this number of the topic of this name.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl<T: Into<Arc<str>>> From<(T, u32)> for TopicPartition {
    fn from((topic, partition): (T, u32)) -> Self {
        Self::new(topic, partition)
    }
}

/// As Kafka's own tools write it: the topic's name, a hyphen, the number.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
