//! How fast, and how soon, records go from one thread to another, beside channels in the same run.
//!
//! `cargo bench --bench hand_over`, or `-- w5` for the throughput and `-- paced` for the latency alone.
//! One thread sends while the other takes, and the clock stops when everything was taken. A channel
//! carries owned payloads and forgets them; forebay keeps them, on disk. Every byte and the order are
//! checked by whoever takes, in all rows alike.
//!
//! The latency is that of 100,000 records a second, sent by a schedule that does not wait for anybody. It is
//! told twice: from just before the send, and from when the schedule wanted it, so that records which
//! were sent late because an earlier send took long are not left out.
#![allow(clippy::cast_possible_truncation, reason = "nanoseconds of a run fit into 64 bits")]

mod support;

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use forebay::{Broker, Record, Topic, TopicConfig};
use support::channel::{Kind, Receiver, Sender};
use support::{
    Checker, Latencies, LatencyRow, Options, Payload, Row, SIZE, Taker, Target, at_once, measure,
    measure_latencies, scratch, timed,
};

const ROUNDS: usize = 5;
const BATCH: usize = 100;

fn main() {
    let options = Options::parse();
    if options.on("w5") {
        until_all_is_taken(&options);
    }
    if options.on("paced") {
        paced(&options);
    }
}

/// A topic of its own for each run.
fn with_topic<R>(broker: &Broker, work: impl FnOnce(&Topic) -> R) -> R {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("topic-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let topic = broker.create_topic(&name, TopicConfig::new()).expect("create");
    let result = work(&topic);
    broker.delete_topic(&name).expect("delete");
    result
}

type Open = fn(&Broker, &str) -> Taker;
const TAKERS: [(&str, Open); 2] =
    [("a reader", Taker::reader), ("a group, a commit a poll", Taker::group)];

fn until_all_is_taken(options: &Options) {
    let count = options.scaled(10_000) * BATCH as u64;
    let dir = scratch();
    let broker = &Broker::open(dir.path()).expect("open");
    let mut rows = Vec::new();
    let volume = (count, SIZE);
    for kind in Kind::ALL {
        let run = move || channel_one_by_one(kind, count);
        rows.push(Row::new("W5", format!("{}, one by one", kind.name()), volume, run));
    }
    for (name, open) in TAKERS {
        let run = move || forebay(broker, open, count, send_one_by_one);
        let row = Row::new("W5", format!("forebay, {name}, one by one"), volume, run);
        rows.push(row.against("best channel", &[0, 1, 2]).target(2.0));
    }
    let first = rows.len();
    for kind in Kind::ALL {
        let run = move || channel_in_batches(kind, count);
        rows.push(Row::new("W5", format!("{}, batches of 100", kind.name()), volume, run));
    }
    for (name, open) in TAKERS {
        let run = move || forebay(broker, open, count, send_in_batches);
        let row = Row::new("W5", format!("forebay, {name}, batches of 100"), volume, run);
        rows.push(row.against("best channel", &[first, first + 1, first + 2]));
    }
    let title = "W5: one thread sends and one takes, until all is taken, 100 B";
    measure(options, title, ROUNDS, &mut rows);
}

fn channel_one_by_one(kind: Kind, count: u64) -> Duration {
    let (sender, receiver) = kind.open::<Box<[u8]>>();
    let send = move || {
        let mut payload = Payload::new(0);
        for number in 0..count {
            sender.send(Box::from(&payload.number(number)[..]));
        }
    };
    at_once(vec![send], || {
        let mut checker = Checker::new(1);
        while let Some(value) = receiver.recv() {
            checker.check(&value);
        }
        checker.finish(count);
    })
}

/// A message holds as many payloads as a batch does.
fn channel_in_batches(kind: Kind, count: u64) -> Duration {
    let (sender, receiver) = kind.open::<Vec<Box<[u8]>>>();
    let send = move || {
        let mut payload = Payload::new(0);
        for first in (0..count).step_by(BATCH) {
            let numbers = first..first + BATCH as u64;
            sender.send(numbers.map(|number| Box::from(&payload.number(number)[..])).collect());
        }
    };
    at_once(vec![send], || {
        let mut checker = Checker::new(1);
        while let Some(values) = receiver.recv() {
            for value in values {
                checker.check(&value);
            }
        }
        checker.finish(count);
    })
}

fn send_one_by_one(topic: &Topic, count: u64) {
    let mut payload = Payload::new(0);
    for number in 0..count {
        topic.send(Record::new(payload.number(number))).expect("send");
    }
}

fn send_in_batches(topic: &Topic, count: u64) {
    let mut payloads = vec![Payload::new(0); BATCH];
    for first in (0..count).step_by(BATCH) {
        let numbered = (first..).zip(&mut payloads);
        let records: Vec<Record<'_>> =
            numbered.map(|(number, payload)| Record::new(payload.number(number))).collect();
        topic.send_batch(&records).expect("send");
    }
}

fn forebay(broker: &Broker, open: Open, count: u64, send: fn(&Topic, u64)) -> Duration {
    with_topic(broker, |topic| {
        let mut taker = open(broker, topic.name());
        let mut checker = Checker::new(1);
        let time = at_once(vec![|| send(topic, count)], || taker.take(&mut checker, count));
        checker.finish(count);
        assert_eq!(topic.latest_offset(0).expect("offset"), count, "nothing else was sent");
        assert!(taker.look().is_empty(), "nothing else is there");
        time
    })
}

/// Records a second of the paced rows.
const RATE: u64 = 100_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Looks again and again.
    Spinning,
    /// Sleeps until it is woken.
    Parked,
}

