//! What an asynchronous producer could not send, counted: part of an error, made by whoever flushes or
//! closes a producer.

use std::fmt;

/// Records for one topic that an [`AsyncProducer`](crate::AsyncProducer) has not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsentTopic {
    /// The topic.
    pub topic: String,
    /// How many records wait still. After a close there is nobody who sends them.
    pub waiting: u64,
    /// How many records were given up since the last flush that said so. Their tickets, and
    /// [`errors`](crate::AsyncProducer::errors), say why.
    pub failed: u64,
}

/// What an [`AsyncProducer`](crate::AsyncProducer) has not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsent {
    /// By topic, sorted by name. Topics of which everything was sent are not named.
    pub topics: Vec<UnsentTopic>,
    /// How many records wait in [`input`](crate::AsyncProducer::input), whatever their topic.
    pub in_input: usize,
}

impl Unsent {
    /// Whether everything was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.in_input == 0
    }

    /// How many records wait, of all topics and in the input.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.topics.iter().map(|topic| topic.waiting).sum::<u64>() + self.in_input as u64
    }

    /// How many records were given up, of all topics.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.topics.iter().map(|topic| topic.failed).sum()
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for UnsentTopic { topic, waiting, failed } in &self.topics {
            write!(f, "{comma}{waiting} waiting and {failed} given up for topic {topic:?}")?;
            comma = ", ";
        }
        if self.in_input > 0 {
            write!(f, "{comma}{} in the input", self.in_input)?;
        }
        Ok(())
    }
}
