//! What opening does about damage and torn tails, in each mode; a broker that only looks; and one that
//! keeps a reserve.
//!
//! Everything begins with a directory as a killed process leaves it: some of it is known to be on
//! stable storage, which the file `durable` says, and some of it is not.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(clippy::needless_pass_by_value, reason = "a result is looked at once")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay::testing::SimulatedDisk;
use forebay::{
    Acks, Broker, Damage, Error, PartitionRecovery, Record, RecoveryMode, ResetTo, Start,
    TopicConfig,
};

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn memory_dir() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("temporary directory")
}

/// Every file below `dir`, by its path from there.
fn files(dir: &Path) -> Files {
    let mut found = Files::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("below").to_path_buf();
                match fs::read(&path) {
                    // It has got its name in the meantime.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    bytes => drop(found.insert(name, bytes.expect("read"))),
                }
            }
        }
    }
    found
}

/// A directory with these files.
fn place(files: &Files) -> tempfile::TempDir {
    let dir = memory_dir();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("create");
        fs::write(path, bytes).expect("write");
    }
    dir
}

#[track_caller]
fn assert_same(before: &Files, dir: &Path, what: &str) {
    let after = files(dir);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(&after), "{what}");
    for (name, bytes) in before {
        assert!(after.get(name) == Some(bytes), "{what}: {} was changed", name.display());
    }
}

const SYNCED: u64 = 12;
const RECORDS: u64 = 15;
const MARK: &str = "topics/t/0/durable";
const CHECKPOINT: &str = "topics/t/0/checkpoint";

fn value(number: u64) -> Vec<u8> {
    vec![number as u8 + 1; 500 + (number * 97 % 90) as usize]
}

/// What a killed process leaves: segments that are full, and one that holds records below the durable
/// mark and above it.
fn unclosed() -> Files {
    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(700);
    let topic = broker.create_topic("t", config).expect("create");
    for number in 0..RECORDS {
        if number == SYNCED {
            topic.flush().expect("flush");
        }
        topic.send(Record::new(&value(number))).expect("send");
    }
    // Until what is done in the background is done.
    let mut found = files(dir.path());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let again = files(dir.path());
        if again == found && again.contains_key(Path::new(CHECKPOINT)) {
            return found;
        }
        found = again;
    }
}

/// What the file `durable` says.
struct Mark {
    segment: PathBuf,
    position: usize,
    next_offset: u64,
}

fn log_name(base_offset: u64) -> PathBuf {
    PathBuf::from(format!("topics/t/0/{base_offset:020}.log"))
}

fn mark(files: &Files) -> Mark {
    let bytes = &files[Path::new(MARK)];
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    Mark { segment: log_name(word(16)), position: word(32) as usize, next_offset: word(40) }
}

fn logs(files: &Files) -> Vec<&PathBuf> {
    files.keys().filter(|name| name.extension().is_some_and(|end| end == "log")).collect()
}

fn base_offset(log: &Path) -> u64 {
    let stem = log.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    stem.parse().expect("20 digits")
}

/// How much of a file holds something.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn open(dir: &Path, mode: RecoveryMode) -> Result<Broker, Error> {
    Broker::builder(dir).recovery_mode(mode).open()
}

