//! What a forwarder reads, in the words of the application.

use std::sync::Arc;

use crate::consumer::TopicPattern;

/// The topics it subscribes to.
#[derive(Clone, Debug)]
pub(super) enum Topics {
    Nothing,
    Names(Vec<Arc<str>>),
    Pattern(TopicPattern),
}

impl Topics {
    /// Whether a topic of this name is one of them.
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Names(names) => names.iter().any(|one| **one == *name),
            Self::Pattern(pattern) => pattern.matches(name),
        }
    }
}
