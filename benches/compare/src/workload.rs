//! What is measured: each workload, what it asks of a peer, what it reports, and what it is compared with.

use crate::peer::Need;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One thread sends, so many records a call.
    Send { batch: usize },
    /// So many threads send, and each send is synced.
    Synced { threads: usize },
    /// What was sent in batches of so many is read.
    Replay { batch: usize },
    /// One thread sends, another consumes, as fast as they can.
    Pass,
    /// One thread sends at a steady rate, another consumes.
    Paced { parked: bool },
    /// Four threads send to so many partitions.
    Producers { partitions: usize },
    /// A directory is opened after its process was killed.
    Reopen,
    /// A backlog is drained with commits.
    Drain,
    /// What a record takes on the disk.
    Disk { batch: usize },
    /// What a process takes while it sends.
    Memory,
}

/// What a figure is, and how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Records a second.
    Rate,
    Microseconds,
    Milliseconds,
    Bytes,
    Mebibytes,
}

#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    pub record_bytes: usize,
    /// The figures of one measurement. The first is the one that ratios are made of.
    pub figures: &'static [&'static str],
    pub unit: Unit,
    /// The row that the others are compared with.
    pub reference: Option<&'static str>,
    /// The rows that show what the machine allows.
    pub limits: &'static [&'static str],
}

const RATE: &[&str] = &["rate"];
const LATENCY: &[&str] = &["p50", "p99", "p99.9"];

const fn rate(
    name: &'static str,
    title: &'static str,
    kind: Kind,
    record_bytes: usize,
    limits: &'static [&'static str],
) -> Workload {
    let reference = Some(if limits.is_empty() { "crossbeam-channel" } else { limits[0] });
    Workload { name, title, kind, record_bytes, figures: RATE, unit: Unit::Rate, reference, limits }
}

const fn other(
    name: &'static str,
    title: &'static str,
    kind: Kind,
    record_bytes: usize,
    figures: &'static [&'static str],
    unit: Unit,
) -> Workload {
    Workload { name, title, kind, record_bytes, figures, unit, reference: None, limits: &[] }
}

const fn paced(name: &'static str, title: &'static str, parked: bool) -> Workload {
    let limits: &[&str] =
        if parked { &["limit: condvar, one way"] } else { &["limit: spin, one way"] };
    let kind = Kind::Paced { parked };
    Workload { limits, ..other(name, title, kind, 100, LATENCY, Unit::Microseconds) }
}

const WARM: &[&str] = &["limit: warm mmap + CRC"];
const PER_100: &[&str] = &["limit: CRC per 100"];
const WALK: &[&str] = &["limit: walk + CRC"];
const DURABLE: &[&str] = &["limit: pwrite + fdatasync"];

pub const ALL: &[Workload] = &[
    rate("w1", "W1: one thread, one record a send, 100 B", Kind::Send { batch: 1 }, 100, WARM),
    rate("w1k", "W1k: the same, 1 KiB", Kind::Send { batch: 1 }, 1024, WARM),
    rate("w16", "W16: the same, 16 B", Kind::Send { batch: 1 }, 16, WARM),
    rate("w2", "W2: batches of 100, 100 B", Kind::Send { batch: 100 }, 100, PER_100),
    rate("w3-1", "W3: every record synced, 1 thread", Kind::Synced { threads: 1 }, 100, DURABLE),
    rate("w3-8", "W3: every record synced, 8 threads", Kind::Synced { threads: 8 }, 100, DURABLE),
    rate(
        "w3-64",
        "W3: every record synced, 64 threads",
        Kind::Synced { threads: 64 },
        100,
        DURABLE,
    ),
    rate("w4-single", "W4: replay, sent one by one", Kind::Replay { batch: 1 }, 100, WALK),
    rate(
        "w4-batched",
        "W4: replay, sent in batches of 100",
        Kind::Replay { batch: 100 },
        100,
        WALK,
    ),
    rate(
        "w5-pass",
        "W5: one producer and one consumer until all is consumed",
        Kind::Pass,
        100,
        &[],
    ),
    paced("w5-spinning", "W5: latency at 100,000 a second, the consumer polls", false),
    paced("w5-parked", "W5: latency at 100,000 a second, the consumer sleeps", true),
    rate(
        "w6-one",
        "W6: four producers, one partition",
        Kind::Producers { partitions: 1 },
        100,
        &[],
    ),
    rate(
        "w6-four",
        "W6: four producers, four partitions",
        Kind::Producers { partitions: 4 },
        100,
        &[],
    ),
    other(
        "w7",
        "W7: open 1 GB (records of 1,000 B) after SIGKILL",
        Kind::Reopen,
        1000,
        &["open", "open and first record"],
        Unit::Milliseconds,
    ),
    rate("w8", "W8: drain a backlog, a commit every 500 records", Kind::Drain, 100, WALK),
    other(
        "disk-single",
        "Disk for a record of 100 B, sent one by one",
        Kind::Disk { batch: 1 },
        100,
        &["blocks", "length"],
        Unit::Bytes,
    ),
    other(
        "disk-batched",
        "Disk for a record of 100 B, sent in batches of 100",
        Kind::Disk { batch: 100 },
        100,
        &["blocks", "length"],
        Unit::Bytes,
    ),
    other(
        "memory",
        "Resident memory beyond mapped file pages, while 100 B records are sent",
        Kind::Memory,
        100,
        &["most"],
        Unit::Mebibytes,
    ),
];

impl Workload {
    /// What a peer must be able to do.
    pub fn need(&self) -> Need {
        match self.kind {
            Kind::Synced { .. } => Need::Synced,
            Kind::Drain => Need::Commits,
            Kind::Paced { parked: true } => Need::Parking,
            Kind::Reopen | Kind::Disk { .. } => Need::Files,
            _ => Need::Nothing,
        }
    }

    /// Whether `wanted` means this one: its name, or what is before the dash.
    pub fn is_named(&self, wanted: &str) -> bool {
        let wanted = wanted.to_lowercase();
        self.name == wanted || self.name.split('-').next() == Some(wanted.as_str())
    }

    /// How long one measurement may take before it is stopped.
    pub fn seconds_allowed(&self) -> u64 {
        match self.kind {
            Kind::Reopen => 150,
            _ => 60,
        }
    }
}