/// Reads from an offset until there is no more: how many records, all of which are as they were sent,
/// and what ended it.
fn read(broker: &Broker, from: u64) -> (u64, Option<Error>) {
    let start = Start::Offset(from);
    let reader = broker.reader().topic("t", start).max_records(1).open();
    let mut reader = match reader {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    let mut next = from;
    loop {
        match reader.try_poll() {
            Ok(batch) if batch.is_empty() => return (next - from, None),
            Ok(batch) => {
                for record in &batch {
                    assert_eq!(record.offset(), next);
                    assert!(record.value() == Some(&value(next)), "record {next}");
                    next += 1;
                }
            }
            Err(error) => return (next - from, Some(error)),
        }
    }
}

fn the_report(broker: &Broker) -> PartitionRecovery {
    let partitions = &broker.recovery_report().partitions;
    assert_eq!(partitions.len(), 1);
    assert_eq!((partitions[0].topic.as_str(), partitions[0].partition), ("t", 0));
    partitions[0].clone()
}

/// The damage that is told of, which must be in the segment at or below the byte that was flipped.
fn check_place(error: &Error, segment: &Path, flipped: usize) {
    match error {
        Error::Corrupt { path, position, .. } => {
            assert!(path.ends_with(segment), "{} and not {}", path.display(), segment.display());
            // A header is checked as a whole.
            let flipped = flipped.max(63);
            assert!(*position as usize <= flipped, "{position} is behind {flipped}");
        }
        other => panic!("{other}"),
    }
}

/// With one byte below the mark flipped: nothing is cut, it is reported, and all but what it stood in
/// can be read.
fn flip_below_the_mark(files: &Files, segment: &Path, position: usize) {
    let mark = mark(files);
    let what = format!("byte {position} of {}", segment.display());
    let mut damaged = files.clone();
    damaged.get_mut(segment).expect("a segment")[position] ^= 1 << (position % 8);
    let dir = place(&damaged);
    let broker = match open(dir.path(), RecoveryMode::TruncateTail) {
        Ok(broker) => broker,
        Err(error) => {
            // Where the beginning is damaged nothing in it can be trusted.
            assert!(position < 64, "{what}: {error}");
            check_place(&error, segment, position);
            assert_same(&damaged, dir.path(), &what);
            return;
        }
    };
    let report = the_report(&broker);
    let told: Vec<Error> = report.damage.iter().cloned().map(Damage::into).collect();
    let (before, ended) = read(&broker, 0);
    match &ended {
        None => assert_eq!(before, RECORDS, "{what}"),
        Some(error) => check_place(error, segment, position),
    }
    // What the recovery point covers is looked at by whoever reads it, and by nobody else.
    assert!(told.len() <= 1, "{what}: {told:?}");
    if let Some(told) = told.first() {
        check_place(told, segment, position);
        assert!(ended.is_some(), "{what}: it was reported, and can be read");
    } else if ended.is_some() && !files.contains_key(Path::new(CHECKPOINT)) {
        panic!("{what}: it was read at open, and not reported");
    }
    assert_eq!((report.bytes_cut, report.segments_removed), (0, 0), "{what}");
    assert_eq!(report.end_offset, RECORDS, "{what}");
    // In the segments that follow everything is as it was.
    if let Some(next) = logs(files).into_iter().find(|log| **log > *segment) {
        let behind = base_offset(next);
        let (found, ended) = read(&broker, behind);
        assert_eq!(found, RECORDS - behind, "{what}, from {behind}: {ended:?}");
    }
    let topic = broker.topic("t").expect("topic");
    topic.send(Record::new(&value(RECORDS))).expect("sending goes on");
    broker.close().expect("close");
    drop((topic, broker));
    let after = self::files(dir.path());
    for log in logs(files) {
        let kept = after.get(log).unwrap_or_else(|| panic!("{what}: {} is gone", log.display()));
        let end = if *log == mark.segment { mark.position } else { used(&files[log]) };
        assert!(kept.len() >= end && kept[..end] == damaged[log][..end], "{what}: it was cut");
    }
    let broker = open(dir.path(), RecoveryMode::TruncateTail).expect("reopen");
    assert_eq!(broker.topic("t").expect("topic").latest_offset(0).expect("end"), RECORDS + 1);
    assert_eq!(read(&broker, 0).0, before + u64::from(ended.is_none()), "{what}");
}

/// What lies below the mark: segments, and how much of each.
fn below_the_mark(files: &Files) -> Vec<(PathBuf, usize)> {
    let mark = mark(files);
    let is_below = |log: &&PathBuf| **log <= mark.segment;
    let end = |log: &PathBuf| {
        if *log == mark.segment { mark.position } else { used(&files[log]) }
    };
    logs(files).into_iter().filter(is_below).map(|log| (log.clone(), end(log))).collect()
}

#[test]
fn damage_below_the_durable_mark_is_left_reported_and_read_as_an_error() {
    let with_checkpoint = unclosed();
    let here = below_the_mark(&with_checkpoint);
    assert!(here.len() >= 2, "{here:?}");
    assert!(logs(&with_checkpoint).len() >= here.len());
    // As when the process ended before it wrote that its segments were sealed.
    let mut without = with_checkpoint.clone();
    without.remove(Path::new(CHECKPOINT));
    let mut flips = 0;
    for (files, step) in [(&without, 17), (&with_checkpoint, 97)] {
        for (segment, end) in &here {
            // More of the header and the first frame than of the rest.
            for position in (0..110).step_by(3).chain((110..*end).step_by(step)) {
                flip_below_the_mark(files, segment, position);
                flips += 1;
            }
        }
    }
    println!("{flips} bytes were flipped");
}

/// Symptom: what lay behind the mark, in a segment that was damaged below it and had no index yet, could
/// not be read by seeking there. Cause: its index was made by reading it from its beginning, which ends
/// at the damage. Fix: opening writes an index that begins at the mark.
#[test]
fn what_lies_behind_damage_in_the_same_segment_can_be_read_by_seeking_there() {
    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    for number in 0..RECORDS {
        if number == SYNCED {
            topic.flush().expect("flush");
        }
        topic.send(Record::new(&value(number))).expect("send");
    }
    let mut damaged = files(dir.path());
    damaged.get_mut(&log_name(0)).expect("segment")[200] ^= 1;
    let dir = place(&damaged);
    for opening in 0..2 {
        let broker = open(dir.path(), RecoveryMode::TruncateTail).expect("open");
        let (before, ended) = read(&broker, 0);
        assert!(before == 0 && matches!(ended, Some(Error::Corrupt { .. })), "{ended:?}");
        let (behind, ended) = read(&broker, SYNCED);
        assert_eq!(behind, RECORDS - SYNCED, "opening {opening}: {ended:?}");
        broker.close().expect("close");
    }
}

/// Without a mark that can be believed, what does not check counts as torn.
#[test]
fn without_a_durable_mark_damage_is_cut_and_reported() {
    let mut files = unclosed();
    files.remove(Path::new(CHECKPOINT));
    let mark = mark(&files);
    let mut flipped = files.clone();
    flipped.get_mut(Path::new(MARK)).expect("mark")[33] ^= 4;
    let mut cut = files.clone();
    cut.get_mut(Path::new(MARK)).expect("mark").truncate(47);
    let mut missing = files.clone();
    missing.remove(Path::new(MARK));
    for (how, mut damaged) in [("flipped", flipped), ("cut", cut), ("missing", missing)] {
        let position = mark.position - 10;
        damaged.get_mut(&mark.segment).expect("segment")[position] ^= 1;
        let dir = place(&damaged);
        let broker = open(dir.path(), RecoveryMode::TruncateTail).expect("open");
        let report = the_report(&broker);
        let kept = mark.next_offset - 1;
        assert_eq!((report.end_offset, report.records_kept), (kept, kept), "{how}");
        assert!(report.bytes_cut > 0 && report.damage.is_empty(), "{how}: {report:?}");
        assert!(report.reason.as_ref().is_some_and(|reason| !reason.is_empty()), "{how}");
        assert_eq!(read(&broker, 0).0, kept, "{how}");
        assert!(self::files(dir.path())[&mark.segment].len() < mark.position, "{how}");
        // The next life has a mark of its own.
        let topic = broker.topic("t").expect("topic");
        topic.send_with(Record::new(&value(kept)), Acks::Synced).expect("send");
        drop((topic, broker));
        let broker = open(dir.path(), RecoveryMode::Strict).expect("it was closed");
        assert_eq!(read(&broker, 0).0, kept + 1, "{how}");
    }
}

/// A tail that is torn: garbage where a frame would begin, a frame of which a part is missing, a byte
/// of the last one flipped.
fn torn(files: &Files) -> Vec<(&'static str, Files)> {
    let last = logs(files).last().map(|last| (*last).clone()).expect("a segment");
    let end = used(&files[&last]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = files.clone();
        change(files.get_mut(&last).expect("segment"));
        files
    };
    let room = end.next_multiple_of(4);
    vec![
        (
            "garbage behind the end",
            with(&|log| {
                log.resize(log.len().max(room + 40), 0);
                log[room..room + 40].fill(0xee);
            }),
        ),
        (
            "a frame's length alone",
            with(&|log| {
                log.resize(log.len().max(room + 40), 0);
                log[room] = 40;
            }),
        ),
        ("the end of a frame is zeros", with(&|log| log[end - 100..].fill(0))),
        ("the end of a frame is missing", with(&|log| log.truncate(end - 100))),
        ("a byte of the last frame", with(&|log| log[end - 50] ^= 2)),
    ]
}

#[test]
fn a_torn_tail_is_cut_and_its_report_says_what_was_done() {
    let files = unclosed();
    for (how, torn) in torn(&files) {
        let dir = place(&torn);
        let begun = Instant::now();
        let broker = open(dir.path(), RecoveryMode::TruncateTail).expect("open");
        let took = begun.elapsed();
        let report = the_report(&broker);
        let whole = RECORDS - u64::from(!how.ends_with("end") && !how.ends_with("alone"));
        assert_eq!(report.end_offset, whole, "{how}");
        assert_eq!(report.records_kept, whole - report.from_offset, "{how}");
        assert!(report.from_offset > 0 && report.from_offset < RECORDS, "{how}");
        assert!(report.bytes_cut > 0, "{how}");
        let reason = report.reason.expect("something stood there");
        assert!(reason.contains("segment") && reason.contains("byte"), "{how}: {reason}");
        assert!(report.duration > Duration::ZERO && report.duration <= took, "{how}");
        assert!(report.damage.is_empty(), "{how}: {:?}", report.damage);
        assert_eq!(read(&broker, 0).0, whole, "{how}");
        broker.close().expect("close");
        drop(broker);
        let broker = open(dir.path(), RecoveryMode::Strict).expect("it is mended");
        assert!(broker.recovery_report().partitions.is_empty(), "{how}");
        assert_eq!(read(&broker, 0).0, whole, "{how}");
    }
}

#[test]
fn strict_refuses_what_is_torn_or_damaged_and_changes_nothing() {
    let files = unclosed();
    let mark = mark(&files);
    let mut bad = torn(&files);
    let mut without = files.clone();
    without.remove(Path::new(CHECKPOINT));
    for (segment, end) in below_the_mark(&files) {
        for position in (0..end).step_by(97).chain([64, 70, end - 20]) {
            let mut damaged = without.clone();
            damaged.get_mut(&segment).expect("segment")[position] ^= 1;
            bad.push(("a byte below the mark", damaged));
        }
    }
    let mut short = files.clone();
    short.get_mut(&mark.segment).expect("segment").truncate(mark.position - 1);
    bad.push(("a file that ends below the mark", short));
    let mut leftover = torn(&files).remove(0).1;
    leftover.insert("topics/t/0/checkpoint~".into(), b"half".to_vec());
    leftover.insert("topics/~new/topic".into(), b"half".to_vec());
    bad.push(("leftovers besides", leftover));
    for (how, bad) in bad {
        let dir = place(&bad);
        match open(dir.path(), RecoveryMode::Strict) {
            Err(Error::Corrupt { path, .. }) => {
                assert!(path.extension().is_some_and(|end| end == "log"), "{how}: {path:?}");
            }
            // Bytes that hold nothing: padding, and what is reserved.
            Ok(broker) if how == "a byte below the mark" => {
                assert_eq!(read(&broker, 0).0, RECORDS);
                continue;
            }
            other => panic!("{how}: {other:?}"),
        }
        assert_same(&bad, dir.path(), how);
    }
}

/// The same, where the damage is found last: partitions and topics that are sound, if not closed, come
/// before it.
#[test]
fn strict_changes_nothing_of_what_is_sound_either() {
    let dir = memory_dir();
    let broker = Broker::open(dir.path()).expect("open");
    for name in ["a", "t"] {
        let config = TopicConfig::new().segment_bytes(4096).partitions(2);
        let topic = broker.create_topic(name, config).expect("create");
        for number in 0..3_u64 {
            topic.send(Record::new(&value(number)).partition(0)).expect("send");
            topic.send(Record::new(&value(number)).partition(1)).expect("send");
        }
        topic.flush().expect("flush");
    }
    let mut torn = files(dir.path());
    drop(broker);
    let last = torn.get_mut(Path::new("topics/t/1/00000000000000000000.log")).expect("segment");
    last[200] ^= 1;
    let dir = place(&torn);
    let refused = open(dir.path(), RecoveryMode::Strict);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    assert_same(&torn, dir.path(), "two topics");
}

#[test]
fn strict_opens_what_was_closed_and_what_was_not_but_is_whole() {
    let files = unclosed();
    let dir = place(&files);
    let broker = open(dir.path(), RecoveryMode::Strict).expect("it is whole");
    let report = the_report(&broker);
    assert_eq!((report.end_offset, report.bytes_cut, &report.reason), (RECORDS, 0, &None));
    assert_eq!(read(&broker, 0).0, RECORDS);
    broker.topic("t").expect("topic").send(Record::new(&value(RECORDS))).expect("send");
    broker.close().expect("close");
    drop(broker);
    let broker = open(dir.path(), RecoveryMode::Strict).expect("it was closed");
    assert!(broker.recovery_report().partitions.is_empty());
    assert_eq!(read(&broker, 0).0, RECORDS + 1);
}

fn look(dir: &Path) -> Result<Broker, Error> {
    Broker::builder(dir).read_only().open()
}

fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::ReadOnly { .. }))
}

