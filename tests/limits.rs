//! Limits of the process are errors and not signals: the size of files, the number of open ones.
//!
//! Each test runs itself again under the shell's `ulimit`.

#![cfg(unix)]

use std::process::Command;

use forebay::{Broker, Error, Record, Start, TopicConfig};

/// Runs one of the tests below in a process of its own, under a limit.
fn under(limit: &str, test: &str) {
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit {limit} && exec \"$0\" --exact {test} --ignored --nocapture"),
        ])
        .arg(std::env::current_exe().expect("this test"))
        .env("FOREBAY_LIMITED", limit)
        .output()
        .expect("sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test} under ulimit {limit}: {} {said}", output.status);
}

fn is_limited() -> bool {
    std::env::var("FOREBAY_LIMITED").is_ok()
}

#[test]
fn a_file_size_limit_is_an_error_and_not_a_signal() {
    under("-f 200", "fill_files");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn fill_files() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let value = [1; 1000];
    let refused =
        (0..10_000).find_map(|_| topic.send(Record::new(&value)).err()).expect("it is full");
    assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
    let count = topic.latest_offset(0).expect("offset");
    assert!(count > 10);
    broker
        .create_topic("other", TopicConfig::new())
        .expect("create")
        .send(Record::new("x"))
        .expect("send");
    broker.close().expect("close");
    let broker = Broker::open(dir.path()).expect("reopen");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let polls =
        std::iter::from_fn(|| Some(reader.try_poll().expect("poll").len()).filter(|len| *len > 0));
    assert_eq!(polls.sum::<usize>() as u64, count);
}

#[test]
fn a_limit_of_open_files_is_an_error_and_passes() {
    under("-n 40", "open_many");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn open_many() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(60)).expect("create");
    // What the host has open beside the broker counts too.
    let others: Vec<_> = (0..5).map(|_| std::fs::File::open(dir.path()).expect("open")).collect();
    let send = |partition| topic.send(Record::new("x").partition(partition));
    let refused = (0..60).find(|partition| send(*partition).is_err()).expect("there are too many");
    let error = send(refused).expect_err("it stays so");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(send(0).expect("those that are open go on").offset, 1);
    let mut reader = broker.reader().partition("t", 0, Start::Earliest).open().expect("reader");
    assert_eq!(reader.try_poll().expect("poll").len(), 2);
    // It passes: when the host lets files go, the same partition takes the record.
    drop(others);
    assert_eq!(send(refused).expect("there is room for one more").offset, 0);
}

#[test]
fn a_limit_of_address_space_is_an_error_and_harms_nobody_else() {
    under("-v 1000000", "map_much");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn map_much() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    // Each partition that is written maps as much as a segment may come to.
    let topic = broker.create_topic("t", TopicConfig::new().partitions(20)).expect("create");
    let send = |partition| topic.send(Record::new("x").partition(partition));
    let refused = (0..20).find(|partition| send(*partition).is_err()).expect("there are too many");
    let error = send(refused).expect_err("it stays so");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(send(0).expect("those that are mapped go on").offset, 1);
    let mut reader = broker.reader().partition("t", 0, Start::Earliest).open().expect("reader");
    assert_eq!(reader.try_poll().expect("poll").len(), 2);
    broker.close().expect("close");
}

#[test]
fn where_no_file_may_be_written_opening_is_an_error_and_not_a_signal() {
    under("-f 0", "write_nothing");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn write_nothing() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    // Nothing but its topics' files need bytes.
    let Ok(broker) = Broker::open(dir.path()) else { return };
    let refused = broker.create_topic("t", TopicConfig::new()).expect_err("it has a file");
    assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
    broker.close().expect("close");
}
