//! What groups cost: draining a backlog with commits, sharing partitions out anew, committed offsets
//! on disk, and what is idle.
//!
//! `cargo bench --bench groups`, or `-- w8 join offsets idle` for some parts only. Everything that is
//! drained is checked by count and checksum.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use forebay::{
    Broker, Consumer, GroupState, RebalanceListener, Record, Start, Topic, TopicConfig,
    TopicPartition,
};
use support::{Options, Row, measure, scratch, timed};

fn main() {
    let options = Options::parse();
    let on = |name: &str| options.on(name);
    if on("w8") {
        drain_a_backlog(&options);
    }
    if on("join") {
        join_a_large_group();
    }
    if on("offsets") {
        keep_offsets();
    }
    if on("idle") {
        poll_what_is_idle();
    }
}

/// Adds what a record holds to a sum that depends on all of them and their order.
fn digest(sum: u64, value: Option<&[u8]>) -> u64 {
    let stamp =
        value.and_then(|value| value.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk));
    sum.wrapping_mul(31).wrapping_add(stamp)
}

/// Sends so many records; what [`digest`] comes to over them.
fn fill_backlog(topic: &Topic, count: u64) -> u64 {
    let mut sum = 0;
    for first in (0..count).step_by(100) {
        let mut values = [[7_u8; 100]; 100];
        for (number, value) in (first..).zip(&mut values) {
            value[..8].copy_from_slice(&number.to_le_bytes());
            sum = digest(sum, Some(value));
        }
        let records: Vec<_> = values.iter().map(Record::new).collect();
        topic.send_batch(&records).expect("send");
    }
    sum
}

/// Looks at every byte of each record once, so that the rows need to look at the numbers alone.
fn check_backlog(broker: &Broker, count: u64) {
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let (mut found, mut expected) = (0, [7_u8; 100]);
    while found < count {
        for record in &reader.try_poll().expect("poll") {
            expected[..8].copy_from_slice(&found.to_le_bytes());
            assert_eq!(record.offset(), found, "order");
            assert_eq!(record.value(), Some(&expected[..]), "content");
            found += 1;
        }
    }
    assert!(reader.try_poll().expect("poll").is_empty(), "nothing else is there");
}

fn drain_a_backlog(options: &Options) {
    // Ten parts, and the time of each is told.
    let part = options.scaled(1_000_000);
    let backlog = 10 * part;
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    let expected = fill_backlog(&topic, backlog);
    let (broker, mut group) = (&broker, 0);
    check_backlog(broker, backlog);
    // How long each part took, in the last round.
    let parts = std::cell::RefCell::new(Vec::new());
    let read = || {
        timed(|| {
            let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
            let (mut count, mut sum) = (0, 0);
            while count < backlog {
                for record in &reader.try_poll().expect("poll") {
                    sum = digest(sum, record.value());
                    count += 1;
                }
            }
            assert_eq!(sum, expected);
        })
    };
    let drain = || {
        group += 1;
        parts.borrow_mut().clear();
        timed(|| {
            let name = format!("group-{group}");
            let mut consumer = broker.consumer(&name).subscribe(["t"]).open().expect("open");
            let (mut count, mut sum) = (0, 0);
            let mut start = Instant::now();
            while count < backlog {
                for record in &consumer.try_poll().expect("poll") {
                    sum = digest(sum, record.value());
                    count += 1;
                    if count % part == 0 {
                        parts.borrow_mut().push(start.elapsed());
                        start = Instant::now();
                    }
                }
                consumer.commit().expect("commit");
            }
            assert_eq!(sum, expected);
            let committed = consumer.committed("t", 0).expect("committed");
            assert_eq!(committed.map(|committed| committed.offset), Some(backlog));
        })
    };
    let mut rows = [
        Row::new("W8", "a reader, no commits", (backlog, 100), read),
        Row::new("W8", "drain a backlog through a group, a commit a poll", (backlog, 100), drain)
            .against("a reader", &[0])
            .target(0.50),
    ];
    measure(options, &format!("W8: a backlog of {backlog}, 100 B"), 5, &mut rows);
    let parts = parts.borrow();
    let rate = |time: &Duration| part as f64 / time.as_secs_f64() / 1e6;
    let rates: Vec<_> = parts.iter().map(|time| format!("{:.1}", rate(time))).collect();
    println!("M/s in each tenth of the last round: {}", rates.join(" "));
}

