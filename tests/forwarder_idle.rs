//! A forwarder that has nothing to do costs nothing. Alone in its process, whose threads are looked at.
#![cfg(target_os = "linux")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use forebay::{Broker, Record, SinkBatch, SinkError, TopicConfig};

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// How often threads that forward have gone to sleep, and how many there are.
fn sleeps() -> (u64, usize) {
    let count = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let forwards = ["forebay-forward", "forebay-sink"].iter().any(|one| name.starts_with(one));
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        forwards.then(|| line?.trim().parse::<u64>().ok()).flatten()
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let counts: Vec<_> = tasks.flatten().filter_map(count).collect();
    (counts.iter().sum(), counts.len())
}

#[test]
fn idle_paused_and_waiting_forwarders_sleep() {
    let _alone = ALONE.lock();
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new().partitions(16);
    let topics: Vec<_> = ["idle", "paused", "failing"]
        .map(|name| broker.create_topic(name, config.clone()).expect("create"))
        .into();
    for topic in &topics {
        for number in 0..10_000 {
            topic.send(Record::new("x").partition(number % 16)).expect("send");
        }
    }
    let builder = |name: &str| broker.forwarder(name).subscribe([name]).concurrency(4);
    let idle = builder("idle").rate_records(1_000_000).start(|_: &SinkBatch| Ok(()));
    let idle = idle.expect("start");
    let paused = builder("paused").start(|_: &SinkBatch| Ok(())).expect("start");
    paused.pause();
    let hour = Duration::from_secs(3600);
    let failing = builder("failing").backoff(hour, hour);
    let failing = failing.start(|_: &SinkBatch| Err(SinkError::retry("busy"))).expect("start");
    let start = Instant::now();
    while idle.lag().expect("lag") > 0 || failing.stats().failures < 16 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    let (before, threads) = sleeps();
    assert_eq!(threads, 15);
    std::thread::sleep(Duration::from_millis(700));
    let (after, _) = sleeps();
    assert!(after - before <= 3, "they woke up {} times", after - before);
}

/// Symptom: a forwarder with many threads and a limited rate took the more time of the processor the more
/// threads it had. Cause: all of them slept until the next batch might go, and all but one had woken up
/// for nothing. Fix: one of them looks at the time.
#[test]
fn threads_that_a_rate_keeps_waiting_do_not_all_wake_up_for_each_batch() {
    let _alone = ALONE.lock();
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(32)).expect("create");
    for number in 0..3200 {
        topic.send(Record::new("x").partition(number % 32)).expect("send");
    }
    let builder = broker.forwarder("g").subscribe(["t"]).concurrency(32);
    let forwarder = builder.batch_records(1).rate_records(500).start(|_: &SinkBatch| Ok(()));
    let forwarder = forwarder.expect("start");
    std::thread::sleep(Duration::from_millis(500));
    let (before, delivered) = (sleeps().0, forwarder.stats().delivered_records);
    std::thread::sleep(Duration::from_secs(1));
    let (after, delivered) = (sleeps().0, forwarder.stats().delivered_records - delivered);
    let each = (after - before) / delivered.max(1);
    assert!(each <= 8, "{} sleeps for {delivered} batches", after - before);
}
