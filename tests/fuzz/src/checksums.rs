//! Puts right the checksums of files that were changed, as DESIGN.md describes their layouts.
//!
//! Written anew from the description and not shared with the library: two readings of one text.

/// The length of a segment's header, and of an index's.
pub const HEADER: usize = 64;
/// The length of a frame's header.
const FRAME_HEADER: usize = 26;
/// From version 2 on, frames of fewer bytes have a CRC-32C.
const SHORT: u32 = 512;
/// Where frames begin in a file of committed offsets.
const OFFSET_FRAMES: usize = 32;

/// Puts right what is in a file of that name.
pub fn fix(name: &str, bytes: &mut [u8]) {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.ends_with(".log") {
        fix_log(bytes);
    } else if last.ends_with("index") {
        fix_index(bytes);
    } else if last.ends_with(".offsets") {
        fix_offsets(bytes);
    } else {
        fix_metadata(bytes);
    }
}

/// A segment: its header and every frame.
pub fn fix_log(bytes: &mut [u8]) {
    let Some((header, frames)) = bytes.split_at_mut_checked(HEADER) else { return };
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    let version = u16::from_le_bytes([header[8], header[9]]);
    fix_frames(frames, version, seed(&header[24..32], &header[16..24]));
}

/// Where the checksums of frames start, in the segment with this salt and base offset.
pub fn seed(salt: &[u8], base_offset: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(salt);
    hasher.update(base_offset);
    hasher.finalize()
}

/// Every frame up to the first whose length cannot be, in a segment of this version.
pub fn fix_frames(frames: &mut [u8], version: u16, seed: u32) {
    walk(frames, if version == 1 { 0 } else { SHORT }, |_, _| seed);
}

/// A file of committed offsets: the checksum of each frame is the seed of the next.
pub fn fix_offsets(bytes: &mut [u8]) {
    let Some((header, frames)) = bytes.split_at_mut_checked(OFFSET_FRAMES) else { return };
    let crc = hash(&[&header[..12], &header[16..]]);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    walk(frames, 0, |_, before| before.unwrap_or(crc));
}

fn walk(frames: &mut [u8], short: u32, seed: impl Fn(usize, Option<u32>) -> u32) {
    let (mut at, mut before) = (0, None);
    while let Some(word) = frames.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = u32::from_le_bytes(*word);
        let Some(frame) = frames.get_mut(at..).and_then(|rest| rest.get_mut(..length as usize))
        else {
            return;
        };
        if frame.len() < FRAME_HEADER {
            return;
        }
        let start = seed(at, before) ^ length;
        let crc = if length < short {
            crc32c::crc32c_append(start, &frame[8..])
        } else {
            let mut hasher = crc32fast::Hasher::new_with_initial(start);
            hasher.update(&frame[8..]);
            hasher.finalize()
        };
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        before = Some(crc);
        at += (length as usize).next_multiple_of(4);
    }
}

/// An index of either kind.
pub fn fix_index(bytes: &mut [u8]) {
    let Some((header, rows)) = bytes.split_at_mut_checked(HEADER) else { return };
    let size = if header.starts_with(b"FOREBAYI") { 8 } else { 12 };
    header[12..16].copy_from_slice(&((rows.len() / size) as u32).to_le_bytes());
    let crc = hash(&[&header[..60], rows]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
}

/// A checkpoint, a topic's settings, the mark of the offset store.
pub fn fix_metadata(bytes: &mut [u8]) {
    let Some((header, payload)) = bytes.split_at_mut_checked(20) else { return };
    header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = hash(&[&header[..16], payload]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
}

fn hash(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}
