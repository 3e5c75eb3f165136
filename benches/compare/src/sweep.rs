//! Records a second against the size of a record: the limit, forebay and every rival that keeps files.

use std::fmt::Write;
use std::path::Path;

use crate::child::{self, Result};
use crate::peer::{Need, Outcome};
use crate::peers;
use crate::table::middle;

pub const LIMIT: &str = "limit: sweep";
/// 16 B, 32 B, and so on up to 1 MiB.
const SIZES: u32 = 17;
const SECONDS_ALLOWED: u64 = 60;

/// The median of each point; `None` where a peer failed.
pub struct Series {
    pub name: &'static str,
    pub rates: Vec<Option<f64>>,
}

pub fn sizes() -> Vec<usize> {
    (0..SIZES).map(|step| 16 << step).collect()
}

/// Measures each point `rounds` times, each round beginning with another row.
pub fn measure(names: &[&'static str], rounds: usize, scratch: &Path) -> Outcome<Vec<Series>> {
    let names: Vec<&'static str> = [LIMIT]
        .into_iter()
        .chain(names.iter().copied().filter(|name| peers::lacks(name, Need::Files).is_none()))
        .collect();
    let mut series: Vec<Series> =
        names.iter().map(|name| Series { name, rates: Vec::new() }).collect();
    for size in sizes() {
        let text = size.to_string();
        let mut points: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
        for round in 0..rounds {
            for turn in 0..names.len() {
                let place = (round + turn) % names.len();
                let arguments = ["--point", names[place], text.as_str()];
                match child::run(&arguments, scratch, SECONDS_ALLOWED)? {
                    Result::Measured(measured) => points[place].extend(measured.figures.first()),
                    Result::Failed(error) => {
                        println!("{} at {}: {error}", names[place], size_name(size));
                    }
                }
            }
        }
        let mut line = format!("{:>8}", size_name(size));
        for (series, mut rates) in series.iter_mut().zip(points) {
            rates.sort_by(f64::total_cmp);
            // A point is there only if no round of it failed.
            let rate = (rates.len() == rounds).then(|| middle(&rates));
            let name = series.name.trim_end_matches(": sweep");
            match rate {
                Some(rate) => write!(line, "  {name} {rate:.0}"),
                None => write!(line, "  {name} –"),
            }
            .expect("a string takes everything");
            series.rates.push(rate);
        }
        println!("{line}");
    }
    Ok(series)
}

pub fn size_name(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}
