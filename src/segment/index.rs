//! The sparse indexes of a segment: every few kilobytes, which offset lies where and which times
//! came before it.
//!
//! A cache, kept beside the log and never believed over it: what is found is checked against the
//! frame it points to, and an index that is missing, damaged or of another file is built again
//! from the log. While a segment grows its index is in memory; when the segment is sealed it is
//! written as two files, `.index` and `.timeindex`, which begin alike:
//!
//! | position | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `FOREBAYI` or `FOREBAYT` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | size of an entry: 8 or 12 |
//! | 12 | 4 | number of entries |
//! | 16 | 8 | salt of the segment |
//! | 24 | 8 | length of the log in bytes |
//! | 32 | 8 | offset behind the last record |
//! | 40 | 8 | the largest timestamp in the segment, or -1 |
//! | 48 | 8 | time of the last append, or -1 where it was not known |
//! | 56 | 4 | reserved, 0 |
//! | 60 | 4 | CRC-32 of bytes 0 to 60 and the entries |
//! | 64 | | entries |
//!
//! An entry of `.index` is the offset of a frame less the base offset (4) and the frame's
//! position (4); of `.timeindex` it is the largest timestamp before that frame (8, -1 for none)
//! and the same offset (4).

use std::path::{Path, PathBuf};

use crate::storage::Storage;

const OFFSET_MAGIC: [u8; 8] = *b"FOREBAYI";
const TIME_MAGIC: [u8; 8] = *b"FOREBAYT";
const OFFSET_SUFFIX: &str = "index";
const TIME_SUFFIX: &str = "timeindex";
const FORMAT_VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const CRC: usize = 60;
const OFFSET_ENTRY_BYTES: usize = 8;
const TIME_ENTRY_BYTES: usize = 12;
/// No index comes near this: it is what a segment of 2 GiB with an entry every 64 bytes has.
const MAX_BYTES: u64 = 512 << 20;

/// A frame that can be jumped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Offset of the frame's first record, less the segment's base offset.
    pub(crate) offset_delta: u32,
    /// Where the frame starts in the segment.
    pub(crate) position: u32,
    /// The largest timestamp before the frame in this segment, or -1 for none.
    pub(crate) max_timestamp_before: i64,
}

/// What is known of a segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Where its last frame ends.
    pub(crate) log_bytes: u64,
    /// The offset behind its last record.
    pub(crate) next_offset: u64,
    /// The largest timestamp in it, or -1.
    pub(crate) max_timestamp: i64,
    /// When it was last appended to, or -1.
    pub(crate) last_append: i64,
}

/// The entries of one segment, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    entries: Vec<IndexEntry>,
}

impl SparseIndex {
    /// What both files take without an entry, in bytes.
    pub(crate) const EMPTY_BYTES: u64 = 2 * HEADER_BYTES as u64;

    /// What entries for so many bytes of log take at the most, with entries so far apart.
    pub(crate) fn bytes_for(log_bytes: u64, interval: u64) -> u64 {
        (log_bytes / interval.max(1) + 1) * (OFFSET_ENTRY_BYTES + TIME_ENTRY_BYTES) as u64
    }

    /// Adds an entry behind the others.
    pub(crate) fn push(&mut self, entry: IndexEntry) {
        debug_assert!(self.entries.last().is_none_or(|last| last.position < entry.position));
        self.entries.push(entry);
    }

