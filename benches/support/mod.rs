//! What the benches share: limits to compare with, interleaved rounds, and how they are printed.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// One thing to be measured: its name, and a function that does it once and says how long it took.
pub struct Row<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() -> Duration + 'a>,
    pub records: u64,
    pub bytes: u64,
    /// The row it is compared with, and the target for the ratio.
    pub limit: Option<(usize, f64)>,
}

/// Runs all rows `rounds` times, each round beginning with another, and prints them.
pub fn measure(title: &str, rounds: usize, rows: &mut [Row<'_>]) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let place = (round + turn) % rows.len();
            times[place].push((rows[place].run)().as_secs_f64());
        }
    }
    println!("\n{title} ({rounds} rounds, interleaved)");
    println!(
        "{:<34} {:>10} {:>10} {:>10} {:>10}  ratio to limit",
        "", "min M/s", "median M/s", "max M/s", "MB/s"
    );
    for (place, row) in rows.iter().enumerate() {
        let rate = |seconds: f64| row.records as f64 / seconds / 1e6;
        let mut sorted = times[place].clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let ratio = row.limit.map(|(limit, target)| {
            let mut ratios: Vec<f64> = times[limit]
                .iter()
                .zip(&times[place])
                .map(|(limit_time, time)| {
                    (limit_time / rows[limit].records as f64) / (time / row.records as f64)
                })
                .collect();
            ratios.sort_by(f64::total_cmp);
            format!("{:.2} (target {target:.2})", ratios[ratios.len() / 2])
        });
        println!(
            "{:<34} {:>10.4} {:>10.4} {:>10.4} {:>10.0}  {}",
            row.name,
            rate(*sorted.last().expect("a round")),
            rate(median),
            rate(sorted[0]),
            row.bytes as f64 / median / 1e6,
            ratio.unwrap_or_default(),
        );
    }
}

/// A file with `bytes` real blocks.
#[allow(dead_code, reason = "not every bench needs one")]
pub fn reserved_file(path: &Path, bytes: u64) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .expect("file");
    #[cfg(target_os = "linux")]
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("blocks");
    #[cfg(not(target_os = "linux"))]
    std::io::Write::write_all(&mut &file, &vec![0; bytes as usize]).expect("blocks");
    file
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
