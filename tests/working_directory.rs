//! A process that changes its working directory goes on with the directory it opened.

use std::path::Path;

use forebay::{Acks, Broker, Record, Result, Start, TopicConfig};

fn count(dir: &Path) -> Result<usize> {
    let broker = Broker::builder(dir).read_only().open()?;
    let mut reader = broker.reader().topic("t", Start::Earliest).open()?;
    let mut count = 0;
    loop {
        let batch = reader.try_poll()?;
        if batch.is_empty() {
            return Ok(count);
        }
        count += batch.len();
    }
}

fn send(broker: &Broker, records: usize) {
    let config = TopicConfig::new().segment_bytes(4096);
    let topic = broker.create_topic_if_absent("t", config).expect("create");
    for _ in 0..records {
        topic.send_with(Record::new(&[7; 3000]), Acks::Synced).expect("send");
    }
}

/// Symptom: records sent after `chdir` went to the directory of the same name there, and replaced what
/// another broker had stored. Cause: a relative path was resolved anew with each segment. Fix: the path
/// is made absolute when the broker is opened.
#[test]
fn a_relative_directory_stays_where_it_was_when_the_broker_was_opened() {
    let (one, other) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("other"));
    let other_broker = Broker::open(other.path().join("data")).expect("open");
    send(&other_broker, 5);
    other_broker.close().expect("close");
    std::env::set_current_dir(one.path()).expect("chdir");
    let broker = Broker::open("data").expect("open");
    send(&broker, 3);
    std::env::set_current_dir(other.path()).expect("chdir");
    send(&broker, 4);
    broker.close().expect("close");
    assert_eq!(count(&one.path().join("data")).expect("one"), 7);
    assert_eq!(count(&other.path().join("data")).expect("other"), 5);
}
