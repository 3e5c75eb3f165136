//! The frame: one append, of one record or many, under one checksum. All of it is there or none.
//!
//! | position | size | field |
//! |---|---|---|
//! | 0 | 4 | length of the frame in bytes, from here to the end of the body; stored last; 0 where no frame follows |
//! | 4 | 4 | checksum of everything behind this field, see below |
//! | 8 | 4 | offset of the first record, counted from the segment's base offset |
//! | 12 | 3 | number of records |
//! | 15 | 1 | length of this header, 26 in this version |
//! | 16 | 8 | timestamp of the first record, milliseconds since the Unix epoch |
//! | 24 | 2 | attributes |
//! | 26 | | body: the records |
//!
//! Numbers are little-endian. Frames start at multiples of 4, so that the length is one aligned
//! word; up to 3 zero bytes of padding, covered by no checksum and holding nothing, lie between.
//!
//! The checksum starts from the segment's seed and the length instead of from 0. The seed is made
//! of the segment's base offset and of a number drawn when it was created, so a frame is valid
//! only in the file it was written to: bytes of an earlier life of a disk block, or of another
//! segment, are never taken for records. A region of zeros is not a valid frame. Which checksum it
//! is, [`Checksum`] says.
//!
//! Attributes: bits 0–2 compression (0 none), bit 3 the timestamps are append times, bit 4
//! transactional, bit 5 control records, bit 6 a producer id and sequence follow the header, bit 7
//! a delivery time follows the header. Bits 8–15 are reserved. This version writes bit 3 only and
//! refuses to read a frame with any other bit set.

use std::io;

use super::checksum::Checksum;
use super::{RegionWriter, Stage};
#[cfg(test)]
use crate::tests::{Planted, is_planted};

const LENGTH: usize = 0;
const CRC: usize = LENGTH + 4;
const OFFSET_DELTA: usize = CRC + 4;
const COUNT: usize = OFFSET_DELTA + 4;
const HEADER_LENGTH: usize = COUNT + 3;
const TIMESTAMP: usize = HEADER_LENGTH + 1;
const ATTRIBUTES: usize = TIMESTAMP + 8;
/// The bytes before a frame's body.
pub(crate) const HEADER_BYTES: usize = ATTRIBUTES + 2;
/// The most records one frame can count.
pub(crate) const MAX_RECORDS: usize = (1 << 24) - 1;
/// The timestamps are the broker's times of append.
pub(crate) const APPEND_TIME: u16 = 1 << 3;

/// What a frame says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Offset of the first record, less the segment's base offset.
    pub(crate) offset_delta: u32,
    /// Number of records, at least 1.
    pub(crate) count: u32,
    /// Timestamp of the first record, in milliseconds.
    pub(crate) timestamp: i64,
    pub(crate) attributes: u16,
}

/// A frame whose checksum was found right.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    /// The records.
    pub(crate) body: &'a [u8],
    /// Bytes from this frame's start to where the next one may start.
    pub(crate) stride: usize,
}

/// Why there is no frame at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// The length is 0, or no bytes are left: nothing was written here.
    End,
    /// Something was written here and is not a frame.
    Invalid(String),
}

