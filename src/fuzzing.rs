//! Doors for the fuzzers in `tests/fuzz`, since what decodes bytes from disk is private.
//!
//! Built with `--cfg fuzzing` alone and no part of the library. Each door takes bytes that may be
//! anything and does what the library would do with them; what must hold of the outcome is asserted
//! here. What is only asked of a whole broker stands in `tests/fuzz`, with the public API.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admission::Admission;
use crate::background::{Background, Inline};
use crate::clock::{Clock, ManualClock};
use crate::error::Result;
use crate::group::OffsetStore;
use crate::open_segments::OpenSegments;
use crate::quota::Quota;
use crate::record::Record;
use crate::record_codec::{self, Headers};
use crate::recovery_mode::HowToOpen;
use crate::relief::NoRelief;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, SparseIndex, log_path};
use crate::segment::{offset_path, time_path};
use crate::storage::checksum::Checksum;
use crate::storage::frame::{self, Frame};
use crate::storage::memory::MemoryStorage;
use crate::storage::simulated::SimulatedDisk;
use crate::storage::{RegionWriter, Storage};
use crate::timestamp::Timestamp;
use crate::topic::{Surroundings, TopicState};

/// A file: its path below the directory, and what is in it.
pub type File = (String, Vec<u8>);

/// A disk with these files below `dir`, all of it durable.
#[must_use]
pub fn disk(dir: &str, files: &[File]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    put(&disk.shared, Path::new(dir), files);
    disk
}

/// The files below `dir` as a running process sees them.
#[must_use]
pub fn files(disk: &SimulatedDisk, dir: &str) -> Vec<File> {
    let mut files = Vec::new();
    collect(&disk.shared, Path::new(dir), "", &mut files);
    files
}

fn put(storage: &dyn Storage, dir: &Path, files: &[File]) {
    for (name, bytes) in files {
        let path = dir.join(name);
        let parent = path.parent().expect("a file lies in a directory");
        storage.create_dir_all(parent).expect("memory takes directories");
        let file = storage.write(&path, bytes).expect("memory takes files");
        file.sync().expect("memory can be synced");
        storage.sync_dir(parent).expect("memory can be synced");
    }
}

fn collect(storage: &dyn Storage, dir: &Path, below: &str, files: &mut Vec<File>) {
    for entry in storage.list(dir).expect("the directory exists") {
        let (path, name) = (dir.join(&entry.name), format!("{below}{}", entry.name));
        if entry.is_dir {
            collect(storage, &path, &format!("{name}/"), files);
        } else {
            files.push((name, storage.read(&path, u64::MAX).expect("the file exists")));
        }
    }
}

/// A segment of this format version with these bytes for frames behind a sound header, and these for indexes: scanned,
/// walked and searched.
pub fn segment(version: u16, frames: &[u8], indexes: Option<(&[u8], &[u8])>) {
    let header = SegmentHeader {
        version,
        base_offset: 7,
        salt: SALT,
        created: 0,
        max_timestamp_before: -1,
        topic_id: 5,
    };
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1));
    let dir = Path::new("/");
    let log = log_path(dir, header.base_offset);
    let write = |path: &Path, bytes: &[u8]| {
        drop(storage.write(path, bytes).expect("memory takes files"));
    };
    write(&log, &[&header.encode(), frames].concat());
    if let Some((offsets, times)) = indexes {
        write(&offset_path(&log), offsets);
        write(&time_path(&log), times);
    }
    let segment = Segment::open(&storage, dir, header.base_offset, header.topic_id)
        .expect("the header is sound");
    let scan = segment.scan(SEGMENT_HEADER_BYTES, header.base_offset, -1, 64);
    let whole = segment.committed().next_multiple_of(4);
    assert!(scan.position <= whole, "a scan stays in the file, but for the padding of a frame");
    assert!(scan.next_offset >= header.base_offset, "offsets do not go back");
    let mut times = vec![i64::MIN, -1, 0, 1, scan.max_timestamp, i64::MAX];
    let mut offsets = vec![0, header.base_offset, scan.next_offset, u64::MAX];
    segment.walk(SEGMENT_HEADER_BYTES, header.base_offset, |at| {
        assert_eq!(encode_again(&at.frame, header.checksum()), frame_bytes(&segment, at.position));
        times.extend(check_records(&at.frame));
        offsets.extend([at.offset, at.next_offset() - 1]);
        ControlFlow::Continue(())
    });
    for offset in offsets.into_iter().take(64) {
        let (position, floor) = segment.floor_offset(offset);
        assert!(floor <= offset.max(header.base_offset), "a floor lies below");
        assert!(position <= segment.committed(), "and in the file");
    }
    for time in times.into_iter().take(64) {
        let found = segment.first_not_older(time, 0);
        // An index with a right checksum may say wrong times; the log alone says right ones.
        if indexes.is_none() {
            let expected = first_not_older(&segment, time);
            assert_eq!(found.ok(), expected, "the first record that is not older than {time}");
        }
    }
}

/// What the header of a [`segment`] has for its salt.
pub const SALT: u64 = 0x5a17;

/// The bytes of the frame at `position`, as far as they hold something.
fn frame_bytes(segment: &Segment, position: usize) -> Vec<u8> {
    let word = segment.bytes(position, position + 4);
    let length = u32::from_le_bytes(*word.first_chunk().expect("a frame begins with its length"));
    segment.bytes(position, position + length as usize).to_vec()
}

