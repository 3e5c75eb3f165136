//! A table of how figures grow: one line a figure, a column for each size it was measured at.

/// A figure at several sizes, smallest first.
pub struct Line {
    pub what: String,
    pub unit: &'static str,
    pub at: Vec<(String, f64)>,
}

impl Line {
    pub fn new(what: &str, unit: &'static str, at: Vec<(String, f64)>) -> Self {
        Self { what: what.to_owned(), unit, at }
    }

    /// Prints it as a line of a table.
    pub fn print(&self) {
        let mut cells: Vec<String> = self
            .at
            .iter()
            .map(|(at, value)| format!("{at}: {} {}", short(*value), self.unit))
            .collect();
        cells.resize(3, String::new());
        let (first, last) = (self.at[0].1, self.at[self.at.len() - 1].1);
        let growth = if self.at.len() < 2 || first == 0.0 {
            String::new()
        } else {
            format!("× {}", short(last / first))
        };
        println!("| {} | {} | {growth} |", self.what, cells.join(" | "));
    }
}

/// Prints what comes above the lines.
pub fn print_head() {
    println!("| what | at A | at B | at C | growth |\n|---|---|---|---|---|");
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The median of each of some measurements, taken in turns, each round beginning with another.
pub fn medians(rounds: usize, works: &mut [Box<dyn FnMut() -> f64 + '_>]) -> Vec<f64> {
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); works.len()];
    for round in 0..rounds {
        for turn in 0..works.len() {
            let place = (round + turn) % works.len();
            found[place].push(works[place]());
        }
    }
    let median = |mut found: Vec<f64>| {
        found.sort_by(f64::total_cmp);
        found[found.len() / 2]
    };
    found.into_iter().map(median).collect()
}
