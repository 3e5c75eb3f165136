//! Rows that tell how long single records take: run in turn, and printed as shares of them in microseconds.

use super::outcome::with_unit;
use super::{Options, Outcome, Spread, Target};

/// The shares that are reported; the last is the longest of all.
const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// What one run of a row took, record by record, in nanoseconds.
pub struct Latencies {
    pub from_sent: Vec<u64>,
    /// From when the schedule wanted the record to be sent, where there is a schedule: whoever is held up
    /// sends later, and what waits meanwhile must not be forgotten.
    pub from_due: Option<Vec<u64>>,
}

/// One thing to be measured; its function checks what was done.
pub struct LatencyRow<'a> {
    name: String,
    run: Box<dyn FnMut() -> Latencies + 'a>,
    against: Vec<usize>,
    against_name: &'static str,
    targets: Vec<(&'static str, Target)>,
}

impl<'a> LatencyRow<'a> {
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Latencies + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
            against: Vec::new(),
            against_name: "",
            targets: Vec::new(),
        }
    }

    /// Compared, in each round and share, with the quickest of these rows.
    pub fn against(mut self, name: &'static str, rows: &[usize]) -> Self {
        rows.clone_into(&mut self.against);
        self.against_name = name;
        self
    }

    /// What a share is wanted to be, counted from the send.
    pub fn target(mut self, share: &'static str, target: Target) -> Self {
        self.targets.push((share, target));
        self
    }
}

/// The shares of one round, in microseconds.
type Shares = [f64; SHARES.len()];

fn shares(mut times: Vec<u64>) -> Shares {
    times.sort_unstable();
    SHARES.map(|(_, share)| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1e3)
}

/// Runs all rows so many times, each round beginning with another, prints and reports them.
pub fn measure_latencies(
    options: &Options,
    (workload, title): (&str, &str),
    rounds: usize,
    rows: &mut [LatencyRow<'_>],
) {
    let rounds = options.rounds(rounds);
    // The shares of each row and round.
    let mut sent: Vec<Vec<Shares>> = vec![Vec::new(); rows.len()];
    let mut due: Vec<Vec<Shares>> = vec![Vec::new(); rows.len()];
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let place = (round + turn) % rows.len();
            let latencies = (rows[place].run)();
            sent[place].push(shares(latencies.from_sent));
            due[place].extend(latencies.from_due.map(shares));
        }
    }
    println!(
        "\n{title}, in microseconds ({rounds} rounds, interleaved; median of the rounds and, in brackets, least - most)"
    );
    for (place, row) in rows.iter().enumerate() {
        println!("{}", row.name);
        print_and_report(options, workload, row, "from the send", place, &sent);
        if !due[place].is_empty() {
            print_and_report(options, workload, row, "from the schedule", place, &due);
        }
    }
}

fn print_and_report(
    options: &Options,
    workload: &str,
    row: &LatencyRow<'_>,
    since: &str,
    place: usize,
    all: &[Vec<Shares>],
) {
    print!("  {since:<18}");
    for (at, (share, _)) in SHARES.iter().enumerate() {
        let outcome = outcome(workload, row, (since, share), all, (place, at));
        let Spread { min, median, max } = outcome.value;
        print!("  {share} {median:.2} ({min:.2} - {max:.2})");
        if let (Some((name, limit)), Some(ratio), Some(_)) =
            (&outcome.limit, outcome.ratio, outcome.target)
        {
            let limit = with_unit(*limit, "µs");
            print!(" [{:.2} of {name}, {limit}]", ratio.median);
        }
        options.report(&outcome);
    }
    println!();
}

fn outcome(
    workload: &str,
    row: &LatencyRow<'_>,
    (since, share): (&str, &str),
    all: &[Vec<Shares>],
    (place, at): (usize, usize),
) -> Outcome {
    let of = |row: usize| all[row].iter().map(move |shares| shares[at]);
    let what = format!("{}, {since}", row.name);
    let mut outcome = Outcome::new(workload, &what, "µs", Spread::of(of(place)));
    outcome.share = Some(share.to_owned());
    let against: Vec<usize> =
        row.against.iter().copied().filter(|one| !all[*one].is_empty()).collect();
    if !against.is_empty() {
        let best: Vec<f64> = (0..all[place].len())
            .map(|round| {
                against.iter().map(|one| all[*one][round][at]).fold(f64::INFINITY, f64::min)
            })
            .collect();
        outcome.ratio = Some(Spread::of(of(place).zip(&best).map(|(time, best)| time / best)));
        outcome.limit = Some((row.against_name.to_owned(), Spread::of(best).median));
    }
    if since == "from the send" {
        outcome.target =
            row.targets.iter().find(|(wanted, _)| *wanted == share).map(|(_, target)| *target);
    }
    outcome
}
