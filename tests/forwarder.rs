//! Forwarding as an application meets it: failures, dead letters, pauses, hand-overs, hanging sinks,
//! and records that are gone. How steady it is stands in `forwarder_rate.rs`.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use forebay::{
    Broker, Error, Forwarder, ForwarderBuilder, OnFull, Record, SinkBatch, SinkError, Start,
    StopReason, TopicConfig, TopicPartition, WhenExhausted,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// What a sink was given, by partition: offsets and values, in order.
#[derive(Clone, Default)]
struct Given(Arc<Mutex<ByPartition>>);

type ByPartition = BTreeMap<u32, Vec<(u64, Vec<u8>)>>;

impl Given {
    /// One that takes everything.
    fn sink(&self) -> impl Fn(&SinkBatch) -> Result<(), SinkError> + Send + Sync + use<> {
        let given = self.clone();
        move |batch| {
            given.add(batch, batch.len());
            Ok(())
        }
    }

    fn add(&self, batch: &SinkBatch, count: usize) {
        let mut given = self.0.lock().expect("given");
        let given = given.entry(batch.partition()).or_default();
        given.extend(batch.iter().take(count).map(|record| {
            (record.offset(), record.value().map(<[u8]>::to_vec).unwrap_or_default())
        }));
    }

    fn offsets(&self, partition: u32) -> Vec<u64> {
        let given = self.0.lock().expect("given");
        let given = given.get(&partition).into_iter().flatten();
        given.map(|(offset, _)| *offset).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().expect("given").values().map(Vec::len).sum()
    }
}

