//! The frames of a segment, from bytes that may be anything.
//!
//! The first byte of the input says what is done to the rest before it is read: bit 0 puts the
//! checksums right, bit 1 the header lengths and the reserved attributes too, bit 2 takes an index
//! from the end, bit 3 makes it a segment of format version 1.

use forebay::fuzzing;

use crate::checksums;

const BASE_OFFSET: u64 = 7;

/// One input.
pub fn run(input: &[u8]) {
    let Some((flags, frames)) = input.split_first() else { return };
    let mut frames = frames.to_vec();
    let mut indexes = None;
    if flags & 4 != 0 && frames.len() > 20 {
        indexes = Some(take_index(&mut frames));
    }
    if flags & 2 != 0 {
        make_plausible(&mut frames);
    }
    let version = if flags & 8 == 0 { 2 } else { 1 };
    if flags & 1 != 0 {
        let seed = checksums::seed(&fuzzing::SALT.to_le_bytes(), &BASE_OFFSET.to_le_bytes());
        checksums::fix_frames(&mut frames, version, seed);
    }
    let indexes = indexes.as_ref().map(|(offsets, times)| (offsets.as_slice(), times.as_slice()));
    fuzzing::segment(version, &frames, indexes);
}

/// Frames that only a later version would write are refused at once: makes them this version's, and
/// lets their offsets follow each other.
fn make_plausible(frames: &mut [u8]) {
    let (mut at, mut next) = (0_usize, 0_u32);
    while let Some(frame) = frames.get_mut(at..).filter(|rest| rest.len() >= 26) {
        let left = frame.len() as u32;
        let word = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
        let length = if word < 26 || word > left { 26 + word % (left - 25).min(300) } else { word };
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[8..12].copy_from_slice(&next.to_le_bytes());
        frame[14] = 0;
        frame[15] = 26;
        frame[24] &= 8;
        frame[25] = 0;
        next = next.saturating_add(u32::from(frame[12]) | u32::from(frame[13]) << 8);
        at += (length as usize).next_multiple_of(4);
    }
}

/// The two indexes of a segment, with entries from the end of `frames`.
fn take_index(frames: &mut Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let count = usize::from(frames.pop().unwrap_or(0) % 8);
    let rows = frames.split_off(frames.len().saturating_sub(count * 16));
    let header = |magic: &[u8; 8], size: u16| {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&1_u16.to_le_bytes());
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&fuzzing::SALT.to_le_bytes());
        bytes.extend_from_slice(&((frames.len() + checksums::HEADER) as u64).to_le_bytes());
        bytes.resize(checksums::HEADER, 0);
        bytes
    };
    let mut offsets = header(b"FOREBAYI", 8);
    let mut times = header(b"FOREBAYT", 12);
    for row in rows.chunks_exact(16) {
        offsets.extend_from_slice(&row[..8]);
        times.extend_from_slice(&row[8..]);
        times.extend_from_slice(&row[..4]);
    }
    checksums::fix_index(&mut offsets);
    checksums::fix_index(&mut times);
    (offsets, times)
}
