//! What is kept and what goes: by age, by who has consumed it, and by a hard limit, each shown on a topic
//! of its own. At the end the account is checked.
//!
//! `cargo run --release --example retention`

use std::time::{Duration, Instant};

use forebay::{Broker, Consumer, Error, OnFull, Record, Topic, TopicConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(10);
const RECORDS: u64 = 20_000;

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // In earnest, looking every five seconds, which is the default, is often enough.
    let every = Duration::from_millis(20);
    let broker = Broker::builder(dir.path()).retention_check_interval(every).open()?;
    by_age(&broker)?;
    by_who_has_consumed_it(&broker)?;
    by_a_hard_limit(&broker)?;
    println!("the account is right");
    Ok(())
}

/// Nobody sends anything any more, and still all of it goes when its time has come.
fn by_age(broker: &Broker) -> Result<()> {
    let age = Duration::from_millis(500);
    let topic = broker.create_topic("clicks", TopicConfig::new().retention_age(age))?;
    fill(&topic)?;
    let sent = Instant::now();
    tell(broker, "clicks", "kept for half a second")?;
    wait_until("the clicks expire", || Ok(topic.earliest_offset(0)? == RECORDS))?;
    check(sent.elapsed() >= age.mul_f64(0.9), "nothing goes before its time")?;
    tell(broker, "clicks", &format!("{:?} later", sent.elapsed()))
}

/// What both groups have committed goes. What one of them has not, stays for as long as it takes.
fn by_who_has_consumed_it(broker: &Broker) -> Result<()> {
    let config = TopicConfig::new().segment_bytes(64 << 10).consumed_by(["billing", "search"]);
    let topic = broker.create_topic("orders", config)?;
    fill(&topic)?;
    let mut billing = broker.consumer("billing").subscribe(["orders"]).open()?;
    let mut search = broker.consumer("search").subscribe(["orders"]).open()?;
    let (read, _) = read(&mut billing, RECORDS)?;
    check(read == RECORDS, "billing has read all")?;
    broker.enforce_retention()?;
    check(topic.earliest_offset(0)? == 0, "search has read nothing, so nothing is gone")?;
    tell(broker, "orders", "billing has all of them, search has none")?;
    let (read, gap) = self::read(&mut search, RECORDS / 2)?;
    wait_until("what both have read goes", || Ok(topic.earliest_offset(0)? > read / 2))?;
    tell(broker, "orders", "search has half of them")?;
    let (rest, later_gap) = self::read(&mut search, RECORDS - read)?;
    check(read + rest == RECORDS && gap + later_gap == 0, "search has missed nothing")?;
    wait_until("all of it goes", || Ok(topic.earliest_offset(0)? > RECORDS * 9 / 10))?;
    tell(broker, "orders", "both have all of them")
}

/// The disk is not to be filled, whoever is slow: the oldest go, and the slow one is told how many.
fn by_a_hard_limit(broker: &Broker) -> Result<()> {
    let config = TopicConfig::new().max_bytes(512 << 10).on_full(OnFull::DropOldest);
    let topic = broker.create_topic("metrics", config.consumed_by(["dashboard"]))?;
    let mut dashboard = broker.consumer("dashboard").subscribe(["metrics"]).open()?;
    check(dashboard.try_poll()?.is_empty(), "it begins at the beginning")?;
    fill(&topic)?;
    tell(broker, "metrics", "half a megabyte at the most")?;
    let (read, gap) = read(&mut dashboard, RECORDS)?;
    println!("  the dashboard has read {read} and was told that {gap} are gone");
    check(read + gap == RECORDS && gap > 0, "each is read or told of")?;
    check(broker.describe_topic("metrics")?.usage.bytes <= 512 << 10, "the limit holds")
}

fn fill(topic: &Topic) -> Result<()> {
    for number in 0..RECORDS {
        topic.send(Record::new(format!("record number {number:080}").as_bytes()))?;
    }
    Ok(())
}

/// Reads until `count` records were read or told of as gone, commits, and returns how many of each.
fn read(consumer: &mut Consumer, count: u64) -> Result<(u64, u64)> {
    let (mut read, mut gone) = (0, 0);
    while read + gone < count {
        match consumer.poll(PATIENCE) {
            Ok(batch) if batch.is_empty() => return Err("the records do not come".into()),
            Ok(batch) => read += batch.len() as u64,
            Err(Error::Gap { from, to, .. }) => gone += to - from,
            Err(error) => return Err(error.into()),
        }
    }
    consumer.commit()?;
    Ok((read, gone))
}

fn tell(broker: &Broker, topic: &str, what: &str) -> Result<()> {
    let usage = broker.describe_topic(topic)?.usage;
    println!("{topic}, {what}: {} records, {} KiB on disk", usage.records, usage.bytes >> 10);
    Ok(())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        check(begun.elapsed() < PATIENCE, what)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn check(is_right: bool, what: &str) -> Result<()> {
    if is_right { Ok(()) } else { Err(format!("the account is wrong: {what}").into()) }
}
