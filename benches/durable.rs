//! How fast records are made durable, beside what the disk allows in the same run.
//!
//! `cargo bench --bench durable`. The limit is one record written into reserved space and synced,
//! by one thread; with n threads the ideal is n times that, if each sync served all of them.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]

mod support;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use forebay::{Acks, Broker, Record, Start, TopicConfig};
use support::{Row, measure, reserved_file, timed};

const ROUNDS: usize = 5;
const SIZE: usize = 100;
const SYNCS: u64 = 2000;

fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let broker = Broker::open(dir.path().join("broker")).expect("open");
    let broker = &broker;
    let limit_path = dir.path().join("limit");
    let mut run = 0;
    let mut rows = vec![Row {
        name: "limit: pwrite + fdatasync".to_owned(),
        run: Box::new(move || {
            let file = reserved_file(&limit_path, 4 << 20);
            file.sync_all().expect("sync");
            timed(|| {
                for number in 0..SYNCS {
                    file.write_all_at(&[7; SIZE + 28], number * (SIZE as u64 + 28)).expect("write");
                    file.sync_data().expect("sync");
                }
            })
        }),
        records: SYNCS,
        bytes: SYNCS * SIZE as u64,
        limit: None,
    }];
    for (threads, target) in [(1_u64, 0.95), (8, 0.70 * 8.0), (64, 0.0)] {
        run += 1;
        let mut round = 0;
        let each = (SYNCS * 2 / threads).max(100);
        rows.push(Row {
            name: format!("w3 send, Synced, {threads} threads"),
            run: Box::new(move || {
                round += 1;
                let name = format!("topic-{run}-{round}");
                let time = synced(broker, &name, threads, each);
                broker.delete_topic(&name).expect("delete");
                time
            }),
            records: each * threads,
            bytes: each * threads * SIZE as u64,
            limit: Some((0, target)),
        });
    }
    measure("W3: every record on stable storage before send returns", ROUNDS, &mut rows);
}

fn synced(broker: &Broker, name: &str, threads: u64, each: u64) -> Duration {
    let topic = broker.create_topic(name, TopicConfig::new()).expect("create");
    topic.send_with(Record::new("first"), Acks::Synced).expect("send");
    let time = timed(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let topic = &topic;
                scope.spawn(move || {
                    for number in 0..each {
                        let mut payload = [7; SIZE];
                        payload[..8].copy_from_slice(&(thread * each + number).to_le_bytes());
                        let sent =
                            topic.send_with(Record::new(&payload), Acks::Synced).expect("send");
                        assert!(topic.synced_offset(0).expect("topic") > sent.offset);
                    }
                });
            }
        });
    });
    let mut reader = broker.reader().partition(name, 0, Start::Offset(1)).open().expect("reader");
    let mut seen = vec![false; (threads * each) as usize];
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let number = u64::from_le_bytes(
                record.value().expect("value")[..8].try_into().expect("8 bytes"),
            );
            assert!(!std::mem::replace(&mut seen[number as usize], true), "a record twice");
        }
    }
    assert!(seen.iter().all(|seen| *seen), "every record is there");
    time
}
