//! A sweep as an SVG: both axes logarithmic, readable on a light and on a dark page.

use std::fmt::Write;

use crate::peers;
use crate::sweep::{LIMIT, Series, size_name, sizes};

const WIDTH: f64 = 700.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 120.0;
const TOP: f64 = 70.0;

/// Colours that are read on white and on black, should a page not say which it is, and told apart by those who
/// cannot see red or green.
const STYLE: &str = "\
text{font-family:sans-serif;font-size:13px;fill:#6e7781}\
.title{font-size:16px;font-weight:bold}.grid{stroke:#8c959f;stroke-width:1;stroke-opacity:0.3}\
polyline{fill:none;stroke-width:2.5}\
.limit{stroke:#8c959f;fill:#8c959f}.forebay{stroke:#0969da;fill:#0969da}.rival{stroke:#bc4c00;fill:#bc4c00}\
polyline.limit,polyline.forebay,polyline.rival{fill:none}polyline.limit{stroke-dasharray:7 4}\
text.limit,text.forebay,text.rival{stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#9198a1}\
.limit{stroke:#9198a1;fill:#9198a1}.forebay{stroke:#4493f8;fill:#4493f8}.rival{stroke:#f0883e;fill:#f0883e}}";

/// Where a rate and a size are in the picture.
struct Scale {
    least: i32,
    most: i32,
    sizes: usize,
}

impl Scale {
    fn x(&self, place: usize) -> f64 {
        LEFT + WIDTH * small(place) / small(self.sizes.max(2) - 1)
    }

