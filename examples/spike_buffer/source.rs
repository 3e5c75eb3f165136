//! Where the lines come from: a file, or made up. The same lines in each run, so that one that was killed
//! can be gone on with: how many of them are in the log, the log says.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::{Broker, Record, Topic};

use crate::options::Options;
use crate::watch::Watch;
use crate::{PARTITIONS, Result, TOPIC};

/// How many lines are sent between two looks at the clock.
const STRIDE: u64 = 256;

#[derive(Debug)]
pub(crate) struct Source {
    input: Option<PathBuf>,
    /// The checksum of each line, by which the sink's account is checked.
    pub(crate) checksums: Vec<u32>,
}

impl Source {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let mut source = Self { input: options.input.clone(), checksums: Vec::new() };
        let mut checksums = Vec::new();
        source.each(options.records, |_, line| {
            checksums.push(crc32fast::hash(line));
            Ok(())
        })?;
        source.checksums = checksums;
        Ok(source)
    }

    pub(crate) fn count(&self) -> u64 {
        self.checksums.len() as u64
    }

    fn each(&self, made_up: u64, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let Some(path) = &self.input else {
            for number in 0..made_up {
                let user = number.wrapping_mul(2_654_435_761) % 100_000;
                take(
                    number,
                    format!("GET /items/{number} 200 user={user} took={}us", user % 977).as_bytes(),
                )?;
            }
            return Ok(());
        };
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        let (mut line, mut number) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            take(number, line.strip_suffix(b"\n").unwrap_or(&line))?;
            number += 1;
            line.clear();
        }
        Ok(())
    }

    /// Sends the lines that are not in the log yet, twenty times as fast as they are taken from it.
    pub(crate) fn send_rest(
        &self,
        broker: &Broker,
        topic: &Topic,
        options: &Options,
        watch: &Watch,
    ) -> Result<()> {
        let _ended = watch.source_ends();
        let there: Vec<u64> = (0..PARTITIONS)
            .map(|partition| topic.latest_offset(partition))
            .collect::<forebay::Result<_>>()?;
        let producer = broker.async_producer().linger(Duration::from_millis(1)).open()?;
        let errors = producer.errors();
        let (begun, mut sent) = (Instant::now(), 0);
        self.each(self.count(), |number, line| {
            let partition = number % u64::from(PARTITIONS);
            if number / u64::from(PARTITIONS) < there[partition as usize] {
                return Ok(());
            }
            producer.post(TOPIC, Record::new(line).partition(partition as u32))?;
            sent += 1;
            watch.sent(1);
            if sent % STRIDE == 0 {
                let due = Duration::from_secs_f64(sent as f64 / options.burst_rate() as f64);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            Ok(())
        })?;
        producer.close(Duration::from_secs(3600))?;
        errors.try_recv().map_or(Ok(()), |lost| Err(lost.error.into()))
    }
}
