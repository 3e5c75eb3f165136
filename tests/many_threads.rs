//! Many senders and readers at once: no record lost, repeated or out of order.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::{Broker, Record, Start, TopicConfig};

const THREADS: u64 = 8;
const PARTITIONS: u32 = 4;

/// Eight threads send to four partitions in small segments, while two readers follow.
fn senders_and_followers(each: u64) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(1 << 20);
    let topic = broker.create_topic("t", config).expect("create");
    let total = THREADS * each;
    std::thread::scope(|scope| {
        let followers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader =
                    broker.reader().topic("t", Start::Earliest).open().expect("reader");
                scope.spawn(move || {
                    let mut seen = Seen::default();
                    while seen.count < total {
                        let batch = reader.poll(Duration::from_secs(60)).expect("poll");
                        assert!(
                            !batch.is_empty(),
                            "a wake-up was missed after {} records",
                            seen.count
                        );
                        for record in &batch {
                            seen.note(
                                record.partition(),
                                record.offset(),
                                record.value().expect("value"),
                            );
                        }
                    }
                    seen
                })
            })
            .collect();
        for thread in 0..THREADS {
            let topic = topic.clone();
            scope.spawn(move || {
                let mut value = [0; 20];
                value[..8].copy_from_slice(&thread.to_le_bytes());
                for number in 0..each {
                    value[8..16].copy_from_slice(&number.to_le_bytes());
                    let partition = (number / 3 % u64::from(PARTITIONS)) as u32;
                    topic.send(Record::new(&value).partition(partition)).expect("send");
                }
            });
        }
        for follower in followers {
            follower.join().expect("follower").check(total);
        }
    });
    broker.close().expect("close");
    let broker = Broker::open(dir.path()).expect("reopen");
    let mut reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let mut seen = Seen::default();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            seen.note(record.partition(), record.offset(), record.value().expect("value"));
        }
    }
    seen.check(total);
}

/// What one reader has met.
#[derive(Default)]
struct Seen {
    count: u64,
    next_offset: [u64; PARTITIONS as usize],
    /// The number behind the last one met, by thread and partition.
    next_number: [[u64; PARTITIONS as usize]; THREADS as usize],
}

impl Seen {
    fn note(&mut self, partition: u32, offset: u64, value: &[u8]) {
        let partition = partition as usize;
        assert_eq!(offset, self.next_offset[partition], "offsets without gap or repeat");
        self.next_offset[partition] += 1;
        let thread = u64::from_le_bytes(value[..8].try_into().expect("8 bytes")) as usize;
        let number = u64::from_le_bytes(value[8..16].try_into().expect("8 bytes"));
        assert!(number >= self.next_number[thread][partition], "each thread's order is kept");
        self.next_number[thread][partition] = number + 1;
        self.count += 1;
    }

    fn check(&self, total: u64) {
        assert_eq!(self.count, total);
        assert_eq!(self.next_offset.iter().sum::<u64>(), total);
    }
}

#[test]
fn eight_senders_and_two_followers_agree() {
    senders_and_followers(20_000);
}

/// The same with a million records each: `cargo test --release --test many_threads -- --ignored`.
#[test]
#[ignore = "eight million records, for a release build"]
fn eight_senders_of_a_million_records_and_two_followers_agree() {
    senders_and_followers(1_000_000);
}

#[test]
fn topics_come_and_go_while_others_are_used() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let steady =
        broker.create_topic("steady", TopicConfig::new().segment_bytes(8192)).expect("create");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..100 {
                let name = format!("short-{}", round % 3);
                let topic =
                    broker.create_topic(&name, TopicConfig::new().partitions(2)).expect("create");
                topic.send(Record::new("x")).expect("send");
                broker.create_partitions(&name, 4).expect("grow");
                topic.send(Record::new("y").partition(3)).expect("send");
                broker.delete_topic(&name).expect("delete");
            }
            stop.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                steady.send(Record::new(&[1; 100])).expect("send");
                broker.flush().expect("flush");
            }
        });
    });
    let count = steady.latest_offset(0).expect("offset");
    let mut reader = broker.reader().topic("steady", Start::Earliest).open().expect("reader");
    let mut found = 0;
    while found < count {
        found += reader.poll(Duration::from_secs(5)).expect("poll").len() as u64;
    }
    assert_eq!(found, count);
}
