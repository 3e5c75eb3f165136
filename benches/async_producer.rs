//! How fast records are sent without waiting, beside `send_batch` of as many; and how long one that is
//! waited for takes, beside `Topic::send`.
//!
//! `cargo bench --bench async_producer`, or `-- 100 latency` for some rows only. Everything that was
//! sent is read back and checked by count, order and content. The rows of one table are run in turn,
//! and their ratio is taken round by round.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

mod support;

use std::time::{Duration, Instant};

use forebay::{Broker, Record, Start, Topic, TopicConfig};
use support::{Row, measure, timed};

const ROUNDS: usize = 9;
const SIZE: usize = 100;
const COUNT: u64 = 1_000_000;
const LATENCIES: usize = 200_000;

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let on = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    for batch in [10, 100, 500] {
        if on(&batch.to_string()) {
            throughput(batch);
        }
    }
    if on("latency") {
        latency();
    }
}

fn payload(number: u64) -> [u8; SIZE] {
    let mut payload = [7; SIZE];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Reads everything back.
fn check(broker: &Broker, name: &str, count: u64) {
    let mut reader = broker.reader().topic(name, Start::Earliest).open().expect("reader");
    let mut found = 0;
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            assert_eq!(record.offset(), found, "order");
            assert_eq!(record.value(), Some(&payload(found)[..]), "content");
            found += 1;
        }
    }
    assert_eq!(found, count, "records read back");
}

/// Sends to a topic of its own and checks it; what `send` returns is done before the clock stops.
fn run(broker: &Broker, name: &str, send: impl FnOnce(&Topic)) -> Duration {
    let topic = broker.create_topic(name, TopicConfig::new()).expect("create");
    let time = timed(|| send(&topic));
    check(broker, name, COUNT);
    broker.delete_topic(name).expect("delete");
    time
}

fn throughput(batch: usize) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let broker = &broker;
    let mut turn = 0;
    let batched = move || {
        turn += 1;
        run(broker, &format!("batch-{turn}"), |topic| {
            let mut values = vec![[0; SIZE]; batch];
            for first in (0..COUNT).step_by(batch) {
                for (number, value) in (first..).zip(&mut values) {
                    *value = payload(number);
                }
                let records: Vec<Record<'_>> = values.iter().map(Record::new).collect();
                topic.send_batch(&records).expect("send");
            }
        })
    };
    let gathered = |name: &'static str, linger: Duration, has_tickets: bool| {
        let mut turn = 0;
        move || {
            turn += 1;
            let topic = format!("{name}-{turn}");
            let producer =
                broker.async_producer().batch_records(batch).linger(linger).open().expect("open");
            run(broker, &topic, |_| {
                for number in 0..COUNT {
                    let payload = payload(number);
                    if has_tickets {
                        producer.send(&topic, Record::new(&payload)).expect("send");
                    } else {
                        producer.post(&topic, Record::new(&payload)).expect("post");
                    }
                }
                producer.flush(Duration::from_secs(60)).expect("flush");
            })
        }
    };
    let row = |name: String, run, limit| Row {
        name,
        run,
        records: COUNT,
        bytes: COUNT * SIZE as u64,
        limit,
    };
    let linger = Duration::from_millis(5);
    let mut rows = [
        row(
            format!("send_batch of {batch}"),
            Box::new(batched) as Box<dyn FnMut() -> Duration>,
            None,
        ),
        row(
            format!("async post, batches of {batch}, linger 5 ms"),
            Box::new(gathered("post", linger, false)),
            Some((0, 0.90)),
        ),
        row(
            format!("async send (a ticket each), batches of {batch}, linger 5 ms"),
            Box::new(gathered("send", linger, true)),
            Some((0, 0.90)),
        ),
        row(
            "async post, linger 0".to_owned(),
            Box::new(gathered("at-once", Duration::ZERO, false)),
            Some((0, 0.0)),
        ),
    ];
    measure(&format!("one thread, 100 B, batches of {batch}"), ROUNDS, &mut rows);
}

fn latency() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("direct", TopicConfig::new()).expect("create");
    broker.create_topic("async", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().open().expect("open");
    let (mut direct, mut gathered) = (Vec::new(), Vec::new());
    for number in 0..LATENCIES as u64 {
        let value = payload(number);
        let begun = Instant::now();
        topic.send(Record::new(&value)).expect("send");
        direct.push(begun.elapsed());
        let begun = Instant::now();
        producer.send("async", Record::new(&value)).expect("send").wait().expect("sent");
        gathered.push(begun.elapsed());
    }
    check(&broker, "direct", LATENCIES as u64);
    check(&broker, "async", LATENCIES as u64);
    println!("\nhow long one record takes, {LATENCIES} of each in turn");
    println!("{:<34} {:>10} {:>10} {:>10}", "", "p50 ns", "p99 ns", "p99.9 ns");
    for (name, mut times) in [("Topic::send", direct), ("async send, linger 0, wait", gathered)] {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos();
        println!("{name:<34} {:>10} {:>10} {:>10}", at(0.5), at(0.99), at(0.999));
    }
}
