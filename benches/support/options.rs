//! The command line of a bench: which parts of it to run, how often, and where to leave the results.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Outcome;

/// What a run with `--quick` makes of a number of records.
const QUICK: u64 = 50;

/// `[PART…] [--rounds N] [--quick] [--results FILE]`
pub struct Options {
    /// What is not an option: parts to run, sizes.
    pub words: Vec<String>,
    pub is_quick: bool,
    rounds: Option<usize>,
    results: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments of this program; ends it with a usage text if they make no sense.
    pub fn parse() -> Self {
        Self::of(std::env::args().skip(1)).unwrap_or_else(|problem| {
            eprintln!("{problem}\nusage: [PART...] [--rounds N] [--quick] [--results FILE]");
            std::process::exit(2)
        })
    }

    fn of(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { words: Vec::new(), is_quick: false, rounds: None, results: None };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo says so to each bench.
                "--bench" => {}
                "--quick" => options.is_quick = true,
                "--results" => options.results = Some(value()?.into()),
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds = Some(rounds.ok_or("--rounds needs a number above 0")?);
                }
                other if other.starts_with('-') => return Err(format!("unknown option {other}")),
                _ => options.words.push(argument),
            }
        }
        Ok(options)
    }

    /// Is this part to be run? All are, if none is named.
    pub fn on(&self, part: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| word == part)
    }

    /// How often each row is run: what the command line says, once if it is to be quick, or `usual`.
    pub fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(if self.is_quick { 1 } else { usual })
    }

    /// `count`, or a fiftieth of it if it is to be quick.
    pub fn scaled(&self, count: u64) -> u64 {
        if self.is_quick { count.div_ceil(QUICK) } else { count }
    }

    /// Where the results go, if somebody wants them.
    pub fn results(&self) -> Option<&Path> {
        self.results.as_deref()
    }

    /// What a bench that is started by another has to be told of rounds and sizes.
    pub fn passed_on(&self) -> Vec<String> {
        let rounds = self.rounds.map(|rounds| ["--rounds".to_owned(), rounds.to_string()]);
        let quick = self.is_quick.then(|| "--quick".to_owned());
        rounds.into_iter().flatten().chain(quick).collect()
    }

    /// Leaves a result for who collects them.
    pub fn report(&self, outcome: &Outcome) {
        if let Some(path) = &self.results {
            let mut file = File::options().append(true).create(true).open(path).expect("results");
            let line = outcome.to_line();
            assert_eq!(Outcome::from_line(&line).as_ref(), Some(outcome), "it can be read");
            writeln!(file, "{line}").expect("results");
        }
    }
}