/// A door that a sink waits behind.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn pass(&self) {
        let (open, bell) = &*self.0;
        drop(bell.wait_while(open.lock().expect("door"), |open| !*open).expect("door"));
    }

    fn open(&self) {
        *self.0.0.lock().expect("door") = true;
        self.0.1.notify_all();
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn broker(partitions: u32) -> Broker {
    let broker = Broker::in_memory().expect("open");
    broker.create_topic("t", TopicConfig::new().partitions(partitions)).expect("create");
    broker
}

/// Sends records to each partition whose values are their offsets.
fn send(broker: &Broker, partitions: u32, count: u64) {
    let topic = broker.topic("t").expect("topic");
    for partition in 0..partitions {
        let from = topic.latest_offset(partition).expect("end");
        for number in from..from + count {
            let value = number.to_string();
            topic.send(Record::new(&value).partition(partition)).expect("send");
        }
    }
}

/// Forwards "t" for the group "g" with waits that suit a test.
fn forwarder(broker: &Broker) -> ForwarderBuilder {
    let builder = broker.forwarder("g").subscribe(["t"]);
    builder.backoff(Duration::from_millis(1), Duration::from_millis(5))
}

fn committed(broker: &Broker, partition: u32) -> u64 {
    let committed = broker.committed("g", "t", partition).expect("committed");
    committed.map_or(0, |committed| committed.offset)
}

#[track_caller]
fn stop(forwarder: &Forwarder) -> forebay::ForwarderReport {
    let report = forwarder.stop(LONG).expect("stop");
    assert!(report.finished && report.in_sink.is_empty(), "{report:?}");
    report
}

#[test]
fn a_forwarder_can_be_sent_and_shared() {
    fn check<T: Send + Sync + 'static>() {}
    fn check_send<T: Send + 'static>() {}
    check::<Forwarder>();
    check::<SinkBatch>();
    check_send::<ForwarderBuilder>();
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let broker = broker(1);
    let field = |builder: ForwarderBuilder| match builder.start(|_: &SinkBatch| Ok(())) {
        Err(Error::InvalidConfig { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(forwarder(&broker).batch_records(0)), "batch_records");
    assert_eq!(field(forwarder(&broker).batch_bytes(0)), "batch_bytes");
    assert_eq!(field(forwarder(&broker).rate_records(0)), "rate_records");
    assert_eq!(field(forwarder(&broker).rate_bytes(0)), "rate_bytes");
    assert_eq!(field(forwarder(&broker).concurrency(0)), "concurrency");
    assert_eq!(field(forwarder(&broker).concurrency(1_000_000)), "concurrency");
    assert_eq!(field(forwarder(&broker).backoff(LONG, Duration::ZERO)), "backoff");
    assert_eq!(field(broker.forwarder("g")), "subscribe");
    for builder in [forwarder(&broker), broker.forwarder("g").subscribe_pattern("*")] {
        let itself = WhenExhausted::DeadLetter("t".to_owned());
        assert_eq!(field(builder.when_exhausted(itself)), "when_exhausted");
    }
    let nowhere = WhenExhausted::DeadLetter("nowhere".to_owned());
    let refused = forwarder(&broker).when_exhausted(nowhere).start(|_: &SinkBatch| Ok(()));
    assert!(matches!(refused, Err(Error::UnknownTopic { topic }) if topic == "nowhere"));
    assert!(broker.groups().expect("groups").is_empty(), "nobody has joined");
}

#[test]
fn everything_is_delivered_in_batches_of_one_partition_within_their_limits() {
    let broker = broker(3);
    send(&broker, 3, 1000);
    let given = Given::default();
    let sink = {
        let given = given.clone();
        move |batch: &SinkBatch| {
            assert!(batch.len() <= 64 && !batch.is_empty() && batch.topic() == "t");
            assert_eq!(batch.iter().len(), batch.len());
            let bytes: usize =
                batch.iter().map(|record| record.value().map_or(0, <[u8]>::len)).sum();
            assert!(bytes == batch.bytes() && bytes <= 150);
            assert!(batch.iter().all(|record| record.partition() == batch.partition()));
            let last = batch.get(batch.len() - 1).expect("a record").offset();
            assert_eq!(last + 1 - batch.get(0).expect("a record").offset(), batch.len() as u64);
            assert!(batch.get(batch.len()).is_none() && batch.attempt() == 1);
            given.add(batch, batch.len());
            Ok(())
        }
    };
    let forwarder =
        forwarder(&broker).batch_records(64).batch_bytes(150).concurrency(2).start(sink);
    let forwarder = forwarder.expect("start");
    wait_until("all is committed", || forwarder.lag().expect("lag") == 0);
    let report = stop(&forwarder);
    for partition in 0..3 {
        assert_eq!(given.offsets(partition), (0..1000).collect::<Vec<_>>());
        assert_eq!(report.committed[&TopicPartition::new("t", partition)], 1000);
    }
    let stats = report.stats;
    assert_eq!((stats.delivered_records, stats.delivered_bytes), (3000, 3 * 2890));
    assert_eq!((stats.failures, stats.retries, stats.in_flight, stats.pending), (0, 0, 0, 0));
    assert!(stats.batches > 3000 / 64 && stats.commits > 0 && stats.records_per_second > 0);
    assert!(matches!(report.reason, StopReason::Asked));
    assert!(broker.describe_group("g").expect("group").members.is_empty(), "it has left");
}

#[test]
fn few_records_wait_for_company_and_no_longer() {
    let broker = broker(1);
    let given = Given::default();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let (given, sizes) = (given.clone(), Arc::clone(&sizes));
        move |batch: &SinkBatch| {
            sizes.lock().expect("sizes").push((Instant::now(), batch.len()));
            given.add(batch, batch.len());
            Ok(())
        }
    };
    let linger = Duration::from_millis(300);
    let forwarder = forwarder(&broker).batch_records(5).linger(linger).start(sink).expect("start");
    let start = Instant::now();
    for _ in 0..7 {
        send(&broker, 1, 1);
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_until("all came", || given.count() == 7);
    stop(&forwarder);
    let sizes = sizes.lock().expect("sizes");
    assert_eq!(sizes.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [5, 2]);
    assert!(sizes[0].0 - start < linger, "a full batch goes at once");
    assert!(sizes[1].0 - start >= linger, "the rest waits");
}

#[test]
fn what_failed_comes_again_first_and_only_behind_what_was_delivered() {
    let broker = broker(1);
    send(&broker, 1, 10);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let calls = Arc::clone(&calls);
        move |batch: &SinkBatch| {
            let mut calls = calls.lock().expect("calls");
            let first = batch.get(0).expect("a record").offset();
            calls.push((first, batch.len(), batch.attempt()));
            let count = calls.len();
            drop(calls);
            match count {
                1 => Err(SinkError::retry("busy")),
                2 => resume_unwind(Box::new("on purpose")),
                3 => Err(SinkError::from(std::io::Error::other("broken")).delivered(4)),
                4 => Err(SinkError::retry("busy").delivered(0)),
                _ => Ok(()),
            }
        }
    };
    let forwarder = forwarder(&broker).start(sink).expect("start");
    wait_until("all is committed", || committed(&broker, 0) == 10);
    let stats = stop(&forwarder).stats;
    let calls = calls.lock().expect("calls").clone();
    assert_eq!(calls, [(0, 10, 1), (0, 10, 2), (0, 10, 3), (4, 6, 2), (4, 6, 3)]);
    assert_eq!((stats.failures, stats.panics, stats.retries, stats.batches), (4, 1, 4, 1));
    assert_eq!(stats.delivered_records, 10);
    assert_eq!(stats.last_error.as_deref(), Some("busy"));
}

#[test]
fn it_stops_in_front_of_the_first_record_whose_retries_are_used_up() {
    let broker = broker(1);
    send(&broker, 1, 10);
    let given = Given::default();
    let sink = {
        let given = given.clone();
        move |batch: &SinkBatch| {
            let good = batch.iter().take_while(|record| record.value() != Some(b"6")).count();
            given.add(batch, good);
            if good == batch.len() {
                return Ok(());
            }
            Err(SinkError::retry("poison").delivered(good))
        }
    };
    let forwarder = forwarder(&broker).retries(3).start(sink).expect("start");
    let report = forwarder.wait(LONG).expect("wait").expect("it stops by itself");
    let StopReason::Exhausted { partition, offset, attempts, error } = &report.reason else {
        panic!("{report:?}")
    };
    assert_eq!((partition.to_string(), *offset, *attempts), ("t-0".to_owned(), 6, 4));
    assert_eq!((error.as_str(), report.stats.failures), ("poison", 4));
    assert_eq!((report.undelivered, committed(&broker, 0)), (4, 6));
    assert!(report.to_string().contains("offset 6 of t-0 failed 4 times: poison"), "{report}");
    assert!(forwarder.stopped().is_some());
    assert!(matches!(stop(&forwarder).reason, StopReason::Exhausted { offset: 6, .. }));
    assert_eq!(given.offsets(0), (0..6).collect::<Vec<_>>());
}

#[test]
fn a_rejected_record_stops_it_at_once_unless_there_are_dead_letters() {
    let broker = broker(1);
    send(&broker, 1, 1);
    let forwarder = forwarder(&broker).start(|_: &SinkBatch| Err(SinkError::reject("no")));
    let report = forwarder.expect("start").wait(LONG).expect("wait").expect("stopped");
    assert!(matches!(report.reason, StopReason::Exhausted { offset: 0, attempts: 1, .. }));
}

/// The headers of dead letters that say where they are from, by the record's value.
fn dead_letters(broker: &Broker) -> Vec<(String, BTreeMap<String, String>)> {
    let mut reader = broker.reader().topic("dead", Start::Earliest).open().expect("reader");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut letters = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return letters;
        }
        letters.extend(batch.iter().map(|record| {
            let headers = record.headers();
            let headers = headers.map(|header| (header.name.to_owned(), text(header.value)));
            (text(record.value().unwrap_or_default()), headers.collect())
        }));
    }
}