    fn y(&self, rate: f64) -> f64 {
        let share = (rate.log10() - f64::from(self.least)) / f64::from(self.most - self.least);
        TOP + HEIGHT * (1.0 - share)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few dozen")]
fn small(count: usize) -> f64 {
    count as f64
}

/// The best of the rivals at each size, and its name.
fn best(series: &[Series]) -> Vec<Option<(&'static str, f64)>> {
    let rivals = series.iter().filter(|one| one.name != LIMIT && one.name != "forebay");
    let rivals: Vec<&Series> = rivals.collect();
    (0..sizes().len())
        .map(|place| {
            let here = rivals.iter().filter_map(|one| Some((one.name, one.rates[place]?)));
            here.max_by(|left, right| left.1.total_cmp(&right.1))
        })
        .collect()
}

pub fn svg(series: &[Series]) -> String {
    let of = |name: &str| series.iter().find(|one| one.name == name);
    let best = best(series);
    let rates: [Vec<Option<f64>>; 3] = [
        of(LIMIT).map(|one| one.rates.clone()).unwrap_or_default(),
        of("forebay").map(|one| one.rates.clone()).unwrap_or_default(),
        best.iter().map(|best| best.map(|(_, rate)| rate)).collect(),
    ];
    let all = || rates.iter().flatten().flatten().copied();
    let scale = Scale {
        least: decade(all().fold(f64::INFINITY, f64::min).log10().floor(), 2),
        most: decade(all().fold(1.0, f64::max).log10().ceil(), 8),
        sizes: sizes().len(),
    };
    let (width, height) = (LEFT + WIDTH + 40.0, TOP + HEIGHT + 110.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' \
         aria-label='Records a second against the size of a record'><style>{STYLE}</style>\
         <text x='{LEFT}' y='24' class='title'>One thread, one record a send: records a second by size</text>"
    );
    axes(&mut svg, &scale);
    let names = ["limit", "forebay", "rival"];
    for (class, rates) in names.iter().zip(&rates) {
        line(&mut svg, &scale, class, rates);
    }
    legend(&mut svg);
    rival_names(&mut svg, &scale, &best);
    footer(&mut svg, &best);
    svg.push_str("</svg>\n");
    svg
}

#[allow(clippy::cast_possible_truncation, reason = "a logarithm")]
fn decade(logarithm: f64, otherwise: i32) -> i32 {
    if logarithm.is_finite() { logarithm as i32 } else { otherwise }
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes everything");
}

fn axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    for power in scale.least..=scale.most {
        let y = scale.y(10_f64.powi(power));
        put(
            svg,
            format_args!("<line class='grid' x1='{LEFT}' y1='{y:.1}' x2='{right}' y2='{y:.1}'/>"),
        );
        let (x, y) = (LEFT - 10.0, y + 4.0);
        let name = rate_name(power);
        put(svg, format_args!("<text x='{x}' y='{y:.1}' text-anchor='end'>{name}</text>"));
    }
    for (place, size) in sizes().into_iter().enumerate() {
        let x = scale.x(place);
        put(
            svg,
            format_args!("<line class='grid' x1='{x:.1}' y1='{TOP}' x2='{x:.1}' y2='{bottom}'/>"),
        );
        if place % 2 == 0 {
            let (y, name) = (bottom + 20.0, size_name(size));
            put(svg, format_args!("<text x='{x:.1}' y='{y}' text-anchor='middle'>{name}</text>"));
        }
    }
    let (x, y) = (LEFT + WIDTH / 2.0, bottom + 42.0);
    put(svg, format_args!("<text x='{x}' y='{y}' text-anchor='middle'>size of a record</text>"));
}

fn rate_name(power: i32) -> String {
    let (unit, zeros) = match power {
        6.. => (" million/s", power - 6),
        3..6 => (" thousand/s", power - 3),
        _ => ("/s", power.max(0)),
    };
    format!("1{}{unit}", "0".repeat(usize::try_from(zeros).unwrap_or(0)))
}

fn line(svg: &mut String, scale: &Scale, class: &str, rates: &[Option<f64>]) {
    let points = rates
        .iter()
        .enumerate()
        .filter_map(|(place, rate)| rate.map(|rate| (scale.x(place), scale.y(rate))));
    let points: Vec<(f64, f64)> = points.collect();
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    put(svg, format_args!("<polyline class='{class}' points='{}'/>", path.join(" ")));
    for (x, y) in points {
        put(svg, format_args!("<circle class='{class}' cx='{x:.1}' cy='{y:.1}' r='3'/>"));
    }
}

fn legend(svg: &mut String) {
    let entries = [
        ("limit", "limit: warm mmap + CRC".to_owned(), 0.0),
        ("forebay", "forebay".to_owned(), 195.0),
        ("rival", "best rival at each size".to_owned(), 290.0),
    ];
    for (class, text, right) in entries {
        let (x, y) = (LEFT + right, TOP - 22.0);
        put(
            svg,
            format_args!(
                "<circle class='{class}' cx='{:.1}' cy='{y}' r='5'/><text class='{class}' x='{:.1}' y='{:.1}'>{text}</text>",
                x + 5.0,
                x + 15.0,
                y + 4.5
            ),
        );
    }
}

/// Where the best rival is another one than a size before, its name stands below its line.
fn rival_names(svg: &mut String, scale: &Scale, best: &[Option<(&'static str, f64)>]) {
    let mut before = None;
    let mut names = 0_u32;
    for (place, here) in best.iter().enumerate() {
        let Some((name, rate)) = here else { continue };
        if before != Some(name) {
            // Names close to each other stand on two lines.
            let lower = if names.is_multiple_of(2) { 20.0 } else { 36.0 };
            names += 1;
            let (x, y) = (scale.x(place), scale.y(*rate) + lower);
            put(svg, format_args!("<text class='rival' x='{x:.1}' y='{y:.1}'>{name}</text>"));
        }
        before = Some(name);
    }
}

fn footer(svg: &mut String, best: &[Option<(&'static str, f64)>]) {
    let is_best = |name: &str| best.iter().flatten().any(|(rival, _)| *rival == name);
    let named = peers::all().iter().filter(|about| is_best(about.name));
    let rivals: Vec<&str> = named.map(|about| about.name).collect();
    let (x, y) = (LEFT, TOP + HEIGHT + 72.0);
    put(
        svg,
        format_args!(
            "<text x='{x}' y='{y}'>Files on a disk, page cache; each point read back and checked. Rivals: {}.</text>\
             <text x='{x}' y='{}'>The limit copies the same bytes into a mapped file whose pages were touched \
             before.</text>",
            rivals.join(", "),
            y + 18.0
        ),
    );
}