/// Tries everything that would change something.
fn check_nothing_can_be_changed(broker: &Broker) {
    let topic = broker.topic("t").expect("topic");
    let refused = [
        is_refused(topic.send(Record::new("x"))),
        is_refused(topic.send_with(Record::new("x"), Acks::Synced)),
        is_refused(topic.send_batch(&[Record::new("x"), Record::new("y")])),
        is_refused(broker.producer().send("t", Record::new("x"))),
        is_refused(topic.delete_records(0, 3)),
        is_refused(broker.create_topic("new", TopicConfig::new())),
        is_refused(broker.create_topic_if_absent("new", TopicConfig::new())),
        is_refused(broker.create_partitions("t", 3)),
        is_refused(broker.alter_topic("t", topic.config().segment_bytes(1 << 20))),
        is_refused(broker.delete_topic("t")),
        is_refused(broker.reset_offsets("g", ResetTo::Earliest).topic("t").execute()),
        match broker.delete_group("g") {
            Err(Error::UnknownGroup { .. }) => broker.groups().expect("groups").is_empty(),
            other => is_refused(other),
        },
        is_refused(broker.consumer("g").subscribe(["t"]).open().and_then(|mut consumer| {
            drop(consumer.poll(Duration::ZERO)?);
            consumer.commit()
        })),
        is_refused(broker.consumer("g2").subscribe(["t"]).start(Start::Latest).open()),
    ];
    assert_eq!(refused.iter().position(|is_refused| !is_refused), None, "{refused:?}");
    assert_eq!(topic.latest_offset(0).expect("end"), RECORDS);
    assert_eq!(read(broker, 0).0, RECORDS);
}

