//! A forked child: it can look at what it holds, and whatever would change something is an error
//! that names the owner. It changes no byte of the directory, and never hangs, whatever the other
//! threads of the parent were doing when it was made.
//!
//! A child of a process with several threads has but one, and every lock another thread held stays
//! held in it for ever. So what runs in a child here prints nothing, does not panic, and tells what
//! it found by its exit code alone: 0, or the number of the check that failed. Memory can be
//! allocated there, because the C library looks after its own locks.

#![cfg(target_os = "linux")]
#![allow(clippy::needless_pass_by_value, reason = "a result is looked at once")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::{
    Acks, Batch, Broker, Consumer, Error, OutgoingRecord, Reader, Record, RecoveryMode, ResetTo,
    SinkBatch, Start, Topic, TopicConfig, WhenRefused,
};

/// What a child may take; each does what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The exit code of a child that panicked.
const PANICKED: i32 = 100;

/// A forked child that lives.
struct Child(libc::pid_t);

impl Child {
    /// Forks. The child does `work` and ends with the number it returns.
    #[expect(unsafe_code, reason = "there is no other way to fork")]
    fn fork(work: impl FnOnce() -> i32) -> Self {
        // SAFETY: the child does nothing but `work`, which keeps to what is said above, and ends
        // without returning to whoever called this.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid > 0 {
            return Self(pid);
        }
        std::panic::set_hook(Box::new(|_| {}));
        let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
        // SAFETY: it ends the process, and runs nothing of what is registered for its exit.
        unsafe { libc::_exit(code) }
    }

    /// The exit code, or `None` while it lives.
    #[expect(unsafe_code, reason = "the standard library waits only for what it spawned")]
    fn ended(&self) -> Option<i32> {
        let mut status = 0;
        // SAFETY: the child is this process's own and was not waited for; the number outlives the
        // call.
        let ended = unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) };
        assert!(ended >= 0, "waitpid");
        if ended == 0 {
            return None;
        }
        assert!(libc::WIFEXITED(status), "the child was killed: {status}");
        Some(libc::WEXITSTATUS(status))
    }

    /// Waits for its end, which must come soon and with code 0.
    #[track_caller]
    fn must_end_well(self) {
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(code) = self.ended() {
                break code;
            }
            if Instant::now() >= deadline {
                self.kill();
                panic!("the child hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(code, 0, "the check that failed in the child");
    }

    /// Ends it, however it is.
    #[expect(unsafe_code, reason = "the standard library ends only what it spawned")]
    fn kill(self) {
        // SAFETY: the child is this process's own and was not waited for, so the number is its.
        let killed = unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: as above; nothing is stored.
        let waited = unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
        assert_eq!((killed, waited), (0, self.0));
    }
}

/// The number of the first of these that is not so, counted from 1, or 0.
fn first_wrong(checks: &[bool]) -> i32 {
    let wrong = checks.iter().position(|is_so| !is_so);
    wrong.map_or(0, |place| i32::try_from(place + 1).unwrap_or(99))
}

fn is_forked<T>(result: Result<T, Error>, owner: u32) -> bool {
    matches!(result, Err(Error::Forked { owner: named }) if named == owner)
}

/// Every file below `dir` and what is in it.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                found.insert(path.clone(), Vec::new());
                dirs.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                found.insert(path, bytes);
            }
        }
    }
    found
}

#[track_caller]
fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (path, bytes) in before {
        assert!(after.get(path) == Some(bytes), "{} was changed", path.display());
    }
}

/// A broker with one of everything that can be made from it.
struct Handles {
    broker: Broker,
    topic: Topic,
    reader: Reader,
    consumer: Consumer,
    batch: Batch,
}

