//! Limits of the process are errors and not signals: the size of files, the number of open ones.
//!
//! Each test runs itself again under the shell's `ulimit`.

#![cfg(unix)]

use std::fs::File;
use std::io::Write;
use std::process::Command;

use forebay::{Acks, Broker, Error, Record, Start, TopicConfig, WhenRefused};

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

/// A limit of memory that is met passes when the host gives memory back.
#[test]
fn a_limit_of_address_space_passes() {
    under("-v 1000000", "map_again");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn map_again() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().segment_bytes(8 << 20).partitions(2);
    let topic = broker.create_topic("t", config).expect("create");
    let value = vec![7; 100_000];
    let send = |partition| topic.send(Record::new(&value).partition(partition));
    // A whole segment that is sealed, and so is mapped by nobody.
    while broker.describe_topic("t").expect("describe").partitions[0].segments < 3 {
        send(0).expect("send");
    }
    broker.flush().expect("flush");
    let end = topic.latest_offset(0).expect("end");
    // Whoever seals them has let them go when their indexes are there, or a moment later.
    let indexes = || {
        let entries = std::fs::read_dir(dir.path().join("topics/t/0")).expect("list").flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "index")).count()
    };
    while indexes() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    // The host takes all there is, but for crumbs.
    let mut hog = Vec::new();
    for bytes in [64 << 20, 16 << 20, 4 << 20, 1 << 20, 256 << 10] {
        hog.extend(std::iter::from_fn(|| memmap2::MmapMut::map_anon(bytes).ok()));
    }
    let refused = [
        send(1).map(drop),
        broker
            .reader()
            .partition("t", 0, Start::Earliest)
            .open()
            .and_then(|mut reader| reader.try_poll().map(drop)),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    }
    assert_eq!(topic.synced_offset(0).expect("offset"), end);
    drop(hog);
    assert_eq!(send(1).expect("there is memory again").offset, 0);
    let mut reader = broker.reader().partition("t", 0, Start::Earliest).open().expect("reader");
    let polls =
        std::iter::from_fn(|| Some(reader.try_poll().expect("poll").len()).filter(|len| *len > 0));
    assert_eq!(polls.sum::<usize>() as u64, end);
    topic.flush().expect("nothing was poisoned");
    broker.close().expect("close");
}

/// A directory must be opened to be synced. If the process has no descriptor left, no sync was begun,
/// and none has failed: the same records are synced when there is one.
#[test]
fn a_sync_that_finds_no_descriptor_poisons_nothing() {
    under("-n 60", "sync_without_descriptors");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn sync_without_descriptors() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("consumer");
    for partition in [0, 0, 1] {
        topic.send(Record::new("x").partition(partition)).expect("send");
    }
    assert_eq!(consumer.try_poll().expect("poll").len(), 3);
    consumer.commit().expect("commit");
    let open = || File::open(dir.path());
    let mut others: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
    let synced = |partition| topic.synced_offset(partition).expect("offset");
    for _ in 0..3 {
        let refused = [
            topic.flush(),
            topic.send_with(Record::new("x").partition(0), Acks::Synced).map(drop),
            broker.producer().flush(),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(Error::NotSynced { .. })), "{refused:?}");
        }
        assert_eq!((synced(0), synced(1)), (0, 0));
        topic.send(Record::new("x").partition(1)).expect("what needs no descriptor goes on");
        consumer.commit_with(Acks::Synced).expect("as do commits");
    }
    // The mark is written where there is a descriptor for it, and is not needed.
    others.pop();
    topic.flush().expect("there is one for the directory");
    let end = |partition| topic.latest_offset(partition).expect("end");
    assert_eq!((synced(0), synced(1)), (end(0), end(1)));
    assert_eq!((end(0), end(1)), (5, 4), "what was told an error is there, or not");
    broker.flush().expect("flush");
    consumer.commit_with(Acks::Synced).expect("commit");
    drop((others, consumer));
    broker.close().expect("close");
    drop((topic, broker));
    let broker = Broker::open(dir.path()).expect("reopen");
    assert!(broker.recovery_report().partitions.is_empty());
    assert_eq!(broker.committed("g", "t", 0).expect("committed"), Some(2.into()));
}

/// A record that a writer has sent and could not sync is in the topic: written again it would be there
/// twice.
#[test]
fn a_line_that_cannot_be_synced_yet_is_taken_and_synced_later() {
    under("-n 60", "write_without_descriptors");
}

#[test]
#[ignore = "run by the other test, under a limit"]
fn write_without_descriptors() {
    if !is_limited() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create").acks(Acks::Synced);
    topic.send_with(Record::new("x"), Acks::Written).expect("send");
    let open = || File::open(dir.path());
    let mut others: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
    let (mut fails, mut drops) = (topic.writer(), topic.writer().when_refused(WhenRefused::Drop));
    fails.write_all(b"one\ntwo\n").expect("they are in the topic");
    drops.write_all(b"three\n").expect("it never fails");
    for _ in 0..3 {
        let refused = [fails.flush(), fails.write_all(b"four\n")];
        for refused in refused {
            let error = refused.expect_err("it is to be synced first");
            let inside = error.get_ref().and_then(|inside| inside.downcast_ref());
            assert!(matches!(inside, Some(Error::NotSynced { .. })), "{error}");
        }
        drops.flush().expect("it never fails");
    }
    let offsets =
        || (topic.synced_offset(0).expect("offset"), topic.latest_offset(0).expect("end"));
    assert_eq!(offsets(), (0, 4));
    others.truncate(others.len() - 2);
    fails.flush().expect("there is a descriptor");
    assert_eq!(offsets(), (4, 4));
    fails.write_all(b"four\n").expect("write");
    drops.write_all(b"five\n").expect("write");
    assert_eq!(offsets(), (6, 6));
    assert_eq!((fails.dropped(), drops.dropped()), (0, 0));
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
