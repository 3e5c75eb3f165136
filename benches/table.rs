//! Runs the benches one after the other and writes what came out as one table, to quote from.
//!
//! `cargo bench --bench table -- all` writes `target/bench-table.md`, or what `--results FILE` names. `--
//! durable producers` runs some benches only; `--rounds N` sets how often each row is run; `all --quick` runs
//! everything once and small, within a minute: whether it works, and nothing about how fast. Without a word it only
//! says so, because plain `cargo bench` runs the others anyway.
//!
//! All of it takes some ten minutes and 12 GB of disk for a while, of which reopening wants most. It wants a
//! machine that does nothing else: with two cores, a third program that runs shows in each latency.
//!
//! Each bench is a process of its own, started by cargo, and leaves its results as lines in a file. A bench
//! that fails, because something was not read back as it was sent, makes this one fail at the end; a target that
//! is missed does not.

mod support;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use support::outcome::{short, spread_with_unit, with_unit};
use support::{Options, Outcome, Spread, Target, machine, scratch};

/// The benches, and what each is told besides the options. Sizes that take long come in full runs only.
const BENCHES: [(&str, &[&str], &[&str]); 7] = [
    ("throughput", &[], &[]),
    ("durable", &[], &[]),
    ("hand_over", &[], &[]),
    ("producers", &[], &[]),
    ("reopen", &["1", "10"], &["1"]),
    ("groups", &["w8"], &["w8"]),
    ("footprint", &[], &["disk", "memory", "partitions"]),
];

fn main() -> ExitCode {
    let options = Options::parse();
    let known: Vec<&str> = BENCHES.iter().map(|bench| bench.0).collect();
    if options.words.is_empty() {
        println!("the table is made if it is asked for: `-- all`, or some of {}", known.join(" "));
        return ExitCode::SUCCESS;
    }
    let is_known = |word: &String| word == "all" || known.contains(&word.as_str());
    if let Some(word) = options.words.iter().find(|word| !is_known(word)) {
        eprintln!("there is no bench {word} in the table, only {}", known.join(" "));
        return ExitCode::from(2);
    }
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = built.parent().unwrap_or(built);
    let path = options.results().map_or_else(|| target.join("bench-table.md"), Path::to_path_buf);
    let about = machine::describe(built);

    let dir = scratch();
    let lines = dir.path().join("lines");
    let mut failed = Vec::new();
    let is_wanted = |bench: &&(&str, _, _)| options.on("all") || options.on(bench.0);
    for (bench, words, quick_words) in BENCHES.iter().filter(is_wanted) {
        let words = if options.is_quick { quick_words } else { words };
        if !run(bench, words, &options, &lines) {
            eprintln!("the bench {bench} failed");
            failed.push(*bench);
        }
    }
    let lines = std::fs::read_to_string(&lines).unwrap_or_default();
    let outcomes: Vec<Outcome> =
        lines.lines().map(|line| Outcome::from_line(line).expect("a result")).collect();
    let text = page(&about, &outcomes, options.is_quick, &failed);
    std::fs::write(&path, &text).expect("the table");
    println!("\n{text}\nwritten to {}", path.display());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a bench; true if it went well.
fn run(bench: &str, words: &[&str], options: &Options, lines: &PathBuf) -> bool {
    println!("\n== {bench} {}", words.join(" "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--quiet", "--bench", bench, "--"]).args(words);
    command.args(options.passed_on()).arg("--results").arg(lines);
    command.status().expect("cargo runs").success()
}

fn page(about: &[String], outcomes: &[Outcome], is_quick: bool, failed: &[&str]) -> String {
    let mut page = String::from("# What the benches measured\n\n");
    let mut add = |line: &str| writeln!(page, "{line}").expect("a string takes everything");
    for line in about {
        add(&format!("- {line}"));
    }
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    add(&format!("- `cargo bench --bench table -- {}`", arguments.join(" ")));
    for bench in failed {
        add(&format!("- **the bench {bench} FAILED: what it should have told is missing**"));
    }
    add("");
    if is_quick {
        add(
            "A quick run: it shows that the benches work. Its figures mean nothing and are not judged.\n",
        );
    }
    add(
        "Medians of interleaved rounds, with the least and the most of them. The ratio is to the limit in the same \
         round. Everything that was sent was read back and checked: count, order and content.\n",
    );
    add(
        "| workload | what | limit | forebay median (min – max) | ratio (min – max) | target | met? |",
    );
    add("|---|---|---|---|---|---|---|");
    for outcome in outcomes.iter().filter(|outcome| is_in_front(outcome)) {
        add(&front_row(outcome, is_quick));
    }
    let behind = |outcome: &&Outcome| !is_in_front(outcome) && outcome.share.is_none();
    if outcomes.iter().any(|outcome| behind(&outcome)) {
        add("\nThe limits themselves, channels, and what has no target, from the same runs:\n");
        add("| workload | what | median (min – max) |");
        add("|---|---|---|");
    }
    for outcome in outcomes.iter().filter(behind) {
        add(&format!("| {} | {} | {} |", outcome.workload, outcome.what, measured(outcome)));
    }
    let shares: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.share.is_some()).collect();
    if !shares.is_empty() {
        add("\nLatencies, each share the median (min – max) of the rounds:\n");
        add("| workload | what | p50 | p99 | p99.9 | max |");
        add("|---|---|---|---|---|---|");
    }
    for row in shares.chunk_by(|one, other| one.what == other.what) {
        let cells: Vec<String> = row.iter().map(|outcome| measured(outcome)).collect();
        add(&format!("| {} | {} | {} |", row[0].workload, row[0].what, cells.join(" | ")));
    }
    page
}

/// What has a target, and each rate that stands beside a limit.
fn is_in_front(outcome: &Outcome) -> bool {
    outcome.target.is_some() || (outcome.ratio.is_some() && outcome.share.is_none())
}

fn front_row(outcome: &Outcome, is_quick: bool) -> String {
    let none = || "–".to_owned();
    let limit = outcome.limit.as_ref();
    let limit = limit.map(|(name, value)| format!("{name}: {}", with_unit(*value, &outcome.unit)));
    let ratio = outcome.ratio.map(|Spread { min, median, max }| {
        format!("{} ({} – {})", short(median), short(min), short(max))
    });
    let target = outcome.target.map(|target| match target {
        Target::RatioAtLeast(least) => format!("ratio ≥ {}", short(least)),
        Target::RatioAtMost(most) => format!("ratio ≤ {}", short(most)),
        Target::AtMost(most) => format!("≤ {most} {}", outcome.unit),
    });
    let verdict = match outcome.is_met() {
        None => none(),
        Some(_) if is_quick => "not judged".to_owned(),
        Some(true) => "yes".to_owned(),
        Some(false) => "**no**".to_owned(),
    };
    let share = outcome.share.as_ref().map(|share| format!(", {share}")).unwrap_or_default();
    format!(
        "| {} | {}{share} | {} | {} | {} | {} | {verdict} |",
        outcome.workload,
        outcome.what,
        limit.unwrap_or_else(none),
        measured(outcome),
        ratio.unwrap_or_else(none),
        target.unwrap_or_else(none),
    )
}

fn measured(outcome: &Outcome) -> String {
    let bytes = outcome.bytes_per_second.map(|bytes| format!(", {} MB/s", short(bytes / 1e6)));
    spread_with_unit(outcome.value, &outcome.unit) + &bytes.unwrap_or_default()
}