/// Groups are to be forgotten some day, so that it is written down when they lose their members; and
/// what comes when the consumer has gone is not to be missed by the next one.
fn handles(dir: &Path) -> Handles {
    let month = Duration::from_secs(30 * 86_400);
    let broker = Broker::builder(dir).offsets_retention(month).open().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let open = |group: &str| {
        let consumer = broker.consumer(group).subscribe(["t"]).start(Start::Latest);
        consumer.auto_commit(Duration::from_secs(3600)).open().expect("consumer")
    };
    let mut consumer = open("g");
    open("without members").close().expect("close");
    for number in 0..10_u32 {
        topic.send(Record::new(&number.to_le_bytes()).partition(number % 2)).expect("send");
    }
    let polled = consumer.poll(Duration::from_secs(5)).expect("poll");
    assert!(!polled.is_empty());
    consumer.commit().expect("commit");
    let more = consumer.poll(Duration::ZERO).expect("poll");
    assert_eq!(polled.len() + more.len(), 10);
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let batch = reader.try_poll().expect("poll");
    assert_eq!(batch.len(), 10);
    // It has asked to be woken by both partitions.
    assert!(reader.poll(Duration::from_micros(1)).expect("poll").is_empty());
    Handles { broker, topic, reader, consumer, batch }
}

/// Reads everything again, in a broker that accepts nothing but what was closed cleanly and whole.
fn count(dir: &Path) -> usize {
    let broker = Broker::builder(dir).recovery_mode(RecoveryMode::Strict).open().expect("reopen");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let polls =
        std::iter::from_fn(|| Some(reader.try_poll().expect("poll").len()).filter(|len| *len > 0));
    polls.sum()
}

#[test]
fn a_writer_in_a_child_sends_nothing_and_its_unfinished_line_stays_the_parents() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let mut fails = topic.writer();
    let mut drops = topic.writer().when_refused(WhenRefused::Drop);
    fails.write_all(b"begun").expect("write");
    drops.write_all(b"begun").expect("write");
    let owner = std::process::id();
    let is_refused = |result: std::io::Result<()>| {
        let Err(error) = result else { return false };
        let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
        matches!(inside, Some(Error::Forked { owner: named }) if *named == owner)
    };
    let before = files(dir.path());
    let child = Child::fork(|| {
        let mut made_here = topic.writer();
        let checks = [
            is_refused(fails.write_all(b" and ended\nmore\n")),
            is_refused(fails.flush()),
            is_refused(made_here.write_all(b"line\n")),
            drops.write_all(b" and ended\nmore\n").is_ok(),
            drops.flush().is_ok(),
            drops.dropped() == 2,
        ];
        drop((std::mem::replace(&mut fails, topic.writer()), made_here));
        drop(std::mem::replace(&mut drops, topic.writer()));
        first_wrong(&checks)
    });
    child.must_end_well();
    assert_same(&before, &files(dir.path()));
    fails.write_all(b" and ended\n").expect("write");
    drop(drops);
    assert_eq!(topic.latest_offset(0).expect("end"), 2);
}

#[test]
fn whatever_would_change_something_is_an_error_that_names_the_owner() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut held = handles(dir.path());
    let before = files(dir.path());
    let owner = std::process::id();
    let Handles { broker, topic, consumer, .. } = &mut held;
    let child = Child::fork(|| {
        let refused = [
            is_forked(topic.send(Record::new("x")), owner),
            is_forked(topic.send_with(Record::new("x"), Acks::Synced), owner),
            is_forked(topic.send_batch(&[Record::new("x").partition(0)]), owner),
            is_forked(
                topic.send_batch(&[Record::new("x").partition(0), Record::new("y").partition(1)]),
                owner,
            ),
            is_forked(broker.producer().send("t", Record::new("x")), owner),
            is_forked(consumer.commit_offsets([(("t", 0), 5)]), owner),
            is_forked(consumer.rewind_offsets([(("t", 0), 1)]), owner),
            is_forked(consumer.commit(), owner),
            is_forked(consumer.commit_marked(), owner),
            is_forked(broker.create_topic("new", TopicConfig::new()), owner),
            is_forked(broker.create_topic_if_absent("new", TopicConfig::new()), owner),
            is_forked(broker.create_partitions("t", 5), owner),
            is_forked(broker.alter_topic("t", topic.config().segment_bytes(1 << 20)), owner),
            is_forked(broker.delete_topic("t"), owner),
            is_forked(topic.delete_records(0, 2), owner),
            is_forked(broker.reset_offsets("other", ResetTo::Earliest).topic("t").execute(), owner),
            is_forked(broker.delete_group("without members"), owner),
            is_forked(broker.consumer("other").subscribe(["t"]).open(), owner),
            is_forked(topic.flush(), owner),
            is_forked(broker.producer().flush(), owner),
            is_forked(broker.flush(), owner),
            is_forked(broker.close(), owner),
        ];
        first_wrong(&refused)
    });
    child.must_end_well();
    assert_same(&before, &files(dir.path()));
    for number in 0..100_u32 {
        held.topic.send(Record::new(&number.to_le_bytes())).expect("the parent goes on");
    }
    held.consumer.commit().expect("the parent goes on");
    drop(held);
    assert_eq!(count(dir.path()), 110);
}