const PARTITIONS: u32 = 1_000;
const MEMBERS: usize = 99;

/// Counts partitions that go, and how often anything changes.
struct Count {
    revoked: Arc<AtomicU64>,
    told: Arc<AtomicU64>,
}

impl RebalanceListener for Count {
    fn assigned(&mut self, _consumer: &mut Consumer, _partitions: &[TopicPartition]) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    fn revoked(&mut self, _consumer: &mut Consumer, partitions: &[TopicPartition]) {
        self.told.fetch_add(1, Ordering::Relaxed);
        self.revoked.fetch_add(partitions.len() as u64, Ordering::Relaxed);
    }
}

/// Says when partitions came.
struct Came(Sender<Instant>);

impl RebalanceListener for Came {
    fn assigned(&mut self, _consumer: &mut Consumer, _partitions: &[TopicPartition]) {
        self.0.send(Instant::now()).expect("somebody listens");
    }
}

fn join_a_large_group() {
    let broker = Broker::in_memory().expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(1 << 20);
    let topic = broker.create_topic("t", config).expect("create");
    let is_over = AtomicBool::new(false);
    let (revoked, told) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    // The longest time that records of a partition which stayed were not read.
    let pause = AtomicU64::new(0);
    let open = || broker.consumer("g").subscribe(["t"]).open().expect("open");
    let (times, moves) = std::thread::scope(|scope| {
        let watched = || {
            let listener = Count { revoked: Arc::clone(&revoked), told: Arc::clone(&told) };
            broker.consumer("g").subscribe(["t"]).listener(listener).open().expect("open")
        };
        let mut members: Vec<Consumer> = (0..MEMBERS).map(|_| watched()).collect();
        while members.iter().map(|member| member.assignment().len()).sum::<usize>()
            < PARTITIONS as usize
        {
            for member in &mut members {
                drop(member.try_poll().expect("poll"));
            }
        }
        for mut member in members {
            let (is_over, pause) = (&is_over, &pause);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    for record in &member.poll(Duration::from_millis(100)).expect("poll") {
                        let sent = record.timestamp().as_millis();
                        let now =
                            forebay::Timestamp::from(std::time::SystemTime::now()).as_millis();
                        pause.fetch_max((now - sent).max(0) as u64, Ordering::Relaxed);
                    }
                    member.commit().expect("commit");
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let (mut times, mut moves) = (Vec::new(), Vec::new());
        let settle = || {
            while broker.describe_group("g").expect("group").state != GroupState::Stable {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        for _ in 0..50 {
            settle();
            told.store(0, Ordering::Relaxed);
            revoked.store(0, Ordering::Relaxed);
            let start = Instant::now();
            // A poll does not return because partitions came; the listener is told at once.
            let (came, taken_at) = channel();
            let listener = Came(came);
            let builder = broker.consumer("g").subscribe(["t"]).listener(listener);
            let mut last = builder.open().expect("open");
            let share = PARTITIONS as usize / (MEMBERS + 1);
            while last.assignment().len() < share {
                drop(last.poll(Duration::from_millis(5)).expect("poll"));
            }
            times.push(taken_at.try_iter().max().expect("they came") - start);
            settle();
            moves.push((revoked.load(Ordering::Relaxed), told.load(Ordering::Relaxed)));
            drop(last);
        }
        settle();
        // The same with records flowing: how long they lie there, with and without somebody joining.
        let flow = |joins: bool| {
            pause.store(0, Ordering::Relaxed);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(500) {
                for partition in 0..PARTITIONS {
                    topic.send(Record::new("x").partition(partition)).expect("send");
                }
                let last = joins.then(&open);
                std::thread::sleep(Duration::from_millis(20));
                drop(last);
            }
            pause.load(Ordering::Relaxed)
        };
        let (still, joining) = (flow(false), flow(true));
        println!(
            "longest time a record lay unread: {still} ms, with members that come and go every 20 ms: {joining} ms"
        );
        is_over.store(true, Ordering::Relaxed);
        // Checked when the members have ended, which they would not if this thread panicked before.
        (times, moves)
    });
    assert!(moves.iter().all(|(moved, told)| *moved == 10 && *told <= 10), "{moves:?}");
    let mut millis: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    println!(
        "\nthe 100th member of a group with 1,000 partitions, until it has its 10: min {:.2} ms, median {:.2} ms, max {:.2} ms (target 10); at most 10 partitions moved, the other members noticed nothing",
        millis[0],
        millis[millis.len() / 2],
        millis[millis.len() - 1]
    );
}

const GROUPS: usize = 1_000;
const READ: u32 = 100;

fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry"));
    entries.map(|entry| entry.metadata().expect("metadata").len()).sum()
}

fn keep_offsets() {
    const COMMITS: usize = 10_000_000;
    let dir = scratch();
    let config = TopicConfig::new().partitions(READ).segment_bytes(1 << 20);
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("orders", config).expect("create");
    for partition in 0..READ {
        for _ in 0..COMMITS / GROUPS / READ as usize {
            topic.send(Record::new("x").partition(partition)).expect("send");
        }
    }
    let member = |group: usize| {
        let name = format!("group-{group}");
        let mut member = broker.consumer(&name).subscribe(["orders"]).open().expect("open");
        drop(member.try_poll().expect("poll"));
        member
    };
    let mut members: Vec<_> = (0..GROUPS).map(member).collect();
    let mut largest = 0;
    let time = timed(|| {
        for round in 1..=(COMMITS / GROUPS / READ as usize) as u64 {
            for member in &mut members {
                for partition in 0..READ {
                    member.commit_offsets([(("orders", partition), round)]).expect("commit");
                }
            }
            largest = largest.max(bytes_in(&dir.path().join("offsets")));
        }
    });
    let each = time.as_secs_f64() / COMMITS as f64 * 1e9;
    println!(
        "\n10 million commits by 1,000 groups on 100 partitions: {each:.0} ns each; the offset store took at most {:.1} MiB (target 64)",
        largest as f64 / f64::from(1 << 20)
    );
    drop((members, topic));
    let mut times = Vec::new();
    let mut broker = broker;
    for _ in 0..7 {
        broker.close().expect("close");
        let start = Instant::now();
        broker = Broker::open(dir.path()).expect("open");
        times.push(start.elapsed().as_secs_f64() * 1e3);
        let group = broker.describe_group("group-999").expect("group");
        let committed = (COMMITS / GROUPS / READ as usize) as u64;
        assert_eq!(group.offsets.len(), READ as usize);
        assert!(group.offsets.iter().all(|offset| offset.committed == Some(committed)));
    }
    times.sort_by(f64::total_cmp);
    println!(
        "reopening with 1,000 groups on 100 partitions: min {:.1} ms, median {:.1} ms, max {:.1} ms (target 100)",
        times[0], times[3], times[6]
    );
}

fn poll_what_is_idle() {
    println!();
    for partitions in [1, 100, 10_000] {
        let broker = Broker::in_memory().expect("open");
        broker.create_topic("idle", TopicConfig::new().partitions(partitions)).expect("create");
        let topic = broker.create_topic("busy", TopicConfig::new()).expect("create");
        let mut consumer = broker.consumer("g").subscribe(["idle", "busy"]).open().expect("open");
        drop(consumer.poll(Duration::from_millis(1)).expect("poll"));
        let each = |rounds: u32, mut work: Box<dyn FnMut() + '_>| {
            timed(|| (0..rounds).for_each(|_| work())).as_secs_f64() / f64::from(rounds) * 1e9
        };
        let nothing = each(100_000, Box::new(|| drop(consumer.try_poll().expect("poll"))));
        let one = each(
            100_000,
            Box::new(|| {
                topic.send(Record::new("x")).expect("send");
                assert_eq!(consumer.try_poll().expect("poll").len(), 1);
            }),
        );
        println!(
            "{partitions:>6} idle partitions: a poll that finds nothing {nothing:.0} ns, a send and a poll that finds it {one:.0} ns"
        );
    }
    for groups in [0, 1_000] {
        let broker = Broker::in_memory().expect("open");
        let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
        let members: Vec<_> = (0..groups)
            .map(|group| {
                broker.consumer(&format!("g{group}")).subscribe(["t"]).open().expect("open")
            })
            .collect();
        let time = timed(|| {
            (0..200_000).for_each(|_| {
                topic.send(Record::new("x")).expect("send");
            });
        });
        println!("{groups:>6} idle groups: a send {:.0} ns", time.as_secs_f64() / 200_000.0 * 1e9);
        drop(members);
    }
}
