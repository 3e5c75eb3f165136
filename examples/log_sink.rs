//! The log of a program in a topic: threads log, a reader tails it, and a disk that fills up costs lines
//! but never the program. At the end the account is checked.
//!
//! `cargo run --release --example log_sink`, or with `-- --dir PATH` to keep the log

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use forebay::testing::SimulatedDisk;
use forebay::{Broker, Reader, Start, Topic, TopicConfig, TopicWriter, WhenRefused};
use log::{LevelFilter, Log, Metadata, Record, info};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const THREADS: usize = 4;
const LINES: usize = 5_000;
/// How long the reader waits for the last line.
const PATIENCE: Duration = Duration::from_secs(10);

/// A logger: a clone of the writer for each message, and so no lock.
struct ToTopic(OnceLock<TopicWriter>);

static LOGGER: ToTopic = ToTopic(OnceLock::new());

impl Log for ToTopic {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let Some(mut writer) = self.0.get().cloned() else { return };
        // It never fails: what is refused is dropped and counted.
        drop(writeln!(writer, "{:5} {}: {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = dir_from_arguments()?.unwrap_or_else(|| scratch.path().join("log"));
    log_and_tail(&dir)?;
    fill_a_disk()?;
    println!("the account is right");
    Ok(())
}

fn dir_from_arguments() -> Result<Option<PathBuf>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(None),
        (Some("--dir"), Some(dir)) => Ok(Some(dir.into())),
        _ => Err("usage: log_sink [--dir PATH]".into()),
    }
}

/// Threads log while a reader follows.
fn log_and_tail(dir: &std::path::Path) -> Result<()> {
    let broker = Broker::open(dir)?;
    let topic = broker.create_topic_if_absent("log", TopicConfig::new())?;
    let writer = topic.writer().when_refused(WhenRefused::Drop).header("host", "example");
    LOGGER.0.set(writer.clone()).map_err(|_| "there is a writer already")?;
    log::set_logger(&LOGGER).map_err(|_| "there is a logger already")?;
    log::set_max_level(LevelFilter::Info);

    let reader = broker.reader().topic("log", Start::Latest).open()?;
    let tail = thread::spawn(move || tail(reader));
    let before = Instant::now();
    thread::scope(|scope| {
        for name in 0..THREADS {
            scope.spawn(move || {
                for number in 0..LINES {
                    info!("thread {name} line {number}");
                }
            });
        }
    });
    let took = before.elapsed();
    let read = tail.join().map_err(|_| "the reader panicked")??;
    let lines = THREADS * LINES;
    println!(
        "{lines} lines by {THREADS} threads, {:?} each; {read} read, each thread's in order; {} dropped",
        took / u32::try_from(lines)?,
        writer.dropped()
    );
    if (read, writer.dropped()) != (lines, 0) {
        return Err("lines are missing".into());
    }
    topic.flush()?;
    broker.close()?;
    Ok(())
}

/// Reads until every thread's last line has come, and checks their order.
fn tail(mut reader: Reader) -> Result<usize> {
    let mut next = [0; THREADS];
    let deadline = Instant::now() + PATIENCE;
    while next != [LINES; THREADS] {
        if Instant::now() > deadline {
            return Err(format!("only {next:?} lines have come").into());
        }
        for record in &reader.poll(Duration::from_millis(100))? {
            let line = std::str::from_utf8(record.value().unwrap_or_default())?;
            let Some((_, said)) = line.split_once("log_sink: thread ") else { continue };
            let (name, number) = said.split_once(" line ").ok_or("a line that is not whole")?;
            let next = next.get_mut(name.parse::<usize>()?).ok_or("an unknown thread")?;
            if number.parse() != Ok(*next) {
                return Err(format!("line {next} of thread {name} was expected: {line}").into());
            }
            *next += 1;
            if *next == LINES {
                println!("tail: offset {:5} | {line}", record.offset());
            }
        }
    }
    Ok(next.iter().sum())
}

/// A disk without room: the program goes on, and the log says what it lacks.
fn fill_a_disk() -> Result<()> {
    let disk = SimulatedDisk::new(1);
    let broker = Broker::builder("log").simulated_disk(&disk).open()?;
    // A small segment soon needs room for another.
    let topic = broker.create_topic("log", TopicConfig::new().segment_bytes(64 << 10))?;
    let mut writer = topic.writer().when_refused(WhenRefused::Drop);
    let mut given = 0;
    for _ in 0..3 {
        for is_full in [false, true, false] {
            disk.set_full(is_full);
            for _ in 0..LINES {
                writeln!(writer, "line {given} of a program that does not wait for its disk")?;
                given += 1;
            }
        }
    }
    let dropped = writer.dropped();
    let (written, reported) = count(&broker, &topic)?;
    println!(
        "{given} lines for a disk that was full at times: {written} written, {dropped} dropped"
    );
    if dropped == 0 || written + dropped != given || reported != dropped {
        return Err(format!("{reported} were reported as dropped").into());
    }
    Ok(())
}

/// How many lines are in the topic, and how many its reports say were dropped.
fn count(broker: &Broker, topic: &Topic) -> Result<(u64, u64)> {
    let (mut written, mut reported) = (0, 0);
    let mut reader = broker.reader().topic(topic.name(), Start::Earliest).open()?;
    loop {
        let batch = reader.try_poll()?;
        if batch.is_empty() {
            return Ok((written, reported));
        }
        for record in &batch {
            let Some(number) = record.header("forebay.dropped") else {
                written += 1;
                continue;
            };
            reported += std::str::from_utf8(number)?.parse::<u64>()?;
            let line = String::from_utf8_lossy(record.value().unwrap_or_default());
            println!("log: offset {:6} | {line}", record.offset());
        }
    }
}