#[test]
fn only_what_fails_alone_goes_to_the_dead_letters_and_the_order_of_the_rest_is_kept() {
    for rejects in [false, true] {
        let broker = broker(2);
        broker.create_topic("dead", TopicConfig::new()).expect("create");
        send(&broker, 2, 100);
        let topic = broker.topic("t").expect("topic");
        let stamp = forebay::Timestamp::from_millis(1_700_000_000_000);
        let poison = Record::new("poison").key("k").header("trace", "ab12").timestamp(stamp);
        topic.send(poison.partition(1)).expect("send");
        send(&broker, 2, 50);
        let given = Given::default();
        let sink = {
            let given = given.clone();
            let calls = AtomicU64::new(0);
            move |batch: &SinkBatch| {
                let is_poison = |value: Option<&[u8]>| {
                    value == Some(b"poison") || (batch.partition() == 0 && value == Some(b"7"))
                };
                if batch.iter().any(|record| is_poison(record.value())) {
                    let why = format!("poison among {}", batch.len());
                    return Err(if rejects {
                        SinkError::reject(why)
                    } else {
                        SinkError::retry(why)
                    });
                }
                // Good ones fail at times, too: that must not make them dead letters.
                if calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
                    return Err(SinkError::retry("busy"));
                }
                given.add(batch, batch.len());
                Ok(())
            }
        };
        let dead = WhenExhausted::DeadLetter("dead".to_owned());
        let builder = forwarder(&broker).batch_records(40).concurrency(2).retries(6);
        let forwarder = builder.when_exhausted(dead).start(sink).expect("start");
        wait_until("all is committed", || forwarder.lag().expect("lag") == 0);
        let stats = stop(&forwarder).stats;
        assert_eq!((stats.dead_lettered, stats.delivered_records), (2, 299));
        assert_eq!(given.offsets(0), (0..150).filter(|offset| *offset != 7).collect::<Vec<_>>());
        assert_eq!(given.offsets(1), (0..151).filter(|offset| *offset != 100).collect::<Vec<_>>());
        let mut letters = dead_letters(&broker);
        letters.sort();
        let [(seven, _), (poison, headers)] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!((seven.as_str(), poison.as_str()), ("7", "poison"));
        let header = |name: &str| headers[name].as_str();
        assert_eq!((header("trace"), header("dead-letter.topic")), ("ab12", "t"));
        assert_eq!((header("dead-letter.partition"), header("dead-letter.offset")), ("1", "100"));
        assert_eq!(header("dead-letter.reason"), "poison among 1");
        assert_eq!(header("dead-letter.attempts"), if rejects { "1" } else { "7" });
        assert_eq!(header("dead-letter.group"), "g");
        let mut reader = broker.reader().topic("dead", Start::Earliest).open().expect("reader");
        let batch = reader.try_poll().expect("poll");
        let letter = batch.iter().find(|record| record.value() == Some(b"poison")).expect("it");
        assert_eq!((letter.key(), letter.timestamp()), (Some(&b"k"[..]), stamp));
    }
}

