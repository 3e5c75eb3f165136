//! What the benches share: the command line, rows that are run in turn and compared with a limit, records
//! that can be checked, channels to stand beside, and the lines from which `table` makes its table.
#![allow(dead_code, unused_imports, reason = "each bench uses some of it")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

mod at_once;
pub mod channel;
mod latency;
pub mod machine;
mod options;
pub mod outcome;
mod payload;
mod rates;
mod taker;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

pub use at_once::at_once;
pub use latency::{Latencies, LatencyRow, measure_latencies};
pub use options::Options;
pub use outcome::{Outcome, Spread, Target};
pub use payload::{Checker, Payload, SIZE};
pub use rates::{Row, measure};
pub use taker::Taker;

/// A directory on the file system the benches are built on: what is measured is a disk.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory")
}

/// A file with `bytes` real blocks.
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
