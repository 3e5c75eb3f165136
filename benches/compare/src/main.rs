//! Compares forebay with other embeddable logs and queues, and with what the machine allows. README.md
//! says how to run it and what is to be known about each peer.
//!
//! This process measures nothing: it starts itself again for each measurement.

mod arguments;
mod child;
mod measurements;
mod payload;
mod peer;
mod peers;
mod plot;
mod rounds;
mod sweep;
mod table;
mod workload;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, USAGE};
use peer::Outcome;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    match given[..] {
        // The roles this program starts itself in.
        ["--measure", name, workload, dir] => {
            child::print(&measure(name, workload, Path::new(dir)));
        }
        ["--point", name, bytes, dir] => child::print(&point(name, bytes, Path::new(dir))),
        ["--victim", peer, dir] => {
            if let Err(error) = measurements::victim(peer, Path::new(dir)) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
        _ => {
            let arguments = Arguments::parse(given.iter().map(ToString::to_string));
            if let Err(error) = arguments.and_then(|arguments| compare(&arguments)) {
                eprintln!("{error}\n\n{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn measure(name: &str, workload: &str, dir: &Path) -> Outcome<measurements::Measured> {
    let workload = workload::ALL.iter().find(|one| one.name == workload);
    let workload = workload.ok_or("no such workload")?;
    if name.starts_with("limit") {
        measurements::limit(name, workload.record_bytes, dir)
    } else {
        measurements::run(name, workload, dir)
    }
}

fn point(name: &str, bytes: &str, dir: &Path) -> Outcome<measurements::Measured> {
    let bytes = bytes.parse()?;
    if name == sweep::LIMIT {
        measurements::limit(name, bytes, dir)
    } else {
        measurements::sweep(name, bytes, dir)
    }
}

fn compare(arguments: &Arguments) -> Outcome<()> {
    if arguments.list {
        for one in workload::ALL {
            println!("{:<14} {}", one.name, one.title);
        }
        println!("\n{}", versions());
        return Ok(());
    }
    let scratch = scratch(arguments)?;
    let begun = Instant::now();
    println!("{}", versions());
    if let Some(file) = arguments.svg.as_ref().filter(|_| arguments.is_sweep) {
        let series = sweep::measure(&arguments.peers(), arguments.rounds.unwrap_or(1), &scratch)?;
        fs::write(file, plot::svg(&series))?;
        println!("took {:.0} s", begun.elapsed().as_secs_f64());
        return Ok(fs::remove_dir_all(&scratch)?);
    }
    let mut text = format!("{}\n", versions());
    for workload in arguments.workloads() {
        let rounds = arguments.rounds.unwrap_or(3);
        let rows = rounds::measure(workload, &arguments.peers(), rounds, &scratch)?;
        let title = format!("{} ({rounds} rounds, interleaved)", workload.title);
        let cells = table::cells(workload, &rows);
        println!("{}", table::plain(&title, &cells));
        text.push_str(&table::markdown(&title, &cells));
        if let Some(file) = &arguments.markdown {
            fs::write(file, &text)?;
        }
    }
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    Ok(fs::remove_dir_all(&scratch)?)
}

/// A directory of this run alone, on a disk: what is measured is a disk.
fn scratch(arguments: &Arguments) -> Outcome<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let dir = arguments.dir.clone().unwrap_or_else(default);
    let dir = dir.join(format!("compare-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    Ok(dir.canonicalize()?)
}

fn versions() -> String {
    let mut text = "versions:".to_owned();
    for about in peers::all() {
        let version = about.package.map_or("of the toolchain", peers::version);
        write!(text, " {} {version},", about.name).expect("a string takes everything");
    }
    text.trim_end_matches(',').to_owned()
}
