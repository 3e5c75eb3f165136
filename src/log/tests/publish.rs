//! Appending, reading, rolling, sealing and deleting on two threads, in every order they can take.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --lib log::tests::publish`
//!
//! All but the disk is what runs elsewhere: the log, its writer and its cursor, over regions on the
//! heap. loom is told which bytes of a region are stored and loaded, so that it finds a load that
//! is not ordered behind its store, and not only one that happens to come too early.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread;

use crate::admission::Admission;
use crate::clock::Moment;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::log::checkpoint::Checkpoint;
use crate::log::{Around, Budget, Log, LogCursor, LogWriter, PartitionName, open};
use crate::quota::Quota;
use crate::record::Record;
use crate::record_quota::RecordQuota;
use crate::recovery_mode::HowToOpen;
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;
use crate::sync::Planted;
use crate::timestamp::Timestamp;

/// What a segment takes with two records of [`value`] in it: a header of 64 bytes and two frames of 32.
const TWO_RECORDS: u64 = 128;
const DIR: &str = "/t/0";

fn model(scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

fn value(offset: u64) -> [u8; 4] {
    u32::try_from(offset).expect("few records").to_le_bytes()
}

/// The time of the record with this offset.
fn time(offset: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(offset).expect("few records"))
}

/// An empty log with segments of two records.
fn log(planted: Planted) -> LogWriter {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1));
    storage.create_dir_all(Path::new(DIR)).expect("directory");
    let name = PartitionName { topic: "t".into(), topic_id: 1, partition: 0 };
    let config = TopicConfig::new().segment_bytes(TWO_RECORDS).index_interval_bytes(1 << 20);
    let admission = Arc::new(Admission::new(&storage, Path::new(DIR), None));
    let how = HowToOpen::default();
    let (quota, records) = (Quota::of_broker("/".into(), None), RecordQuota::new(&name.topic));
    let around = Around {
        storage: &storage,
        admission: &admission,
        how,
        quota: &quota,
        records: &Arc::new(records),
        now: Moment { wall: 0, monotonic: 0 },
    };
    let (writer, _) = open(&around, Path::new(DIR), name, Arc::new(config)).expect("open");
    writer.log().plant(planted);
    writer
}

fn append(writer: &mut LogWriter, count: u64) {
    for _ in 0..count {
        let value = value(writer.log().end_offset());
        writer.append(&Record::new(&value), time(writer.log().end_offset())).expect("append");
    }
}

/// Reads in order, and checks what it reads.
struct Checked {
    cursor: LogCursor,
}

impl Checked {
    fn new(log: &Arc<Log>, offset: u64) -> Self {
        Self { cursor: LogCursor::new(Arc::clone(log), offset).expect("in range") }
    }

    /// One poll: the offset behind what was read.
    fn poll(&mut self) -> Result<u64> {
        let mut expected = self.cursor.offset();
        let mut out = Vec::new();
        let mut budget = Budget { records: 10, bytes: 1 << 20 };
        let segment = self.cursor.fetch(0, &mut budget, &mut out)?;
        let view = segment.map(|segment| segment.view());
        for location in &out {
            let view = view.as_ref().expect("records lie in a segment");
            assert_eq!(location.offset, expected, "no record is left out");
            let found = location.value.expect("a value").of(view);
            assert_eq!(found, value(expected), "a record is read as it was written");
            expected += 1;
        }
        assert_eq!(self.cursor.offset(), expected, "the cursor stands behind what it gave");
        Ok(expected)
    }

    /// Polls until there is nothing more: the end.
    fn poll_to_the_end(&mut self) -> u64 {
        loop {
            let before = self.cursor.offset();
            if self.poll().expect("poll") == before {
                return before;
            }
        }
    }
}

/// Two records are appended while a reader polls.
fn append_and_read(planted: Planted) {
    model(move || {
        let mut writer = log(planted);
        let mut reader = Checked::new(writer.log(), 0);
        let other = thread::spawn(move || {
            for _ in 0..2 {
                reader.poll().expect("poll");
            }
            reader
        });
        append(&mut writer, 2);
        let mut reader = other.join().expect("the reader");
        assert_eq!(reader.poll_to_the_end(), 2);
    });
}