/// A group has committed something in it.
fn unclosed_with_a_group() -> (tempfile::TempDir, Broker) {
    let dir = place(&unclosed());
    let owner = Broker::open(dir.path()).expect("open");
    let mut consumer = owner.consumer("g").subscribe(["t"]).open().expect("consumer");
    assert!(!consumer.try_poll().expect("poll").is_empty());
    consumer.commit().expect("commit");
    (dir, owner)
}

#[test]
fn who_only_looks_is_let_in_beside_the_owner_and_changes_nothing() {
    let (dir, owner) = unclosed_with_a_group();
    let topic = owner.topic("t").expect("topic");
    owner.flush().expect("flush");
    std::thread::sleep(Duration::from_millis(100));
    let before = files(dir.path());
    let broker = look(dir.path()).expect("open");
    check_nothing_can_be_changed(&broker);
    assert_eq!(broker.committed("g", "t", 0).expect("committed"), Some(RECORDS.into()));
    // What comes later is not seen, and does no harm.
    topic.send(Record::new("later")).expect("the owner goes on");
    let (found, ended) = read(&broker, 0);
    assert_eq!((found, ended.is_none()), (RECORDS, true), "{ended:?}");
    let second = look(dir.path()).expect("as many as like");
    assert_eq!(second.topic("t").expect("topic").latest_offset(0).expect("end"), RECORDS + 1);
    drop(second);
    broker.close().expect("close");
    drop(broker);
    let mut after = files(dir.path());
    for (name, bytes) in &before {
        let is_log = name.extension().is_some_and(|end| end == "log");
        let after = after.remove(name).unwrap_or_else(|| panic!("{} is gone", name.display()));
        let end = if is_log { used(bytes) } else { bytes.len() };
        assert!(after.len() >= end && after[..end] == bytes[..end], "{}", name.display());
    }
    assert!(
        matches!(Broker::open(dir.path()), Err(Error::Locked { .. })),
        "the owner's lock holds"
    );
}

