//! What a consumer subscribes to, in the words of the application.

use std::fmt;
use std::sync::Arc;

use crate::topic_partition::TopicPartition;

/// What a consumer wants to read.
#[derive(Clone, Debug, Default)]
pub(super) enum Subscription {
    #[default]
    Nothing,
    /// These topics, sorted.
    Topics(Vec<Arc<str>>),
    /// The topics that match, those included that are yet to come.
    Pattern(TopicPattern),
    /// Just these partitions.
    Partitions(Vec<TopicPartition>),
}

type Matches = dyn Fn(&str) -> bool + Send + Sync;

/// Which topics to subscribe to: a pattern, in which `*` stands for any characters, or a function.
///
/// ```
/// use forebay::TopicPattern;
///
/// assert!(TopicPattern::from("orders.*").matches("orders.eu"));
/// assert!(!TopicPattern::from("orders.*").matches("payments"));
/// assert!(TopicPattern::from(|name: &str| name.len() == 3).matches("abc"));
/// ```
#[derive(Clone)]
pub struct TopicPattern(Arc<Matches>);

impl TopicPattern {
    /// Whether a topic of this name is subscribed to.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        (self.0)(topic)
    }
}

impl From<&str> for TopicPattern {
    fn from(pattern: &str) -> Self {
        let parts: Vec<String> = pattern.split('*').map(str::to_owned).collect();
        Self(Arc::new(move |topic| matches_parts(&parts, topic)))
    }
}

impl<F: Fn(&str) -> bool + Send + Sync + 'static> From<F> for TopicPattern {
    fn from(matches: F) -> Self {
        Self(Arc::new(matches))
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicPattern").finish_non_exhaustive()
    }
}

/// Whether `topic` is these parts with anything in between.
fn matches_parts(parts: &[String], topic: &str) -> bool {
    let Some((first, rest)) = parts.split_first() else { return topic.is_empty() };
    let Some(mut topic) = topic.strip_prefix(first.as_str()) else { return false };
    let Some((last, middle)) = rest.split_last() else { return topic.is_empty() };
    for part in middle {
        // The first place where a part fits leaves most room for those that follow.
        let Some(at) = topic.find(part.as_str()) else { return false };
        topic = topic.get(at + part.len()..).unwrap_or_default();
    }
    topic.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches = |pattern: &str, topic| TopicPattern::from(pattern).matches(topic);
        for (pattern, topic) in [
            ("*", "anything"),
            ("orders", "orders"),
            ("orders.*", "orders."),
            ("*.eu", "orders.eu"),
            ("a*b*c", "a-b-b-c"),
            ("a**c", "ac"),
            ("*b*", "abc"),
        ] {
            assert!(matches(pattern, topic), "{pattern} {topic}");
        }
        for (pattern, topic) in [
            ("orders", "orders2"),
            ("orders.*", "orders"),
            ("a*ba", "aba-b"),
            ("ab*ba", "aba"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, topic), "{pattern} {topic}");
        }
    }
}