/// A child ends by dropping what it holds, like everybody.
#[test]
fn a_child_that_drops_every_handle_changes_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let held = handles(dir.path());
    let before = files(dir.path());
    let child = Child::fork(|| {
        // A child has its own copy of everything. This one does not come back to the other.
        let Handles { broker, topic, reader, consumer, batch } = {
            let copy = &raw const held;
            copy_of(copy)
        };
        drop(reader);
        drop(consumer);
        drop(topic);
        drop(broker);
        drop(batch);
        0
    });
    child.must_end_well();
    assert_same(&before, &files(dir.path()));
    assert!(
        matches!(Broker::open(dir.path()), Err(Error::Locked { .. })),
        "the parent's lock holds"
    );
    held.topic.send(Record::new("x")).expect("the parent goes on");
    assert_eq!(held.broker.describe_group("g").expect("group").members.len(), 1);
    drop(held);
    assert_eq!(count(dir.path()), 11);
}

/// Closing a consumer says what dropping it does not.
#[test]
fn a_child_that_closes_a_consumer_changes_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let held = handles(dir.path());
    let before = files(dir.path());
    let owner = std::process::id();
    let child = Child::fork(|| {
        let Handles { consumer, .. } = copy_of(&raw const held);
        first_wrong(&[is_forked(consumer.close(), owner)])
    });
    child.must_end_well();
    assert_same(&before, &files(dir.path()));
}

/// Nobody sends in a child, and nobody hands records on.
#[test]
fn a_child_waits_for_nobody() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut held = handles(dir.path());
    let owner = std::process::id();
    let consumer = held.broker.consumer("c").subscribe(["t"]).open().expect("consumer");
    let channel = consumer.into_channel(5).expect("channel");
    let first = channel.receiver().recv().expect("it lives").expect("record");
    let before = files(dir.path());
    let Handles { reader, consumer, .. } = &mut held;
    let mut channel = Some(channel);
    let child = Child::fork(|| {
        let long = Duration::from_secs(3600);
        let Some(channel) = channel.take() else { return 90 };
        let refused = [
            is_forked(reader.poll(long), owner),
            is_forked(consumer.poll(long), owner),
            is_forked(channel.mark(&first), owner),
            is_forked(channel.commit(), owner),
            is_forked(channel.close(), owner),
        ];
        first_wrong(&refused)
    });
    child.must_end_well();
    let mut second = channel.take();
    let child = Child::fork(|| {
        drop(second.take());
        0
    });
    child.must_end_well();
    assert_same(&before, &files(dir.path()));
    let channel = second.expect("the parent's is its own");
    channel.mark(&first).expect("the parent goes on");
    channel.close().expect("the parent goes on");
}

