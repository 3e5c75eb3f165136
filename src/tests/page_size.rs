//! Which segments get large pages: those that are written in one go, and not those that are synced.

use std::thread;
use std::time::Duration;

use crate::{Acks, Broker, Record, TopicConfig};

/// Sends 12 MiB, does something every 64 KiB, and says whether pages are large then.
fn pages_are_large(acks: Acks, pause: Duration) -> bool {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target").expect("dir");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create").acks(acks);
    let value = vec![7; 64 << 10];
    for _ in 0..192 {
        topic.send(Record::new(&value)).expect("send");
        thread::sleep(pause);
    }
    let state = broker.inner.topic("t").expect("topic");
    let large = state.partition(0).expect("partition").lock().writer.large_pages();
    let mut reader = broker.reader().topic("t", crate::Start::Earliest).open().expect("reader");
    let mut found = 0;
    while let batch = reader.try_poll().expect("poll")
        && !batch.is_empty()
    {
        assert!(batch.iter().all(|record| record.value() == Some(&value[..])));
        found += batch.len();
    }
    assert_eq!(found, 192);
    large
}

#[test]
fn a_segment_that_is_written_in_one_go_gets_large_pages() {
    // On a machine that has other things to do it may not be one go.
    assert!((0..10).any(|_| pages_are_large(Acks::Written, Duration::ZERO)));
}

#[test]
fn one_that_is_synced_or_filled_slowly_gets_small_pages() {
    assert!(!pages_are_large(Acks::Synced, Duration::ZERO));
    assert!(!pages_are_large(Acks::Written, Duration::from_millis(2)));
}
