//! Small metadata files: all of it there and as it was written, or an error.
//!
//! | position | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, which says what the file is |
//! | 8 | 2 | format version |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | length of the payload |
//! | 16 | 4 | CRC-32 of bytes 0 to 16 and the payload |
//! | 20 | | payload, as bincode writes it |
//!
//! The checksum covers the magic and the version too, so that a flipped bit in them is damage and
//! not a file of another kind or from the future. [`replace`] keeps this promise over a crash at
//! any point: the file is the old one or the new one.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Storage;
use crate::error::{Error, Result};

const MAGIC: usize = 0;
const VERSION: usize = MAGIC + 8;
const RESERVED: usize = VERSION + 2;
const LENGTH: usize = RESERVED + 2;
const CRC: usize = LENGTH + 4;
const PAYLOAD: usize = CRC + 4;

/// No metadata file comes near this.
const MAX_BYTES: u64 = 1 << 20;
/// What decoding may allocate: without a limit, a wrong length inside would abort the process.
const DECODE_LIMIT: usize = 1 << 20;
/// Ends the name of a file that is being written; no topic or segment is called so.
pub(crate) const TEMPORARY: &str = "~";

/// What a kind of metadata file is known by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u16,
}

/// Whether `name` is what [`replace`] leaves behind when it is interrupted.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

/// Puts `value` in the file at `path`, durably, in place of what was there.
pub(crate) fn replace<T: Serialize>(
    storage: &dyn Storage,
    path: &Path,
    kind: Kind,
    value: &T,
) -> Result<()> {
    let bytes = encode(kind, value);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = Path::new(&temporary);
    let write = || -> io::Result<()> {
        storage.write(temporary, &bytes)?.sync()?;
        storage.rename(temporary, path)?;
        storage.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|error| Error::space("writing metadata file", path, bytes.len() as u64, error))
}

/// What the file at `path` holds, or `None` if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(
    storage: &dyn Storage,
    path: &Path,
    kind: Kind,
) -> Result<Option<T>> {
    let bytes = match storage.read(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Error::corrupt(path, 0, error.to_string()));
        }
        Err(error) => return Err(Error::io("reading metadata file", path, error)),
    };
    decode(&bytes, path, kind).map(Some)
}

fn encode<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    let payload = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("plain structs of numbers and strings serialise");
    let length = u32::try_from(payload.len()).expect("metadata is small");
    let mut bytes = Vec::with_capacity(PAYLOAD + payload.len());
    bytes.extend_from_slice(&kind.magic);
    bytes.extend_from_slice(&kind.version.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(&bytes, &payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

fn decode<T: DeserializeOwned>(bytes: &[u8], path: &Path, kind: Kind) -> Result<T> {
    let damaged = |position: usize, detail: &str| Error::corrupt(path, position as u64, detail);
    let Some((header, payload)) = bytes.split_at_checked(PAYLOAD) else {
        return Err(damaged(bytes.len(), "the file ends within its header"));
    };
    if !header.starts_with(&kind.magic) {
        return Err(damaged(MAGIC, "the magic bytes are not those of this kind of file"));
    }
    let word = |at: usize| -> u32 {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.expect("the header is whole"))
    };
    if word(LENGTH) as usize != payload.len() {
        return Err(damaged(LENGTH, "the length is not that of the file"));
    }
    if word(CRC) != checksum(header.get(..CRC).unwrap_or_default(), payload) {
        return Err(damaged(CRC, "the checksum does not match"));
    }
    let version = (word(VERSION) & 0xffff) as u16;
    if version != kind.version {
        let (path, supported) = (path.to_path_buf(), kind.version);
        return Err(Error::UnsupportedVersion { path, found: version, supported });
    }
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
    match bincode::serde::decode_from_slice(payload, config) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok(_) => Err(damaged(PAYLOAD, "bytes are left over after the content")),
        Err(error) => Err(damaged(PAYLOAD, &error.to_string())),
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header.get(..CRC).unwrap_or(header));
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const KIND: Kind = Kind { magic: *b"testfile", version: 3 };

    #[test]
    fn what_was_put_in_is_read_back() {
        let storage = MemoryStorage::new(1);
        let path = Path::new("/file");
        assert_eq!(read::<(u32, String)>(&storage, path, KIND).expect("absent"), None);
        for value in [(7, "seven".to_owned()), (8, String::new())] {
            replace(&storage, path, KIND, &value).expect("replace");
            assert_eq!(read(&storage, path, KIND).expect("read"), Some(value));
        }
        assert_eq!(storage.list(Path::new("/")).expect("list").len(), 1);
    }

    #[test]
    fn the_layout_is_the_one_in_the_table() {
        let bytes = encode(KIND, &(1_u8, 2_u8));
        assert_eq!(&bytes[..CRC], b"testfile\x03\x00\x00\x00\x02\x00\x00\x00");
        assert_eq!(bytes[CRC..PAYLOAD], checksum(&bytes, &bytes[PAYLOAD..]).to_le_bytes());
        assert_eq!(bytes[PAYLOAD..], [1, 2]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = encode(KIND, &(7_u32, "seven".to_owned()));
        let decode = |bytes: &[u8]| decode::<(u32, String)>(bytes, Path::new("file"), KIND);
        assert!(decode(&bytes).is_ok());
        for position in 0..bytes.len() {
            assert!(decode(&bytes[..position]).is_err(), "cut at {position}");
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << bit;
                assert!(
                    matches!(decode(&bytes), Err(Error::Corrupt { .. })),
                    "bit {bit} of byte {position}"
                );
            }
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let bytes = encode(Kind { version: 4, ..KIND }, &(7_u32, String::new()));
        let found = decode::<(u32, String)>(&bytes, Path::new("file"), KIND);
        assert!(matches!(found, Err(Error::UnsupportedVersion { found: 4, supported: 3, .. })));
    }
}