/// A child has no threads of a forwarder to wait for, and takes no lock one of them may have held.
#[test]
fn a_child_forwards_nothing_and_waits_for_no_forwarder() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let forwarder = broker
        .forwarder("g")
        .subscribe(["t"])
        .batch_records(1)
        .start(|_: &SinkBatch| Ok(()))
        .expect("start");
    let owner = std::process::id();
    let mut forwarder = Some(forwarder);
    // The threads are kept busy, so that a fork meets them with and without their lock.
    for _ in 0..10 {
        for _ in 0..200 {
            topic.send(Record::new("x")).expect("send");
        }
        Child::fork(|| {
            let Some(forwarder) = forwarder.take() else { return 90 };
            forwarder.pause();
            forwarder.resume();
            let code = first_wrong(&[
                forwarder.stats().delivered_records == 0,
                forwarder.stopped().is_some(),
                is_forked(forwarder.lag(), owner),
                is_forked(forwarder.wait(Duration::MAX), owner),
                is_forked(forwarder.stop(Duration::MAX), owner),
            ]);
            drop(forwarder);
            code
        })
        .must_end_well();
    }
    let forwarder = forwarder.expect("the parent's is its own");
    while forwarder.lag().expect("lag") > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = forwarder.stop(PATIENCE).expect("stop");
    assert_eq!(report.stats.delivered_records, 2000);
}

/// Takes what belongs to the child, in the child: a value and everything it owns is there twice, once
/// in each process.
#[expect(unsafe_code, reason = "the closure that runs in the child only borrows it")]
fn copy_of<T>(held: *const T) -> T {
    // SAFETY: called in a child alone, which ends without dropping the one this is read from.
    unsafe { held.read() }
}

#[test]
fn batches_a_child_holds_stay_readable_and_reading_goes_on() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut held = handles(dir.path());
    let Handles { topic, batch, reader, .. } = &mut held;
    let (mut gone, mut go) = std::io::pipe().expect("pipe");
    let child = Child::fork(|| {
        use std::io::Read;
        // The parent deletes the topic meanwhile.
        let waited = gone.read_exact(&mut [0]);
        let whole = batch.iter().all(|record| {
            let value = record.value().and_then(|value| value.try_into().ok());
            let number = value.map(u32::from_le_bytes).map(u64::from);
            number == Some(record.offset() * 2 + u64::from(record.partition()))
        });
        // What the parent published before is in the child's mappings too.
        let again = reader.seek("t", 0, Start::Earliest);
        let found = reader.try_poll();
        let sought = again.is_ok() && found.is_ok_and(|found| found.len() == 5);
        first_wrong(&[waited.is_ok(), whole, batch.len() == 10, sought])
    });
    topic.send(Record::new("later")).expect("send");
    held.broker.delete_topic("t").expect("delete");
    std::io::Write::write_all(&mut go, &[1]).expect("pipe");
    child.must_end_well();
}

#[test]
fn a_directory_that_was_closed_is_free_although_a_child_lives() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let held = handles(dir.path());
    let child = Child::fork(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    held.broker.close().expect("close");
    let again = Broker::open(dir.path());
    assert!(child.ended().is_none(), "it lives");
    child.kill();
    let topic = again.expect("it is free").topic("t").expect("topic");
    topic.send(Record::new("x")).expect("send");
    drop((topic, held));
    assert_eq!(count(dir.path()), 11);
}

/// The parent's last handle goes while the child lives: the same as closing.
#[test]
fn a_directory_whose_owner_was_dropped_is_free_although_a_child_lives() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let held = handles(dir.path());
    let child = Child::fork(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    drop(held);
    let again = Broker::open(dir.path());
    child.kill();
    assert_eq!(
        again.expect("it is free").topic("t").expect("topic").latest_offset(0).expect("end"),
        5
    );
}

