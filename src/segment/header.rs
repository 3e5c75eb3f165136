//! The first bytes of a `.log` file: what it is, and what ties its frames to it.
//!
//! | position | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `FOREBAYL` |
//! | 8 | 2 | format version, 2; of 1, which is read and gone on with, frames have another checksum |
//! | 10 | 2 | length of this header, 64 |
//! | 12 | 4 | reserved, 0 |
//! | 16 | 8 | base offset: the offset of the first record |
//! | 24 | 8 | salt: drawn at random when the file was created |
//! | 32 | 8 | time of creation by the broker's clock, milliseconds since the Unix epoch |
//! | 40 | 8 | the largest timestamp in all segments before this one, or -1 |
//! | 48 | 8 | identity of the topic |
//! | 56 | 4 | reserved, 0 |
//! | 60 | 4 | CRC-32 of bytes 0 to 60 |
//!
//! Numbers are little-endian.

use std::path::Path;

use crate::error::{Error, Result};
use crate::storage::checksum::Checksum;

const MAGIC: usize = 0;
const VERSION: usize = MAGIC + 8;
const LENGTH: usize = VERSION + 2;
const BASE_OFFSET: usize = LENGTH + 2 + 4;
const SALT: usize = BASE_OFFSET + 8;
const CREATED: usize = SALT + 8;
const MAX_BEFORE: usize = CREATED + 8;
const TOPIC: usize = MAX_BEFORE + 8;
const CRC: usize = TOPIC + 8 + 4;
/// The length of a segment's header, where its first frame begins.
pub(crate) const SEGMENT_HEADER_BYTES: usize = CRC + 4;

const MAGIC_BYTES: [u8; 8] = *b"FOREBAYL";
/// The version of segments that are made now.
pub(crate) const FORMAT_VERSION: u16 = 2;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The version of its format, [`FORMAT_VERSION`] or one before it.
    pub(crate) version: u16,
    pub(crate) base_offset: u64,
    pub(crate) salt: u64,
    /// When it was created, by the broker's clock, in milliseconds.
    pub(crate) created: i64,
    /// The largest timestamp in all segments before this one, or -1 where there is none.
    pub(crate) max_timestamp_before: i64,
    pub(crate) topic_id: u64,
}

impl SegmentHeader {
    /// How this segment's frames are checked.
    pub(crate) fn checksum(&self) -> Checksum {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.salt.to_le_bytes());
        hasher.update(&self.base_offset.to_le_bytes());
        let start = hasher.finalize();
        if self.version == 1 { Checksum::crc32(start) } else { Checksum::by_length(start) }
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| {
            bytes
                .get_mut(at..at + field.len())
                .expect("fields lie in the header")
                .copy_from_slice(field);
        };
        put(MAGIC, &MAGIC_BYTES);
        put(VERSION, &self.version.to_le_bytes());
        put(LENGTH, &(SEGMENT_HEADER_BYTES as u16).to_le_bytes());
        put(BASE_OFFSET, &self.base_offset.to_le_bytes());
        put(SALT, &self.salt.to_le_bytes());
        put(CREATED, &self.created.to_le_bytes());
        put(MAX_BEFORE, &self.max_timestamp_before.to_le_bytes());
        put(TOPIC, &self.topic_id.to_le_bytes());
        let crc = crc32fast::hash(bytes.get(..CRC).expect("the checksum is last"));
        bytes.get_mut(CRC..).expect("the checksum is last").copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment in the file at `path`, whose name says `base_offset`.
    pub(crate) fn decode(bytes: &[u8], path: &Path, base_offset: u64) -> Result<Self> {
        let damaged = |position: usize, detail: &str| Error::corrupt(path, position as u64, detail);
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(damaged(bytes.len(), "the file ends within the segment header"));
        };
        let word = |at: usize| u32::from_le_bytes(field(bytes, at));
        let long = |at: usize| u64::from_le_bytes(field(bytes, at));
        if field(bytes, MAGIC) != MAGIC_BYTES {
            return Err(damaged(MAGIC, "the magic bytes are not those of a segment"));
        }
        if word(CRC) != crc32fast::hash(bytes.get(..CRC).unwrap_or_default()) {
            return Err(damaged(CRC, "the checksum of the segment header does not match"));
        }
        let version = u16::from_le_bytes(field(bytes, VERSION));
        if !(1..=FORMAT_VERSION).contains(&version) {
            let (path, supported) = (path.to_path_buf(), FORMAT_VERSION);
            return Err(Error::UnsupportedVersion { path, found: version, supported });
        }
        if long(BASE_OFFSET) != base_offset {
            return Err(damaged(BASE_OFFSET, "the base offset is not the one in the file's name"));
        }
        Ok(Self {
            version,
            base_offset,
            salt: long(SALT),
            created: long(CREATED).cast_signed(),
            max_timestamp_before: long(MAX_BEFORE).cast_signed(),
            topic_id: long(TOPIC),
        })
    }
}

fn field<const N: usize>(bytes: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> [u8; N] {
    let slice = bytes.get(at..at + N).and_then(|slice| slice.try_into().ok());
    slice.expect("fields lie in the header")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        version: FORMAT_VERSION,
        base_offset: 0x0102_0304_0506_0708,
        salt: 0xfeed,
        created: 1_700_000_000_000,
        max_timestamp_before: -1,
        topic_id: 42,
    };

    fn decode(bytes: &[u8]) -> Result<SegmentHeader> {
        SegmentHeader::decode(bytes, Path::new("file"), HEADER.base_offset)
    }

    #[test]
    fn the_layout_is_the_one_in_the_table() {
        let bytes = HEADER.encode();
        assert_eq!(&bytes[..16], b"FOREBAYL\x02\x00\x40\x00\x00\x00\x00\x00");
        assert_eq!(bytes[16..24], HEADER.base_offset.to_le_bytes());
        assert_eq!(bytes[24..32], 0xfeed_u64.to_le_bytes());
        assert_eq!(bytes[32..40], 1_700_000_000_000_i64.to_le_bytes());
        assert_eq!(bytes[40..48], [255; 8]);
        assert_eq!(bytes[48..56], 42_u64.to_le_bytes());
        assert_eq!(bytes[56..60], [0; 4]);
        assert_eq!(bytes[60..], crc32fast::hash(&bytes[..60]).to_le_bytes());
        assert_eq!(decode(&bytes).expect("sound"), HEADER);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = HEADER.encode();
        for position in 0..bytes.len() {
            assert!(decode(&bytes[..position]).is_err(), "cut at {position}");
            for bit in 0..8 {
                let mut bytes = bytes;
                bytes[position] ^= 1 << bit;
                assert!(
                    matches!(decode(&bytes), Err(Error::Corrupt { .. })),
                    "bit {bit} of byte {position}"
                );
            }
        }
    }

    #[test]
    fn the_version_says_how_frames_are_checked_and_a_later_one_is_refused() {
        let of = |version| SegmentHeader { version, ..HEADER };
        for version in [1, 2] {
            assert_eq!(decode(&of(version).encode()).expect("sound"), of(version));
        }
        assert_ne!(of(1).checksum(), of(2).checksum());
        for found in [0, 3] {
            let refused = decode(&of(found).encode());
            assert!(
                matches!(&refused, Err(Error::UnsupportedVersion { found: said, supported: 2, .. }) if *said == found),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_file_under_another_name_is_refused() {
        let found = SegmentHeader::decode(&HEADER.encode(), Path::new("file"), 7);
        assert!(matches!(found, Err(Error::Corrupt { position: 16, .. })));
    }
}
