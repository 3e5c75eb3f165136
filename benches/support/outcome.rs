//! What came out of measuring one row, and the line it travels in from a bench to the table.
//!
//! A line is a list of `name=value`, parted by tabs. What is absent is left out, so that fields can be
//! added without old lines becoming unreadable.

use std::fmt::Write;

/// The least, the middle and the largest of what several rounds gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let max = *sorted.last().expect("a round");
        let middle = sorted.len() / 2;
        let is_even = sorted.len().is_multiple_of(2);
        let median = if is_even {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Self { min: sorted[0], median, max }
    }

    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { min: change(self.min), median: change(self.median), max: change(self.max) }
    }
}

/// What a row is wanted to reach; its median is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The ratio to the limit is at least this.
    RatioAtLeast(f64),
    /// The ratio to the limit is at most this.
    RatioAtMost(f64),
    /// The value itself is at most this.
    AtMost(f64),
}

/// One row's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// As the list of workloads calls it: `W1`.
    pub workload: String,
    pub what: String,
    /// For latencies: which share of the records took at most so long, `p99`.
    pub share: Option<String>,
    /// `/s` for records a second, or what else the value counts.
    pub unit: String,
    pub value: Spread,
    /// For a rate: payload bytes a second, the median.
    pub bytes_per_second: Option<f64>,
    /// What it is compared with, and the median of that.
    pub limit: Option<(String, f64)>,
    /// Value by limit, taken round by round.
    pub ratio: Option<Spread>,
    pub target: Option<Target>,
}

impl Outcome {
    /// A value that is compared with nothing.
    pub fn new(workload: &str, what: &str, unit: &str, value: Spread) -> Self {
        Self {
            workload: workload.to_owned(),
            what: what.to_owned(),
            share: None,
            unit: unit.to_owned(),
            value,
            bytes_per_second: None,
            limit: None,
            ratio: None,
            target: None,
        }
    }

    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Is the target met? Nothing, if there is none.
    pub fn is_met(&self) -> Option<bool> {
        let ratio = || self.ratio.map(|ratio| ratio.median);
        match self.target? {
            Target::RatioAtLeast(least) => Some(ratio()? >= least),
            Target::RatioAtMost(most) => Some(ratio()? <= most),
            Target::AtMost(most) => Some(self.value.median <= most),
        }
    }

    pub fn to_line(&self) -> String {
        let mut line = format!(
            "workload={}\twhat={}\tunit={}",
            plain(&self.workload),
            plain(&self.what),
            plain(&self.unit)
        );
        let mut add = |name: &str, value: f64| {
            write!(line, "\t{name}={value}").expect("a string takes everything");
        };
        add("min", self.value.min);
        add("median", self.value.median);
        add("max", self.value.max);
        if let Some(bytes) = self.bytes_per_second {
            add("bytes", bytes);
        }
        if let Some((_, median)) = &self.limit {
            add("limit", *median);
        }
        if let Some(ratio) = self.ratio {
            add("ratio-min", ratio.min);
            add("ratio-median", ratio.median);
            add("ratio-max", ratio.max);
        }
        match self.target {
            Some(Target::RatioAtLeast(least)) => add("ratio-at-least", least),
            Some(Target::RatioAtMost(most)) => add("ratio-at-most", most),
            Some(Target::AtMost(most)) => add("at-most", most),
            None => {}
        }
        let texts = [("limit-name", self.limit.as_ref().map(|limit| &limit.0))];
        for (name, text) in texts.into_iter().chain([("share", self.share.as_ref())]) {
            if let Some(text) = text {
                write!(line, "\t{name}={}", plain(text)).expect("a string takes everything");
            }
        }
        line
    }

    /// Nothing, if a field that each line has is missing or makes no sense.
    pub fn from_line(line: &str) -> Option<Self> {
        let fields: Vec<(&str, &str)> =
            line.split('\t').filter_map(|field| field.split_once('=')).collect();
        let text = |name| fields.iter().find(|(found, _)| *found == name).map(|(_, text)| *text);
        let number = |name| text(name)?.parse::<f64>().ok();
        let spread = |min, median, max| {
            Some(Spread { min: number(min)?, median: number(median)?, max: number(max)? })
        };
        let target = number("ratio-at-least")
            .map(Target::RatioAtLeast)
            .or_else(|| number("ratio-at-most").map(Target::RatioAtMost))
            .or_else(|| number("at-most").map(Target::AtMost));
        Some(Self {
            workload: text("workload")?.to_owned(),
            what: text("what")?.to_owned(),
            share: text("share").map(str::to_owned),
            unit: text("unit")?.to_owned(),
            value: spread("min", "median", "max")?,
            bytes_per_second: number("bytes"),
            limit: text("limit-name").map(str::to_owned).zip(number("limit")),
            ratio: spread("ratio-min", "ratio-median", "ratio-max"),
            target,
        })
    }
}

/// Without what would end a field or a line.
fn plain(text: &str) -> String {
    text.replace(['\t', '\n'], " ")
}

/// What a value is divided by to be short enough for a column, and the unit it then has.
fn scale(value: f64, unit: &str) -> (f64, String) {
    match unit {
        "/s" if value >= 1e6 => (1e6, "M/s".to_owned()),
        "/s" if value >= 1e3 => (1e3, "k/s".to_owned()),
        _ => (1.0, unit.to_owned()),
    }
}

/// With as many digits as mean something.
pub fn short(value: f64) -> String {
    match value {
        small if small < 100.0 => format!("{small:.2}"),
        middle if middle < 1000.0 => format!("{middle:.1}"),
        large => format!("{large:.0}"),
    }
}

/// A value with its unit.
pub fn with_unit(value: f64, unit: &str) -> String {
    let (scale, unit) = scale(value, unit);
    format!("{} {unit}", short(value / scale))
}

/// A median with its unit, and the least and the most in the same.
pub fn spread_with_unit(spread: Spread, unit: &str) -> String {
    let (scale, unit) = scale(spread.median, unit);
    let Spread { min, median, max } = spread.map(|value| value / scale);
    format!("{} {unit} ({} – {})", short(median), short(min), short(max))
}