#[test]
fn what_can_neither_be_delivered_nor_put_aside_stops_it_and_is_not_committed() {
    let broker = broker(1);
    broker.create_topic("dead", TopicConfig::new()).expect("create");
    send(&broker, 1, 3);
    let dead = WhenExhausted::DeadLetter("dead".to_owned());
    let remove = broker.clone();
    let sink = move |batch: &SinkBatch| {
        if batch.get(0).expect("a record").offset() == 1 {
            drop(remove.delete_topic("dead"));
        }
        match batch.iter().position(|record| record.value() == Some(b"1")) {
            Some(at) => Err(SinkError::reject("poison").delivered(at)),
            None => Ok(()),
        }
    };
    let forwarder = forwarder(&broker).when_exhausted(dead).start(sink).expect("start");
    let report = forwarder.wait(LONG).expect("wait").expect("stopped");
    let StopReason::DeadLetter { offset: 1, error: Error::UnknownTopic { .. }, .. } = report.reason
    else {
        panic!("{report:?}")
    };
    assert_eq!(committed(&broker, 0), 1);
}

/// Symptom: a dead letter for a full topic with `OnFull::Block` held up all partitions, and kept the broker
/// open behind a forwarder that had stopped. Cause: it was sent as any record, and waited for room on the
/// sink's thread. Fix: it does not wait there, and is tried again later.
#[test]
fn a_full_topic_for_dead_letters_whose_senders_wait_holds_up_one_partition_and_not_the_end() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let full = TopicConfig::new().max_records(1).on_full(OnFull::Block { timeout: LONG * 100 });
    let dead = broker.create_topic("dead", full).expect("create");
    dead.send(Record::new("in the way")).expect("send");
    send(&broker, 1, 1);
    let given = Given::default();
    let sink = given.clone();
    let deliver = move |batch: &SinkBatch| {
        if batch.partition() == 0 {
            return Err(SinkError::reject("poison"));
        }
        sink.add(batch, batch.len());
        Ok(())
    };
    let to_dead = WhenExhausted::DeadLetter("dead".to_owned());
    let forwarder = forwarder(&broker).when_exhausted(to_dead).start(deliver).expect("start");
    wait_until("it fails", || forwarder.stats().failures > 0);
    broker.topic("t").expect("topic").send(Record::new("0").partition(1)).expect("send");
    wait_until("the other partition is forwarded", || given.offsets(1) == [0]);
    dead.delete_records(0, 1).expect("make room");
    wait_until("it is put aside", || forwarder.stats().dead_lettered == 1);

    send(&broker, 1, 1);
    wait_until("it fails", || forwarder.stats().failures > 1);
    let report = stop(&forwarder);
    assert_eq!((committed(&broker, 0), report.undelivered), (1, 1));
    drop((forwarder, dead, broker));
    Broker::open(dir.path()).expect("nobody has it any more");
}

