//! Up to where a file is known to be on stable storage: what tells damage from a torn tail.
//!
//! | position | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `FOREBAYD` |
//! | 8 | 2 | format version |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | CRC-32 of everything else |
//! | 16 | 8 | which file: the base offset of a segment |
//! | 24 | 8 | salt of that file |
//! | 32 | 8 | position in it below which everything was synced |
//! | 40 | 8 | offset of the record that starts there |
//!
//! It is stored after each sync of a partition, in place, and never synced itself: a mark that is
//! found was true when it was stored and stays true, and one that is lost or old claims less. It
//! lies in one sector, so it is there whole or as it was before; one that does not check counts as
//! none, and so does one whose salt is not that of the segment it names. A repair, which takes bytes
//! away below it, writes down the gaps first and puts the mark aside last: until then it says what is
//! left to be done.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Storage, StorageFile};

const FILE: &str = "durable";
const MAGIC_BYTES: [u8; 8] = *b"FOREBAYD";
const FORMAT_VERSION: u16 = 1;

const MAGIC: usize = 0;
const VERSION: usize = MAGIC + 8;
const CRC: usize = VERSION + 2 + 2;
const BASE_OFFSET: usize = CRC + 4;
const SALT: usize = BASE_OFFSET + 8;
const POSITION: usize = SALT + 8;
const NEXT_OFFSET: usize = POSITION + 8;
const BYTES: usize = NEXT_OFFSET + 8;

/// A place below which everything was on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurableMark {
    /// The segment it lies in.
    pub(crate) base_offset: u64,
    /// The salt of that segment.
    pub(crate) salt: u64,
    /// Bytes from the segment's start.
    pub(crate) position: u64,
    /// The offset of the record that starts there.
    pub(crate) next_offset: u64,
}

impl DurableMark {
    /// The mark kept in `dir`, or `None` if there is none that can be believed.
    pub(crate) fn load(storage: &dyn Storage, dir: &Path) -> io::Result<Option<Self>> {
        match storage.read(&path_in(dir), BYTES as u64) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, field: &[u8]| {
            if let Some(slot) = bytes.get_mut(at..at + field.len()) {
                slot.copy_from_slice(field);
            }
        };
        put(MAGIC, &MAGIC_BYTES);
        put(VERSION, &FORMAT_VERSION.to_le_bytes());
        put(BASE_OFFSET, &self.base_offset.to_le_bytes());
        put(SALT, &self.salt.to_le_bytes());
        put(POSITION, &self.position.to_le_bytes());
        put(NEXT_OFFSET, &self.next_offset.to_le_bytes());
        let crc = checksum(&bytes);
        if let Some(slot) = bytes.get_mut(CRC..CRC + 4) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let version = bytes.get(VERSION..VERSION + 2)?.try_into().map(u16::from_le_bytes).ok()?;
        let crc = bytes.get(CRC..CRC + 4)?.try_into().map(u32::from_le_bytes).ok()?;
        if !bytes.starts_with(&MAGIC_BYTES) || version != FORMAT_VERSION || crc != checksum(bytes) {
            return None;
        }
        let long = |at: usize| bytes.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
        Some(Self {
            base_offset: long(BASE_OFFSET)?,
            salt: long(SALT)?,
            position: long(POSITION)?,
            next_offset: long(NEXT_OFFSET)?,
        })
    }
}

fn checksum(bytes: &[u8; BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..CRC).unwrap_or_default());
    hasher.update(bytes.get(CRC + 4..).unwrap_or_default());
    hasher.finalize()
}

/// Where the mark of the files in `dir` is kept.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Whether `name` is that of a mark.
pub(crate) fn is_mark(name: &str) -> bool {
    name == FILE
}

/// The file a mark is kept in, open to be stored to.
#[derive(Debug)]
pub(crate) struct MarkFile(Arc<dyn StorageFile>);

impl MarkFile {
    /// Opens or makes the file. Its directory entry is not made durable here.
    pub(crate) fn open(storage: &dyn Storage, dir: &Path) -> io::Result<Self> {
        let path = path_in(dir);
        match storage.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                storage.create(&path).map(Self)
            }
            other => other.map(Self),
        }
    }

    /// Stores a mark in place of the one before.
    pub(crate) fn put(&self, mark: &DurableMark) -> io::Result<()> {
        self.0.write_at(0, &mark.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const MARK: DurableMark =
        DurableMark { base_offset: 7, salt: 0xfeed, position: 4096, next_offset: 31 };

    #[test]
    fn the_layout_is_the_one_in_the_table() {
        let bytes = MARK.encode();
        assert_eq!(&bytes[..12], b"FOREBAYD\x01\0\0\0");
        assert_eq!(bytes[12..16], checksum(&bytes).to_le_bytes());
        assert_eq!(bytes[16..24], 7_u64.to_le_bytes());
        assert_eq!(bytes[24..32], 0xfeed_u64.to_le_bytes());
        assert_eq!(bytes[32..40], 4096_u64.to_le_bytes());
        assert_eq!(bytes[40..], 31_u64.to_le_bytes());
    }

    #[test]
    fn the_last_mark_is_found_and_one_that_was_flipped_or_cut_is_not_believed() {
        let storage = MemoryStorage::new(1);
        let dir = Path::new("/");
        assert_eq!(DurableMark::load(&storage, dir).expect("none"), None);
        let file = MarkFile::open(&storage, dir).expect("open");
        for position in [64, 4096] {
            file.put(&DurableMark { position, ..MARK }).expect("put");
        }
        assert_eq!(DurableMark::load(&storage, dir).expect("load"), Some(MARK));
        let whole = MARK.encode();
        for position in 0..BYTES {
            assert_eq!(DurableMark::decode(&whole[..position]), None, "cut at {position}");
            for bit in 0..8 {
                let mut bytes = whole;
                bytes[position] ^= 1 << bit;
                assert_eq!(DurableMark::decode(&bytes), None, "bit {bit} of byte {position}");
            }
        }
    }
}