/// The distance from a frame of `length` bytes to the next one.
#[inline]
pub(crate) const fn stride(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A frame that is whole but for its length, which is stored last.
#[derive(Debug)]
#[must_use = "without its length it is no frame"]
pub(crate) struct Filled {
    position: usize,
    word: u32,
}

impl Filled {
    /// Stores the length, and returns where the next frame may start. The caller publishes it.
    #[inline]
    pub(crate) fn finish(&self, writer: &mut RegionWriter) -> usize {
        writer.store_word(self.position, self.word);
        self.position + stride(self.word as usize)
    }
}

/// Writes one frame of `body_bytes` at the writer's `position`: header, body by `fill`, checksum.
/// `None` if there is no room; nothing is written.
#[inline]
pub(crate) fn fill(
    writer: &mut RegionWriter,
    position: usize,
    checksum: Checksum,
    header: &FrameHeader,
    body_bytes: usize,
    fill: impl FnOnce(&mut Stage<'_>),
) -> Option<Filled> {
    let length = HEADER_BYTES + body_bytes;
    let word = u32::try_from(length).ok()?;
    let mut stage = writer.stage(position, stride(length))?;
    stage.put(&encode_header(header));
    fill(&mut stage);
    assert!(stage.filled() == length, "the body has the length it was measured to have");
    let crc = checksum.of(word, stage.bytes(OFFSET_DELTA));
    stage.put_at(CRC, &crc.to_le_bytes());
    Some(Filled { position, word })
}

/// As [`fill`], then [`Filled::finish`], and lets readers see it: for memory that is stored to, where
/// nothing of that can fail. Returns where the next frame may start.
#[inline]
pub(crate) fn append(
    writer: &mut RegionWriter,
    checksum: Checksum,
    header: &FrameHeader,
    body_bytes: usize,
    fill: impl FnOnce(&mut Stage<'_>),
) -> Option<io::Result<usize>> {
    let length = HEADER_BYTES + body_bytes;
    let word = u32::try_from(length).ok()?;
    let position = writer.committed();
    let end = position + stride(length);
    if writer.takes_a_call(stride(length)) {
        return append_by_call(writer, checksum, header, body_bytes, fill);
    }
    let mut stage = writer.stage_stores(position, stride(length))?;
    stage.put(&encode_header(header));
    fill(&mut stage);
    assert!(stage.filled() == length, "the body has the length it was measured to have");
    let crc = checksum.of(word, stage.bytes(OFFSET_DELTA));
    stage.put_at(CRC, &crc.to_le_bytes());
    stage.put_first_word(word);
    writer.publish_stores(end);
    Some(Ok(end))
}

/// As [`append`], where it takes a system call, which can fail.
#[cold]
#[inline(never)]
fn append_by_call(
    writer: &mut RegionWriter,
    checksum: Checksum,
    header: &FrameHeader,
    body_bytes: usize,
    put: impl FnOnce(&mut Stage<'_>),
) -> Option<io::Result<usize>> {
    let position = writer.committed();
    let end = write(writer, position, checksum, header, body_bytes, put)?;
    Some(writer.publish(end).map(|()| end))
}

/// As [`fill`], and then [`Filled::finish`].
#[inline]
pub(crate) fn write(
    writer: &mut RegionWriter,
    position: usize,
    checksum: Checksum,
    header: &FrameHeader,
    body_bytes: usize,
    put: impl FnOnce(&mut Stage<'_>),
) -> Option<usize> {
    Some(fill(writer, position, checksum, header, body_bytes, put)?.finish(writer))
}

/// The header with length and checksum still 0.
#[inline]
fn encode_header(header: &FrameHeader) -> [u8; HEADER_BYTES] {
    debug_assert!(header.count >= 1 && header.count as usize <= MAX_RECORDS);
    let mut bytes = [0; HEADER_BYTES];
    let count = header.count | (HEADER_BYTES as u32) << 24;
    put(&mut bytes, OFFSET_DELTA, header.offset_delta.to_le_bytes());
    put(&mut bytes, COUNT, count.to_le_bytes());
    put(&mut bytes, TIMESTAMP, header.timestamp.to_le_bytes());
    put(&mut bytes, ATTRIBUTES, header.attributes.to_le_bytes());
    bytes
}

#[inline]
fn put<const N: usize>(bytes: &mut [u8; HEADER_BYTES], at: usize, field: [u8; N]) {
    if let Some(slot) = bytes.get_mut(at..at + N) {
        slot.copy_from_slice(&field);
    }
}

#[inline]
fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(slot) = bytes.get(at..at + N) {
        field.copy_from_slice(slot);
    }
    field
}

/// Reads the frame at the start of `bytes`, which reach to the end of what may be read.
#[expect(
    clippy::inline_always,
    reason = "left to itself the compiler makes a call of it: 20 instructions a record"
)]
#[inline(always)]
pub(crate) fn read(bytes: &[u8], checksum: Checksum) -> Result<Frame<'_>, NoFrame> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(no_header(bytes));
    };
    let word = u32::from_le_bytes(field(header, LENGTH));
    let length = word as usize;
    let (Some(covered), Some(body)) =
        (bytes.get(OFFSET_DELTA..length), bytes.get(HEADER_BYTES..length))
    else {
        return Err(wrong_length(length, bytes.len()));
    };
    let (expected, found) = (u32::from_le_bytes(field(header, CRC)), checksum.of(word, covered));
    #[cfg(test)]
    let expected = if is_planted(Planted::SkipsTheChecksum) { found } else { expected };
    if expected != found {
        return Err(wrong_checksum(expected, found));
    }
    let count = u32::from_le_bytes(field(header, COUNT));
    let decoded = FrameHeader {
        offset_delta: u32::from_le_bytes(field(header, OFFSET_DELTA)),
        count: count & 0x00ff_ffff,
        timestamp: i64::from_le_bytes(field(header, TIMESTAMP)),
        attributes: u16::from_le_bytes(field(header, ATTRIBUTES)),
    };
    if count >> 24 != HEADER_BYTES as u32
        || decoded.attributes & !APPEND_TIME != 0
        || decoded.count == 0
    {
        return Err(later_version(&decoded));
    }
    Ok(Frame { header: decoded, body, stride: stride(length) })
}