/// Symptom: `stop` with a minute of time gave up a batch after five seconds. Cause: another batch that was
/// rejected meanwhile had the forwarder stop by itself, which waits no longer, though it was stopping
/// already. Fix: only the first reason to stop says how long.
#[test]
fn a_failure_while_it_stops_does_not_shorten_the_time_the_sink_is_given() {
    let broker = broker(2);
    send(&broker, 2, 1);
    let door = Door::default();
    let behind = door.clone();
    let forwarder = forwarder(&broker).concurrency(2).start(move |batch: &SinkBatch| {
        behind.pass();
        if batch.partition() == 0 {
            return Err(SinkError::reject("poison"));
        }
        std::thread::sleep(Duration::from_secs(6));
        Ok(())
    });
    let forwarder = forwarder.expect("start");
    wait_until("both are in the sink", || forwarder.stats().in_flight == 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("it is stopping", || forwarder.stopped().is_some());
            door.open();
        });
        stop(&forwarder);
    });
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (0, 1));
}

#[test]
fn a_pause_holds_everything_back_and_resuming_goes_on() {
    let broker = broker(2);
    let given = Given::default();
    let forwarder = forwarder(&broker).batch_records(10).start(given.sink()).expect("start");
    send(&broker, 2, 50);
    wait_until("the first came", || given.count() == 100);
    forwarder.pause();
    send(&broker, 2, 50);
    wait_until("it reads ahead", || forwarder.stats().pending >= 20);
    std::thread::sleep(Duration::from_millis(50));
    let stats = forwarder.stats();
    assert!(given.count() == 100 && stats.paused, "{stats:?}");
    assert!(stats.pending <= 2 * 30, "and not without end");
    wait_until("what came is committed", || forwarder.lag().expect("lag") == 100);
    assert_eq!(broker.describe_group("g").expect("group").members.len(), 1);
    forwarder.resume();
    wait_until("all came", || given.count() == 200);
    assert!(!forwarder.stats().paused);
    wait_until("all is committed", || {
        forwarder.partition_lag().expect("lag").values().all(|lag| *lag == 0)
    });
    stop(&forwarder);
}

#[test]
fn a_sink_that_hangs_holds_up_its_partition_and_no_other() {
    let broker = broker(4);
    send(&broker, 4, 100);
    let (given, door) = (Given::default(), Door::default());
    let sink = {
        let (given, door) = (given.clone(), door.clone());
        move |batch: &SinkBatch| {
            if batch.partition() == 2 {
                door.pass();
            }
            given.add(batch, batch.len());
            Ok(())
        }
    };
    let builder = forwarder(&broker).batch_records(10).concurrency(2);
    let forwarder = builder.start(sink).expect("start");
    wait_until("the others go on", || given.count() == 300);
    wait_until("and are committed", || committed(&broker, 3) == 100);
    let lag = forwarder.partition_lag().expect("lag");
    assert_eq!(lag[&TopicPartition::new("t", 2)], 100);
    assert_eq!(forwarder.stats().in_flight, 1);
    door.open();
    wait_until("all came", || forwarder.lag().expect("lag") == 0);
    assert_eq!(given.offsets(2), (0..100).collect::<Vec<_>>());
}

#[test]
fn stopping_does_not_wait_longer_for_a_hanging_sink_and_the_next_one_delivers_the_rest() {
    let broker = broker(2);
    send(&broker, 2, 100);
    let (given, door) = (Given::default(), Door::default());
    let sink = {
        let (given, door) = (given.clone(), door.clone());
        move |batch: &SinkBatch| {
            if batch.partition() == 1 && batch.get(0).expect("a record").offset() >= 30 {
                door.pass();
            }
            given.add(batch, batch.len());
            Ok(())
        }
    };
    let builder = forwarder(&broker).batch_records(10).concurrency(2);
    let first = builder.start(sink).expect("start");
    wait_until("it hangs", || given.count() == 130);
    let start = Instant::now();
    let report = first.stop(Duration::from_millis(100)).expect("stop");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(2), "{took:?}");
    let [in_sink] = &report.in_sink[..] else { panic!("{report:?}") };
    assert_eq!(
        (in_sink.partition.to_string(), in_sink.from, in_sink.to),
        ("t-1".to_owned(), 30, 40)
    );
    assert!(report.finished && report.commit_error.is_none() && report.uncommitted == 0);
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (100, 30));
    let second = forwarder(&broker).start(given.sink()).expect("start");
    wait_until("the rest came", || given.count() == 200);
    // What the first one's sink delivers late is neither committed nor in the way.
    door.open();
    wait_until("it came twice", || given.count() == 210);
    wait_until("all is committed", || second.lag().expect("lag") == 0);
    stop(&second);
    assert_eq!(given.offsets(0), (0..100).collect::<Vec<_>>());
    let late = given.offsets(1);
    assert_eq!(late[..100], (0..100).collect::<Vec<_>>());
    assert_eq!(late[100..], (30..40).collect::<Vec<_>>());
    drop(first);
}

