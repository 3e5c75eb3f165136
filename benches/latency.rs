//! How long a send takes at 100,000 a second, for ten minutes, while segments fill up, old ones are deleted and
//! what was sent is synced every 100 ms; and what the slow sends were slow for.
//!
//! `cargo bench --bench latency`; `-- 20` for 20 seconds (nothing is old enough to be deleted before about 50),
//! `-- 600 1000` for records of 1,000 bytes. The same loop with nothing in it, and with a copy into memory, says
//! what the machine does by itself. Everything sent is accounted for: what is there is read and checked, and what
//! was deleted adds up. Needs Linux.
#![cfg(target_os = "linux")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts and times are far below what a float holds exactly"
)]

#[path = "support/causes.rs"]
mod causes;
#[path = "support/histogram.rs"]
mod histogram;
#[path = "support/observed.rs"]
mod observed;
#[path = "support/paced.rs"]
mod paced;
#[path = "support/usage.rs"]
mod usage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::{Broker, Error, Reader, Record, Start, TopicConfig};
use histogram::Histogram;
use observed::Observed;
use paced::Paced;

/// Sends a second.
const RATE: u64 = 100_000;
const PACE: Duration = Duration::from_nanos(1_000_000_000 / RATE);
/// What the controls take of the time of the sends.
const CONTROL_SHARE: u64 = 10;
/// Memory that the control copies into, over and over.
const COPY_BYTES: usize = 64 << 20;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let seconds = numbers.first().copied().unwrap_or(600);
    let size = numbers.get(1).map_or(100, |size| *size as usize).max(8);
    let control = (seconds / CONTROL_SHARE).max(1) * RATE;
    let nothing = paced::run(control, PACE, |_| {});
    let copy = copy(control, size);
    let (send, observed) = send(seconds * RATE, size);
    println!(
        "\nrecords of {size} bytes, {RATE} a second, in microseconds\n\n\
         | | calls | p50 | p99 | p99.9 | p99.99 | max |\n|---|---|---|---|---|---|---|"
    );
    for (name, paced) in [("nothing", &nothing), ("a copy into memory", &copy), ("send", &send)] {
        print(&format!("{name}, service"), &paced.service);
        print(&format!("{name}, response"), &paced.response);
    }
    println!(
        "\n{} segments begun, {} syncs and {} deletions seen. What the tails are made of, first with nothing \
         in the loop:",
        observed.begun.len(),
        observed.syncs.len(),
        observed.deletions.len()
    );
    causes::print(&nothing, &Observed::default());
    println!("\nand of sends:");
    causes::print(&send, &observed);
}

fn print(name: &str, times: &Histogram) {
    let micros = |nanos: u64| format!("{:.2}", nanos as f64 / 1e3);
    let quantiles = [500_000, 990_000, 999_000, 999_900].map(|one| micros(times.quantile(one)));
    println!(
        "| {name} | {} | {} | {} |",
        times.total(),
        quantiles.join(" | "),
        micros(times.max())
    );
}

/// The same bytes copied into memory that was touched before.
fn copy(calls: u64, size: usize) -> Paced {
    let mut memory = vec![1_u8; COPY_BYTES];
    let mut value = vec![7; size];
    let mut at = 0;
    paced::run(calls, PACE, |number| {
        value[..8].copy_from_slice(&number.to_le_bytes());
        at = if at + size > COPY_BYTES { 0 } else { at };
        std::hint::black_box(&mut memory[at..at + size]).copy_from_slice(&value);
        at += size;
    })
}

/// Sends, and accounts for everything that was.
fn send(calls: u64, size: usize) -> (Paced, Observed) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new()
        .retention_bytes(512 << 20)
        .retention_age(Duration::from_secs(60))
        .flush_interval(Duration::from_millis(100));
    let topic = broker.create_topic("t", config).expect("create");
    // It is there from the start, and finds what was deleted as a gap.
    let reader = broker.reader().topic("t", Start::Earliest).open().expect("reader");
    let is_over = AtomicBool::new(false);
    let mut value = vec![7; size];
    let partition_dir = dir.path().join("topics/t/0");
    let found = std::thread::scope(|scope| {
        let observer = scope.spawn(|| observed::observe(&topic, &partition_dir, &is_over));
        let paced = paced::run(calls, PACE, |number| {
            value[..8].copy_from_slice(&number.to_le_bytes());
            let sent = topic.send(Record::new(&value)).expect("send");
            assert_eq!(sent.offset, number);
        });
        is_over.store(true, Ordering::Relaxed);
        (paced, observer.join().expect("observer"))
    });
    account(reader, calls, size);
    found
}

/// Reads everything, and checks that records and gaps follow on each other and add up.
fn account(mut reader: Reader, sent: u64, size: usize) {
    let (mut next, mut read) = (0, 0);
    while next < sent {
        match reader.poll(Duration::from_secs(10)) {
            Ok(batch) => {
                assert!(!batch.is_empty(), "{next} of {sent} records");
                for record in &batch {
                    let value = record.value().expect("a value");
                    assert_eq!((record.offset(), value.len()), (next, size));
                    assert_eq!(value[..8], next.to_le_bytes());
                    assert!(value[8..].iter().all(|byte| *byte == 7));
                    next += 1;
                    read += 1;
                }
            }
            Err(Error::Gap { from, to, .. }) => {
                assert_eq!(from, next, "a gap begins where reading was");
                next = to;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, sent);
    println!("{sent} sent: {read} read back, the other {} told of as gaps", sent - read);
}