/// Whether a frame could stand at the start of `bytes`, as far as that can be seen without its
/// checksum: for whoever looks for the next one behind damage.
pub(crate) fn may_begin(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return false };
    let length = u32::from_le_bytes(field(header, LENGTH)) as usize;
    let [header_length] = field(header, HEADER_LENGTH);
    let attributes = u16::from_le_bytes(field(header, ATTRIBUTES));
    (HEADER_BYTES..=bytes.len()).contains(&length)
        && usize::from(header_length) == HEADER_BYTES
        && attributes & !APPEND_TIME == 0
}

/// Adds to `out` the frame that `frame` was read as, for another segment: with this offset less the
/// base offset there, and that segment's seed.
pub(crate) fn transplant(
    frame: &Frame<'_>,
    offset_delta: u32,
    checksum: Checksum,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&encode_header(&FrameHeader { offset_delta, ..frame.header }));
    out.extend_from_slice(frame.body);
    let length = HEADER_BYTES + frame.body.len();
    let word = u32::try_from(length).expect("a frame that was read has a length of 32 bits");
    let crc = checksum.of(word, out.get(start + OFFSET_DELTA..).unwrap_or_default());
    let mut put = |at: usize, field: [u8; 4]| {
        if let Some(slot) = out.get_mut(start + at..start + at + 4) {
            slot.copy_from_slice(&field);
        }
    };
    put(LENGTH, word.to_le_bytes());
    put(CRC, crc.to_le_bytes());
    out.resize(start + stride(length), 0);
}

#[cold]
fn no_header(bytes: &[u8]) -> NoFrame {
    if bytes.iter().all(|byte| *byte == 0) {
        NoFrame::End
    } else {
        invalid(format!("{} bytes are left, too few for a frame", bytes.len()))
    }
}

#[cold]
fn wrong_length(length: usize, left: usize) -> NoFrame {
    match length {
        0 => NoFrame::End,
        _ if length > left => invalid(format!("a frame of {length} bytes, {left} are left")),
        _ => invalid(format!("a frame of {length} bytes is shorter than its header")),
    }
}

#[cold]
fn wrong_checksum(expected: u32, found: u32) -> NoFrame {
    invalid(format!("checksum {found:08x}, the frame says {expected:08x}"))
}

