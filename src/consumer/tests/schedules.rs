//! Thousands of schedules, each step chosen by chance, under a clock that moves only between steps.

use std::time::Duration;

use super::account::{Account, GROUP, TOPIC, Watched};
use crate::group::Planted;
use crate::storage::split_mix;
use crate::{Assignor, Broker, Error, ManualClock, Record, Timestamp, Topic, TopicConfig};

const PARTITIONS: u32 = 6;
const STEPS: usize = 150;
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// One course of events.
struct Schedule {
    random: u64,
    broker: Broker,
    topic: Topic,
    clock: ManualClock,
    account: Account,
    members: Vec<Watched>,
    next_member: u64,
    /// Which members took which name.
    names: Vec<(u64, u64)>,
    assignor: Assignor,
    is_watched: bool,
}

impl Schedule {
    fn new(seed: u64, planted: Planted) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let broker = Broker::builder("x").in_memory().manual_clock(&clock).open().expect("open");
        broker.inner.groups().plant(planted);
        let config = TopicConfig::new().partitions(PARTITIONS);
        let topic = broker.create_topic(TOPIC, config).expect("create");
        let mut random = seed;
        let assignor = match split_mix(&mut random) % 3 {
            0 => Assignor::CooperativeSticky,
            1 => Assignor::Range,
            _ => Assignor::RoundRobin,
        };
        let is_watched = split_mix(&mut random).is_multiple_of(2);
        let account = Account::default();
        let (members, next_member, names) = (Vec::new(), 0, Vec::new());
        Self {
            random,
            broker,
            topic,
            clock,
            account,
            members,
            next_member,
            names,
            assignor,
            is_watched,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        split_mix(&mut self.random) % bound
    }

    fn join(&mut self) {
        let mut builder = self
            .broker
            .consumer(GROUP)
            .subscribe([TOPIC])
            .assignor(self.assignor.clone())
            .max_records(1 + self.below(5) as usize);
        if self.is_watched {
            builder = builder.max_poll_interval(POLL_INTERVAL);
        }
        if self.below(2) == 0 {
            builder = builder.auto_commit(Duration::from_secs(self.below(20)));
        }
        let number = self.next_member;
        if self.below(4) == 0 {
            let name = self.below(3);
            builder = builder.static_member(&format!("name-{name}"));
            // Who had the name is out, whether it knows or not.
            for (_, namesake) in self.names.iter().filter(|(one, _)| *one == name) {
                self.account.set_stalled(*namesake, true);
            }
            self.names.push((name, number));
        }
        let member = Watched::open(number, &self.account, builder).expect("join");
        self.members.push(member);
        self.next_member += 1;
    }

    fn poll(&mut self, at: usize) {
        let member = &mut self.members[at];
        match member.poll(Duration::ZERO) {
            Ok(_) => {}
            // Another has taken its name.
            Err(Error::Fenced { .. }) => drop(self.members.swap_remove(at)),
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self) {
        let choice = self.below(100);
        let count = self.members.len();
        let at = if count == 0 { 0 } else { self.below(count as u64) as usize };
        match choice {
            0..25 => {
                for _ in 0..=self.below(4) {
                    let partition = self.below(u64::from(PARTITIONS)) as u32;
                    self.topic.send(Record::new("x").partition(partition)).expect("send");
                }
            }
            25..35 if count < 6 => self.join(),
            _ if count == 0 => {}
            35..75 => self.poll(at),
            75..88 => match self.members[at].commit() {
                Ok(()) | Err(Error::Fenced { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            88..90 => match self.members.swap_remove(at).close() {
                Ok(()) | Err(Error::Fenced { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            90..92 => drop(self.members.swap_remove(at)),
            92..93 if self.is_watched => {
                // It hangs, for good.
                let mut member = self.members.swap_remove(at);
                self.account.set_stalled(self.next_member, true);
                std::mem::forget(member.consumer.take());
            }
            _ => {
                let seconds = self.below(12);
                self.clock.advance(Duration::from_secs(seconds));
            }
        }
        self.account.check_commits(&self.broker);
    }

    /// What was wrong, if something was.
    fn run(mut self) -> Option<String> {
        for _ in 0..STEPS {
            if self.is_watched {
                // Whoever is not polled for long may be taken out at any time.
                for member in 0..self.next_member {
                    self.account.set_stalled(member, true);
                }
            }
            self.step();
            if let Some(trouble) = self.account.trouble() {
                return Some(trouble);
            }
        }
        self.members.clear();
        self.account.check_commits(&self.broker);
        self.clock.advance(POLL_INTERVAL * 2);
        self.join();
        // Those that hang are found out by time alone.
        for _ in 0..2 {
            while self.members[0].poll(Duration::ZERO).expect("poll") > 0 {}
            self.clock.advance(POLL_INTERVAL / 2);
        }
        self.members[0].commit().expect("commit");
        self.account.check_commits(&self.broker);
        self.account.check_finished(&self.broker);
        self.account.trouble()
    }
}

fn seeds() -> u64 {
    std::env::var("FOREBAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2_000)
}

#[test]
fn whatever_members_do_nothing_is_skipped_and_commits_are_never_ahead() {
    let (mut deliveries, mut handovers) = (0, 0);
    for seed in 0..seeds() {
        let schedule = Schedule::new(seed, Planted::Nothing);
        let account = schedule.account.clone();
        if let Some(trouble) = schedule.run() {
            panic!("seed {seed}: {trouble}");
        }
        let (given, moved) = account.counts();
        deliveries += given;
        handovers += moved;
    }
    println!("{} schedules, {deliveries} records given, {handovers} hand-overs", seeds());
    assert!(deliveries > 50 * seeds() && handovers > 10 * seeds());
}

#[test]
fn planted_bugs_are_caught_by_schedules() {
    for planted in [
        Planted::StartsEarly,
        Planted::CommitsAhead,
        Planted::ForgetsToFence,
        Planted::ForgetsTheCommit,
    ] {
        let caught = (0..300).find_map(|seed| Schedule::new(seed, planted).run());
        assert!(caught.is_some(), "{planted:?} was not caught");
    }
}
