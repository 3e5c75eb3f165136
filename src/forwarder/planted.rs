//! Bugs that tests plant, to see that they are caught. Built for tests alone.

/// A bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Planted {
    #[default]
    Nothing,
    /// What was read counts as delivered as soon as it lies in its lane.
    CommitsOnEnqueue,
    /// A batch whose delivery failed counts as delivered as a whole.
    TakesFailuresForDone,
    /// A partition that goes to another member is let go of while the sink still has a batch of it.
    LetsGoEarly,
}