fn paced(options: &Options) {
    let count = options.scaled(2 * RATE);
    let dir = scratch();
    let broker = &Broker::open(dir.path()).expect("open");
    let mut rows = vec![
        LatencyRow::new("limit: spin, half a round trip", move || spin(count)),
        LatencyRow::new("limit: condvar, half a round trip", move || condvar(count / 10)),
    ];
    for (waiting, name) in [(Waiting::Spinning, "try_recv"), (Waiting::Parked, "recv")] {
        for kind in Kind::ALL {
            let run = move || paced_channel(kind, waiting, count);
            rows.push(LatencyRow::new(format!("{}, {name}", kind.name()), run));
        }
    }
    for (name, open) in TAKERS {
        let run = move || paced_forebay(broker, open, Waiting::Spinning, count);
        let row = LatencyRow::new(format!("forebay, {name}, try_poll"), run);
        rows.push(row.against("spin", &[0]).target("p50", Target::AtMost(1.0)));
    }
    for (name, open) in TAKERS {
        let run = move || paced_forebay(broker, open, Waiting::Parked, count);
        let row = LatencyRow::new(format!("forebay, {name}, poll"), run);
        let row = row.against("best channel", &[5, 6, 7]);
        let most = Target::RatioAtMost(1.0);
        rows.push(row.target("p50", most).target("p99.9", most));
    }
    let title = "W5: 100,000 records a second, until they are taken, 100 B";
    measure_latencies(options, ("W5 paced", title), ROUNDS, &mut rows);
}

/// Half of each of so many round trips between two threads, `pass` handing over and waiting for the answer.
fn half_round_trips(count: u64, mut pass: impl FnMut(u64)) -> Latencies {
    let half = |turn| (timed(|| pass(turn)).as_nanos() / 2) as u64;
    Latencies { from_sent: (1..=count).map(half).collect(), from_due: None }
}

/// Two threads that look at an atomic number again and again.
fn spin(count: u64) -> Latencies {
    let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |place: &AtomicU64, turn| {
        while place.load(Ordering::Acquire) != turn {
            spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 1..=count {
                wait(&there, turn);
                back.store(turn, Ordering::Release);
            }
        });
        half_round_trips(count, |turn| {
            there.store(turn, Ordering::Release);
            wait(&back, turn);
        })
    })
}

