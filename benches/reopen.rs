//! How long a broker takes to open after `kill -9`, whatever is stored.
//!
//! `cargo bench --bench reopen -- 1 10` for 1 and 10 GB. The process that is killed is this program.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use forebay::{Broker, Record, Start, TopicConfig};

const ROUNDS: usize = 5;
const VALUE: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, dir, gigabytes] = &arguments[..]
        && role == "victim"
    {
        return fill(dir, gigabytes.parse().expect("number"));
    }
    let sizes: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1] } else { sizes };
    for gigabytes in sizes {
        measure(gigabytes);
    }
}

/// The process to be killed: sends so much, says so, and goes on.
fn fill(dir: &str, gigabytes: u64) {
    let broker = Broker::open(dir).expect("open");
    let topic = broker.create_topic_if_absent("t", TopicConfig::new()).expect("create");
    let mut value = [7; VALUE];
    let records = gigabytes * 1_000_000;
    let mut offset = topic.latest_offset(0).expect("offset");
    // In each later life a little more, so that there is something to recover.
    let until = records.max(offset + 20_000);
    while offset < until {
        value[..8].copy_from_slice(&offset.to_le_bytes());
        offset = topic.send(Record::new(&value)).expect("send").offset + 1;
    }
    println!("{offset}");
    loop {
        std::thread::park();
    }
}

fn measure(gigabytes: u64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let mut times = Vec::new();
    let mut read = Vec::new();
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg("victim")
            .arg(dir.path())
            .arg(gigabytes.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run");
        let mut told = Vec::new();
        let mut out = child.stdout.take().expect("pipe");
        let mut byte = [0];
        while out.read(&mut byte).expect("read") == 1 && byte[0] != b'\n' {
            told.push(byte[0]);
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        let told: u64 = String::from_utf8(told).expect("text").parse().expect("number");
        let begun = Instant::now();
        let broker = Broker::open(dir.path()).expect("open");
        times.push(begun.elapsed());
        read.push(broker.recovery_report().partitions[0].records_kept);
        let end = broker.topic("t").expect("topic").latest_offset(0).expect("offset");
        assert_eq!(end, told, "every record that was sent is there");
        let last = Start::Offset(end - 1);
        let mut reader = broker.reader().partition("t", 0, last).open().expect("reader");
        let batch = reader.try_poll().expect("poll");
        let value = batch.get(0).and_then(|record| record.value().map(<[u8]>::to_vec));
        assert_eq!(value.expect("a record")[..8], (end - 1).to_le_bytes());
        drop(reader);
        // So that in the next round what was written since then has to be read.
        broker.close().expect("close");
    }
    times.sort_unstable();
    read.sort_unstable();
    println!(
        "{gigabytes:>3} GB stored: open after kill -9 takes {:.1?} (min {:.1?}, max {:.1?}), {} records read (median)",
        times[ROUNDS / 2],
        times[0],
        times[ROUNDS - 1],
        read[ROUNDS / 2]
    );
}
