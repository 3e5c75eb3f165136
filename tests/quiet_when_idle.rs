//! A broker that nobody uses writes nothing and takes no processor time, whatever it is set to do by itself.
//! Alone in its process, whose time and writes are looked at.
#![cfg(target_os = "linux")]

#[path = "../benches/support/process.rs"]
#[allow(dead_code, reason = "the benches use more of it")]
mod process;

use std::time::{Duration, Instant};

use forebay::{Broker, Record, Start, TopicConfig};
use process::Deeds;

/// How long it is looked at, and what its threads may take in that time: once a second one looks how much room
/// the disk has, and another at what is to be deleted, each in some ten microseconds.
const WATCH: Duration = Duration::from_secs(2);
const ALLOWED: Duration = Duration::from_millis(10);

#[test]
fn a_broker_with_nothing_to_do_writes_nothing_and_sleeps() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::builder(dir.path())
        .retention_check_interval(Duration::from_millis(500))
        .open()
        .expect("open");
    let config = TopicConfig::new()
        .partitions(16)
        .retention_age(Duration::from_secs(3600))
        .max_bytes(64 << 20)
        .flush_interval(Duration::from_millis(10));
    let topic = broker.create_topic("t", config).expect("create");
    for number in 0..1600 {
        topic.send(Record::new("x").partition(number % 16)).expect("send");
    }
    let long = Duration::from_secs(60);
    let builder = broker.consumer("g").subscribe(["t"]).start(Start::Earliest);
    let mut consumer = builder.auto_commit(Duration::from_millis(10)).open().expect("consumer");
    let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
    let deeds = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut left: usize = 1600 + 16;
            while left > 0 {
                left -= consumer.poll(long).expect("poll").len();
            }
        });
        scope.spawn(|| assert!(!reader.poll(long).expect("poll").is_empty()));
        let begun = Instant::now();
        let deeds = loop {
            // What was sent is consumed, committed and synced first, however busy the machine is.
            std::thread::sleep(Duration::from_millis(500));
            let before = Deeds::look();
            std::thread::sleep(WATCH);
            let deeds = Deeds::look().since(before);
            if is_quiet(&deeds) || begun.elapsed() > Duration::from_secs(20) {
                break deeds;
            }
        };
        for number in 0..16 {
            topic.send(Record::new("x").partition(number)).expect("send");
        }
        deeds
    });
    assert!(is_quiet(&deeds), "{deeds:?}");
}

fn is_quiet(deeds: &Deeds) -> bool {
    (deeds.written_bytes, deeds.write_calls, deeds.disk_bytes) == (0, 0, 0) && deeds.time <= ALLOWED
}
