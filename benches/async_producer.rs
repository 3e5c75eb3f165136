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
use support::{Options, Row, measure, scratch, timed};

const ROUNDS: usize = 9;
const SIZE: usize = 100;

fn main() {
    let options = Options::parse();
    for batch in [10, 100, 500] {
        if options.on(&batch.to_string()) {
            throughput(&options, batch);
        }
    }
    if options.on("latency") {
        latency(&options);
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
fn run(broker: &Broker, name: &str, count: u64, send: impl FnOnce(&Topic)) -> Duration {
    let topic = broker.create_topic(name, TopicConfig::new()).expect("create");
    let time = timed(|| send(&topic));
    check(broker, name, count);
    broker.delete_topic(name).expect("delete");
    time
}

fn throughput(options: &Options, batch: usize) {
    // As many as fill whole batches of every size.
    let count = options.scaled(2000) * 500;
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let broker = &broker;
    let mut turn = 0;
    let batched = move || {
        turn += 1;
        run(broker, &format!("batch-{turn}"), count, |topic| {
            let mut values = vec![[0; SIZE]; batch];
            for first in (0..count).step_by(batch) {
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
            run(broker, &topic, count, |_| {
                for number in 0..count {
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
    let linger = Duration::from_millis(5);
    let volume = (count, SIZE);
    let row = |name: String, run| Row::new("async", name, volume, run).against("send_batch", &[0]);
    let lingering = format!("batches of {batch}, linger 5 ms");
    let mut rows = [
        Row::new("async", format!("send_batch of {batch}"), volume, batched),
        row(format!("async post, {lingering}"), gathered("post", linger, false)).target(0.90),
        row(format!("async send, a ticket each, {lingering}"), gathered("send", linger, true))
            .target(0.90),
        row(
            format!("async post, batches up to {batch}, linger 0"),
            gathered("at-once", Duration::ZERO, false),
        ),
    ];
    let title = format!("one thread, 100 B, batches of {batch}");
    measure(options, &title, ROUNDS, &mut rows);
}

fn latency(options: &Options) {
    let count = options.scaled(200_000);
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("direct", TopicConfig::new()).expect("create");
    broker.create_topic("async", TopicConfig::new()).expect("create");
    let producer = broker.async_producer().open().expect("open");
    let (mut direct, mut gathered) = (Vec::new(), Vec::new());
    for number in 0..count {
        let value = payload(number);
        let begun = Instant::now();
        topic.send(Record::new(&value)).expect("send");
        direct.push(begun.elapsed());
        let begun = Instant::now();
        producer.send("async", Record::new(&value)).expect("send").wait().expect("sent");
        gathered.push(begun.elapsed());
    }
    check(&broker, "direct", count);
    check(&broker, "async", count);
    println!("\nhow long one record takes, {count} of each in turn");
    println!("{:<34} {:>10} {:>10} {:>10}", "", "p50 ns", "p99 ns", "p99.9 ns");
    for (name, mut times) in [("Topic::send", direct), ("async send, linger 0, wait", gathered)] {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos();
        println!("{name:<34} {:>10} {:>10} {:>10}", at(0.5), at(0.99), at(0.999));
    }
}
