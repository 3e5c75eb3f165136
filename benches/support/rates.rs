//! Rows that move many records: run in turn, and printed as records and bytes a second beside their limit.

use std::time::Duration;

use super::outcome::with_unit;
use super::{Options, Outcome, Spread, Target};

/// One thing to be measured: its name, and a function that does it once and says how long it took. It
/// is the function that checks what was done.
pub struct Row<'a> {
    workload: &'static str,
    name: String,
    run: Box<dyn FnMut() -> Duration + 'a>,
    records: u64,
    bytes: u64,
    against: Vec<usize>,
    against_name: &'static str,
    target: Option<f64>,
}

impl<'a> Row<'a> {
    /// `run` moves so many records of `size` bytes.
    pub fn new(
        workload: &'static str,
        name: impl Into<String>,
        (records, size): (u64, usize),
        run: impl FnMut() -> Duration + 'a,
    ) -> Self {
        Self {
            workload,
            name: name.into(),
            run: Box::new(run),
            records,
            bytes: records * size as u64,
            against: Vec::new(),
            against_name: "",
            target: None,
        }
    }

    /// Compared, in each round, with the fastest of these rows of the same table.
    pub fn against(mut self, name: &'static str, rows: &[usize]) -> Self {
        rows.clone_into(&mut self.against);
        self.against_name = name;
        self
    }

    /// The ratio it should reach.
    pub fn target(mut self, ratio: f64) -> Self {
        self.target = Some(ratio);
        self
    }
}

/// Runs all rows so many times, each round beginning with another, prints and reports them. A round before those is
/// not counted: in it a virtual machine may have to get from its host the memory that the others find.
pub fn measure(options: &Options, title: &str, rounds: usize, rows: &mut [Row<'_>]) {
    let rounds = options.rounds(rounds);
    // Records a second, for each row and round.
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    let uncounted = usize::from(!options.is_quick);
    for round in 0..uncounted + rounds {
        for turn in 0..rows.len() {
            let place = (round + turn) % rows.len();
            let time = (rows[place].run)();
            if round < uncounted {
                continue;
            }
            rates[place].push(rows[place].records as f64 / time.as_secs_f64());
        }
    }
    println!("\n{title} ({rounds} rounds, interleaved)");
    println!("{:<50} {:>11} {:>11} {:>11} {:>9}  ratio to", "", "min", "median", "max", "MB/s");
    for (place, row) in rows.iter().enumerate() {
        let outcome = outcome(row, &rates, place);
        print(&outcome, row.target);
        options.report(&outcome);
    }
}

fn outcome(row: &Row<'_>, rates: &[Vec<f64>], place: usize) -> Outcome {
    let value = Spread::of(rates[place].iter().copied());
    let mut outcome = Outcome::new(row.workload, &row.name, "/s", value);
    outcome.bytes_per_second = Some(value.median * row.bytes as f64 / row.records as f64);
    if !row.against.is_empty() {
        let best: Vec<f64> = (0..rates[place].len())
            .map(|round| row.against.iter().map(|one| rates[*one][round]).fold(0.0, f64::max))
            .collect();
        let ratios = rates[place].iter().zip(&best).map(|(rate, best)| rate / best);
        outcome.ratio = Some(Spread::of(ratios));
        outcome.limit = Some((row.against_name.to_owned(), Spread::of(best).median));
        outcome.target = row.target.map(Target::RatioAtLeast);
    }
    outcome
}

fn print(outcome: &Outcome, target: Option<f64>) {
    let rate = |rate| with_unit(rate, "/s");
    let ratio = outcome.limit.as_ref().zip(outcome.ratio).map(|((name, _), ratio)| {
        let target = target.map(|target| format!(", target {target:.2}")).unwrap_or_default();
        format!("{name}: {:.2} ({:.2} - {:.2}{target})", ratio.median, ratio.min, ratio.max)
    });
    println!(
        "{:<50} {:>11} {:>11} {:>11} {:>9.1}  {}",
        outcome.what,
        rate(outcome.value.min),
        rate(outcome.value.median),
        rate(outcome.value.max),
        outcome.bytes_per_second.unwrap_or_default() / 1e6,
        ratio.unwrap_or_default(),
    );
}
