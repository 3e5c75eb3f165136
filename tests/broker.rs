//! Opening, closing, and the life of topics.

use std::time::Duration;

use forebay::{Broker, Error, Record, Start, TopicConfig};

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

#[test]
fn a_directory_has_one_broker_at_a_time() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let own = std::process::id();
    match Broker::open(dir.path()) {
        Err(Error::Locked { path, pid }) => {
            assert_eq!(path, dir.path());
            assert_eq!(pid, Some(own));
        }
        other => panic!("{other:?}"),
    }
    broker.close().expect("close");
    let second = Broker::open(dir.path()).expect("free after close");
    drop(broker);
    assert!(
        matches!(Broker::open(dir.path()), Err(Error::Locked { .. })),
        "dropping the first frees nothing"
    );
    drop(second);
    Broker::open(dir.path()).expect("free after drop");
}

#[test]
fn two_brokers_on_two_directories_live_in_one_process() {
    let (one, two) = (temporary(), temporary());
    let one = Broker::open(one.path()).expect("open");
    let two = Broker::open(two.path()).expect("open");
    one.create_topic("t", TopicConfig::new())
        .expect("create")
        .send(Record::new("one"))
        .expect("send");
    assert_eq!(two.topics(), [""; 0]);
    two.create_topic("t", TopicConfig::new()).expect("create");
    assert_eq!(two.topic("t").expect("topic").latest_offset(0).expect("offset"), 0);
}

#[test]
fn a_topic_is_created_once_and_keeps_its_settings() {
    let dir = temporary();
    let config = TopicConfig::new().partitions(3).segment_bytes(1 << 20).segment_age(None);
    {
        let broker = Broker::open(dir.path()).expect("open");
        broker.create_topic("t", config.clone()).expect("create");
        assert!(matches!(
            broker.create_topic("t", TopicConfig::new()),
            Err(Error::TopicExists { topic }) if topic == "t"
        ));
        let same = broker.create_topic_if_absent("t", TopicConfig::new()).expect("present");
        assert_eq!(same.config(), config);
    }
    let broker = Broker::open(dir.path()).expect("open");
    assert_eq!(broker.topics(), ["t"]);
    assert_eq!(broker.topic("t").expect("topic").config(), config);
}

#[test]
fn names_follow_kafkas_rule() {
    let broker = Broker::in_memory().expect("open");
    let longest = "x".repeat(249);
    for name in ["a", "A.b_c-9", "...", longest.as_str()] {
        broker.create_topic(name, TopicConfig::new()).expect(name);
    }
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "~new", "ä", "a\0", long.as_str()] {
        let error = broker.create_topic(name, TopicConfig::new()).expect_err(name);
        assert!(
            matches!(&error, Error::InvalidTopicName { name: named, .. } if named == name),
            "{error}"
        );
    }
}

#[test]
fn the_longest_name_works_on_a_real_disk() {
    let dir = temporary();
    let name = "x".repeat(249);
    let broker = Broker::open(dir.path()).expect("open");
    broker.create_topic(&name, TopicConfig::new()).expect("create");
    broker.delete_topic(&name).expect("delete");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new;
    for (wrong, field) in [
        (config().partitions(0), "partitions"),
        (config().partitions(forebay::MAX_PARTITIONS + 1), "partitions"),
        (config().segment_bytes(100), "segment_bytes"),
        (config().segment_bytes(1 << 40), "segment_bytes"),
        (config().segment_age(Duration::ZERO), "segment_age"),
        (config().index_interval_bytes(0), "index_interval_bytes"),
        (config().max_record_bytes(0), "max_record_bytes"),
        (config().max_record_bytes(1 << 40), "max_record_bytes"),
        (config().retention_age(Duration::ZERO), "retention_age"),
    ] {
        let error = broker.create_topic("t", wrong).expect_err(field);
        assert!(
            matches!(error, Error::InvalidConfig { field: named, .. } if named == field),
            "{error}"
        );
    }
    assert_eq!(broker.topics(), [""; 0]);
    assert!(matches!(
        Broker::builder("m").in_memory().auto_create_topics(0).open(),
        Err(Error::InvalidConfig { field: "partitions", .. })
    ));
}

