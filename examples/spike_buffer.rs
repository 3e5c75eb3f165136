//! A buffer for a spike of traffic: lines come twenty times as fast as the sink behind takes them, are held
//! safely, and leave at a steady rate. At the end the account is checked: nothing lost, the sink never
//! above its rate.
//!
//! `cargo run --release --example spike_buffer`, or with `-- --input FILE` the lines of a file.
//!
//! With `--dir PATH` it can be killed at any moment, `kill -9` too: run again with the same input, it
//! finishes the job, and what the sink gets twice is only what was not committed.
//!
//! `--rate N` is what the sink takes a second, `--records N` how many lines are made up without a file,
//! `--plot out.svg` draws what happened.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers of lines, which are far below 2^32"
)]

#[path = "spike_buffer/account.rs"]
mod account;
#[path = "spike_buffer/downstream.rs"]
mod downstream;
#[path = "spike_buffer/options.rs"]
mod options;
#[path = "spike_buffer/plot.rs"]
mod plot;
#[path = "spike_buffer/source.rs"]
mod source;
#[path = "spike_buffer/watch.rs"]
mod watch;

use std::time::Duration;

use account::Account;
use downstream::Downstream;
use forebay::{Broker, Forwarder, OnFull, TopicConfig};
use options::Options;
use source::Source;
use watch::Watch;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TOPIC: &str = "lines";
const GROUP: &str = "downstream";
const PARTITIONS: u32 = 4;

fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let options = Options::from_arguments(scratch.path())?;
    let source = Source::open(&options)?;
    let broker = Broker::open(options.dir.join("broker"))?;
    let config = TopicConfig::new()
        .partitions(PARTITIONS)
        // What was delivered goes, what was not stays; and if the sink is away for good, the disk is not
        // filled: senders wait, for as long as was agreed.
        .consumed_by([GROUP])
        .max_bytes(options.max_bytes)
        .on_full(OnFull::Block { timeout: Duration::from_secs(3600) });
    let topic = broker.create_topic_if_absent(TOPIC, config)?;
    let before = Account::of_earlier_runs(&broker, &options.dir, &source)?;
    let sink = Downstream::open(&options.dir)?;
    let forwarder = broker
        .forwarder(GROUP)
        .subscribe([TOPIC])
        .rate_records(options.rate)
        .concurrency(2)
        .start(sink.clone())?;

    let watch = Watch::begin(before.backlog);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| source.send_rest(&broker, &topic, &options, &watch));
        watch.until_drained(&sink, &source, &before, &sending)?;
        sending.join().map_err(|_| "the source panicked")?
    })?;
    end(&forwarder)?;
    broker.close()?;
    if let Some(path) = &options.plot {
        std::fs::write(path, plot::svg(&watch.samples(), options.rate))?;
        println!("drawn in {}", path.display());
    }
    before.check(&options, &source, &sink, &watch)
}

fn end(forwarder: &Forwarder) -> Result<()> {
    let report = forwarder.stop(Duration::from_secs(10))?;
    match report.undelivered {
        0 => Ok(()),
        left => Err(format!("{left} lines were not delivered").into()),
    }
}
