//! The workloads whose instructions are counted, each run in a process of its own.
//!
//! Only what the main thread does is counted. So what has to be there before (a backlog), and the check
//! of what was done, are left to other threads.

use std::path::Path;
use std::time::Duration;

use forebay::{Broker, Record, Start, TopicConfig};

/// The bytes of each record.
const SIZE: usize = 100;
/// How many records are in a batch.
const BATCH: u64 = 100;

/// Does something with the topic `t` of a broker: with all of its records, or with so many to come.
type Part = fn(&Broker, u64);

/// One workload: what it is called, what it needs, what is counted, and which records it takes.
pub struct Work {
    pub name: &'static str,
    prepare: Option<Part>,
    counted: Part,
}

/// All of them.
pub const WORKS: [Work; 5] = [
    Work { name: "send", prepare: None, counted: send },
    Work { name: "send-batch", prepare: None, counted: send_batches },
    Work { name: "replay", prepare: Some(send), counted: read },
    Work { name: "replay-batch", prepare: Some(send_batches), counted: read },
    Work { name: "group", prepare: Some(send), counted: consume },
];

impl Work {
    /// Does it once with `count` records, in `dir` or in memory, and checks what came of it.
    pub fn run(&self, dir: Option<&Path>, count: u64) {
        let broker = dir.map_or_else(Broker::in_memory, Broker::open).expect("open");
        broker.create_topic("t", TopicConfig::new()).expect("create");
        if let Some(prepare) = self.prepare {
            elsewhere(|| prepare(&broker, count));
        }
        (self.counted)(&broker, count);
        elsewhere(|| read(&broker, count));
        broker.close().expect("close");
    }
}

/// Does `work` on a thread that is not looked at.
fn elsewhere(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join()).expect("a thread");
}

/// Makes a payload that of record `number`.
fn fill(payload: &mut [u8; SIZE], number: u64) {
    payload[..8].copy_from_slice(&number.to_le_bytes());
}

/// Whether this is what record `number` holds.
fn check(number: u64, offset: u64, value: Option<&[u8]>) {
    let value = value.expect("a value");
    assert_eq!((offset, value.len()), (number, SIZE));
    assert_eq!(value[..8], number.to_le_bytes());
}

fn send(broker: &Broker, count: u64) {
    let topic = broker.topic("t").expect("topic");
    let mut payload = [7; SIZE];
    for number in 0..count {
        fill(&mut payload, number);
        topic.send(Record::new(&payload)).expect("send");
    }
}

fn send_batches(broker: &Broker, count: u64) {
    let topic = broker.topic("t").expect("topic");
    let mut payloads = vec![[7; SIZE]; usize::try_from(BATCH).expect("a small number")];
    for first in (0..count).step_by(payloads.len()) {
        for (number, payload) in (first..).zip(&mut payloads) {
            fill(payload, number);
        }
        let records: Vec<Record<'_>> = payloads.iter().map(Record::new).collect();
        topic.send_batch(&records).expect("send");
    }
}

fn read(broker: &Broker, count: u64) {
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let mut number = 0;
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break assert_eq!(number, count, "records read");
        }
        for record in &batch {
            check(number, record.offset(), record.value());
            number += 1;
        }
    }
}

fn consume(broker: &Broker, count: u64) {
    let builder = broker.consumer("g").subscribe(["t"]).start(Start::Earliest);
    // At each poll what the one before it handed out is committed.
    let mut consumer = builder.auto_commit(Duration::ZERO).open().expect("consumer");
    let mut number = 0;
    while number < count {
        for record in &consumer.try_poll().expect("poll") {
            check(number, record.offset(), record.value());
            number += 1;
        }
    }
    assert!(consumer.try_poll().expect("poll").is_empty());
    let committed = consumer.committed("t", 0).expect("ask").expect("a commit");
    assert_eq!(committed.offset, count, "committed");
}