/// The same, asleep while they wait.
fn condvar(count: u64) -> Latencies {
    let (turns, changed) = (Mutex::new(0), Condvar::new());
    let wait = |wanted: u64| {
        let turns = turns.lock().expect("nobody panics");
        drop(changed.wait_while(turns, |turns| *turns != wanted).expect("nobody panics"));
    };
    let set = |turn| {
        *turns.lock().expect("nobody panics") = turn;
        changed.notify_one();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 1..=count {
                wait(2 * turn - 1);
                set(2 * turn);
            }
        });
        half_round_trips(count, |turn| {
            set(2 * turn - 1);
            wait(2 * turn);
        })
    })
}

/// Nanoseconds since the schedule began; 0 before.
fn since(begin: Instant) -> u64 {
    begin.elapsed().as_nanos() as u64
}

/// Sends by the schedule, whatever the sends take: who is late sends at once.
fn send_by_schedule(count: u64, begin: Instant, send: impl Fn(&[u8; SIZE])) {
    let mut payload = Payload::new(0);
    while Instant::now() < begin {
        spin_loop();
    }
    for number in 0..count {
        payload.number(number);
        let due = number * 1_000_000_000 / RATE;
        let now = loop {
            let now = since(begin);
            if now >= due {
                break now;
            }
            spin_loop();
        };
        payload.stamp(due, now);
        send(&payload.0);
    }
}

/// Takes down when records arrive.
struct Arrivals {
    begin: Instant,
    checker: Checker,
    from_sent: Vec<u64>,
    from_due: Vec<u64>,
}

impl Arrivals {
    fn new(count: u64, begin: Instant) -> Self {
        // Written once before the clock starts, so that no page is supplied later.
        let places = || {
            let mut places = vec![1; count as usize];
            places.clear();
            places
        };
        Self { begin, checker: Checker::new(1), from_sent: places(), from_due: places() }
    }

    fn arrived(&mut self, value: &[u8]) {
        let now = since(self.begin);
        let (due, sent) = self.checker.check_stamped(value);
        self.from_due.push(now - due);
        self.from_sent.push(now - sent);
    }

    fn finish(self, count: u64) -> Latencies {
        self.checker.finish(count);
        Latencies { from_sent: self.from_sent, from_due: Some(self.from_due) }
    }
}

/// When the schedule begins: soon, when both threads run.
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(5)
}

fn paced_channel(kind: Kind, waiting: Waiting, count: u64) -> Latencies {
    let (sender, receiver): (Sender<Box<[u8]>>, Receiver<_>) = kind.open();
    let begin = soon();
    let mut arrivals = Arrivals::new(count, begin);
    let send = move || send_by_schedule(count, begin, |value| sender.send(Box::from(&value[..])));
    at_once(vec![send], || {
        while arrivals.checker.count() < count {
            let value = match waiting {
                Waiting::Parked => Some(receiver.recv().expect("the sender is there")),
                Waiting::Spinning => receiver.try_recv(),
            };
            match value {
                Some(value) => arrivals.arrived(&value),
                None => spin_loop(),
            }
        }
    });
    arrivals.finish(count)
}

fn paced_forebay(broker: &Broker, open: Open, waiting: Waiting, count: u64) -> Latencies {
    with_topic(broker, |topic| {
        let mut taker = open(broker, topic.name());
        let begin = soon();
        let mut arrivals = Arrivals::new(count, begin);
        let send = || {
            send_by_schedule(count, begin, |value| {
                topic.send(Record::new(value)).expect("send");
            });
        };
        at_once(vec![send], || {
            while arrivals.checker.count() < count {
                let batch = match waiting {
                    Waiting::Parked => taker.wait(),
                    Waiting::Spinning => taker.look(),
                };
                if batch.is_empty() {
                    spin_loop();
                    continue;
                }
                for record in &batch {
                    arrivals.arrived(record.value().expect("value"));
                }
                taker.done();
            }
        });
        arrivals.finish(count)
    })
}
