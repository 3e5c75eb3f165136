//! Bugs that tests plant, to see that they are caught. Built for tests alone.

/// A bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Planted {
    #[default]
    Nothing,
    /// A partition is taken by its new owner before the old one has let go.
    StartsEarly,
    /// Records count as done as soon as a poll returns them.
    CommitsAhead,
    /// Who was taken out of the group may commit.
    ForgetsToFence,
    /// A new owner begins at the end instead of at the commit.
    ForgetsTheCommit,
}
