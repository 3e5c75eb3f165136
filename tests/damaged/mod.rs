//! A small directory with everything in it, to be damaged: topics, segments, indexes, commits.
#![allow(dead_code, reason = "not every test uses all of it")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::{Broker, Error, Record, RepairedGap, Start, TopicConfig};

pub const RECORDS: u64 = 48;
pub const COMMITTED: u64 = 13;

/// Records by offset, and the gaps between them.
pub type Content = (BTreeMap<u64, Vec<u8>>, Vec<(u64, u64)>);

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A directory in memory where there is one: nothing here depends on a disk.
pub fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("temporary directory")
}

pub fn value(number: u64) -> String {
    format!("record {number} {}", "y".repeat((number * 97 % 400) as usize))
}

/// Three segments in partition 0, and a group that has come some way; closed, or left as a killed
/// process leaves it with all that was sent and committed on stable storage.
pub fn make(dir: &Path, clean: bool) -> Files {
    let broker = Broker::open(dir).expect("open");
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(300);
    let topic = broker.create_topic("t", config).expect("create");
    fill(&broker, &topic);
    if clean {
        broker.close().expect("close");
    } else {
        broker.flush().expect("flush");
        std::thread::sleep(Duration::from_millis(50));
    }
    files(dir)
}

/// Sends all records, one batch among them, and commits.
pub fn fill(broker: &Broker, topic: &forebay::Topic) {
    for number in (0..RECORDS).step_by(3) {
        let values: Vec<_> = (number..number + 3).map(value).collect();
        if number % 2 == 0 {
            let records: Vec<_> = values.iter().map(Record::new).collect();
            topic.send_batch(&records).expect("send");
        } else {
            for value in &values {
                topic.send(Record::new(value)).expect("send");
            }
        }
    }
    let consumer = broker
        .consumer("g")
        .subscribe(["t"])
        .start(Start::Earliest)
        .max_records(COMMITTED as usize);
    let mut consumer = consumer.open().expect("join");
    while consumer.poll(Duration::from_secs(1)).expect("poll").is_empty() {}
    consumer.commit().expect("commit");
}

/// Every file below a directory, but for the lock.
pub fn files(dir: &Path) -> Files {
    let mut files = Files::new();
    collect(dir, dir, &mut files);
    files.remove(Path::new("LOCK"));
    files
}

fn collect(top: &Path, dir: &Path, files: &mut Files) {
    for entry in fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(top, &path, files);
        } else {
            let name = path.strip_prefix(top).expect("below").to_path_buf();
            files.insert(name, fs::read(&path).expect("read"));
        }
    }
}

/// Makes a directory hold these files and nothing else.
pub fn restore(files: &Files, dir: &Path) {
    for name in ["topics", "offsets", "quarantine"] {
        drop(fs::remove_dir_all(dir.join(name)));
    }
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        fs::write(path, bytes).expect("write");
    }
}

/// The log files, in order.
pub fn logs(files: &Files) -> Vec<PathBuf> {
    files.keys().filter(|path| path.extension().is_some_and(|end| end == "log")).cloned().collect()
}

/// Where the bytes of a file end that are not zero.
pub fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Every record there is, by offset, and the gaps that were told on the way.
pub fn read_all(broker: &Broker) -> Content {
    let (mut records, mut gaps) = (BTreeMap::new(), Vec::new());
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    loop {
        match reader.try_poll() {
            Ok(batch) if batch.is_empty() => return (records, gaps),
            Ok(batch) => {
                for record in &batch {
                    let before =
                        records.insert(record.offset(), record.value().expect("value").to_vec());
                    assert!(before.is_none(), "record {} comes once", record.offset());
                }
            }
            Err(Error::Gap { from, to, .. }) => gaps.push((from, to)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asserts that what is there are all records but for those in the gaps, and nothing else.
pub fn assert_all_but(broker: &Broker, gaps: &[RepairedGap], end: u64, what: &str) {
    let (records, told) = read_all(broker);
    for (offset, found) in &records {
        assert_eq!(*found, value(*offset).into_bytes(), "{what}: record {offset}");
    }
    let start = broker.describe_topic("t").expect("describe").partitions[0].earliest_offset;
    for offset in 0..end {
        let is_gone = gaps.iter().any(|gap| (gap.from..gap.to).contains(&offset));
        assert_eq!(records.contains_key(&offset), !is_gone, "{what}: record {offset}, {gaps:?}");
        let is_told = told.iter().any(|(from, to)| (*from..*to).contains(&offset));
        assert_eq!(is_told || offset < start, is_gone, "{what}: record {offset} {told:?} {start}");
    }
    assert!(records.keys().all(|offset| *offset < end), "{what}: nothing is invented");
}
