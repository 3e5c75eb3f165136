//! A logger that panics is the host's own fault; the broker whose message it was stays usable, and
//! its threads live on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Broker, Record, Start, TopicConfig};

/// Panics at every message, while it is to.
struct Panics;

static IS_ON: AtomicBool = AtomicBool::new(false);
static PANICKED: AtomicU64 = AtomicU64::new(0);

impl log::Log for Panics {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        if IS_ON.load(Ordering::Relaxed) {
            PANICKED.fetch_add(1, Ordering::Relaxed);
            resume_unwind(Box::new("on purpose"));
        }
    }

    fn flush(&self) {}
}

fn is_panic<T>(work: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// Symptom: after a logger had panicked, partitions were synced no more by `flush_records` and
/// `flush_interval`, and a second close never returned. Cause: that a job had panicked was logged
/// outside of what catches panics, and so was the close before it was done. Fix: a message is the last
/// thing that is done, and a thread catches what comes of it.
#[test]
fn a_logger_that_panics_leaves_everything_usable() {
    log::set_logger(&Panics).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let dir = tempfile::tempdir().expect("temporary directory");

    IS_ON.store(true, Ordering::Relaxed);
    assert!(is_panic(|| Broker::open(dir.path())), "opening is logged");
    IS_ON.store(false, Ordering::Relaxed);
    let broker = Broker::open(dir.path()).expect("the directory is free");
    let config = TopicConfig::new().segment_bytes(4096).flush_records(10);
    let topic = broker.create_topic("t", config).expect("create");

    IS_ON.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        topic.send(Record::new(&[0; 1000])).expect("rolling is not logged by who sends");
        std::thread::sleep(Duration::from_millis(1));
    }
    // At the end fewer than ten are left for the next flush.
    assert!(topic.wait_synced(0, 11, LONG).expect("wait") >= 11);
    assert!(PANICKED.load(Ordering::Relaxed) > 1, "messages of the background panicked");
    for _ in 0..20 {
        topic.send(Record::new(&[0; 1000])).expect("send");
    }
    let synced = topic.wait_synced(0, 31, LONG).expect("wait");
    assert!(synced >= 31, "the background goes on");

    let again = broker.clone();
    drop(catch_unwind(AssertUnwindSafe(|| broker.close())));
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(again.close()));
    wait.recv_timeout(LONG).expect("it hangs").expect("it was closed");
    IS_ON.store(false, Ordering::Relaxed);
    let broker = Broker::open(dir.path()).expect("reopen");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    assert_eq!(reader.try_poll().expect("poll").len(), 40);
}