#[test]
fn a_late_delivery_of_a_partition_that_has_gone_is_not_committed() {
    let broker = broker(2);
    send(&broker, 2, 10);
    let (door, calls) = (Door::default(), Arc::new(AtomicU64::new(0)));
    let sink = {
        let (door, calls) = (door.clone(), Arc::clone(&calls));
        move |_: &SinkBatch| {
            calls.fetch_add(1, Ordering::Relaxed);
            door.pass();
            Ok(())
        }
    };
    let builder = forwarder(&broker).concurrency(2).hand_over(Duration::from_millis(50));
    let first = builder.start(sink).expect("start");
    wait_until("both hang", || calls.load(Ordering::Relaxed) == 2);
    // One of the partitions goes to somebody who reads it and commits nothing.
    let mut other = broker.consumer("g").subscribe(["t"]).open().expect("consumer");
    wait_until("one has come over", || {
        drop(other.try_poll().expect("poll"));
        !other.assignment().is_empty()
    });
    let gone = other.assignment()[0].partition;
    door.open();
    wait_until("what stayed is committed", || committed(&broker, 1 - gone) == 10);
    wait_until("both came back", || first.stats().in_flight == 0);
    assert_eq!(stop(&first).stats.delivered_records, 20);
    assert_eq!(committed(&broker, gone), 0);
}

#[test]
fn two_forwarders_share_partitions_and_a_hand_over_loses_and_repeats_nothing() {
    let broker = broker(4);
    let is_over = AtomicBool::new(false);
    let given = Given::default();
    let start = |delay: Duration| {
        let given = given.clone();
        let builder = forwarder(&broker).batch_records(7).concurrency(2);
        let forwarder = builder.start(move |batch: &SinkBatch| {
            std::thread::sleep(delay);
            given.add(batch, batch.len());
            Ok(())
        });
        forwarder.expect("start")
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                send(&broker, 4, 5);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let first = start(Duration::from_millis(1));
        wait_until("the first has begun", || given.count() > 100);
        let second = start(Duration::from_millis(2));
        wait_until("the second has begun", || second.stats().delivered_records > 100);
        let members = broker.describe_group("g").expect("group").members;
        assert_eq!(
            members.iter().map(|member| member.assignment.len()).collect::<Vec<_>>(),
            [2, 2]
        );
        stop(&first);
        let before = given.count();
        wait_until("the second goes on", || given.count() > before + 200);
        is_over.store(true, Ordering::Relaxed);
        wait_until("all is committed", || {
            send(&broker, 4, 1);
            std::thread::sleep(Duration::from_millis(150));
            second.lag().expect("lag") == 0
        });
        stop(&second);
    });
    let topic = broker.topic("t").expect("topic");
    for partition in 0..4 {
        let end = topic.latest_offset(partition).expect("end");
        assert_eq!(given.offsets(partition), (0..end).collect::<Vec<_>>());
    }
}

#[test]
fn records_that_were_deleted_before_they_came_are_counted_and_passed() {
    let broker = broker(1);
    send(&broker, 1, 100);
    let topic = broker.topic("t").expect("topic");
    let (given, door) = (Given::default(), Door::default());
    let sink = {
        let (given, door) = (given.clone(), door.clone());
        move |batch: &SinkBatch| {
            door.pass();
            given.add(batch, batch.len());
            Ok(())
        }
    };
    // It has read three batches ahead at most when 80 records go.
    let forwarder = forwarder(&broker).batch_records(10).start(sink).expect("start");
    wait_until("it has read ahead", || {
        let stats = forwarder.stats();
        stats.in_flight == 1 && stats.pending >= 10
    });
    topic.delete_records(0, 80).expect("delete");
    door.open();
    wait_until("all is committed", || committed(&broker, 0) == 100);
    let stats = stop(&forwarder).stats;
    let given = given.offsets(0);
    assert!(stats.gaps >= 50 && stats.gaps < 80, "{stats:?}");
    assert_eq!(given.len() as u64 + stats.gaps, 100);
    let missed = 80 - stats.gaps;
    assert_eq!(given, (0..missed).chain(80..100).collect::<Vec<_>>());
}

