//! Interleaved rounds: each begins with another row, so that no row always runs after the same one.

use std::path::Path;

use crate::child;
use crate::measurements::Measured;
use crate::peer::Outcome;
use crate::peers;
use crate::workload::Workload;

/// What became of a row over all rounds.
pub struct Row {
    pub name: &'static str,
    pub state: State,
}

pub enum State {
    /// One measurement a round.
    Measured(Vec<Measured>),
    /// It cannot do this, and why.
    Cannot(&'static str),
    Failed(String),
}

impl State {
    fn add(&mut self, result: child::Result) {
        match (result, &mut *self) {
            (child::Result::Measured(measured), State::Measured(rounds)) => rounds.push(measured),
            (child::Result::Failed(error), _) => *self = State::Failed(error),
            (child::Result::Measured(_), _) => {}
        }
    }
}

/// Measures the limits of a workload and `names`, `rounds` times each.
pub fn measure(
    workload: &Workload,
    names: &[&'static str],
    rounds: usize,
    scratch: &Path,
) -> Outcome<Vec<Row>> {
    let mut rows: Vec<Row> =
        workload.limits.iter().chain(names).map(|name| row(name, workload)).collect();
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let place = (round + turn) % rows.len();
            let row = &mut rows[place];
            if !matches!(row.state, State::Measured(_)) {
                // Neither what cannot nor what failed is tried again.
                continue;
            }
            let arguments = ["--measure", row.name, workload.name];
            row.state.add(child::run(&arguments, scratch, workload.seconds_allowed())?);
        }
    }
    Ok(rows)
}

fn row(name: &'static str, workload: &Workload) -> Row {
    let state = match peers::lacks(name, workload.need()) {
        Some(reason) => State::Cannot(reason),
        None => State::Measured(Vec::new()),
    };
    Row { name, state }
}
