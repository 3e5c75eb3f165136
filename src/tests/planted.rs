//! Bugs that tests plant, to see that they are caught. Built for tests alone.

use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// A file's sync is left out, and counts as done.
    SkipsTheSync,
    /// A directory's sync is left out, and counts as done.
    SkipsTheDirectorySync,
    /// Whatever the checksum, a frame is taken as it is.
    SkipsTheChecksum,
    /// What lies behind a torn frame is neither cut, nor is the log gone on with in a new file.
    LeavesTheTail,
    /// Segments behind a torn frame stay.
    KeepsLaterSegments,
    /// The recovery point is written before what lies below it was synced.
    MovesTheRecoveryPointEarly,
    /// After a failed sync the next one is believed.
    BelievesTheNextSync,
    /// The durable mark is not looked at.
    ForgetsTheDurableMark,
}

thread_local! {
    static PLANTED: Cell<Planted> = const { Cell::new(Planted::Nothing) };
}

/// Whether a bug is planted on this thread.
pub(crate) fn is_planted(planted: Planted) -> bool {
    PLANTED.get() == planted
}

/// Plants a bug on this thread while `work` is done.
pub(super) fn with_planted<T>(planted: Planted, work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            PLANTED.set(Planted::Nothing);
        }
    }
    let _reset = Reset;
    PLANTED.set(planted);
    work()
}
