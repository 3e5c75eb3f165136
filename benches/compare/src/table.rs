//! What is printed: a table a workload, on the screen and as Markdown.

use std::fmt::Write;

use crate::peer::{About, Ack};
use crate::peers;
use crate::rounds::{Row, State};
use crate::workload::{Kind, Unit, Workload};

/// The cells of a table, its head first.
type Cells = Vec<Vec<String>>;

pub fn cells(workload: &Workload, rows: &[Row]) -> Cells {
    let mut head = vec![String::new()];
    let is_rate = workload.unit == Unit::Rate;
    if is_rate {
        head.extend(["min", "median", "max"].map(str::to_owned));
    } else {
        let unit = unit_name(workload.unit);
        head.extend(workload.figures.iter().map(|figure| format!("{figure}, {unit} (min – max)")));
    }
    if let Some(reference) = workload.reference {
        head.push(format!("ratio to {reference}"));
    }
    head.push("what a send promises".to_owned());
    let reference = rows.iter().find(|row| Some(row.name) == workload.reference);
    let width = head.len();
    let body = rows.iter().map(|row| {
        let mut cells = vec![row.name.to_owned()];
        match &row.state {
            State::Measured(_) => cells.extend(figures(workload, row, reference)),
            State::Cannot(reason) => cells.push(format!("– ({reason})")),
            State::Failed(error) => cells.push(error.clone()),
        }
        cells.resize(width - 1, String::new());
        cells.push(promise(workload, row));
        cells
    });
    [head].into_iter().chain(body).collect()
}

fn figures(workload: &Workload, row: &Row, reference: Option<&Row>) -> Vec<String> {
    let values = |place: usize| sorted(values(row, place));
    let mut cells = Vec::new();
    if workload.unit == Unit::Rate {
        let rates = values(0);
        cells.extend([rates[0], middle(&rates), rates[rates.len() - 1]].map(rate));
    } else {
        for place in 0..workload.figures.len() {
            let all = values(place);
            let [least, most] = [all[0], all[all.len() - 1]].map(number);
            cells.push(format!("{} ({least} – {most})", number(middle(&all))));
        }
    }
    if workload.reference.is_some() {
        let ratio = reference.map(|reference| ratios(row, reference)).filter(|all| !all.is_empty());
        cells.push(ratio.map_or_else(|| "–".to_owned(), |all| format!("{:.3}", middle(&all))));
    }
    cells
}

/// One figure of each round.
fn values(row: &Row, place: usize) -> Vec<f64> {
    let State::Measured(rounds) = &row.state else { return Vec::new() };
    rounds.iter().filter_map(|round| round.figures.get(place).copied()).collect()
}

/// The ratios to another row in the same round.
fn ratios(row: &Row, reference: &Row) -> Vec<f64> {
    let pairs = values(row, 0).into_iter().zip(values(reference, 0));
    sorted(pairs.map(|(mine, other)| mine / other).collect())
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

pub fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Rate => "records/s",
        Unit::Microseconds => "µs",
        Unit::Milliseconds => "ms",
        Unit::Bytes => "bytes",
        Unit::Mebibytes => "MiB",
    }
}

fn rate(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
        _ if value >= 1e3 => format!("{:.1} k/s", value / 1e3),
        _ => format!("{value:.0} /s"),
    }
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn promise(workload: &Workload, row: &Row) -> String {
    let is_synced = matches!(workload.kind, Kind::Synced { .. });
    let ack = if is_synced { Ack::Synced } else { Ack::Written };
    let about = peers::all().iter().find(|about| about.name == row.name);
    let mut text = about.map_or("", |about| promised(about, ack)).to_owned();
    if let State::Measured(rounds) = &row.state
        && let Some(note) =
            rounds.iter().rev().map(|round| &round.note).find(|note| !note.is_empty())
    {
        let comma = if text.is_empty() { "" } else { "; " };
        write!(text, "{comma}{note}").expect("a string takes everything");
    }
    text
}

fn promised(about: &About, ack: Ack) -> &'static str {
    match ack {
        Ack::Written => about.written,
        Ack::Synced => about.synced,
    }
}

/// For the screen: columns under each other.
pub fn plain(title: &str, cells: &Cells) -> String {
    let columns = cells[0].len();
    // A reason may be long; it runs over the empty cells behind it.
    let is_spread = |row: &[String]| columns > 3 && row[2].is_empty();
    let width = |column: usize| {
        let rows = cells.iter().filter(|row| column == 0 || !is_spread(row));
        rows.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = format!("\n{title}\n");
    for row in cells {
        let mut line = String::new();
        if is_spread(row) {
            let room = widths[1..columns - 1].iter().sum::<usize>() + 2 * (columns - 3);
            write!(line, "{:<w$}  {:<room$}  {}", row[0], row[1], row[columns - 1], w = widths[0])
        } else {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            write!(line, "{}", padded.collect::<Vec<_>>().join("  "))
        }
        .expect("a string takes everything");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub fn markdown(title: &str, cells: &Cells) -> String {
    let line = |row: &[String]| format!("| {} |\n", row.join(" | "));
    let mut text = format!("\n### {title}\n\n{}", line(&cells[0]));
    text.push_str(&["|", &"---|".repeat(cells[0].len()), "\n"].concat());
    cells[1..].iter().for_each(|row| text.push_str(&line(row)));
    text
}