#[test]
fn who_only_looks_at_a_torn_tail_sees_every_whole_record_and_cuts_nothing() {
    let files = unclosed();
    let mut sights = torn(&files);
    sights.push(("nothing is wrong", files.clone()));
    for (how, torn) in sights {
        let dir = place(&torn);
        let broker = look(dir.path()).expect("open");
        let whole = RECORDS - u64::from(how.contains("frame is") || how.contains("last frame"));
        let (found, ended) = read(&broker, 0);
        assert_eq!((found, ended.is_none()), (whole, true), "{how}: {ended:?}");
        assert_eq!(broker.topic("t").expect("topic").latest_offset(0).expect("end"), whole);
        assert!(!the_report(&broker).topic.is_empty());
        drop(broker);
        assert_same(&torn, dir.path(), how);
    }
    let dir = place(&files);
    let broker = look(dir.path()).expect("open");
    check_nothing_can_be_changed(&broker);
    broker.close().expect("close");
    assert_same(&files, dir.path(), "everything was tried");
    let nowhere = dir.path().join("nowhere");
    assert!(look(&nowhere).is_err());
    assert!(!nowhere.exists());
}

#[test]
fn below_the_reserve_nothing_is_sent_and_the_rest_goes_on() {
    const RESERVE: u64 = 1 << 20;
    let disk = SimulatedDisk::new(3);
    let builder = || Broker::builder("data").simulated_disk(&disk).min_free_bytes(RESERVE);
    let broker = builder().open().expect("open");
    let config = TopicConfig::new().segment_bytes(16 << 10).partitions(2);
    let topic = broker.create_topic("t", config).expect("create");
    let value = vec![5; 3000];
    let record = |partition| Record::new(&value).partition(partition);
    let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("consumer");
    for _ in 0..20 {
        topic.send(record(0)).expect("send");
    }
    assert!(!consumer.try_poll().expect("poll").is_empty());
    for round in 0..3_u64 {
        disk.set_free_bytes(Some(RESERVE - 1));
        let refused = (0..20).find_map(|_| topic.send(record(0)).err()).expect("it is full");
        assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
        let full = topic.latest_offset(0).expect("end");
        let both = [record(0), record(1)];
        for refused in [
            topic.send(Record::new("small").partition(0)).map(drop),
            topic.send(record(1)).map(drop),
            topic.send_with(record(0), Acks::Synced).map(drop),
            topic.send_batch(&both).map(drop),
            broker.producer().send("t", record(1)).map(drop),
        ] {
            assert!(matches!(refused, Err(Error::StorageFull { .. })), "{refused:?}");
        }
        assert_eq!(topic.latest_offset(0).expect("end"), full, "nothing was written");
        // Everything else works.
        let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
        assert!(!reader.try_poll().expect("poll").is_empty());
        drop(consumer.try_poll().expect("poll"));
        consumer.commit_offsets([(("t", 0), full)]).expect("commit");
        consumer.commit_with(Acks::Synced).expect("commit");
        topic.flush().expect("flush");
        let below = round * 6 + 6;
        assert_eq!(topic.delete_records(0, below).expect("delete"), below);
        assert_eq!(broker.committed("g", "t", 0).expect("get"), Some(full.into()));
        // Room comes back by itself, and is found by whoever sends.
        disk.set_free_bytes(Some(RESERVE * 2));
        topic.send(Record::new("small").partition(0)).expect("send");
        topic.send(record(1)).expect("send");
        topic.send_batch(&both).expect("send");
    }
    disk.set_free_bytes(Some(0));
    let refused = (0..20).find_map(|_| topic.send(record(0)).err());
    assert!(matches!(refused, Some(Error::StorageFull { .. })));
    drop(consumer);
    broker.close().expect("closing needs no reserve");
    drop((topic, broker));
    // Opening does not either, nor what is asked of it then.
    let broker = builder().open().expect("open");
    assert!(broker.recovery_report().partitions.is_empty());
    let topic = broker.topic("t").expect("topic");
    assert!(matches!(topic.send(record(0)), Err(Error::StorageFull { .. })));
    assert!(topic.latest_offset(0).expect("end") > topic.earliest_offset(0).expect("start"));
    drop((topic, broker));
    let broker = Broker::builder("data").simulated_disk(&disk).min_free_bytes(0).open();
    let topic = broker.expect("open").topic("t").expect("topic");
    topic.send(record(0)).expect("who wants no reserve has none");
}
