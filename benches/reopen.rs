//! How long a broker takes to open after `kill -9`, whatever is stored.
//!
//! `cargo bench --bench reopen -- 1 10` for 1 and 10 GB; 1 GB if nothing is said. The process that is killed
//! is this program, and it is killed while it sends. The limit is to map what recovery has to read, and to
//! check as many bytes with one checksum a record. After each kill, everything that was acknowledged has to be there:
//! what recovery read, and some before it, is checked byte by byte each time, and all that is stored at the end.
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forebay::{Broker, Record, Start, TopicConfig};
use support::{Options, Outcome, Spread, Target, scratch, timed};

const ROUNDS: usize = 5;
const VALUE: usize = 1000;
/// What a record of `VALUE` bytes takes in a segment, about.
const FRAME: usize = VALUE + 28;
/// How many records a later life adds at least, so that there is something to recover.
const MORE: u64 = 20_000;
/// How many are sent after it was said that there are enough, so that the kill comes in the middle of them.
const AFTERWARDS: u64 = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, dir, records] = &arguments[..]
        && role == "victim"
    {
        return fill(dir, records.parse().expect("number"));
    }
    let options = Options::parse();
    let sizes = options.words.iter().map(|word| word.parse().expect("a number of GB"));
    let mut sizes: Vec<u64> = sizes.collect();
    if sizes.is_empty() {
        sizes.push(1);
    }
    for gigabytes in sizes {
        measure(&options, gigabytes);
    }
}

/// The value of a record: its offset, and filling.
fn number(value: &mut [u8; VALUE], offset: u64) -> &[u8] {
    value[..8].copy_from_slice(&offset.to_le_bytes());
    value
}

/// The process to be killed: sends until there are so many, says so, and goes on.
fn fill(dir: &str, records: u64) {
    let broker = Broker::open(dir).expect("open");
    let topic = broker.create_topic_if_absent("t", TopicConfig::new()).expect("create");
    let mut value = [7; VALUE];
    let mut send = |offset| {
        let sent = topic.send(Record::new(number(&mut value, offset))).expect("send");
        assert_eq!(sent.offset, offset);
    };
    let first = topic.latest_offset(0).expect("offset");
    let until = records.max(first + MORE);
    (first..until).for_each(&mut send);
    println!("{until}");
    (until..until + AFTERWARDS).for_each(&mut send);
    loop {
        std::thread::park();
    }
}

/// Lets another process send, and kills it; how many records it had acknowledged at least.
fn life(dir: &Path, records: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("victim")
        .arg(dir)
        .arg(records.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("pipe"));
    out.read_line(&mut line).expect("read");
    // SIGKILL, where there are signals.
    child.kill().expect("kill");
    child.wait().expect("wait");
    line.trim().parse().expect("it says how many")
}

/// Looks at every byte of the records from `first` on.
fn check(broker: &Broker, first: u64, end: u64) {
    let start = Start::Offset(first);
    let mut reader = broker.reader().partition("t", 0, start).open().expect("reader");
    let (mut next, mut expected) = (first, [7; VALUE]);
    while next < end {
        let batch = reader.try_poll().expect("poll");
        assert!(!batch.is_empty(), "record {next} of {end} is not there");
        for record in &batch {
            assert_eq!(record.offset(), next, "order");
            assert_eq!(record.value(), Some(number(&mut expected, next)), "content");
            next += 1;
        }
    }
    assert_eq!(next, end, "nothing else is there");
}

/// The log files below a directory, oldest first.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry"));
    let mut found: Vec<PathBuf> = entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => logs(&path),
            path if path.extension().is_some_and(|ending| ending == "log") => vec![path],
            _ => Vec::new(),
        })
        .collect();
    found.sort();
    found
}

/// Maps the newest files, as many as hold so many records, and checks so many bytes of them, a record's
/// length at a time.
fn limit(dir: &Path, records: u64) -> Duration {
    let (mut left, mut files) = (records as usize * VALUE, Vec::new());
    for path in logs(dir).into_iter().rev() {
        let bytes = left.min(path.metadata().expect("file").len() as usize);
        files.push((path, bytes));
        left -= bytes;
    }
    assert_eq!(left, 0, "the files hold what was read");
    files.retain(|(_, bytes)| *bytes > 0);
    timed(|| {
        for (path, bytes) in files {
            let file = std::fs::File::open(path).expect("file");
            // SAFETY: the broker that writes to it is this process's own, and is not sending.
            #[allow(unsafe_code, reason = "the limit is what a bare mapping allows")]
            let map = unsafe { memmap2::Mmap::map(&file) }.expect("map");
            let sums = map[..bytes].chunks(FRAME).map(crc32fast::hash);
            assert_ne!(sums.fold(0, |all, sum| all ^ sum), 0, "something is there");
        }
    })
}

fn measure(options: &Options, gigabytes: u64) {
    let rounds = options.rounds(ROUNDS);
    let records = options.scaled(gigabytes * 1_000_000_000 / VALUE as u64);
    let dir = scratch();
    let (mut times, mut limits, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let mut end = 0;
    for _ in 0..rounds {
        let acknowledged = life(dir.path(), records);
        let begun = Instant::now();
        let broker = Broker::open(dir.path()).expect("open");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        let kept = broker.recovery_report().partitions[0].records_kept;
        limits.push(limit(&dir.path().join("topics"), kept).as_secs_f64() * 1e3);
        read.push(kept as f64);
        let topic = broker.topic("t").expect("topic");
        end = topic.latest_offset(0).expect("offset");
        let may_be = acknowledged..=acknowledged + AFTERWARDS;
        assert!(may_be.contains(&end), "{end} records, {acknowledged} were acknowledged");
        check(&broker, end.saturating_sub(kept + MORE), end);
        // So that in the next round what was written since then has to be read.
        broker.close().expect("close");
    }
    check(&Broker::open(dir.path()).expect("open"), 0, end);

    let stored = records * VALUE as u64;
    let stored = if options.is_quick {
        format!("{} MB", stored / 1_000_000)
    } else {
        format!("{gigabytes} GB")
    };
    let ratio = Spread::of(times.iter().zip(&limits).map(|(time, limit)| time / limit));
    let (value, limit, read) = (Spread::of(times), Spread::of(limits), Spread::of(read));
    let what = format!("open after kill -9, {stored} stored");
    let mut outcome = Outcome::new("W7", &what, "ms", value).target(Target::AtMost(5.0));
    outcome.limit = Some(("map and check what is read".to_owned(), limit.median));
    outcome.ratio = Some(ratio);
    println!(
        "{what}: {:.2} ms ({:.2} - {:.2}, target 5); to map and check the {} records ({} - {}) that had to be read: {:.2} ms, ratio {:.2} ({:.2} - {:.2}); {end} records checked",
        value.median,
        value.min,
        value.max,
        read.median,
        read.min,
        read.max,
        limit.median,
        ratio.median,
        ratio.min,
        ratio.max
    );
    options.report(&outcome);
}
