//! Rest: a segment that is open for appending and gets no records is sealed, and gone on with when the
//! next record comes, as a segment of an earlier broker is after a clean close.

use super::checkpoint::Tail;
use super::writer::LogWriter;

/// What a look at the segment that is being written shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtRest {
    /// It was written since the last look.
    No,
    /// There is none.
    NoSegment,
    /// It is written no more, and waits to be sealed. Once that is done, [`LogWriter::rested`] is to be
    /// called.
    Closed,
}

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

    /// Says that what is below `offset` is to be deleted.
    pub(super) fn delete_below(&mut self, offset: u64) {
        self.closed = self.closed.filter(|base_offset| *base_offset >= offset);
    }
}

impl LogWriter {
    /// Closes the segment that is being written, if nothing was appended since the last look.
    pub(crate) fn look(&mut self) -> AtRest {
        let end = self.log().end_offset();
        let (is_open, base_offset) = (self.has_segment(), self.active_base());
        let is_used = self.log().check_gate().and_then(|()| self.log().check_poison()).is_ok();
        let resting = self.resting();
        if !is_open || !is_used {
            resting.is_known = false;
            return AtRest::NoSegment;
        }
        let is_idle = resting.end.replace(end) == Some(end);
        let Some(base_offset) = base_offset.filter(|_| is_idle) else { return AtRest::No };
        resting.is_known = false;
        resting.closed = Some(base_offset);
        self.close_active();
        AtRest::Closed
    }

    /// Says that the segment that was closed to rest was sealed. The next append goes on with it, if
    /// there was none meanwhile.
    pub(crate) fn rested(&mut self) {
        let Some(base_offset) = self.resting().closed.take() else { return };
        let (is_open, end) = (self.has_segment(), self.log().end_offset());
        if let Tail::Sealed(point) = *self.tail()
            && (is_open, point.base_offset, point.next_offset) == (false, base_offset, end)
        {
            *self.tail() = Tail::Clean(point);
        }
    }
}
