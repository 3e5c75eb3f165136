//! One file of the offset store: a header, then frames, each tied to all that stand before it.
//!
//! | position | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `FOREBAYO` |
//! | 8 | 2 | format version |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | CRC-32 of everything else in the header |
//! | 16 | 8 | number of the file, counted from 1 |
//! | 24 | 8 | salt, drawn when the file was begun |
//! | 32 | | frames |
//!
//! The frames are those of a log's segment, with a seed that is the checksum of the frame before
//! (of the header, for the first). So what is read is a prefix of what was written here in this
//! use of the file, and bytes of an earlier use are never valid. A file that was found is read and
//! not appended to: after a power cut, what is written behind a frame that was torn could make it
//! whole again. Frames begin with those that say all that was known when the file was begun; the
//! last of them is `Entry::SnapshotEnd`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Entry;
use crate::error::{Error, Result};
use crate::storage::checksum::Checksum;
use crate::storage::frame::{self, FrameHeader, NoFrame};
use crate::storage::{RegionWriter, Storage, StorageFile};

const MAGIC: [u8; 8] = *b"FOREBAYO";
const VERSION_NOW: u16 = 1;

const VERSION: usize = 8;
const RESERVED: usize = VERSION + 2;
const CRC: usize = RESERVED + 2;
const NUMBER: usize = CRC + 4;
const SALT: usize = NUMBER + 8;
/// Where the first frame starts.
const FRAMES: usize = SALT + 8;
/// Where in a frame its checksum lies.
const FRAME_CRC: usize = 4;

/// What a frame of `body` bytes takes in the file.
pub(super) const fn frame_bytes(body: usize) -> usize {
    frame::stride(frame::HEADER_BYTES + body)
}

/// What a file takes whose frames take `frames` bytes.
pub(super) const fn file_bytes(frames: usize) -> usize {
    FRAMES + frames
}

/// A file that is written, or that was.
#[derive(Debug)]
pub(super) struct OffsetFile {
    number: u64,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    /// `None` if it is one that was found.
    writer: Option<RegionWriter>,
    /// The seed of the next frame.
    chain: u32,
    salt: u64,
    /// What the file takes, in bytes.
    capacity: usize,
}

/// A file as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Where its last whole frame ends, in bytes.
    pub(super) end: u64,
    /// Whether all that was known when it was begun is in it.
    pub(super) is_complete: bool,
    /// Its salt, if its header can be read.
    pub(super) salt: Option<u64>,
    /// What stands behind its last whole frame, or what is wrong with it.
    pub(super) detail: String,
}

impl OffsetFile {
    /// Makes a file with `capacity` bytes of real blocks.
    pub(super) fn create(
        storage: &dyn Storage,
        path: &Path,
        number: u64,
        capacity: usize,
    ) -> Result<Self> {
        let bytes = capacity as u64;
        let space = |error| Error::space("creating offset file", path, bytes, error);
        let file = storage.create(path).map_err(space)?;
        file.keep_in_place();
        let made = file.allocate(0, bytes).and_then(|()| file.call_writer(capacity, 0));
        let writer = made.map_err(|error| {
            drop(storage.remove_file(path));
            space(error)
        })?;
        Self::begin(storage, path, number, file, writer)
    }

    /// Begins a file anew, in the blocks it has. What was in it is gone.
    pub(super) fn reuse(storage: &dyn Storage, path: &Path, number: u64) -> Result<Self> {
        let open = || {
            let file = storage.open(path)?;
            let capacity = usize::try_from(file.len()?).map_err(std::io::Error::other)?;
            let writer = file.call_writer(capacity, 0)?;
            Ok((file, writer))
        };
        let (file, writer) =
            open().map_err(|error| Error::io("opening spare offset file", path, error))?;
        Self::begin(storage, path, number, file, writer)
    }

    fn begin(
        storage: &dyn Storage,
        path: &Path,
        number: u64,
        file: Arc<dyn StorageFile>,
        mut writer: RegionWriter,
    ) -> Result<Self> {
        let salt = storage.random();
        let (header, chain) = encode_header(number, salt);
        let Some(mut stage) = writer.stage(0, FRAMES) else {
            return Err(Error::corrupt(path, 0, "the file is shorter than its header"));
        };
        stage.put(&header);
        writer
            .publish(FRAMES)
            .map_err(|error| Error::space("writing offset file", path, FRAMES as u64, error))?;
        let (path, capacity) = (path.to_path_buf(), writer.limit());
        Ok(Self { number, path, file, writer: Some(writer), chain, salt, capacity })
    }

