//! A place in a log to read from.
//!
//! The path of a record to its reader: one Acquire load says how far the segment may be read; the
//! frame's checksum is checked once, its records are found once, and what is handed out are their
//! places in the mapping. No lock is taken but where one segment ends and the next begins.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use super::shared::Log;
use crate::error::{Error, Result};
use crate::record_codec;
use crate::segment::Segment;
use crate::storage::View;
use crate::storage::frame::{HEADER_BYTES, NoFrame};

/// Where one record lies in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordLocation {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Span>,
    pub(crate) value: Option<Span>,
    pub(crate) headers: Span,
    pub(crate) header_count: u32,
    /// Which of the sources of a batch it came from.
    pub(crate) source: u32,
}

/// A run of bytes in a segment, behind its header: so it never ends at 0, and that it is absent can
/// be said in the same 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    end: NonZeroU32,
}

impl Span {
    #[inline]
    fn new(base: usize, start: usize, end: usize) -> Self {
        // A segment is smaller than 4 GiB, and both lie in it.
        let end = NonZeroU32::new((base + end) as u32).unwrap_or(NonZeroU32::MIN);
        Self { start: (base + start) as u32, end }
    }

    /// The bytes, from a view of the segment they lie in.
    #[inline]
    pub(crate) fn of(self, segment: &View) -> &[u8] {
        segment.read(self.start as usize..self.end.get() as usize).unwrap_or_default()
    }
}

/// A frame whose checksum was checked and whose records are being handed out.
#[derive(Clone, Debug)]
struct OpenFrame {
    /// Where its body starts and ends in the segment.
    body: usize,
    end: usize,
    /// Where in the body the next record starts.
    at: usize,
    /// Offset of that record, and the offset behind the last one.
    offset: u64,
    next_offset: u64,
    timestamp: i64,
}

/// What is wrong with a frame whose checksum is right and whose body is not.
const NO_RECORD: &str = "a frame holds what is not a record";
/// How many places are made at once for records to be read.
const RESERVE: usize = 512;

impl OpenFrame {
    /// Adds its records, which lie in `bytes`, all that can be read of the segment, from `next_offset` on to `out`, and says whether all were, or whether the
    /// budget ended first.
    #[inline]
    fn hand_out(
        &mut self,
        segment: &Segment,
        bytes: &[u8],
        next_offset: &mut u64,
        source: u32,
        budget: &mut Budget,
        out: &mut Vec<RecordLocation>,
    ) -> Result<bool> {
        let body = bytes.get(self.body..self.end).unwrap_or_default();
        while self.offset < self.next_offset {
            if budget.is_spent() {
                return Ok(false);
            }
            let Some(found) = record_codec::decode(body, self.at) else {
                let position = self.body + self.at;
                return Err(segment.corrupt(position, NO_RECORD));
            };
            if self.offset >= *next_offset {
                if !budget.take(found.end - self.at, out.is_empty()) {
                    return Ok(false);
                }
                let place = Place { body: self.body, offset: self.offset, source };
                out.push(place.of(&found, self.timestamp));
                *next_offset = self.offset + 1;
            }
            self.at = found.end;
            self.offset += 1;
        }
        Ok(true)
    }
}

/// Where a record is, but for what its own bytes say.
struct Place {
    /// Where the body of its frame starts in the segment.
    body: usize,
    offset: u64,
    source: u32,
}

impl Place {
    /// The location of a record that was found there, in a frame with this timestamp.
    #[inline]
    fn of(&self, found: &record_codec::Layout, timestamp: i64) -> RecordLocation {
        let span = |range: &Range<usize>| Span::new(self.body, range.start, range.end);
        RecordLocation {
            offset: self.offset,
            timestamp: timestamp.saturating_add(found.timestamp_delta),
            key: found.key.as_ref().map(span),
            value: found.value.as_ref().map(span),
            headers: span(&(found.headers..found.end)),
            header_count: found.header_count as u32,
            source: self.source,
        }
    }
}

