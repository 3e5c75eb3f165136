//! What a sender is promised: places, order, partitions, and errors that change nothing.

use std::sync::Arc;

use forebay::{
    Acks, Broker, Error, MAX_HEADERS, ManualClock, OwnedRecord, Partitioner, Record, Start,
    Timestamp, TimestampType, TopicConfig,
};

fn all(broker: &Broker, topic: &str) -> Vec<OwnedRecord> {
    let mut reader = broker.reader().topic(topic, Start::Earliest).open().expect("reader");
    let mut records = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return records;
        }
        records.extend(batch.iter().map(|record| record.to_owned()));
    }
}

fn values(broker: &Broker, topic: &str) -> Vec<String> {
    let text =
        |record: OwnedRecord| String::from_utf8(record.value.unwrap_or_default()).expect("text");
    all(broker, topic).into_iter().map(text).collect()
}

#[test]
fn every_part_of_a_record_is_read_back_as_it_was_sent() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let time = Timestamp::from_millis(1_234_567);
    let full = Record::new(b"value\0\xff")
        .key(b"key\0")
        .header("twice", "one")
        .header("", b"\xfe\xfd")
        .header("twice", "two")
        .timestamp(time);
    let sent = topic.send(full).expect("send");
    assert_eq!((sent.partition, sent.offset, sent.timestamp), (0, 0, time));
    topic.send(Record::tombstone().key("gone")).expect("send");
    topic.send(Record::new("").key("")).expect("send");

    let records = all(&broker, "t");
    assert_eq!(records[0].value.as_deref(), Some(&b"value\0\xff"[..]));
    assert_eq!(records[0].key.as_deref(), Some(&b"key\0"[..]));
    assert_eq!(records[0].timestamp, time);
    let headers: Vec<_> =
        records[0].headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(headers, [("twice", &b"one"[..]), ("", b"\xfe\xfd"), ("twice", b"two")]);
    assert_eq!((&records[1].key, &records[1].value), (&Some(b"gone".to_vec()), &None));
    assert_eq!((&records[2].key, &records[2].value), (&Some(Vec::new()), &Some(Vec::new())));

    let again = topic.send(records[0].as_record()).expect("send");
    assert_eq!(again.offset, 3);
    let copy = &all(&broker, "t")[3];
    assert_eq!((&copy.headers, &copy.value), (&records[0].headers, &records[0].value));
}

#[test]
fn what_cannot_be_sent_is_named_and_changes_nothing() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker
        .create_topic("t", TopicConfig::new().partitions(2).max_record_bytes(200))
        .expect("create");
    let producer = broker.producer();

    assert!(
        matches!(producer.send("", Record::new("x")), Err(Error::UnknownTopic { topic }) if topic.is_empty())
    );
    assert!(
        matches!(producer.send("no", Record::new("x")), Err(Error::UnknownTopic { topic }) if topic == "no")
    );
    assert!(matches!(
        topic.send(Record::new("x").partition(2)),
        Err(Error::UnknownPartition { partition: 2, partitions: 2, .. })
    ));
    assert!(matches!(
        topic.send(Record::new("x").partition(u32::MAX)),
        Err(Error::UnknownPartition { partition: u32::MAX, .. })
    ));
    let mut crowded = Record::new("x");
    for _ in 0..=MAX_HEADERS {
        crowded = crowded.header("h", "");
    }
    assert!(matches!(
        topic.send(crowded),
        Err(Error::TooManyHeaders { count, max: MAX_HEADERS, .. }) if count == MAX_HEADERS + 1
    ));
    for millis in [-1, Timestamp::MAX.as_millis() + 1, i64::MIN, i64::MAX] {
        let record = Record::new("x").timestamp(Timestamp::from_millis(millis));
        assert!(matches!(topic.send(record), Err(Error::TimestampOutOfRange { .. })), "{millis}");
    }
    let large = [0; 300];
    assert!(matches!(
        topic.send(Record::new(&large)),
        Err(Error::RecordTooLarge { max_bytes: 200, bytes, .. }) if bytes > 300
    ));
    let batch = [Record::new("good").partition(0), Record::new(&large).partition(1)];
    assert!(matches!(topic.send_batch(&batch), Err(Error::RecordTooLarge { .. })));
    let batch = [Record::new("good").partition(0), Record::new("bad").partition(7)];
    assert!(matches!(topic.send_batch(&batch), Err(Error::UnknownPartition { partition: 7, .. })));
    let never = topic.clone().partitioner(Partitioner::custom(|_, partitions| partitions));
    assert!(matches!(
        never.send(Record::new("x")),
        Err(Error::UnknownPartition { partition: 2, .. })
    ));

    assert_eq!(all(&broker, "t"), []);
    assert_eq!(topic.send(Record::new("first").partition(1)).expect("send").offset, 0);
}

