//! How fast records are made durable, beside what the disk allows in the same run.
//!
//! `cargo bench --bench durable`. The limit is one record written into reserved space and synced,
//! by one thread; with n threads the ideal is n times that, if each sync served all of them. Every
//! byte is read back and checked, and that each thread's records are in the order it sent them.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]

mod support;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use forebay::{Acks, Broker, Record, Start, TopicConfig};
use support::{Checker, Options, Payload, Row, SIZE, measure, reserved_file, scratch, timed};

const ROUNDS: usize = 5;

fn main() {
    let options = Options::parse();
    let syncs = options.scaled(2000);
    let dir = scratch();
    let broker = Broker::open(dir.path().join("broker")).expect("open");
    let broker = &broker;
    let limit_path = dir.path().join("limit");
    let limit = move || pwrite_and_fdatasync(&limit_path, syncs);
    let mut rows = vec![Row::new("W3", "limit: pwrite + fdatasync", (syncs, SIZE), limit)];
    // The target is a share of what so many threads could do if every sync served all of them.
    for (threads, share) in [(1_u64, 0.95), (8, 0.70), (64, 0.50)] {
        let mut round = 0;
        let each = (syncs * 2 / threads).max(options.scaled(100));
        let name =
            format!("send, Synced, {threads} {}", if threads == 1 { "thread" } else { "threads" });
        let run = move || {
            round += 1;
            let name = format!("topic-{threads}-{round}");
            let time = synced(broker, &name, threads, each);
            broker.delete_topic(&name).expect("delete");
            time
        };
        let row = Row::new("W3", name, (each * threads, SIZE), run);
        rows.push(
            row.against("one thread, pwrite + fdatasync", &[0]).target(share * threads as f64),
        );
    }
    let title = "W3: every record on stable storage before send returns";
    measure(&options, title, ROUNDS, &mut rows);
}

/// One record after the other written into reserved space and synced, and all of them read back.
fn pwrite_and_fdatasync(path: &Path, syncs: u64) -> Duration {
    const FRAME: usize = SIZE + 28;
    let file = reserved_file(path, 4 << 20);
    file.sync_all().expect("sync");
    let mut payload = Payload::new(0);
    let mut frame = [7; FRAME];
    let time = timed(|| {
        for number in 0..syncs {
            frame[28..].copy_from_slice(payload.number(number));
            file.write_all_at(&frame, number * FRAME as u64).expect("write");
            file.sync_data().expect("sync");
        }
    });
    let mut checker = Checker::new(1);
    for number in 0..syncs {
        file.read_exact_at(&mut frame, number * FRAME as u64).expect("read");
        checker.check(&frame[28..]);
    }
    checker.finish(syncs);
    time
}

/// So many threads send `each` to one partition; each waits for its record before the next.
fn synced(broker: &Broker, name: &str, threads: u64, each: u64) -> Duration {
    let topic = broker.create_topic(name, TopicConfig::new()).expect("create");
    topic.send_with(Record::new("first"), Acks::Synced).expect("send");
    let time = timed(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let topic = &topic;
                scope.spawn(move || {
                    let mut payload = Payload::new(thread);
                    for number in 0..each {
                        let record = Record::new(payload.number(number));
                        let sent = topic.send_with(record, Acks::Synced).expect("send");
                        assert!(topic.synced_offset(0).expect("topic") > sent.offset);
                    }
                });
            }
        });
    });
    let mut reader = broker.reader().partition(name, 0, Start::Offset(1)).open().expect("reader");
    let mut checker = Checker::new(threads);
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            assert_eq!(record.offset(), checker.count() + 1, "order");
            checker.check(record.value().expect("value"));
        }
    }
    checker.finish(each);
    time
}