#[test]
fn what_is_read_was_written_before() {
    append_and_read(Planted::Nothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn publishing_before_the_bytes_is_caught() {
    append_and_read(Planted::PublishesEarly);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn publishing_without_release_is_caught() {
    append_and_read(Planted::PublishesRelaxed);
}

#[test]
#[should_panic(expected = "the segment ends before offset")]
fn an_end_that_moves_before_the_record_is_there_is_caught() {
    append_and_read(Planted::EndsEarly);
}

/// A segment fills up, the next one is begun and the first one sealed, while a reader passes from
/// one to the other.
#[test]
fn a_reader_passes_from_a_segment_to_the_next_while_it_is_rolled_and_sealed() {
    model(|| {
        let mut writer = log(Planted::Nothing);
        append(&mut writer, 1);
        let mut reader = Checked::new(writer.log(), 0);
        let other = thread::spawn(move || {
            for _ in 0..3 {
                reader.poll().expect("poll");
            }
            reader
        });
        append(&mut writer, 2);
        assert!(writer.log().seal_rolled().expect("seal").is_empty());
        let mut reader = other.join().expect("the reader");
        assert_eq!(reader.poll_to_the_end(), 3);
        assert_eq!(Checked::new(writer.log(), 0).poll_to_the_end(), 3);
    });
}

/// The beginning of a log is deleted while a reader stands in it: it reads what it stands in, or is
/// told that it is gone.
fn delete_and_read(planted: Planted) {
    model(move || {
        let mut writer = log(planted);
        append(&mut writer, 5);
        writer.log().seal_rolled().expect("seal");
        let mut reader = Checked::new(writer.log(), 0);
        let other = thread::spawn(move || {
            for _ in 0..2 {
                match reader.poll() {
                    Ok(_) => {}
                    Err(Error::OffsetOutOfRange { offset, earliest, .. }) => {
                        assert!(offset < earliest, "what is gone lies below the beginning");
                        reader.cursor.seek(earliest).expect("the beginning is there");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            reader
        });
        assert_eq!(writer.log().delete_below(2).expect("delete"), 2);
        let mut reader = other.join().expect("the reader");
        if reader.cursor.offset() < 2 {
            assert!(matches!(reader.poll(), Err(Error::OffsetOutOfRange { earliest: 2, .. })));
            reader.cursor.seek(2).expect("the beginning is there");
        }
        assert_eq!(reader.poll_to_the_end(), 5);
    });
}

#[test]
fn a_reader_of_what_is_deleted_reads_it_or_is_told() {
    delete_and_read(Planted::Nothing);
}

#[test]
#[should_panic(expected = "what is gone lies below the beginning")]
fn a_segment_that_is_forgotten_before_the_start_moves_is_caught() {
    delete_and_read(Planted::ForgetsEarly);
}

/// Symptom: looking a time up while the beginning of the log was deleted gave a later record, or none,
/// or an error about a file that is gone. Cause: segments were counted from the front, which moved.
/// Fix: the search is done again when the front has moved.
#[test]
fn a_time_is_found_while_the_beginning_is_deleted() {
    model(|| {
        let mut writer = log(Planted::Nothing);
        append(&mut writer, 7);
        writer.log().seal_rolled().expect("seal");
        let other = {
            let log = Arc::clone(writer.log());
            thread::spawn(move || log.first_not_older(time(4).as_millis()).expect("search"))
        };
        assert_eq!(writer.log().delete_below(4).expect("delete"), 4);
        assert_eq!(other.join().expect("the one that looks"), Some((4, 4)));
    });
}

/// One seals what was rolled while another deletes the beginning, which seals too.
fn delete_and_seal(planted: Planted) {
    model(move || {
        let mut writer = log(planted);
        append(&mut writer, 5);
        let other = {
            let log = Arc::clone(writer.log());
            thread::spawn(move || {
                log.seal_rolled().expect("seal");
            })
        };
        let log = writer.log();
        assert_eq!(log.delete_below(3).expect("delete"), 3);
        other.join().expect("the one that seals");
        let checkpoint = Checkpoint::load(&**log.storage(), Path::new(DIR)).expect("load");
        assert_eq!(checkpoint.map(|point| point.log_start), Some(3), "the start stays deleted");
        assert_eq!(log.synced_offset(), 4, "both full segments are sealed");
        assert_eq!(Checked::new(log, 3).poll_to_the_end(), 5);
    });
}

#[test]
fn who_deletes_and_who_seals_do_not_undo_each_other() {
    delete_and_seal(Planted::Nothing);
}

#[test]
#[should_panic(expected = "seal: ")]
fn sealing_without_its_lock_is_caught() {
    delete_and_seal(Planted::SealsUnlocked);
}

/// One appends and rolls, one seals and deletes, one reads: all three at once.
#[test]
fn appending_deleting_and_reading_go_on_at_the_same_time() {
    model(|| {
        let mut writer = log(Planted::Nothing);
        append(&mut writer, 3);
        let log = Arc::clone(writer.log());
        let deleter = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                log.seal_rolled().expect("seal");
                log.delete_below(1).expect("delete")
            })
        };
        let appender = thread::spawn(move || {
            append(&mut writer, 2);
            writer
        });
        let mut reader = Checked::new(&log, 1);
        reader.poll().expect("what is not deleted can be read");
        reader.poll().expect("what is not deleted can be read");
        let _writer = appender.join().expect("the appender");
        assert_eq!(deleter.join().expect("the deleter"), 1);
        assert_eq!(log.start_offset(), 1);
        assert_eq!(reader.poll_to_the_end(), 5);
    });
}
