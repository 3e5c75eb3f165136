//! Every byte of a small log, its indexes and its metadata flipped, and every file cut at every
//! length: open or read gives the right records or a typed error, never a panic, a hang, or an
//! allocation beyond reason.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::{Broker, Error, Record, Result, Start, Timestamp, TopicConfig};

/// Counts how much is asked for at once.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that watches can be made in no other way")]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// More than the library asks for at once for a log of a few kilobytes.
const REASONABLE: usize = 256 << 10;
const RECORDS: u64 = 26;

/// A directory in memory where there is one: nothing here depends on a disk, and there are tens of
/// thousands of opens to wait for.
fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("temporary directory")
}

fn value(number: u64) -> String {
    format!("record {number} {}", "y".repeat((number * 97 % 400) as usize))
}

/// A log of a few small segments, closed cleanly or left as a killed process leaves it.
fn make(dir: &Path, clean: bool) -> BTreeMap<PathBuf, Vec<u8>> {
    let broker = Broker::open(dir).expect("open");
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(300);
    let topic = broker.create_topic("t", config).expect("create");
    let send = |number: u64| {
        let value = value(number);
        let key = number.to_string();
        let time = Timestamp::from_millis(1000 + number as i64);
        topic.send(Record::new(&value).key(&key).header("h", &key).timestamp(time)).expect("send");
    };
    (0..RECORDS - 2).for_each(send);
    let last = [value(RECORDS - 2), value(RECORDS - 1)];
    let last: Vec<_> = last
        .iter()
        .map(|value| Record::new(value).timestamp(Timestamp::from_millis(2000)))
        .collect();
    topic.send_batch(&last).expect("send");
    if clean {
        broker.close().expect("close");
    } else {
        topic.flush().expect("flush");
    }
    let mut files = BTreeMap::new();
    collect(dir, &mut files);
    files
}

fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).expect("read"));
        }
    }
}

/// Puts every file in `dir` as it was in `from`, but for one.
fn restore(
    files: &BTreeMap<PathBuf, Vec<u8>>,
    from: &Path,
    dir: &Path,
    damaged: Option<(&Path, &[u8])>,
) {
    let place = |path: &Path| dir.join(path.strip_prefix(from).expect("below"));
    let partition = dir.join("topics/t/0");
    drop(fs::remove_dir_all(dir.join("topics")));
    fs::create_dir_all(&partition).expect("create");
    for (path, bytes) in files {
        let bytes =
            damaged.filter(|(damaged, _)| damaged == path).map_or(&bytes[..], |(_, bytes)| bytes);
        fs::write(place(path), bytes).expect("write");
    }
}

/// Opens and reads what is there: how many records, and whether recovery had something to report.
fn read(dir: &Path) -> Result<(u64, bool)> {
    let broker = Broker::open(dir)?;
    let reported = !broker.recovery_report().partitions.is_empty();
    let topic = broker.topic("t")?;
    let mut reader = broker.reader().topic("t", Start::Earliest).open()?;
    let mut count = 0;
    loop {
        let batch = reader.try_poll()?;
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            assert_eq!(record.offset(), count);
            assert_eq!(record.value(), Some(value(count).as_bytes()), "record {count}");
            if count < RECORDS - 2 {
                let key = count.to_string();
                assert_eq!(record.key(), Some(key.as_bytes()));
                assert_eq!(record.header("h"), Some(key.as_bytes()));
                assert_eq!(record.timestamp().as_millis(), 1000 + count as i64);
            }
            count += 1;
        }
    }
    // What indexes are for gives the right place too.
    for offset in [count / 2, count.saturating_sub(1)] {
        let time = Timestamp::from_millis(1000 + offset as i64);
        if offset < RECORDS - 2 && offset < count {
            let found = topic.offset_for_timestamp(0, time)?;
            assert_eq!(found, Some((offset, time)));
        }
        let mut reader = broker.reader().partition("t", 0, Start::Offset(offset)).open()?;
        let batch = reader.try_poll()?;
        assert_eq!(
            batch.get(0).map(|record| record.offset()),
            Some(offset).filter(|offset| *offset < count)
        );
    }
    Ok((count, reported))
}