#[cold]
fn later_version(header: &FrameHeader) -> NoFrame {
    invalid(format!("a frame of a later version ({header:?})"))
}

#[cold]
fn invalid(what: String) -> NoFrame {
    NoFrame::Invalid(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKSUM: Checksum = Checksum::by_length(0x1234_5678);
    const ANOTHER: Checksum = Checksum::by_length(0x1234_5679);
    const HEADER: FrameHeader = FrameHeader {
        offset_delta: 7,
        count: 2,
        timestamp: 1_700_000_000_000,
        attributes: APPEND_TIME,
    };

    fn frame_of(body: &[u8]) -> Vec<u8> {
        let mut writer = RegionWriter::on_heap(256, b"").expect("heap");
        let end = write(&mut writer, 0, CHECKSUM, &HEADER, body.len(), |stage| stage.put(body))
            .expect("room");
        writer.publish(end).expect("memory");
        writer.region().read(0..end).expect("published").to_vec()
    }

    #[test]
    fn a_frame_that_is_moved_to_another_segment_holds_the_same_records() {
        let bytes = frame_of(b"two records");
        assert!(may_begin(&bytes) && !may_begin(&bytes[4..]));
        let mut moved = vec![9; 8];
        transplant(&read(&bytes, CHECKSUM).expect("a frame"), 3, ANOTHER, &mut moved);
        let frame = read(&moved[8..], ANOTHER).expect("a frame");
        assert_eq!((frame.body, frame.stride), (&b"two records"[..], moved.len() - 8));
        assert_eq!(frame.header, FrameHeader { offset_delta: 3, ..HEADER });
        assert!(read(&moved[8..], CHECKSUM).is_err());
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for length in 0..10 {
            let bytes = frame_of(&vec![9; length]);
            let frame = read(&bytes, CHECKSUM).expect("a frame");
            assert_eq!((frame.header, frame.body), (HEADER, &vec![9; length][..]));
            assert_eq!(frame.stride, bytes.len());
        }
    }

    #[test]
    fn the_layout_is_the_one_in_the_table() {
        let bytes = frame_of(b"xyz");
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..4], 29_u32.to_le_bytes());
        assert_eq!(bytes[4..8], CHECKSUM.of(29, &bytes[8..29]).to_le_bytes());
        assert_eq!(bytes[8..12], 7_u32.to_le_bytes());
        assert_eq!(bytes[12..16], [2, 0, 0, 26]);
        assert_eq!(bytes[16..24], 1_700_000_000_000_i64.to_le_bytes());
        assert_eq!(bytes[24..26], [8, 0]);
        assert_eq!(&bytes[26..], b"xyz\0\0\0");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = frame_of(b"some body");
        let length = HEADER_BYTES + 9;
        for position in 0..length {
            assert!(read(&bytes[..position], CHECKSUM).is_err(), "cut at {position}");
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << bit;
                assert!(read(&bytes, CHECKSUM).is_err(), "bit {bit} of byte {position}");
            }
        }
    }

    #[test]
    fn a_frame_of_another_segment_is_not_valid_here() {
        assert!(matches!(read(&frame_of(b"abc"), ANOTHER), Err(NoFrame::Invalid(_))));
    }

    #[test]
    fn zeros_and_nothing_are_the_end_and_not_a_frame() {
        for length in 0..100 {
            assert_eq!(
                read(&vec![0; length], Checksum::by_length(0)).err(),
                Some(NoFrame::End),
                "{length} zeros"
            );
        }
    }

    #[test]
    fn a_length_beyond_the_file_allocates_and_reads_nothing() {
        let mut bytes = frame_of(b"abc");
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&bytes, CHECKSUM), Err(NoFrame::Invalid(_))));
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut writer = RegionWriter::on_heap(32, b"").expect("heap");
        assert!(write(&mut writer, 0, CHECKSUM, &HEADER, 7, |_| panic!("not filled")).is_none());
    }
}