    /// The last entry at or before an offset, from which a scan finds it.
    pub(crate) fn floor_offset(&self, offset_delta: u32) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.offset_delta <= offset_delta);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// The last entry before which everything is older than `timestamp`.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// Writes both files, as a cache: unsynced, and it is no harm if they are lost. Returns what they
    /// take, in bytes.
    pub(crate) fn store(
        &self,
        storage: &dyn Storage,
        log: &Path,
        salt: u64,
        summary: &Summary,
    ) -> std::io::Result<u64> {
        let offsets =
            self.encode(OFFSET_MAGIC, OFFSET_ENTRY_BYTES, salt, summary, |entry, bytes| {
                bytes.extend_from_slice(&entry.offset_delta.to_le_bytes());
                bytes.extend_from_slice(&entry.position.to_le_bytes());
            });
        let times = self.encode(TIME_MAGIC, TIME_ENTRY_BYTES, salt, summary, |entry, bytes| {
            bytes.extend_from_slice(&entry.max_timestamp_before.to_le_bytes());
            bytes.extend_from_slice(&entry.offset_delta.to_le_bytes());
        });
        storage.write(&offset_path(log), &offsets)?;
        storage.write(&time_path(log), &times)?;
        Ok((offsets.len() + times.len()) as u64)
    }

    fn encode(
        &self,
        magic: [u8; 8],
        entry_bytes: usize,
        salt: u64,
        summary: &Summary,
        put: impl Fn(&IndexEntry, &mut Vec<u8>),
    ) -> Vec<u8> {
        let count = u32::try_from(self.entries.len())
            .expect("positions are 32 bits wide, so is their number");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * entry_bytes);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(entry_bytes as u16).to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&salt.to_le_bytes());
        bytes.extend_from_slice(&summary.log_bytes.to_le_bytes());
        bytes.extend_from_slice(&summary.next_offset.to_le_bytes());
        bytes.extend_from_slice(&summary.max_timestamp.to_le_bytes());
        bytes.extend_from_slice(&summary.last_append.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        for entry in &self.entries {
            put(entry, &mut bytes);
        }
        let crc = checksum(&bytes);
        if let Some(slot) = bytes.get_mut(CRC..HEADER_BYTES) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// Whether every entry is one of `all`, which has one for each frame.
    pub(crate) fn is_part_of(&self, all: &Self) -> bool {
        let mut rest = all.entries.iter();
        self.entries.iter().all(|entry| rest.any(|one| one == entry))
    }

    /// Reads both files of the segment at `log`, or `None` if they are not there, not sound, or
    /// not those of the log with this `salt`.
    pub(crate) fn load(storage: &dyn Storage, log: &Path, salt: u64) -> Option<(Self, Summary)> {
        let offsets = storage.read(&offset_path(log), MAX_BYTES).ok()?;
        let times = storage.read(&time_path(log), MAX_BYTES).ok()?;
        let (summary, offset_rows) = open(&offsets, OFFSET_MAGIC, OFFSET_ENTRY_BYTES, salt)?;
        let (same_summary, time_rows) = open(&times, TIME_MAGIC, TIME_ENTRY_BYTES, salt)?;
        if summary != same_summary
            || offset_rows.len() / OFFSET_ENTRY_BYTES != time_rows.len() / TIME_ENTRY_BYTES
        {
            return None;
        }
        let mut entries: Vec<IndexEntry> =
            Vec::with_capacity(offset_rows.len() / OFFSET_ENTRY_BYTES);
        for (offset_row, time_row) in offset_rows
            .chunks_exact(OFFSET_ENTRY_BYTES)
            .zip(time_rows.chunks_exact(TIME_ENTRY_BYTES))
        {
            let entry = IndexEntry {
                offset_delta: word(offset_row, 0)?,
                position: word(offset_row, 4)?,
                max_timestamp_before: long(time_row, 0)?.cast_signed(),
            };
            let in_order = entries.last().is_none_or(|last| {
                last.offset_delta < entry.offset_delta && last.position < entry.position
            });
            if !in_order
                || word(time_row, 8)? != entry.offset_delta
                || u64::from(entry.position) >= summary.log_bytes
            {
                return None;
            }
            entries.push(entry);
        }
        Some((Self { entries }, summary))
    }
}

/// Decides which frames get an entry.
#[derive(Debug)]
pub(super) struct IndexBuilder {
    interval: u64,
    /// From which position on a frame gets an entry.
    next_entry: usize,
    pub(super) max_timestamp: i64,
    pub(super) index: SparseIndex,
}

impl IndexBuilder {
    pub(super) fn new(interval: u64, max_timestamp: i64) -> Self {
        Self { interval, next_entry: 0, max_timestamp, index: SparseIndex::default() }
    }

    /// How far entries are apart, in bytes.
    pub(super) fn interval(&self) -> u64 {
        self.interval
    }

    /// Sets how far entries are apart from the last one on.
    pub(super) fn set_interval(&mut self, interval: u64) {
        let bytes = |interval| usize::try_from(interval).unwrap_or(usize::MAX);
        if self.next_entry > 0 {
            let last = self.next_entry.saturating_sub(bytes(self.interval));
            self.next_entry = last.saturating_add(bytes(interval));
        }
        self.interval = interval;
    }

    /// The entry the frame at `position` gets, if it is time for one.
    #[inline]
    pub(super) fn entry(
        &mut self,
        offset_delta: u32,
        position: usize,
        newest: i64,
    ) -> Option<IndexEntry> {
        let max_timestamp_before = self.max_timestamp;
        self.max_timestamp = newest.max(max_timestamp_before);
        if position < self.next_entry {
            return None;
        }
        let interval = usize::try_from(self.interval).unwrap_or(usize::MAX);
        self.next_entry = position.saturating_add(interval);
        let position = u32::try_from(position).expect("a segment is smaller than 4 GiB");
        Some(IndexEntry { offset_delta, position, max_timestamp_before })
    }

    /// Gives the frame at `position` an entry in an index of its own, if it is time for one.
    pub(super) fn note(&mut self, offset_delta: u32, position: usize, newest: i64) {
        if let Some(entry) = self.entry(offset_delta, position, newest) {
            self.index.push(entry);
        }
    }
}

