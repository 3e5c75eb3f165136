//! Asking for room: how an append that finds its topic nearly full says so to whoever can delete
//! records, which lies above it.

use std::fmt::Debug;
use std::sync::Arc;

/// Whoever deletes records that may go.
pub(crate) trait Relief: Debug + Send + Sync {
    /// Says that a topic is nearly full. Called with no lock held; may do the work before it returns.
    fn ask(&self, topic: &Arc<str>);
}

/// For a topic of which nothing is deleted by itself.
#[cfg(fuzzing)]
#[derive(Debug)]
pub(crate) struct NoRelief;

#[cfg(fuzzing)]
impl Relief for NoRelief {
    fn ask(&self, _topic: &Arc<str>) {}
}
