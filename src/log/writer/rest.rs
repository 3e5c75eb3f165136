//! Rest: a segment that is open for appending and gets no records is sealed, and gone on with when the
//! next record comes, as a segment of an earlier broker is after a clean close.

use super::LogWriter;
use crate::log::checkpoint::Tail;

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

impl LogWriter {
    /// Closes the segment that is being written, if nothing was appended since the last look.
    pub(crate) fn look(&mut self) -> AtRest {
        let end = self.log().end_offset();
        let (is_open, base_offset) = (self.active.is_some(), self.active_base());
        let is_used = self.log().check_gate().and_then(|()| self.log().check_poison()).is_ok();
        if !is_open || !is_used {
            self.resting.forget();
            return AtRest::NoSegment;
        }
        let is_idle = self.resting.is_idle(end);
        let Some(base_offset) = base_offset.filter(|_| is_idle) else { return AtRest::No };
        self.resting.close(base_offset);
        self.close_active();
        AtRest::Closed
    }

    /// Says that the segment that was closed to rest was sealed. The next append goes on with it, if
    /// there was none meanwhile.
    pub(crate) fn rested(&mut self) {
        let Some(base_offset) = self.resting.take_closed() else { return };
        let (is_open, end) = (self.active.is_some(), self.log().end_offset());
        if let Tail::Sealed(point) = self.tail
            && (is_open, point.base_offset, point.next_offset) == (false, base_offset, end)
        {
            self.tail = Tail::Clean(point);
        }
    }
}