/// The child of a process whose other threads are in the middle of everything: it finds their locks
/// held, for ever.
#[test]
fn a_child_never_waits_for_what_another_thread_held() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let held = handles(dir.path());
    let Handles { broker, topic, .. } = &held;
    let owner = std::process::id();
    let is_over = AtomicBool::new(false);
    let busy = || !is_over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let values = vec![[7; 900]; 50];
            let records: Vec<_> =
                values.iter().map(|value| Record::new(value).partition(0)).collect();
            while busy() {
                topic.send_batch(&records).expect("send");
            }
        });
        scope.spawn(|| {
            while busy() {
                broker.create_topic("u", TopicConfig::new()).expect("create");
                broker.delete_topic("u").expect("delete");
            }
        });
        scope.spawn(|| {
            let mut consumer = broker.consumer("g2").subscribe(["t"]).open().expect("consumer");
            let mut next = 1;
            while busy() {
                consumer.commit_offsets([(("t", 1), 1 + next % 4)]).ok();
                consumer.rewind_offsets([(("t", 1), 1)]).ok();
                next += 1;
            }
        });
        // A panic ends the threads too.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..100 {
                let child = Child::fork(|| {
                    let Handles { broker, topic, reader, consumer, batch } =
                        copy_of(&raw const held);
                    let mut reader = reader;
                    let both = [Record::new("x").partition(0), Record::new("y").partition(1)];
                    let refused = [
                        is_forked(topic.send(Record::new("x").partition(0)), owner),
                        is_forked(topic.send_batch(&both), owner),
                        is_forked(topic.delete_records(0, 2), owner),
                        is_forked(topic.flush(), owner),
                        is_forked(broker.create_topic("new", TopicConfig::new()), owner),
                        is_forked(broker.create_partitions("t", 5), owner),
                        is_forked(broker.delete_topic("t"), owner),
                        is_forked(broker.delete_group("without members"), owner),
                        is_forked(broker.close(), owner),
                    ];
                    let waited = reader.poll(Duration::from_secs(60));
                    drop((reader, consumer, batch, topic, broker));
                    // A poll returns what is there, and does not wait for what nobody will send.
                    let waited = match waited {
                        Ok(batch) => !batch.is_empty(),
                        refused => is_forked(refused, owner),
                    };
                    first_wrong(&refused) + if waited { 0 } else { 50 }
                });
                child.must_end_well();
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = tried {
            std::panic::resume_unwind(panic);
        }
    });
    let sent: u64 = (0..2).map(|partition| topic.latest_offset(partition).expect("end")).sum();
    drop(held);
    assert_eq!(count(dir.path()) as u64, sent);
}

/// Nobody appends in a child, whatever its parent's threads were doing, and nothing of a producer is let
/// go of there.
#[test]
fn a_child_does_not_wait_for_the_threads_of_an_asynchronous_producer() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    broker.create_topic("t", TopicConfig::new()).expect("create");
    let owner = std::process::id();
    for linger in [Duration::ZERO, Duration::from_micros(100), Duration::from_secs(3600)] {
        let producer = broker.async_producer().linger(linger).open().expect("open");
        let input = producer.input().expect("input").clone();
        let successes = producer.successes();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    producer.send("t", Record::new("v")).expect("the parent goes on");
                    input.send(OutgoingRecord::new("t", "w")).expect("the parent goes on");
                }
            });
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(1));
                let long = Duration::from_secs(3600);
                let ticket = producer.send("t", Record::new("v")).expect("accepted");
                let child = Child::fork(|| {
                    let refused = [
                        is_forked(producer.send("t", Record::new("x")), owner),
                        is_forked(producer.flush(long), owner),
                        is_forked(producer.close(long), owner),
                        is_forked(producer.waiting_records(), owner),
                        // What is known stays known.
                        ticket.try_wait().is_some() || is_forked(ticket.wait(), owner),
                    ];
                    drop(copy_of(&raw const ticket));
                    drop(copy_of(&raw const successes));
                    drop(copy_of(&raw const producer));
                    first_wrong(&refused)
                });
                child.must_end_well();
            }
            is_over.store(true, Ordering::Relaxed);
            sending.join().expect("no panic");
        });
        producer.close(Duration::from_secs(30)).expect("the parent closes");
    }
}