#[test]
fn a_record_may_be_exactly_as_large_as_is_allowed() {
    let broker = Broker::in_memory().expect("open");
    let topic =
        broker.create_topic("t", TopicConfig::new().max_record_bytes(1000)).expect("create");
    // Header of the frame 26, flags 1, length of the value 2.
    let largest = vec![1; 1000 - 26 - 1 - 2];
    topic.send(Record::new(&largest)).expect("just fits");
    let larger = vec![1; largest.len() + 1];
    assert!(matches!(
        topic.send(Record::new(&larger)),
        Err(Error::RecordTooLarge { bytes: 1001, max_bytes: 1000, .. })
    ));
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let large = vec![7; 100_000];
    {
        let broker = Broker::open(dir.path()).expect("open");
        let topic =
            broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
        for value in [&b"before"[..], &large, b"after"] {
            topic.send(Record::new(value)).expect("send");
        }
        assert_eq!(broker.describe_topic("t").expect("describe").partitions[0].segments, 3);
    }
    let broker = Broker::open(dir.path()).expect("open");
    let found: Vec<_> =
        all(&broker, "t").into_iter().map(|record| record.value.unwrap_or_default()).collect();
    assert_eq!(found, [b"before".to_vec(), large, b"after".to_vec()]);
}

#[test]
fn a_batch_is_in_order_and_says_where_each_record_went() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(3)).expect("create");
    topic.send(Record::new("earlier").partition(1)).expect("send");
    let names: Vec<String> = (0..100).map(|number| format!("record-{number}")).collect();
    let records: Vec<_> =
        (0..).zip(&names).map(|(number, name)| Record::new(name).partition(number % 3)).collect();
    let sent = topic.send_batch(&records).expect("send");
    assert_eq!(sent.len(), 100);
    for (number, (sent, name)) in (0..).zip(sent.iter().zip(&names)) {
        assert_eq!(sent.partition, number % 3);
        let mut reader = broker
            .reader()
            .partition("t", sent.partition, Start::Offset(sent.offset))
            .open()
            .expect("reader");
        let batch = reader.try_poll().expect("poll");
        let record = batch.get(0).expect("record");
        assert_eq!(record.value(), Some(name.as_bytes()));
        assert_eq!(record.timestamp(), sent.timestamp);
    }
    assert!(topic.send_batch(&[]).expect("nothing").is_empty());
}

#[test]
fn batches_keep_timestamps_given_and_stamp_the_others() {
    let clock = ManualClock::new(Timestamp::from_millis(5_000));
    let broker = Broker::builder("m").in_memory().manual_clock(&clock).open().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let given = |millis| Record::new("x").timestamp(Timestamp::from_millis(millis));
    let sent =
        topic.send_batch(&[given(9_000), Record::new("x"), given(1), given(9_000)]).expect("send");
    let millis: Vec<_> = sent.iter().map(|sent| sent.timestamp.as_millis()).collect();
    assert_eq!(millis, [9_000, 5_000, 1, 9_000]);
    let found: Vec<_> =
        all(&broker, "t").iter().map(|record| record.timestamp.as_millis()).collect();
    assert_eq!(found, millis);
}

#[test]
fn append_time_is_the_brokers_and_never_goes_back() {
    let clock = ManualClock::new(Timestamp::from_millis(5_000));
    let broker = Broker::builder("m").in_memory().manual_clock(&clock).open().expect("open");
    let config = TopicConfig::new().timestamp_type(TimestampType::AppendTime);
    let topic = broker.create_topic("t", config).expect("create");
    let mut stamps = Vec::new();
    for now in [5_000, 6_000, 2_000, 7_000] {
        clock.set(Timestamp::from_millis(now));
        let record = Record::new("x").timestamp(Timestamp::from_millis(1));
        stamps.push(topic.send(record.clone()).expect("send").timestamp.as_millis());
        stamps.push(
            topic.send_batch(&[record.clone(), record]).expect("send")[1].timestamp.as_millis(),
        );
    }
    assert_eq!(stamps, [5_000, 5_000, 6_000, 6_000, 6_000, 6_000, 7_000, 7_000]);
    let found: Vec<_> =
        all(&broker, "t").iter().map(|record| record.timestamp.as_millis()).collect();
    assert!(found.is_sorted(), "{found:?}");
}

#[test]
fn keys_choose_partitions_as_the_kafka_clients_do() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(8)).expect("create");
    for (partitioner, foobar, order) in
        [(Partitioner::Murmur2, 6, 0), (Partitioner::Fnv1a, 0, 4), (Partitioner::Crc32, 5, 6)]
    {
        let topic = topic.clone().partitioner(partitioner);
        assert_eq!(topic.send(Record::new("x").key("foobar")).expect("send").partition, foobar);
        assert_eq!(topic.send(Record::new("x").key("order-42")).expect("send").partition, order);
        // The key is looked at, not the explicit partition, only where there is none.
        assert_eq!(
            topic.send(Record::new("x").key("foobar").partition(3)).expect("send").partition,
            3
        );
    }
}

