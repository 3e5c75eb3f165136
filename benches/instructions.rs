//! How many instructions a record costs, for who sends, replays, and drains a group: figures that repeat where
//! seconds do not, and so can be checked on a busy machine.
//!
//! `cargo bench --bench instructions` prints them beside those in `benches/instructions.txt`. `-- --check` fails
//! if one is more than 5 % above that, and says so if one is more than 5 % below; `-- --record` writes the
//! file anew. Names choose workloads: `-- send replay-batch`.
//!
//! The program starts itself under Valgrind twice, with a small and a large number of records, and divides the
//! difference of instructions by that of records: opening and closing fall out. Only the thread that calls
//! forebay is counted, not those that prepare pages and seal segments. What the kernel does is not counted at
//! all, a page fault or the wait for a disk least of all: a system call is one instruction. So these figures
//! tell that code has become longer, not that it waits more. Each process also reads everything back, and
//! checks count, order and content.
#![allow(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]

#[path = "support/callgrind.rs"]
mod callgrind;
#[path = "support/counted_work.rs"]
mod counted_work;
#[path = "support/recorded.rs"]
mod recorded;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use counted_work::WORKS;
use recorded::{Recorded, TOLERANCE, Verdict};

/// With how many records each workload is run.
const FEW: u64 = 20_000;
const MANY: u64 = 120_000;
/// How many times each is run when counts are recorded, and how far they may lie apart.
const RECORD_RUNS: usize = 3;
const SPREAD: f64 = 0.005;
/// Where records are kept.
const PLACES: [&str; 2] = ["memory", "disk"];

const HEAD: &str = "\
# Instructions a record of 100 bytes, counted by callgrind on the calling thread.
# Written by `cargo bench --bench instructions -- --record`; what is counted is said in instructions.rs.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name, place, count] = &arguments[..]
        && role == "work"
    {
        work(name, place, count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|one| !one.starts_with('-')).collect();
    let Some(made_with) = made_with() else {
        println!("valgrind is not installed: not checked");
        return if has("--record") { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let runs = if has("--record") { RECORD_RUNS } else { 1 };
    let recorded = std::fs::read_to_string(file()).unwrap_or_default();
    let recorded = Recorded::parse(&recorded);
    let mut found = Recorded { made_with, ..Recorded::default() };
    let architecture = recorded.made_with.get("architecture");
    if has("--check") && architecture.is_some_and(|one| one != std::env::consts::ARCH) {
        println!("counts were recorded on another architecture: not checked");
        return ExitCode::SUCCESS;
    }
    for line in recorded.made_differently(&found) {
        println!("note: {line}; counts may differ for that alone");
    }
    let mut failures = Vec::new();
    println!("{:<21} {:>10} {:>10} {:>8}", "instructions a record", "recorded", "found", "more");
    for work in WORKS.iter().filter(|work| names.is_empty() || names.contains(&work.name)) {
        for place in PLACES {
            let name = format!("{}/{place}", work.name);
            let count = median_count(work.name, place, runs);
            let (verdict, per_cent) = recorded.judge(&name, count);
            let before = recorded.counts.get(&name);
            let before = before.map_or("nothing".to_owned(), |before| format!("{before:.1}"));
            let remark = match verdict {
                Verdict::AsRecorded => "",
                Verdict::Heavier => "  MORE than it may",
                Verdict::Lighter => "  less: record it anew, so that it stays so",
                Verdict::Unknown => "  never recorded",
            };
            println!("{name:<21} {before:>10} {count:>10.1} {per_cent:>+7.1}%{remark}");
            if verdict == Verdict::Heavier || verdict == Verdict::Unknown {
                failures
                    .push(format!("{name}: recorded {before}, found {count:.1}, {per_cent:+.1} %"));
            }
            found.counts.insert(name, count);
        }
    }
    if has("--record") {
        assert!(names.is_empty(), "all workloads are recorded together");
        std::fs::write(file(), found.text(HEAD)).expect("the file of counts");
        println!("written to {}", file().display());
    } else if has("--check") && !failures.is_empty() {
        let allowed = TOLERANCE * 100.0;
        eprintln!(
            "\nmore than {allowed:.0} % above what was recorded:\n  {}",
            failures.join("\n  ")
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The file of counts, in the sources.
fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// What counts depend on; `None` if they cannot be counted here.
fn made_with() -> Option<std::collections::BTreeMap<String, String>> {
    let valgrind = callgrind::version()?;
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let rustc = rustc.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    let pairs = [
        ("architecture", std::env::consts::ARCH.to_owned()),
        ("rustc", rustc),
        ("valgrind", valgrind),
    ];
    Some(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The workload of this name, in a process of its own.
fn work(name: &str, place: &str, count: u64) {
    let work = WORKS.iter().find(|work| work.name == name).expect("a workload");
    let dir = scratch();
    let on_disk = (place == "disk").then(|| dir.path().join("broker"));
    work.run(on_disk.as_deref(), count);
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory")
}

/// Instructions a record, the median of so many runs.
fn median_count(name: &str, place: &str, runs: usize) -> f64 {
    let mut counts: Vec<f64> = (0..runs).map(|_| count_once(name, place)).collect();
    counts.sort_by(f64::total_cmp);
    let (least, most) = (counts[0], counts[runs - 1]);
    assert!(most <= least * (1.0 + SPREAD), "{name}/{place} does not repeat: {counts:?}");
    counts[runs / 2]
}

fn count_once(name: &str, place: &str) -> f64 {
    let dir = scratch();
    let run = |count: u64| {
        callgrind::instructions(&["work", name, place, &count.to_string()], dir.path())
    };
    (run(MANY) as f64 - run(FEW) as f64) / (MANY - FEW) as f64
}