/// What may be found after damage to a log that was closed cleanly, or was not.
fn judge(found: &Result<(u64, bool)>, clean: bool, what: &str) {
    match found {
        Ok((RECORDS, _)) => {}
        Ok((count, reported)) => {
            assert!(!clean, "{what}: {count} records and no error");
            assert!(*reported, "{what}: {count} records and nothing reported");
        }
        Err(Error::Corrupt { path, .. }) => {
            assert!(path.is_absolute(), "{what}: the file is named");
        }
        Err(Error::UnknownTopic { .. }) if what.contains("topics/t/topic") => {}
        Err(error) => panic!("{what}: {error}"),
    }
    let largest = LARGEST.swap(0, Ordering::Relaxed);
    assert!(largest <= REASONABLE, "{what}: {largest} bytes were asked for at once");
}

fn damage_everything(clean: bool) {
    let (pristine, copy) = (temporary(), temporary());
    let files = make(pristine.path(), clean);
    restore(&files, pristine.path(), copy.path(), None);
    assert_eq!(read(copy.path()).expect("undamaged"), (RECORDS, !clean));
    assert!(files.len() >= if clean { 9 } else { 4 }, "{:?}", files.keys());
    LARGEST.store(0, Ordering::Relaxed);
    let mut states = 0;
    for (path, bytes) in &files {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let name = path.display();
        for position in (0..used).chain((used..bytes.len()).step_by(1013)) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << (position % 8);
            restore(&files, pristine.path(), copy.path(), Some((path, &damaged)));
            judge(&read(copy.path()), clean, &format!("byte {position} of {name}"));
            states += 1;
        }
        for len in (0..used).chain((used..bytes.len()).step_by(1013)) {
            restore(&files, pristine.path(), copy.path(), Some((path, &bytes[..len])));
            judge(&read(copy.path()), clean, &format!("{len} bytes of {name}"));
            states += 1;
        }
    }
    println!(
        "{states} damaged states of a log that was closed {}",
        if clean { "cleanly" } else { "not at all" }
    );
}

#[test]
fn damage_to_a_log_that_was_closed_is_found_or_harmless() {
    damage_everything(true);
}

#[test]
fn damage_to_a_log_that_was_not_closed_is_found_cut_or_harmless() {
    damage_everything(false);
}

#[test]
fn an_index_that_is_missing_is_made_again() {
    let (pristine, copy) = (temporary(), temporary());
    let mut files = make(pristine.path(), true);
    files.retain(|path, _| path.extension().is_none_or(|end| end != "index" && end != "timeindex"));
    restore(&files, pristine.path(), copy.path(), None);
    assert_eq!(read(copy.path()).expect("sound"), (RECORDS, false));
}

#[test]
fn a_segment_that_is_missing_is_named() {
    let (pristine, copy) = (temporary(), temporary());
    let files = make(pristine.path(), true);
    let logs: Vec<_> =
        files.keys().filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    assert!(logs.len() >= 2);
    for missing in &logs {
        let mut files = files.clone();
        files.remove(*missing);
        restore(&files, pristine.path(), copy.path(), None);
        let found = read(copy.path());
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{}: {found:?}", missing.display());
    }
}

/// Symptom: a log that was recovered and closed, with nothing sent, could not be opened again. Cause: its file had been
/// cut in the padding behind its last frame, which is whole without, and the recovery point was put
/// behind the padding. Fix: recovery gives the file its padding back.
#[test]
fn a_log_that_was_cut_in_the_padding_of_its_last_frame_opens_again_and_again() {
    for len in 0..4 {
        let (pristine, copy) = (temporary(), temporary());
        let broker = Broker::open(pristine.path()).expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        let value = vec![b'v'; len];
        topic.send(Record::new("before")).expect("send");
        topic.send(Record::new(&value).header("h", "end")).expect("send");
        let mut files = BTreeMap::new();
        collect(pristine.path(), &mut files);
        for (_, bytes) in files.iter_mut().filter(|(path, _)| path.ends_with(LOG)) {
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).expect("records") + 1);
        }
        restore(&files, pristine.path(), copy.path(), None);
        for opening in 1..3 {
            let broker = Broker::open(copy.path()).unwrap_or_else(|error| {
                panic!("opening number {opening}, value of {len}: {error}");
            });
            let topic = broker.topic("t").expect("it exists");
            assert_eq!(topic.latest_offset(0).expect("end"), 2, "value of {len}");
            let mut reader = broker.reader().topic("t", Start::Offset(1)).open().expect("reader");
            let batch = reader.try_poll().expect("poll");
            assert_eq!(batch.get(0).expect("kept").value(), Some(&value[..]));
            broker.close().expect("close");
        }
    }
}

const LOG: &str = "topics/t/0/00000000000000000000.log";