#[test]
fn keyless_records_reach_every_partition() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(4)).expect("create");
    let choices = |partitioner: Partitioner| -> Vec<u32> {
        let topic = topic.clone().partitioner(partitioner);
        let value = [0; 100];
        (0..4000).map(|_| topic.send(Record::new(&value)).expect("send").partition).collect()
    };
    let changes = |choices: &[u32]| choices.windows(2).filter(|pair| pair[0] != pair[1]).count();
    for partitioner in
        [Partitioner::Murmur2, Partitioner::Random, Partitioner::RoundRobin, Partitioner::Sticky]
    {
        let choices = choices(partitioner.clone());
        for partition in 0..4 {
            let count = choices.iter().filter(|chosen| **chosen == partition).count();
            assert!(count > 200, "{partitioner:?} sent {count} to partition {partition}");
        }
    }
    let sticky = choices(Partitioner::Sticky);
    assert!(changes(&sticky) < 40, "stays for about 124 records");
    let in_turn = choices(Partitioner::RoundRobin);
    assert!(in_turn.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 4));
}

#[test]
fn a_partitioner_that_panics_leaves_everything_usable() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let angry = topic.clone().partitioner(Partitioner::custom(|_, _| panic!("on purpose")));
    let result =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| angry.send(Record::new("x"))));
    assert!(result.is_err());
    assert_eq!(topic.send(Record::new("y")).expect("send").offset, 0);
    broker.close().expect("close");
}

#[test]
fn sending_to_a_name_without_topic_creates_it_only_if_asked_to() {
    let broker = Broker::builder("m").in_memory().auto_create_topics(3).open().expect("open");
    let producer = broker.producer();
    producer.send("born", Record::new("x")).expect("send");
    assert_eq!(broker.topic("born").expect("topic").partitions(), 3);
    assert!(matches!(
        producer.send("not/legal", Record::new("x")),
        Err(Error::InvalidTopicName { .. })
    ));
    assert_eq!(broker.topics(), ["born"]);
    assert!(matches!(broker.topic("other"), Err(Error::UnknownTopic { .. })));
}

#[test]
fn synced_records_are_below_the_synced_offset() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).expect("create");
    let value = [1; 500];
    for number in 0..40 {
        topic.send(Record::new(&value)).expect("send");
        if number % 7 == 0 {
            let sent = topic.send_with(Record::new(&value), Acks::Synced).expect("send");
            assert!(topic.synced_offset(0).expect("topic") > sent.offset);
        }
    }
    topic.send(Record::new("last")).expect("send");
    broker.producer().flush().expect("flush");
    assert_eq!(topic.synced_offset(0).expect("topic"), topic.latest_offset(0).expect("topic"));
}

#[test]
fn threads_that_share_a_batch_of_partitions_do_not_deadlock() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(5)).expect("create");
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let topic = &topic;
            scope.spawn(move || {
                for round in 0..500_u32 {
                    let records: Vec<_> = (0..10)
                        .map(|number| Record::new("x").partition((thread + number * round) % 5))
                        .collect();
                    topic.send_batch(&records).expect("send");
                }
            });
        }
    });
    let total: u64 = (0..5).map(|partition| topic.latest_offset(partition).expect("topic")).sum();
    assert_eq!(total, 4 * 500 * 10);
    assert_eq!(values(&broker, "t").len(), 20_000);
}

#[test]
fn handles_are_for_any_thread() {
    fn shared<T: Clone + Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Broker>();
    shared::<forebay::Producer>();
    shared::<forebay::Topic>();
    shared::<forebay::Batch>();
    sent::<forebay::Reader>();
    sent::<Error>();
    let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(Error::Closed);
    assert_eq!(error.to_string(), "the broker is closed");
}

#[test]
fn a_segment_is_rolled_when_it_is_full_or_old_and_not_before() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000));
    let broker = Broker::builder("m").in_memory().manual_clock(&clock).open().expect("open");
    let hour = std::time::Duration::from_secs(3600);
    let config = TopicConfig::new().segment_bytes(4096).segment_age(hour);
    let topic = broker.create_topic("t", config.clone()).expect("create");
    let segments = || broker.describe_topic("t").expect("describe").partitions[0].segments;
    let send = |bytes: usize| topic.send(Record::new(&vec![1; bytes])).expect("send");
    send(10);
    clock.advance(hour.mul_f64(0.99));
    send(10);
    assert_eq!(segments(), 1);
    clock.advance(hour.mul_f64(0.01));
    send(10);
    assert_eq!(segments(), 2, "the first is an hour old");
    // 64 bytes of header; frames of 40 and 3992 bytes; 0 are left.
    send(3992 - 26 - 3);
    assert_eq!(segments(), 2, "it is full to the last byte");
    send(0);
    assert_eq!(segments(), 3);
    // A clock that is set back rolls nothing, and neither does one without an age to reach.
    clock.set(Timestamp::from_millis(0));
    send(10);
    broker.alter_topic("t", config.segment_age(None)).expect("alter");
    clock.advance(hour * 24 * 365 * 10);
    send(10);
    assert_eq!(segments(), 3);
    assert_eq!(topic.latest_offset(0).expect("offset"), 7);
}