/// Which index files of the segment at `log` are there, each with whether it is sound in itself and of
/// the segment with this `salt`, and how long it is.
pub(crate) fn files_of(storage: &dyn Storage, log: &Path, salt: u64) -> Vec<(PathBuf, bool, u64)> {
    let kinds = [
        (offset_path(log), OFFSET_MAGIC, OFFSET_ENTRY_BYTES),
        (time_path(log), TIME_MAGIC, TIME_ENTRY_BYTES),
    ];
    let mut found = Vec::with_capacity(kinds.len());
    for (path, magic, entry_bytes) in kinds {
        match storage.read(&path, MAX_BYTES) {
            Ok(bytes) => {
                let is_sound = open(&bytes, magic, entry_bytes, salt).is_some();
                found.push((path, is_sound, bytes.len() as u64));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => found.push((path, false, 0)),
        }
    }
    found
}

/// Checks everything before the entries and returns what it says, and the entries' bytes.
fn open(bytes: &[u8], magic: [u8; 8], entry_bytes: usize, salt: u64) -> Option<(Summary, &[u8])> {
    let (header, rows) = bytes.split_at_checked(HEADER_BYTES)?;
    let count = word(header, 12)? as usize;
    let sound = header.starts_with(&magic)
        && word(header, 8)? == u32::from(FORMAT_VERSION) | (entry_bytes as u32) << 16
        && rows.len() == count.checked_mul(entry_bytes)?
        && long(header, 16)? == salt
        && word(header, CRC)? == checksum(bytes);
    let summary = Summary {
        log_bytes: long(header, 24)?,
        next_offset: long(header, 32)?,
        max_timestamp: long(header, 40)?.cast_signed(),
        last_append: long(header, 48)?.cast_signed(),
    };
    sound.then_some((summary, rows))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..CRC).unwrap_or_default());
    hasher.update(bytes.get(HEADER_BYTES..).unwrap_or_default());
    hasher.finalize()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// When the segment was last appended to, by what its index says; `None` where that is not known.
pub(crate) fn stored_last_append(storage: &dyn Storage, log: &Path, salt: u64) -> Option<i64> {
    let bytes = storage.read(&offset_path(log), MAX_BYTES).ok()?;
    let (summary, _) = open(&bytes, OFFSET_MAGIC, OFFSET_ENTRY_BYTES, salt)?;
    Some(summary.last_append).filter(|time| *time >= 0)
}

/// Whether `path` is an index of either kind.
pub(crate) fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == OFFSET_SUFFIX || end == TIME_SUFFIX)
}

/// The offset index of the segment at `log`.
pub(crate) fn offset_path(log: &Path) -> PathBuf {
    log.with_extension(OFFSET_SUFFIX)
}

/// The time index of the segment at `log`.
pub(crate) fn time_path(log: &Path) -> PathBuf {
    log.with_extension(TIME_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const SUMMARY: Summary =
        Summary { log_bytes: 10_000, next_offset: 130, max_timestamp: 90, last_append: 95 };

    fn index() -> SparseIndex {
        let entry = |offset_delta, position, max_timestamp_before| IndexEntry {
            offset_delta,
            position,
            max_timestamp_before,
        };
        SparseIndex {
            entries: vec![
                entry(0, 64, -1),
                entry(10, 4000, 50),
                entry(20, 8000, 50),
                entry(25, 9000, 80),
            ],
        }
    }

    #[test]
    fn the_floor_of_an_offset_is_the_last_entry_at_or_before_it() {
        let floor = |offset| index().floor_offset(offset).map(|entry| entry.position);
        assert_eq!(
            [floor(0), floor(9), floor(10), floor(24), floor(1000)],
            [64, 64, 4000, 8000, 9000].map(Some)
        );
        assert_eq!(SparseIndex::default().floor_offset(5), None);
    }

    #[test]
    fn the_floor_of_a_time_has_only_older_records_before_it() {
        let floor = |time| index().floor_timestamp(time).map(|entry| entry.position);
        assert_eq!(
            [floor(0), floor(50), floor(51), floor(80), floor(81)],
            [64, 64, 8000, 8000, 9000].map(Some)
        );
    }

    #[test]
    fn stored_indexes_are_loaded_for_their_own_log_alone() {
        let storage = MemoryStorage::new(1);
        let log = Path::new("/0.log");
        index().store(&storage, log, 7, &SUMMARY).expect("store");
        assert_eq!(SparseIndex::load(&storage, log, 7), Some((index(), SUMMARY)));
        assert_eq!(SparseIndex::load(&storage, log, 8), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let storage = MemoryStorage::new(1);
        let log = Path::new("/0.log");
        index().store(&storage, log, 7, &SUMMARY).expect("store");
        for path in [offset_path(log), time_path(log)] {
            let bytes = storage.read(&path, MAX_BYTES).expect("read");
            for position in 0..bytes.len() {
                storage.write(&path, &bytes[..position]).expect("write");
                assert_eq!(SparseIndex::load(&storage, log, 7), None, "cut at {position}");
                for bit in 0..8 {
                    let mut bytes = bytes.clone();
                    bytes[position] ^= 1 << bit;
                    storage.write(&path, &bytes).expect("write");
                    assert_eq!(
                        SparseIndex::load(&storage, log, 7),
                        None,
                        "bit {bit} of byte {position}"
                    );
                }
            }
            storage.write(&path, &bytes).expect("write");
        }
    }
}
