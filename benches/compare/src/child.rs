//! One measurement as a process of its own: a peer that hangs or crashes takes nothing else with it, and
//! memory is that of one peer alone.

use std::env;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::measurements::Measured;
use crate::peer::Outcome;

/// What became of a measurement.
#[derive(Debug)]
pub enum Result {
    Measured(Measured),
    /// It went wrong, and how.
    Failed(String),
}

/// Runs this program again with `arguments`, in an empty directory, and takes what it reports.
pub fn run(arguments: &[&str], scratch: &Path, seconds_allowed: u64) -> Outcome<Result> {
    let dir = scratch.join("measurement");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let mut child = Command::new(env::current_exe()?)
        .args(arguments)
        .arg(&dir)
        // One of the peers takes its directory from here, and prints a line a record if not told.
        .env("WALRUS_DATA_DIR", &dir)
        .env("WALRUS_QUIET", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut out = child.stdout.take().ok_or("no pipe")?;
    let mut errors = child.stderr.take().ok_or("no pipe")?;
    let reading = thread::spawn(move || read(&mut out));
    let complaints = thread::spawn(move || read(&mut errors));
    let status = wait(&mut child, Duration::from_secs(seconds_allowed))?;
    let result = match status {
        Some(status) => {
            let text = reading.join().unwrap_or_default();
            report(&text, &complaints.join().unwrap_or_default(), status)
        }
        None => Result::Failed(format!("hangs: stopped after {seconds_allowed} s")),
    };
    fs::remove_dir_all(&dir)?;
    Ok(result)
}

fn read(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is kept.
    from.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `None` if it had to be killed.
fn wait(child: &mut Child, allowed: Duration) -> Outcome<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > allowed {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Prints what [`run`] reads.
pub fn print(outcome: &Outcome<Measured>) {
    match outcome {
        Ok(measured) => {
            let figures: Vec<String> = measured.figures.iter().map(ToString::to_string).collect();
            println!("\n@measured {};{}", figures.join(" "), measured.note);
        }
        Err(error) => println!("\n@failed {}", error.to_string().replace('\n', " ")),
    }
}

fn report(text: &str, complaints: &str, status: ExitStatus) -> Result {
    for line in text.lines() {
        if let Some(error) = line.strip_prefix("@failed ") {
            return Result::Failed(error.to_owned());
        }
        let Some((figures, note)) =
            line.strip_prefix("@measured ").and_then(|line| line.split_once(';'))
        else {
            continue;
        };
        let figures = figures.split(' ').filter_map(|figure| figure.parse().ok()).collect();
        return Result::Measured(Measured { figures, note: note.to_owned() });
    }
    let last = complaints.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Result::Failed(format!("crashes ({status}) {last}").trim_end().to_owned())
}