#[test]
fn settings_are_changed_while_the_topic_is_used_and_kept() {
    let dir = temporary();
    let smaller = {
        let broker = Broker::open(dir.path()).expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        topic.send(Record::new(&[0; 2000])).expect("send");
        let smaller = topic.config().segment_bytes(4096).max_record_bytes(1000);
        broker.alter_topic("t", smaller.clone()).expect("alter");
        assert!(matches!(topic.send(Record::new(&[0; 2000])), Err(Error::RecordTooLarge { .. })));
        for _ in 0..20 {
            topic.send(Record::new(&[0; 900])).expect("send");
        }
        let refused = broker.alter_topic("t", topic.config().partitions(2));
        assert!(matches!(refused, Err(Error::InvalidConfig { field: "partitions", .. })));
        smaller
    };
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.topic("t").expect("topic");
    assert_eq!(topic.config(), smaller);
    for _ in 0..20 {
        topic.send(Record::new(&[0; 900])).expect("send");
    }
    assert!(broker.describe_topic("t").expect("describe").partitions[0].segments > 4);
    assert_eq!(topic.latest_offset(0).expect("offset"), 41);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let dir = temporary();
    {
        let broker = Broker::open(dir.path()).expect("open");
        let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
        topic.send(Record::new("x").partition(1)).expect("send");
        assert!(matches!(
            topic.send(Record::new("x").partition(4)),
            Err(Error::UnknownPartition { .. })
        ));
        broker.create_partitions("t", 5).expect("grow");
        topic.send(Record::new("y").partition(4)).expect("the same handle sees them");
        assert!(matches!(broker.create_partitions("t", 4), Err(Error::InvalidConfig { .. })));
        broker.create_partitions("t", 5).expect("as many as there are");
    }
    let broker = Broker::open(dir.path()).expect("open");
    let description = broker.describe_topic("t").expect("describe");
    let latest: Vec<_> =
        description.partitions.iter().map(|partition| partition.latest_offset).collect();
    assert_eq!(latest, [0, 1, 0, 0, 1]);
}

#[test]
fn a_deleted_topic_is_gone_and_what_was_polled_stays() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    topic.send(Record::new("kept")).expect("send");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let batch = reader.try_poll().expect("poll");
    broker.delete_topic("t").expect("delete");

    assert_eq!(batch.get(0).expect("record").value(), Some(&b"kept"[..]));
    assert!(matches!(topic.send(Record::new("x")), Err(Error::UnknownTopic { .. })));
    assert!(matches!(topic.latest_offset(0), Err(Error::UnknownTopic { .. })));
    assert!(matches!(reader.poll(Duration::from_secs(5)), Err(Error::UnknownTopic { .. })));
    assert!(matches!(broker.delete_topic("t"), Err(Error::UnknownTopic { .. })));
    assert_eq!(std::fs::read_dir(dir.path().join("topics")).expect("list").count(), 0);

    let again = broker.create_topic("t", TopicConfig::new()).expect("create");
    assert_eq!(again.send(Record::new("new life")).expect("send").offset, 0);
    assert!(
        matches!(topic.send(Record::new("x")), Err(Error::UnknownTopic { .. })),
        "the old handle stays dead"
    );
}

#[test]
fn what_interrupted_creations_and_deletions_leave_is_removed() {
    let dir = temporary();
    let topics = dir.path().join("topics");
    drop(Broker::open(dir.path()).expect("open"));
    std::fs::create_dir_all(topics.join("~new/0")).expect("create");
    std::fs::create_dir_all(topics.join("~del-0011223344556677/3")).expect("create");
    std::fs::write(topics.join("~del-0011223344556677/topic"), "x").expect("write");
    let broker = Broker::open(dir.path()).expect("open");
    assert_eq!(broker.topics(), [""; 0]);
    assert_eq!(std::fs::read_dir(&topics).expect("list").count(), 0);
}

