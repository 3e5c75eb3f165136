//! What a table of figures has to say about where they come from.

use std::path::Path;
use std::process::Command;

/// The words of a command's first line, or nothing.
fn first_line_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn processor() -> Option<String> {
    let text = file("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kernel() -> Option<String> {
    Some(format!("Linux {}", file("/proc/sys/kernel/osrelease")?.trim()))
}

fn memory() -> Option<String> {
    let text = file("/proc/meminfo")?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(format!("{:.1} GiB of memory", kib / f64::from(1 << 20)))
}

/// The type of the file system a directory is on: that of the longest mount point above it.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = file("/proc/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// One line each: machine, software, when.
pub fn describe(dir: &Path) -> Vec<String> {
    let unknown = |what: &str| format!("unknown {what}");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = file("/proc/loadavg")
        .and_then(|text| text.split(' ').next().map(str::to_owned))
        .unwrap_or_else(|| unknown("load"));
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    vec![
        format!(
            "{}, {cores} cores, {}, {}, {}",
            processor().unwrap_or_else(|| unknown("processor")),
            memory().unwrap_or_else(|| unknown("memory")),
            file_system(dir).unwrap_or_else(|| unknown("file system")),
            kernel().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        ),
        format!(
            "{}; forebay {} at {}",
            first_line_of(&compiler, &["--version"]).unwrap_or_else(|| unknown("compiler")),
            env!("CARGO_PKG_VERSION"),
            first_line_of("git", &["describe", "--always", "--dirty"])
                .unwrap_or_else(|| unknown("commit")),
        ),
        format!(
            "{}; load average when it began: {load}",
            first_line_of("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
                .unwrap_or_else(|| unknown("date")),
        ),
    ]
}