/// How much may still be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Budget {
    /// Whether nothing more may be read.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    /// Takes what a record of `bytes` needs. If it is not there, it is spent from now on, unless the
    /// record is the first: that is read whatever it takes.
    #[inline]
    fn take(&mut self, bytes: usize, is_first: bool) -> bool {
        if bytes > self.bytes && !is_first {
            self.bytes = 0;
            return false;
        }
        self.records -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// A segment mapped for reading, and where its successor begins.
#[derive(Debug)]
struct Located {
    segment: Arc<Segment>,
    next_base: Option<u64>,
}

/// A position in a log that moves forward as records are read.
#[derive(Debug)]
pub(crate) struct LogCursor {
    log: Arc<Log>,
    /// The offset of the next record to hand out.
    next_offset: u64,
    /// The segment being read, and where in it the next frame starts. `None` until it is looked
    /// up.
    segment: Option<Arc<Segment>>,
    position: usize,
    /// The offset the next frame must have.
    frame_offset: u64,
    frame: Option<OpenFrame>,
}

impl LogCursor {
    /// A cursor whose first record will be the one with `offset`.
    pub(crate) fn new(log: Arc<Log>, offset: u64) -> Result<Self> {
        let mut cursor =
            Self { log, next_offset: 0, segment: None, position: 0, frame_offset: 0, frame: None };
        cursor.seek(offset)?;
        Ok(cursor)
    }

    /// The offset of the next record.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.next_offset
    }

    /// Moves to `offset`, which may be anything from the first to just behind the last.
    pub(crate) fn seek(&mut self, offset: u64) -> Result<()> {
        if offset < self.log.start_offset() || offset > self.log.end_offset() {
            return Err(self.log.out_of_range(offset));
        }
        if offset != self.next_offset {
            self.next_offset = offset;
            self.segment = None;
            self.frame = None;
        }
        Ok(())
    }

    /// Whether there is a record to read.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.next_offset < self.log.end_offset()
    }

    /// Adds records to `out`, marked with `source`, from one segment, as far as `budget` goes, and
    /// returns the segment they lie in; `None` if there is nothing to read yet. At least one record
    /// is read even if it is larger than the budget. An error is met again by the next call; a gap until
    /// the position is moved behind it.
    pub(crate) fn fetch(
        &mut self,
        source: u32,
        budget: &mut Budget,
        out: &mut Vec<RecordLocation>,
    ) -> Result<Option<Arc<Segment>>> {
        self.log.check_gate()?;
        if self.next_offset < self.log.start_offset() {
            return Err(self.log.out_of_range(self.next_offset));
        }
        // What is deleted meanwhile, a topic or the beginning of a log, is not where it is looked for.
        self.fetch_open(source, budget, out).map_err(|error| match self.log.check_gate() {
            Ok(()) if self.next_offset < self.log.start_offset() => {
                self.log.out_of_range(self.next_offset)
            }
            Ok(()) => error,
            Err(gone) => gone,
        })
    }

    #[inline]
    fn fetch_open(
        &mut self,
        source: u32,
        budget: &mut Budget,
        out: &mut Vec<RecordLocation>,
    ) -> Result<Option<Arc<Segment>>> {
        let before = out.len();
        loop {
            // Frames are published a moment before the log's end moves; they do not count before.
            let end = self.log.end_offset();
            if self.next_offset >= end {
                return Ok(None);
            }
            let Some(segment) = self.segment.clone() else {
                self.enter()?;
                continue;
            };
            let read = self.read(&segment, end, source, budget, out);
            if out.len() > before {
                // Whatever stopped it is met again when these have been handed out.
                return Ok(Some(segment));
            }
            read?;
            if self.frame.is_some() || budget.is_spent() {
                return Ok(None);
            }
            self.enter()?;
        }
    }

    /// Reads frames of one segment until its committed end, the log's end as it was loaded before,
    /// or the end of the budget.
    #[inline]
    fn read(
        &mut self,
        segment: &Arc<Segment>,
        end: u64,
        source: u32,
        budget: &mut Budget,
        out: &mut Vec<RecordLocation>,
    ) -> Result<()> {
        let bytes = segment.bytes(0, usize::MAX);
        if let Some(frame) = &mut self.frame {
            if !frame.hand_out(segment, bytes, &mut self.next_offset, source, budget, out)? {
                return Ok(());
            }
            self.frame = None;
        }
        while self.frame_offset < end && !budget.is_spent() {
            let rest = bytes.get(self.position..).unwrap_or_default();
            let found = match segment.frame_in(rest) {
                Ok(found) => found,
                Err(NoFrame::End) => return Ok(()),
                Err(NoFrame::Invalid(detail)) => return Err(segment.corrupt(self.position, detail)),
            };
            let offset = segment.base_offset() + u64::from(found.header.offset_delta);
            if offset != self.frame_offset {
                return Err(self.out_of_sequence(segment, offset));
            }
            let body = self.position + HEADER_BYTES;
            if out.len() == out.capacity() {
                let expected = rest.len() / found.stride * found.header.count as usize;
                out.reserve(expected.min(budget.records).clamp(1, RESERVE));
            }
            if found.header.count == 1 && offset == self.next_offset {
                let Some(layout) = record_codec::decode(found.body, 0) else {
                    return Err(segment.corrupt(body, NO_RECORD));
                };
                if !budget.take(layout.end, out.is_empty()) {
                    return Ok(());
                }
                let place = Place { body, offset, source };
                out.push(place.of(&layout, found.header.timestamp));
                (self.next_offset, self.frame_offset) = (offset + 1, offset + 1);
                self.position += found.stride;
                continue;
            }
            let mut frame = OpenFrame {
                body,
                end: body + found.body.len(),
                at: 0,
                offset,
                next_offset: offset + u64::from(found.header.count),
                timestamp: found.header.timestamp,
            };
            self.frame_offset = frame.next_offset;
            self.position += found.stride;
            if frame.next_offset <= self.next_offset {
                continue;
            }
            // Most frames are handed out whole and never become a part of the cursor.
            let done = frame.hand_out(segment, bytes, &mut self.next_offset, source, budget, out);
            if !matches!(done, Ok(true)) {
                self.frame = Some(frame);
                return done.map(|_| ());
            }
        }
        Ok(())
    }

    #[cold]
    fn out_of_sequence(&self, segment: &Segment, offset: u64) -> Error {
        let detail = format!("a frame with offset {offset} where {} follows", self.frame_offset);
        segment.corrupt(self.position, detail)
    }

    /// Moves to the segment that holds the next record, which exists. If that is the segment it is
    /// in, there must be more to read in it.
    #[cold]
    fn enter(&mut self) -> Result<()> {
        if let Some(gap) = self.log.gap_at(self.next_offset) {
            let (topic, partition) = (self.log.name().topic.to_string(), self.log.name().partition);
            return Err(Error::Gap { topic, partition, from: self.next_offset, to: gap.to });
        }
        let Located { segment, next_base } = self.locate()?;
        if let Some(current) = &self.segment
            && current.base_offset() == segment.base_offset()
        {
            // The end of the log was loaded before this: a record below it was published.
            if segment.frame_at(self.position, segment.committed()).is_err() {
                return Err(self.missing(&segment, next_base));
            }
            // It may be mapped anew since, to be gone on with; positions in it are the same.
            self.segment = Some(segment);
            return Ok(());
        }
        let (position, frame_offset) = segment.floor_offset(self.next_offset);
        (self.position, self.frame_offset) = (position, frame_offset);
        self.frame = None;
        self.segment = Some(segment);
        Ok(())
    }

    fn locate(&self) -> Result<Located> {
        let log = &self.log;
        let Some((slot, next_base)) = log.slot_of(self.next_offset) else {
            return Err(log.out_of_range(self.next_offset));
        };
        Ok(Located { segment: log.segment(&slot)?, next_base })
    }

    #[cold]
    fn missing(&self, segment: &Segment, next_base: Option<u64>) -> Error {
        let behind = next_base.unwrap_or_else(|| self.log.end_offset());
        let detail = format!(
            "the segment ends before offset {}, records up to {behind} were written",
            self.frame_offset
        );
        segment.corrupt(self.position, detail)
    }
}
