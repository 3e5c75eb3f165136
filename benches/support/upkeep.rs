//! What a broker holds that does nothing, and what it does: files, mappings, memory, time, writes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forebay::{Broker, Start, TopicConfig};

use super::numbered::Numbered;
use super::process::{Deeds, Holdings};
use super::{PARTITIONS, SIZE, line, of_partitions, scratch};

/// How long a broker is left alone to see whether it does something.
const QUIET: Duration = Duration::from_secs(5);
/// What that may cost: a look at the free disk space once a second, and at what is to be deleted.
const QUIET_TIME: Duration = Duration::from_millis(5);

/// What a process of its own holds, with so many partitions that are idle or were written to.
pub fn hold(what: &str, partitions: u32, dir: &Path) {
    let before = Holdings::look();
    let broker = Broker::open(dir).expect("open");
    let config = TopicConfig::new().partitions(partitions);
    let mut topic = Numbered::create(&broker, "t", config, SIZE);
    if what == "written" {
        (0..partitions).for_each(|partition| topic.send(partition));
    }
    let here = Holdings::look();
    topic.check(&broker);
    println!(
        "{} {} {} {} {}",
        here.files - before.files,
        here.mappings - before.mappings,
        here.own_bytes.saturating_sub(before.own_bytes),
        here.resident_bytes.saturating_sub(before.resident_bytes),
        here.page_table_bytes.saturating_sub(before.page_table_bytes)
    );
}

/// The same of processes with more and more partitions, printed.
pub fn hold_by_partitions() {
    for what in ["idle", "written"] {
        let found = PARTITIONS.map(|count| {
            let dir = scratch();
            let output = Command::new(std::env::current_exe().expect("this program"))
                .args(["hold", what, &count.to_string()])
                .arg(dir.path())
                .output()
                .expect("run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let told = String::from_utf8(output.stdout).expect("text");
            told.split_whitespace().map(|one| one.parse().expect("a number")).collect::<Vec<f64>>()
        });
        let figures = [
            ("files held", "", 1.0),
            ("mappings held", "", 1.0),
            ("own memory", "MiB", f64::from(1 << 20)),
            ("resident memory, mapped files included", "MiB", f64::from(1 << 20)),
            ("the kernel's page tables", "MiB", f64::from(1 << 20)),
        ];
        for (place, (figure, unit, divisor)) in figures.into_iter().enumerate() {
            let values = found.iter().map(|found| found[place] / divisor).collect();
            line(&format!("{figure}, partitions {what}"), unit, &of_partitions(), values);
        }
    }
}

/// A broker that has all that makes it do something by itself, and nothing to do.
pub fn idle() {
    let dir = scratch();
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new()
        .partitions(100)
        .retention_age(Duration::from_secs(3600))
        .max_bytes(1 << 30)
        .flush_interval(Duration::from_millis(10));
    let mut topic = Numbered::create(&broker, "t", config, SIZE);
    (0..10_000).for_each(|number| topic.send(number % 100));
    let builder = || {
        broker
            .consumer("g")
            .subscribe(["t"])
            .start(Start::Earliest)
            .auto_commit(Duration::from_millis(10))
    };
    let mut consumers: Vec<_> = (0..10).map(|_| builder().open().expect("consumer")).collect();
    let deeds = std::thread::scope(|scope| {
        for consumer in &mut consumers {
            scope.spawn(|| {
                while !consumer.poll(QUIET + Duration::from_secs(2)).expect("poll").is_empty() {}
            });
        }
        scope.spawn(|| {
            let mut reader = broker.reader().topic("t", Start::Latest).open().expect("reader");
            assert!(reader.poll(QUIET + Duration::from_secs(2)).expect("poll").is_empty());
        });
        // What was sent is consumed, committed and synced.
        std::thread::sleep(Duration::from_secs(1));
        let before = Deeds::look();
        std::thread::sleep(QUIET);
        Deeds::look().since(before)
    });
    topic.check(&broker);
    let per = format!("{} s", QUIET.as_secs());
    let at = std::slice::from_ref(&per);
    line("idle: processor time", "ms", at, vec![deeds.time.as_secs_f64() * 1e3]);
    line("idle: calls that write", "", at, vec![deeds.write_calls as f64]);
    line("idle: bytes written by calls", "", at, vec![deeds.written_bytes as f64]);
    line("idle: bytes made to go to the disk", "", at, vec![deeds.disk_bytes as f64]);
    assert_eq!(
        (deeds.write_calls, deeds.written_bytes, deeds.disk_bytes),
        (0, 0, 0),
        "an idle broker writes"
    );
    assert!(deeds.time <= QUIET_TIME, "an idle broker works for {:?}", deeds.time);
}