#[test]
fn closing_the_broker_stops_it_with_the_reason() {
    let broker = broker(1);
    let forwarder = forwarder(&broker).start(|_: &SinkBatch| Ok(())).expect("start");
    assert!(forwarder.stopped().is_none());
    assert!(forwarder.wait(Duration::from_millis(10)).expect("wait").is_none());
    broker.close().expect("close");
    let report = forwarder.wait(LONG).expect("wait").expect("stopped");
    assert!(matches!(report.reason, StopReason::Failed(Error::Closed)), "{report:?}");
    assert!(matches!(forwarder.lag(), Err(Error::Closed)));
}

/// Damages every log file of a partition, beyond its header.
fn damage(dir: &std::path::Path, partition: u32) {
    use std::io::{Seek, SeekFrom, Write};

    let dir = dir.join("topics/t").join(partition.to_string());
    for entry in std::fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|end| end == "log") {
            let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("open");
            file.seek(SeekFrom::Start(200)).expect("seek");
            file.write_all(&[0xAA; 8]).expect("write");
        }
    }
}

#[test]
fn a_damaged_partition_is_told_and_keeps_no_other_from_being_forwarded() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    send(&broker, 2, 100);
    damage(dir.path(), 0);
    let given = Given::default();
    let forwarder = forwarder(&broker).batch_records(10).start(given.sink()).expect("start");
    wait_until("the other one came", || given.offsets(1).len() == 100);
    wait_until("it is told", || forwarder.stats().last_error.is_some());
    // It goes on although nothing but an error has come for a while.
    std::thread::sleep(Duration::from_millis(300));
    let topic = broker.topic("t").expect("topic");
    topic.send(Record::new("later").partition(1)).expect("send");
    wait_until("what came later came", || given.offsets(1).len() == 101);
    wait_until("it is committed", || committed(&broker, 1) == 101);
    assert!(forwarder.stopped().is_none());
    let error = stop(&forwarder).stats.last_error.expect("an error");
    assert!(error.contains("/t/0/"), "{error}");
    assert!(committed(&broker, 0) < 100 && given.offsets(0).len() < 100);
}

#[test]
fn topics_that_come_to_match_are_forwarded_and_a_pattern_that_panics_is_survived() {
    let broker = broker(1);
    let (given, is_bad) = (Given::default(), Arc::new(AtomicBool::new(false)));
    let pattern = {
        let is_bad = Arc::clone(&is_bad);
        move |name: &str| {
            let on_its_thread = std::thread::current().name() == Some("forebay-forward");
            if is_bad.load(Ordering::Relaxed) && on_its_thread {
                resume_unwind(Box::new("on purpose"));
            }
            name.starts_with("new")
        }
    };
    let forwarder =
        broker.forwarder("g").subscribe_pattern(pattern).start(given.sink()).expect("start");
    is_bad.store(true, Ordering::Relaxed);
    let new = broker.create_topic("new.one", TopicConfig::new()).expect("create");
    new.send(Record::new("x")).expect("send");
    wait_until("it panics", || forwarder.stats().last_error.as_deref() == Some("on purpose"));
    assert_eq!(given.count(), 0);
    is_bad.store(false, Ordering::Relaxed);
    wait_until("it came", || given.count() == 1);
    stop(&forwarder);
}

#[test]
fn dropping_it_lets_go_of_the_sink_and_the_broker() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            // It is the last thing that happens to it, and the forwarder does not mind.
            resume_unwind(Box::new("on purpose"));
        }
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    broker.create_topic("dead", TopicConfig::new()).expect("create");
    let is_gone = Arc::new(AtomicBool::new(false));
    let told = Told(Arc::clone(&is_gone));
    let sink = move |_: &SinkBatch| {
        let _ = &told;
        Ok(())
    };
    let dead = WhenExhausted::DeadLetter("dead".to_owned());
    let forwarder = forwarder(&broker).concurrency(3).when_exhausted(dead).start(sink);
    drop(forwarder.expect("start"));
    assert!(is_gone.load(Ordering::Relaxed));
    drop(broker);
    Broker::open(dir.path()).expect("nobody has it any more");
}
