//! How many instructions the main thread of a process executes, counted by `valgrind --tool=callgrind`.
//!
//! Valgrind shows a program a processor of its own, so counts depend little on the machine. What is left:
//! the instruction set, the compiler, the C library and its choice of `memcpy`, which is held to the plain
//! one here, and whether the processor has the carry-less multiplication that crc32fast looks for (each
//! x86-64 one since 2011 has, and Valgrind passes it on).

use std::path::Path;
use std::process::{Command, Stdio};

/// Keeps glibc from choosing by what the processor can do. Other C libraries do not look at it.
const PLAIN: &str = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2_Usable,-AVX2,-ERMS";

/// The version of Valgrind, if it is installed.
pub fn version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().trim_start_matches("valgrind-").to_owned())
}

/// Runs this program with `arguments`, and says how many instructions its main thread executed.
///
/// # Panics
///
/// If the program fails, with what it said.
pub fn instructions(arguments: &[&str], scratch: &Path) -> u64 {
    let out = scratch.join("callgrind");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args(arguments)
        .env("GLIBC_TUNABLES", PLAIN)
        .stdin(Stdio::null())
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} under valgrind: {}\n{said}", output.status);
    let main_thread = scratch.join("callgrind-01");
    let text = std::fs::read_to_string(&main_thread).expect("what callgrind wrote");
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).expect("a line with the total")
}
