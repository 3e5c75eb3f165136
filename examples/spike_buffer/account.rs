//! The account: which lines the sink has, how often, and what may come twice.

use std::path::{Path, PathBuf};

use forebay::Broker;

use crate::downstream::{Downstream, ENTRY_BYTES, FILE};
use crate::options::Options;
use crate::source::Source;
use crate::watch::Watch;
use crate::{GROUP, PARTITIONS, Result, TOPIC};

/// How far the sink's rate may be from its limit.
const TOLERANCE: f64 = 0.02;

/// How things stood when this run began.
#[derive(Debug)]
pub(crate) struct Account {
    file: PathBuf,
    /// How many entries the sink had.
    entries: usize,
    /// By partition, how far the group had come.
    committed: Vec<u64>,
    /// How many lines waited in the log.
    pub(crate) backlog: u64,
}

/// What the sink was given, in the order it came: the number of a line and its checksum.
fn entries(file: &Path) -> Result<Vec<(u64, u32)>> {
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let entry = |bytes: &[u8]| -> Result<(u64, u32)> {
        Ok((u64::from_le_bytes(bytes[..8].try_into()?), u32::from_le_bytes(bytes[8..].try_into()?)))
    };
    bytes.chunks_exact(ENTRY_BYTES).map(entry).collect()
}

fn place(number: u64) -> (usize, u64) {
    ((number % u64::from(PARTITIONS)) as usize, number / u64::from(PARTITIONS))
}

fn check(is_right: bool, what: impl FnOnce() -> String) -> Result<()> {
    if is_right { Ok(()) } else { Err(format!("the account is wrong: {}", what()).into()) }
}

impl Account {
    /// What earlier runs have left, killed or not. Nothing may be committed that was not delivered.
    pub(crate) fn of_earlier_runs(broker: &Broker, dir: &Path, source: &Source) -> Result<Self> {
        let file = dir.join(FILE);
        let delivered = entries(&file)?;
        let (mut committed, mut backlog) = (vec![0; PARTITIONS as usize], 0);
        if broker.groups()?.iter().any(|group| group == GROUP) {
            for offset in broker.describe_group(GROUP)?.offsets {
                committed[offset.partition as usize] = offset.committed.unwrap_or(0);
            }
        }
        for partition in broker.describe_topic(TOPIC)?.partitions {
            backlog += partition.latest_offset - committed[partition.partition as usize];
        }
        let mut has = vec![false; source.count() as usize];
        for (number, _) in &delivered {
            let has = has.get_mut(*number as usize);
            *has.ok_or("the directory is of another input")? = true;
        }
        for (number, has) in (0..).zip(has) {
            let (partition, offset) = place(number);
            check(has || offset >= committed[partition], || {
                format!("line {number} is committed and was not delivered")
            })?;
        }
        if !delivered.is_empty() {
            println!(
                "going on: {} lines were delivered before, {} of them are committed, {backlog} wait",
                delivered.len(),
                committed.iter().sum::<u64>()
            );
        }
        Ok(Self { file, entries: delivered.len(), committed, backlog })
    }

    /// How many lines were committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.iter().sum()
    }

    /// Checks all the sink has, and its rate.
    pub(crate) fn check(
        &self,
        options: &Options,
        source: &Source,
        sink: &Downstream,
        watch: &Watch,
    ) -> Result<()> {
        let mut times = vec![0_u32; source.count() as usize];
        let mut next = self.committed.clone();
        let mut twice = 0;
        for (at, (number, checksum)) in entries(&self.file)?.into_iter().enumerate() {
            let expected = source.checksums.get(number as usize);
            check(expected == Some(&checksum), || format!("line {number} is not what was sent"))?;
            let (partition, offset) = place(number);
            if at >= self.entries {
                // This run begins where the group had come to, and leaves nothing out.
                check(offset == next[partition], || format!("line {number} is out of order"))?;
                next[partition] += 1;
                twice += u64::from(times[number as usize] > 0);
            }
            times[number as usize] += 1;
        }
        let missing = times.iter().filter(|times| **times == 0).count();
        check(missing == 0, || format!("{missing} lines are missing"))?;
        println!(
            "all {} lines were delivered, in order and with their checksums; {twice} of {} came again, none of them committed before",
            source.count(),
            self.entries
        );
        let (mean, most) = sink.rates();
        let limit = options.rate as f64;
        let seconds = watch.samples().last().map_or(0.0, |last| last.seconds);
        println!(
            "the sink took {mean:.0} lines a second on average and {most:.0} in its busiest second; its limit is {limit}"
        );
        // A rate takes a while to be one.
        if seconds > 1.5 {
            check((mean / limit - 1.0).abs() <= TOLERANCE, || "the rate is not kept".to_owned())?;
            check(most <= limit * 1.05 + 1.0, || "there was more in a second".to_owned())?;
        }
        println!("the account is right");
        Ok(())
    }
}
