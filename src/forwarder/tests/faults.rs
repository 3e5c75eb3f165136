//! Sinks that fail, hang and panic at random, while forwarders come and go.
//!
//! `FOREBAY_FORWARDER_RECORDS` sets how many records each partition gets.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::account::{Account, GROUP, TOPIC};
use crate::forwarder::planted::Planted;
use crate::storage::split_mix;
use crate::{
    Broker, Forwarder, ForwarderStats, Record, SinkBatch, SinkError, StopReason, TopicConfig,
};

const PARTITIONS: u32 = 5;

/// How a run goes.
struct Run {
    broker: Broker,
    account: Account,
    planted: Planted,
    /// Records for each partition.
    records: u64,
}

impl Run {
    fn new(planted: Planted) -> Self {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic(TOPIC, TopicConfig::new().partitions(PARTITIONS)).expect("create");
        let records = std::env::var("FOREBAY_FORWARDER_RECORDS").ok();
        let records = records.and_then(|number| number.parse().ok()).unwrap_or(1_500);
        Self { broker, account: Account::default(), planted, records }
    }

    fn produce(&self) {
        let producer = self.broker.producer();
        for number in 0..self.records {
            for partition in 0..PARTITIONS {
                producer.send(TOPIC, Record::new("x").partition(partition)).expect("send");
            }
            if number.is_multiple_of(50) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn start(&self, number: u64) -> Forwarder {
        let (broker, account) = (self.broker.clone(), self.account.clone());
        let calls = AtomicU64::new(number << 32);
        let sink = move |batch: &SinkBatch| {
            let mut random = calls.fetch_add(1, Ordering::Relaxed);
            account.enter(number, batch);
            account.check_commits(&broker, PARTITIONS);
            let part = (split_mix(&mut random) % (batch.len() as u64 + 1)) as usize;
            match split_mix(&mut random) % 20 {
                0 => {
                    account.leave(batch, 0);
                    Err(SinkError::retry("on purpose"))
                }
                1 => {
                    account.leave(batch, part);
                    Err(SinkError::retry("on purpose").delivered(part))
                }
                2 => {
                    account.leave(batch, batch.len());
                    // More than there were: it did what it could.
                    Err(SinkError::retry("on purpose").delivered(usize::MAX))
                }
                3 => {
                    account.leave(batch, 0);
                    resume_unwind(Box::new("on purpose"))
                }
                4 => {
                    std::thread::sleep(Duration::from_millis(split_mix(&mut random) % 15));
                    account.leave(batch, batch.len());
                    Ok(())
                }
                _ => {
                    account.leave(batch, batch.len());
                    Ok(())
                }
            }
        };
        let mut random = number;
        self.broker
            .forwarder(GROUP)
            .subscribe([TOPIC])
            .batch_records(1 + (split_mix(&mut random) % 30) as usize)
            .linger(Duration::from_micros(split_mix(&mut random) % 3_000))
            .concurrency(1 + (split_mix(&mut random) % 4) as usize)
            .backoff(Duration::from_micros(10), Duration::from_millis(3))
            .commit_interval(Duration::from_millis(split_mix(&mut random) % 3))
            .plant(self.planted)
            .start(sink)
            .expect("start")
    }

    /// Runs until everything was delivered; two forwarders at a time, the older of which goes after a
    /// while. Returns what was wrong, if something was, and what they did.
    fn run(&self) -> (Option<String>, Vec<ForwarderStats>) {
        let (is_over, start) = (AtomicBool::new(false), Instant::now());
        let ends = [self.records; PARTITIONS as usize];
        let mut stats = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| self.produce());
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    self.account.check_commits(&self.broker, PARTITIONS);
                    std::thread::yield_now();
                }
            });
            let mut running = vec![self.start(1)];
            let mut number = 1;
            while !self.account.is_complete(&ends)
                && self.account.trouble().is_none()
                && start.elapsed() < Duration::from_secs(30)
            {
                number += 1;
                running.push(self.start(number));
                std::thread::sleep(Duration::from_millis(20 + number * 7 % 60));
                let report = running.remove(0).stop(Duration::from_secs(10)).expect("stop");
                assert!(matches!(report.reason, StopReason::Asked), "{report:?}");
                let is_clean = report.uncommitted == 0 && report.in_sink.is_empty();
                assert!(is_clean && report.finished, "{report:?}");
                stats.push(report.stats);
            }
            for forwarder in running {
                stats.push(forwarder.stop(Duration::from_secs(10)).expect("stop").stats);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        self.account.check_commits(&self.broker, PARTITIONS);
        let trouble = self.account.trouble();
        let trouble =
            trouble.or((!self.account.is_complete(&ends)).then(|| "unfinished".to_owned()));
        (trouble, stats)
    }
}

#[test]
fn whatever_the_sink_does_nothing_is_skipped_reordered_or_committed_ahead() {
    let run = Run::new(Planted::Nothing);
    let (trouble, stats) = run.run();
    let (delivered, again) = run.account.counts();
    let sum = |of: fn(&ForwarderStats) -> u64| stats.iter().map(of).sum::<u64>();
    let (failures, panics) = (sum(|stats| stats.failures), sum(|stats| stats.panics));
    println!(
        "{delivered} delivered, {again} of them again, {} forwarders, {failures} failures, {panics} panics",
        stats.len()
    );
    assert_eq!(trouble, None);
    assert_eq!(sum(|stats| stats.delivered_records), delivered);
    assert_eq!(again, 0, "hand-overs waited for the sink, and what failed was not delivered");
    assert!(failures > 20 && panics > 5 && stats.len() > 2);
    for partition in 0..PARTITIONS {
        let committed = run.broker.committed(GROUP, TOPIC, partition).expect("committed");
        assert_eq!(committed.map(|committed| committed.offset), Some(run.records));
    }
}

#[test]
fn planted_bugs_are_caught() {
    for planted in [Planted::CommitsOnEnqueue, Planted::TakesFailuresForDone, Planted::LetsGoEarly]
    {
        // Whether threads meet as they must is up to chance; a bug shows within a few runs.
        let caught = (0..10).find_map(|_| Run::new(planted).run().0);
        println!("{planted:?}: {caught:?}");
        assert!(caught.is_some_and(|trouble| trouble != "unfinished"), "{planted:?}");
    }
}
