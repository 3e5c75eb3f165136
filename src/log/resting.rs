//! What a writer remembers between the looks at the segment it writes.
//!
//! The invariants it keeps: those who look know of an open segment once, and a segment in which something is to be
//! deleted while it is being closed is never gone on with.

/// What a writer remembers between looks.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// Whether those who look know that a segment is open.
    is_known: bool,
    /// Where the log ended at the last look.
    end: Option<u64>,
    /// The base offset of a segment that was closed to rest, until it was sealed, or something in it is to be
    /// deleted: then it is not gone on with.
    closed: Option<u64>,
}

impl Resting {
    /// Says that a segment was opened, and returns whether those who look are to be told.
    pub(super) fn opened(&mut self) -> bool {
        self.end = None;
        !std::mem::replace(&mut self.is_known, true)
    }

    /// Says that there is no segment to look at any more.
    pub(super) fn forget(&mut self) {
        self.is_known = false;
    }

    /// Whether the log ends where it did at the last look.
    pub(super) fn is_idle(&mut self, end: u64) -> bool {
        self.end.replace(end) == Some(end)
    }

    /// Says that the segment with this base offset is being closed.
    pub(super) fn close(&mut self, base_offset: u64) {
        self.forget();
        self.closed = Some(base_offset);
    }

    /// The segment that was closed, once, if it can be gone on with.
    pub(super) fn take_closed(&mut self) -> Option<u64> {
        self.closed.take()
    }

    /// Says that what is below `offset` is to be deleted.
    pub(super) fn delete_below(&mut self, offset: u64) {
        self.closed = self.closed.filter(|base_offset| *base_offset >= offset);
    }
}