    /// A file that was found and read, not to be appended to.
    pub(super) fn found(storage: &dyn Storage, path: &Path, number: u64) -> Result<Self> {
        let open = || {
            let file = storage.open(path)?;
            let capacity = usize::try_from(file.len()?).map_err(std::io::Error::other)?;
            Ok((file, capacity))
        };
        let (file, capacity) =
            open().map_err(|error| Error::io("opening offset file", path, error))?;
        let path = path.to_path_buf();
        Ok(Self { number, path, file, writer: None, chain: 0, salt: 0, capacity })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Says that the file has another name.
    pub(super) fn renamed(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub(super) fn file(&self) -> &Arc<dyn StorageFile> {
        &self.file
    }

    /// Where its last frame ends, if it is one that is written.
    pub(super) fn end(&self) -> Option<u64> {
        self.writer.as_ref().map(|writer| writer.committed() as u64)
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends an entry of that time; `false` if there is no room, or it is one that was found.
    pub(super) fn append(&mut self, at: i64, body: &[u8]) -> Result<bool> {
        let Some(writer) = &mut self.writer else { return Ok(false) };
        let header = FrameHeader { offset_delta: 0, count: 1, timestamp: at, attributes: 0 };
        let position = writer.committed();
        let checksum = Checksum::crc32(self.chain);
        let put = |stage: &mut crate::storage::Stage<'_>| stage.put(body);
        let Some(end) = frame::write(writer, position, checksum, &header, body.len(), put) else {
            return Ok(false);
        };
        writer.publish(end).map_err(|error| {
            Error::space("writing offset file", &self.path, (end - position) as u64, error)
        })?;
        let region = writer.region();
        let crc = region.read(position + FRAME_CRC..position + FRAME_CRC + 4);
        self.chain = crc.map_or(0, word);
        Ok(true)
    }
}

/// Reads the file with this number, and gives each entry and its time to `take`, in order.
pub(super) fn read(
    storage: &dyn Storage,
    path: &Path,
    number: u64,
    mut take: impl FnMut(&Entry<'_>, i64),
) -> Result<Found> {
    let region =
        storage.map(path).map_err(|error| Error::io("reading offset file", path, error))?;
    let bytes = region.read(0..region.committed()).unwrap_or_default();
    let mut at = FRAMES;
    let mut found = Found { end: 0, is_complete: false, salt: None, detail: String::new() };
    let mut chain = match decode_header(bytes, path, number)? {
        Ok(chain) => chain,
        Err(detail) => {
            found.detail = detail;
            return Ok(found);
        }
    };
    found.salt =
        bytes.get(SALT..).and_then(|bytes| bytes.first_chunk()).copied().map(u64::from_le_bytes);
    loop {
        found.end = at as u64;
        let rest = bytes.get(at..).unwrap_or_default();
        let frame = match frame::read(rest, Checksum::crc32(chain)) {
            Ok(frame) => frame,
            Err(no_frame) => {
                found.detail = match no_frame {
                    NoFrame::End => "nothing stands there".to_owned(),
                    NoFrame::Invalid(detail) => detail,
                };
                return Ok(found);
            }
        };
        match Entry::decode(frame.body) {
            Ok(Entry::SnapshotEnd) => found.is_complete = true,
            Ok(entry) => take(&entry, frame.header.timestamp),
            Err(detail) => return Err(Error::corrupt(path, found.end, detail)),
        }
        chain = rest.get(FRAME_CRC..FRAME_CRC + 4).map_or(0, word);
        at += frame.stride;
    }
}

/// The header, and the seed of the first frame.
fn encode_header(number: u64, salt: u64) -> ([u8; FRAMES], u32) {
    let mut header = [0; FRAMES];
    let mut put = |at: usize, field: &[u8]| {
        if let Some(slot) = header.get_mut(at..at + field.len()) {
            slot.copy_from_slice(field);
        }
    };
    put(0, &MAGIC);
    put(VERSION, &VERSION_NOW.to_le_bytes());
    put(NUMBER, &number.to_le_bytes());
    put(SALT, &salt.to_le_bytes());
    let crc = checksum(&header);
    if let Some(slot) = header.get_mut(CRC..CRC + 4) {
        slot.copy_from_slice(&crc.to_le_bytes());
    }
    (header, crc)
}

/// The seed of the first frame, or what is wrong with the header.
fn decode_header(bytes: &[u8], path: &Path, number: u64) -> Result<Result<u32, String>> {
    let Some(header) = bytes.first_chunk::<FRAMES>() else {
        return Ok(Err("the file ends within its header".to_owned()));
    };
    let crc = checksum(header);
    if !header.starts_with(&MAGIC) || header.get(CRC..CRC + 4).map(word) != Some(crc) {
        return Ok(Err("the header is not that of an offset file".to_owned()));
    }
    let version = header.get(VERSION..VERSION + 2).map_or(0, half_word);
    if version != VERSION_NOW {
        let (path, supported) = (path.to_path_buf(), VERSION_NOW);
        return Err(Error::UnsupportedVersion { path, found: version, supported });
    }
    if header.get(NUMBER..NUMBER + 8) != Some(&number.to_le_bytes()) {
        return Ok(Err("the header has another number than the file's name".to_owned()));
    }
    Ok(Ok(crc))
}

fn checksum(header: &[u8; FRAMES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header.get(..CRC).unwrap_or_default());
    hasher.update(header.get(CRC + 4..).unwrap_or_default());
    hasher.finalize()
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn half_word(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const PATH: &str = "/file";

    fn entries(storage: &MemoryStorage, number: u64) -> (Vec<(String, i64)>, Found) {
        let mut entries = Vec::new();
        let take = |entry: &Entry<'_>, at: i64| entries.push((format!("{entry:?}"), at));
        let found = read(storage, Path::new(PATH), number, take).expect("read");
        (entries, found)
    }

    fn append(file: &mut OffsetFile, topic_id: u64) -> bool {
        let mut body = Vec::new();
        Entry::Forget { topic_id }.encode(&mut body);
        file.append(7, &body).expect("memory")
    }

    #[test]
    fn the_layout_is_the_one_in_the_table() {
        let (header, crc) = encode_header(3, 0x0102_0304);
        assert_eq!(&header[..12], b"FOREBAYO\x01\0\0\0");
        assert_eq!(header[12..16], crc.to_le_bytes());
        assert_eq!(header[16..24], 3_u64.to_le_bytes());
        assert_eq!(header[24..], 0x0102_0304_u64.to_le_bytes());
        let storage = MemoryStorage::new(1);
        let mut file = OffsetFile::create(&storage, Path::new(PATH), 1, 4096).expect("create");
        let mut body = Vec::new();
        let offsets = vec![OffsetEntryForTest { partition: 2, offset: 300, metadata: "m" }];
        let topics = vec![super::super::entry::TopicEntry { topic: "t", id: 5, offsets }];
        Entry::Commit { group: "g", topics }.encode(&mut body);
        assert_eq!(body, [0, 1, b'g', 1, 1, b't', 5, 1, 2, 251, 44, 1, 1, b'm']);
        Entry::Members { group: "g", any: true }.encode(&mut body);
        assert_eq!(body, [1, 1, b'g', 1]);
        Entry::Delete { group: "g" }.encode(&mut body);
        assert_eq!(body, [2, 1, b'g']);
        Entry::Forget { topic_id: 9 }.encode(&mut body);
        assert_eq!(body, [3, 9]);
        Entry::SnapshotEnd.encode(&mut body);
        assert_eq!(body, [4]);
        assert!(file.append(0, &body).expect("memory"));
        assert!(entries(&storage, 1).1.is_complete);
    }

    use super::super::entry::OffsetEntry as OffsetEntryForTest;

    #[test]
    fn what_was_written_is_read_back_and_not_gone_on_with() {
        let storage = MemoryStorage::new(1);
        let mut file = OffsetFile::create(&storage, Path::new(PATH), 1, 4096).expect("create");
        assert!(append(&mut file, 1) && append(&mut file, 2));
        drop(file);
        let (read, found) = entries(&storage, 1);
        assert_eq!(read.last(), Some(&("Forget { topic_id: 2 }".to_owned(), 7)));
        assert_eq!((read.len(), found.is_complete), (2, false));
        let mut file = OffsetFile::found(&storage, Path::new(PATH), 1).expect("found");
        assert!(!append(&mut file, 3));
    }

    #[test]
    fn a_file_takes_what_it_has_room_for() {
        let storage = MemoryStorage::new(1);
        let mut file = OffsetFile::create(&storage, Path::new(PATH), 1, 4096).expect("create");
        let count = (0..200).take_while(|nonce| append(&mut file, *nonce)).count();
        assert_eq!(entries(&storage, 1).0.len(), count);
        assert!(count >= (4096 - FRAMES) / frame_bytes(2) - 1, "{count}");
    }

    #[test]
    fn nothing_of_an_earlier_use_is_read() {
        let storage = MemoryStorage::new(1);
        let mut file = OffsetFile::create(&storage, Path::new(PATH), 1, 4096).expect("create");
        while append(&mut file, 1) {}
        drop(file);
        let mut file = OffsetFile::reuse(&storage, Path::new(PATH), 2).expect("reuse");
        assert!(append(&mut file, 1));
        assert_eq!(entries(&storage, 2).0.len(), 1);
        assert!(entries(&storage, 1).0.is_empty(), "the number is another");
    }

    #[test]
    fn every_flipped_bit_ends_the_reading_there() {
        let storage = MemoryStorage::new(1);
        let mut file = OffsetFile::create(&storage, Path::new(PATH), 1, 4096).expect("create");
        for nonce in 0..3 {
            assert!(append(&mut file, nonce));
        }
        let frame = frame_bytes(2);
        drop(file);
        let whole = storage.read(Path::new(PATH), 4096).expect("bytes");
        for position in 0..FRAMES + 3 * frame {
            // The bytes between frames hold nothing and are not covered.
            if position >= FRAMES && (position - FRAMES) % frame >= frame::HEADER_BYTES + 2 {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[position] ^= 4;
            drop(storage.write(Path::new(PATH), &bytes).expect("write"));
            let mut count = 0;
            match read(&storage, Path::new(PATH), 1, |_, _| count += 1) {
                Ok(_) => assert_eq!(count, position.saturating_sub(FRAMES) / frame),
                Err(error) => panic!("byte {position}: {error}"),
            }
        }
    }
}
