//! What happened, drawn as an SVG: the rates in and out, and the backlog between them.

use std::fmt::Write;

use crate::watch::Sample;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
const GAP: f64 = 70.0;

/// A line to be drawn: its name, its colour, and its points.
type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

pub(crate) fn svg(samples: &[Sample], limit: u64) -> String {
    let rates = |count: fn(&Sample) -> u64| -> Vec<(f64, f64)> {
        let rate = |pair: &[Sample]| {
            let lines = count(&pair[1]) - count(&pair[0]);
            (pair[1].seconds, lines as f64 / (pair[1].seconds - pair[0].seconds).max(1e-9))
        };
        samples.windows(2).map(rate).collect()
    };
    let end = samples.last().map_or(1.0, |last| last.seconds).max(1e-9);
    let backlog = samples.iter().map(|sample| (sample.seconds, sample.backlog as f64)).collect();
    let level = vec![(0.0, limit as f64), (end, limit as f64)];
    let panels: [(&str, Vec<Line<'_>>); 3] = [
        ("lines a second that come", vec![("in", "#c0392b", rates(|sample| sample.came))]),
        (
            "lines a second that leave",
            vec![("limit", "#bbbbbb", level), ("out", "#2471a3", rates(|sample| sample.left))],
        ),
        ("lines that wait", vec![("backlog", "#7d6608", backlog)]),
    ];
    let height = TOP + 3.0 * (HEIGHT + GAP);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{height}' font-family='sans-serif' font-size='13'>\
         <rect width='100%' height='100%' fill='white'/>",
        LEFT + WIDTH + 40.0
    );
    for (row, (title, lines)) in panels.iter().enumerate() {
        panel(&mut svg, TOP + row as f64 * (HEIGHT + GAP), title, lines, end);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, top: f64, title: &str, lines: &[Line<'_>], end: f64) {
    let values = lines.iter().flat_map(|(_, _, points)| points.iter().map(|(_, value)| *value));
    let most = values.fold(1.0_f64, f64::max) * 1.1;
    let bottom = top + HEIGHT;
    let mut put = |text: String| svg.push_str(&text);
    put(format!("<text x='{LEFT}' y='{}' font-weight='bold'>{title}</text>", top - 10.0));
    for part in 0..=4 {
        let (value, y) = (most * f64::from(part) / 4.0, bottom - HEIGHT * f64::from(part) / 4.0);
        put(format!(
            "<line x1='{LEFT}' y1='{y:.1}' x2='{}' y2='{y:.1}' stroke='#eeeeee'/>",
            LEFT + WIDTH
        ));
        put(format!(
            "<text x='{}' y='{:.1}' text-anchor='end'>{value:.0}</text>",
            LEFT - 8.0,
            y + 4.0
        ));
        let (second, x) = (end * f64::from(part) / 4.0, LEFT + WIDTH * f64::from(part) / 4.0);
        put(format!(
            "<text x='{x:.1}' y='{}' text-anchor='middle'>{second:.1} s</text>",
            bottom + 18.0
        ));
    }
    for (name, colour, points) in lines {
        let mut path = String::new();
        for (second, value) in points {
            let (x, y) = (LEFT + WIDTH * second / end, bottom - HEIGHT * value / most);
            write!(path, "{x:.1},{y:.1} ").expect("a string takes everything");
        }
        put(format!(
            "<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'><title>{name}</title></polyline>"
        ));
    }
}