#[test]
fn after_close_every_use_says_so_and_waiting_readers_are_told() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    topic.send(Record::new("x")).expect("send");
    let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
    let waiting = std::thread::spawn(move || reader.poll(Duration::from_secs(60)));
    std::thread::sleep(Duration::from_millis(50));
    broker.clone().close().expect("close");
    assert!(matches!(waiting.join().expect("thread"), Err(Error::Closed)));
    assert!(matches!(topic.send(Record::new("x")), Err(Error::Closed)));
    assert!(matches!(broker.producer().send("t", Record::new("x")), Err(Error::Closed)));
    assert!(matches!(broker.create_topic("u", TopicConfig::new()), Err(Error::Closed)));
    assert!(matches!(broker.reader().topic("t", Start::Earliest).open(), Err(Error::Closed)));
    assert!(matches!(broker.flush(), Err(Error::Closed)));
    broker.close().expect("a second close has nothing to do");
    assert_eq!(Broker::open(dir.path()).expect("open").topics(), ["t"]);
}

#[test]
fn handles_keep_the_broker_open_in_any_order_of_drops() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let producer = broker.producer();
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    drop(broker);
    topic.send(Record::new("one")).expect("send");
    drop(topic);
    producer.send("t", Record::new("two")).expect("send");
    drop(producer);
    let batch = reader.try_poll().expect("poll");
    assert_eq!(batch.len(), 2);
    assert!(matches!(Broker::open(dir.path()), Err(Error::Locked { .. })));
    drop(reader);
    let broker = Broker::open(dir.path()).expect("the last handle is gone");
    assert_eq!(
        batch.get(1).expect("record").value(),
        Some(&b"two"[..]),
        "a batch outlives the broker"
    );
    assert_eq!(broker.topic("t").expect("topic").latest_offset(0).expect("offset"), 2);
}

#[test]
fn a_clean_close_leaves_exact_files_and_nothing_to_recover() {
    let dir = temporary();
    for round in 1..=5_u64 {
        let broker = Broker::open(dir.path()).expect("open");
        assert_eq!(broker.recovery_report().partitions, []);
        let topic = broker.create_topic_if_absent("t", TopicConfig::new()).expect("create");
        topic.send(Record::new(&[1; 100])).expect("send");
        assert_eq!(topic.latest_offset(0).expect("offset"), round);
        broker.close().expect("close");
        let log = dir.path().join("topics/t/0/00000000000000000000.log");
        assert_eq!(std::fs::metadata(log).expect("one segment goes on").len(), 64 + 128 * round);
    }
    let names = std::fs::read_dir(dir.path().join("topics/t/0")).expect("list");
    let mut names: Vec<_> =
        names.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect();
    names.sort();
    let base = "00000000000000000000";
    assert_eq!(
        names,
        [
            format!("{base}.index"),
            format!("{base}.log"),
            format!("{base}.timeindex"),
            "checkpoint".into()
        ]
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = temporary();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("write");
    assert!(matches!(Broker::open(&file), Err(Error::Io { path, .. }) if path.starts_with(&file)));
    let error = Broker::open(file.join("below")).expect_err("below a file");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn ten_thousand_partitions_open_quickly_and_hold_no_files() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    broker.create_topic("many", TopicConfig::new().partitions(10_000)).expect("create");
    broker.close().expect("close");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.topic("many").expect("topic");
    assert_eq!(topic.partitions(), 10_000);
    #[cfg(target_os = "linux")]
    {
        let open = std::fs::read_dir("/proc/self/fd").expect("list").count();
        assert!(open < 300, "{open} files are open");
    }
    topic.send(Record::new("x").partition(9_999)).expect("send");
}

#[test]
#[cfg(target_os = "linux")]
fn sealed_segments_hold_no_file_and_no_mapping() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    for _ in 0..300 {
        topic.send(Record::new(&[1; 3900])).expect("send");
    }
    let own = dir.path().to_str().expect("text");
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        maps.lines().filter(|line| line.contains(own)).count()
    };
    let opened = || {
        let links = std::fs::read_dir("/proc/self/fd").expect("list").flatten();
        links
            .filter(|link| {
                std::fs::read_link(link.path())
                    .is_ok_and(|to| to.ends_with("log") || to.to_string_lossy().contains(own))
            })
            .count()
    };
    // Sealing is done in the background.
    let patience = std::time::Instant::now();
    while (mapped() > 2 || opened() > 4) && patience.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(mapped() <= 2, "{} mappings for 300 segments", mapped());
    assert!(opened() <= 4, "{} open files for 300 segments", opened());
    assert_eq!(topic.latest_offset(0).expect("offset"), 300);
}
