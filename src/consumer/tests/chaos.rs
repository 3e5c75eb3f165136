//! Threads that join, leave, drop, panic and stall at random while records flow.
//!
//! `FOREBAY_CHAOS_SECONDS` sets for how long, `FOREBAY_CHAOS_POLL_MILLIS` how long a member may be silent:
//! where threads are slowed down, by a sanitizer say, it must be longer than they are ever held up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::account::{Account, GROUP, TOPIC, Watched};
use crate::group::Planted;
use crate::storage::split_mix;
use crate::{Broker, Error, Record, TopicConfig};

const PARTITIONS: u32 = 6;
const PRODUCERS: u64 = 4;
const WORKERS: u64 = 8;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn poll_interval() -> Duration {
    Duration::from_millis(from_environment("FOREBAY_CHAOS_POLL_MILLIS", 250))
}

struct Chaos {
    broker: Broker,
    account: Account,
    members: AtomicU64,
    is_over: AtomicBool,
}

impl Chaos {
    fn produce(&self, mut random: u64) {
        let producer = self.broker.producer();
        while !self.is_over.load(Ordering::Relaxed) {
            for _ in 0..split_mix(&mut random) % 200 {
                let partition = (split_mix(&mut random) % u64::from(PARTITIONS)) as u32;
                producer.send(TOPIC, Record::new("x").partition(partition)).expect("send");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One member after the other, on threads of their own, because some panic.
    fn work(&self, mut random: u64) {
        while !self.is_over.load(Ordering::Relaxed) {
            std::thread::scope(|scope| {
                let seed = split_mix(&mut random);
                // Its panic is what is wanted, at times.
                drop(scope.spawn(move || self.live(seed)).join());
            });
            std::thread::sleep(Duration::from_millis(split_mix(&mut random) % 20));
        }
    }

    fn live(&self, mut random: u64) {
        let number = self.members.fetch_add(1, Ordering::Relaxed);
        let mut builder = self
            .broker
            .consumer(GROUP)
            .subscribe([TOPIC])
            .max_poll_interval(poll_interval())
            .max_records(1 + (split_mix(&mut random) % 300) as usize);
        if split_mix(&mut random).is_multiple_of(2) {
            builder = builder.auto_commit(Duration::from_millis(split_mix(&mut random) % 10));
        }
        let mut member = Watched::open(number, &self.account, builder).expect("join");
        // Whether a thread stalls is up to the machine, too: only one that has just polled is sure.
        for _ in 0..split_mix(&mut random) % 200 {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            let timeout = Duration::from_millis(split_mix(&mut random) % 5);
            match member.poll(timeout) {
                Ok(_) => self.account.set_stalled(number, false),
                Err(error) => panic!("{error}"),
            }
            match split_mix(&mut random) % 100 {
                0..40 => match member.commit() {
                    Ok(()) | Err(Error::Fenced { .. }) => {}
                    Err(error) => panic!("{error}"),
                },
                40..41 => {
                    self.account.set_stalled(number, true);
                    std::thread::sleep(poll_interval() * 2);
                }
                _ => {}
            }
            if start.elapsed() > poll_interval() / 4 {
                self.account.set_stalled(number, true);
            }
            self.account.check_commits(&self.broker);
        }
        match split_mix(&mut random) % 4 {
            0 => panic!("on purpose"),
            1 => match member.close() {
                Ok(()) | Err(Error::Fenced { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            _ => drop(member),
        }
    }

    /// What was wrong, if something was.
    fn run(planted: Planted, time: Duration) -> (Option<String>, Account) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let broker = Broker::open(dir.path()).expect("open");
        broker.inner.groups().plant(planted);
        broker.create_topic(TOPIC, TopicConfig::new().partitions(PARTITIONS)).expect("create");
        let account = Account::default();
        let chaos = Self {
            broker,
            account: account.clone(),
            members: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            for seed in 0..PRODUCERS {
                let chaos = &chaos;
                scope.spawn(move || chaos.produce(seed));
            }
            for seed in 0..WORKERS {
                let chaos = &chaos;
                scope.spawn(move || chaos.work(1000 + seed));
            }
            let start = Instant::now();
            while start.elapsed() < time && account.trouble().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            chaos.is_over.store(true, Ordering::Relaxed);
        });
        let builder = chaos.broker.consumer(GROUP).subscribe([TOPIC]);
        let mut last = Watched::open(u64::MAX, &account, builder).expect("join");
        while last.poll(Duration::from_millis(100)).expect("poll") > 0 {}
        last.commit().expect("commit");
        account.check_commits(&chaos.broker);
        account.check_finished(&chaos.broker);
        println!("{} members", chaos.members.load(Ordering::Relaxed));
        (account.trouble(), account)
    }
}

/// Panics on purpose are not worth a line each.
fn quiet_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_on_purpose =
            info.payload().downcast_ref::<&str>().is_some_and(|text| *text == "on purpose");
        if !is_on_purpose {
            loud(info);
        }
    }));
}

#[test]
fn threads_that_come_and_go_in_any_way_skip_nothing() {
    quiet_panics();
    let seconds = from_environment("FOREBAY_CHAOS_SECONDS", 3);
    let (trouble, account) = Chaos::run(Planted::Nothing, Duration::from_secs(seconds));
    let (deliveries, handovers) = account.counts();
    println!("{seconds} s: {deliveries} records given, {handovers} hand-overs");
    assert_eq!(trouble, None);
    // A machine that is busy otherwise does less; one that does nothing shows nothing.
    let slower = (poll_interval().as_millis() as u64 / 60).max(1);
    assert!(deliveries * slower > 100 * seconds && handovers * slower > 2 * seconds);
}

#[test]
fn planted_bugs_are_caught_by_threads() {
    quiet_panics();
    for planted in [Planted::StartsEarly, Planted::CommitsAhead] {
        let (trouble, _) = Chaos::run(planted, Duration::from_secs(20));
        assert!(trouble.is_some(), "{planted:?} was not caught");
    }
}