/// The same frame, written.
fn encode_again(frame: &Frame<'_>, checksum: Checksum) -> Vec<u8> {
    let length = frame::HEADER_BYTES + frame.body.len();
    let mut writer = RegionWriter::on_heap(frame::stride(length), b"").expect("memory");
    let fill = |stage: &mut crate::storage::Stage<'_>| stage.put(frame.body);
    let end = frame::write(&mut writer, 0, checksum, &frame.header, frame.body.len(), fill)
        .expect("there is room");
    writer.publish(end).expect("memory");
    writer.region().read(0..length).expect("it was published").to_vec()
}

/// Decodes the records of a frame, writes each again, and returns their times.
fn check_records(frame: &Frame<'_>) -> Vec<i64> {
    let (mut start, mut times) = (0, Vec::new());
    for _ in 0..frame.header.count {
        let Some(found) = record_codec::decode(frame.body, start) else { break };
        assert!(found.end > start && found.end <= frame.body.len(), "a record lies in its frame");
        let rest = frame.body.get(found.headers..found.end).expect("headers lie in the record");
        let mut record = Record::tombstone();
        record.key = found.key.clone().and_then(|range| frame.body.get(range));
        record.value = found.value.clone().and_then(|range| frame.body.get(range));
        for header in Headers::new(rest, found.header_count) {
            record.headers.push(header);
        }
        assert_eq!(record.headers.len(), found.header_count, "as many headers as are counted");
        let bytes = record_codec::encoded_bytes(&record, found.timestamp_delta);
        assert!(bytes <= found.end - start, "what is written is never longer");
        let mut writer = RegionWriter::on_heap(bytes, b"").expect("memory");
        let mut stage = writer.stage(0, bytes).expect("there is room");
        record_codec::encode(&record, found.timestamp_delta, &mut stage);
        let again = record_codec::decode(stage.bytes(0), 0).expect("what is written is read");
        assert_eq!(again.timestamp_delta, found.timestamp_delta);
        assert_eq!(again.key.and_then(|range| stage.bytes(0).get(range)), record.key);
        assert_eq!(again.value.and_then(|range| stage.bytes(0).get(range)), record.value);
        assert_eq!((again.header_count, again.end), (found.header_count, bytes));
        times.push(frame.header.timestamp.saturating_add(found.timestamp_delta));
        start = found.end;
    }
    times
}

/// As [`Segment::first_not_older`], without an index; `None` for an error.
fn first_not_older(segment: &Segment, time: i64) -> Option<Option<(u64, i64)>> {
    let mut found = Some(None);
    let end = segment.walk(SEGMENT_HEADER_BYTES, segment.base_offset(), |at| {
        let mut start = 0;
        for offset in at.offset..at.next_offset() {
            let Some(record) = record_codec::decode(at.frame.body, start) else {
                found = None;
                return ControlFlow::Break(());
            };
            let own = at.frame.header.timestamp.saturating_add(record.timestamp_delta);
            if own >= time {
                found = Some(Some((offset, own)));
                return ControlFlow::Break(());
            }
            start = record.end;
        }
        ControlFlow::Continue(())
    });
    let is_invalid = matches!(end.reason, Some(frame::NoFrame::Invalid(_)));
    if is_invalid { None } else { found }
}

/// A header of a segment: refused, or the same when it is written again.
pub fn segment_header(bytes: &[u8], base_offset: u64) {
    if let Ok(header) = SegmentHeader::decode(bytes, Path::new("file"), base_offset) {
        let again = SegmentHeader::decode(&header.encode(), Path::new("file"), base_offset);
        assert_eq!(again.ok(), Some(header));
    }
}

/// The indexes of a segment: refused, or the same when they are written again.
pub fn indexes(offsets: &[u8], times: &[u8], salt: u64) {
    let storage = MemoryStorage::new(1);
    let log = Path::new("/log");
    drop(storage.write(&offset_path(log), offsets).expect("memory takes files"));
    drop(storage.write(&time_path(log), times).expect("memory takes files"));
    let Some((index, summary)) = SparseIndex::load(&storage, log, salt) else { return };
    for number in [0, 1, 1 << 16, u32::MAX] {
        assert!(index.floor_offset(number).is_none_or(|entry| entry.offset_delta <= number));
        let time = i64::from(number);
        assert!(index.floor_timestamp(time).is_none_or(|entry| entry.max_timestamp_before < time));
    }
    index.store(&storage, log, salt, &summary).expect("memory takes files");
    assert_eq!(SparseIndex::load(&storage, log, salt), Some((index, summary)));
}

/// A topic's directory: opened or refused.
///
/// # Errors
///
/// What opening it says.
pub fn topic(files: &[File]) -> Result<()> {
    let storage = MemoryStorage::new(1);
    put(&storage, Path::new("/topics/t"), files);
    let background: Arc<dyn Background> = Arc::new(Inline);
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let admission = Arc::new(Admission::new(&storage, Path::new("/topics"), None));
    let how = HowToOpen::default();
    let clock = Clock::Manual(ManualClock::new(Timestamp::from_millis(0)));
    let (quota, relief) = (Quota::of_broker(PathBuf::from("/"), None), Arc::new(NoRelief));
    let open = OpenSegments::new(&background, None);
    let around = Surroundings { storage, background, admission, how, clock, quota, relief, open };
    TopicState::open(&around, Path::new("/topics"), "t").map(|_| ())
}

/// A directory of committed offsets: opened or refused.
///
/// # Errors
///
/// What opening it says.
pub fn offsets(files: &[File]) -> Result<()> {
    let storage = MemoryStorage::new(1);
    put(&storage, Path::new("/offsets"), files);
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let background: Arc<dyn Background> = Arc::new(Inline);
    let dir = PathBuf::from("/offsets");
    OffsetStore::open(&storage, &background, dir, false, |_, id| id % 2 == 0).map(|_| ())
}
