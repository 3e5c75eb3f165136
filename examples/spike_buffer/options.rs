//! What was asked for on the command line.

use std::path::{Path, PathBuf};

use crate::Result;

const USAGE: &str = "usage: spike_buffer [--input FILE | --records N] [--dir PATH] [--rate N] \
                     [--max-bytes N] [--plot FILE.svg]";

#[derive(Debug)]
pub(crate) struct Options {
    /// Where lines come from; made up if there is none.
    pub(crate) input: Option<PathBuf>,
    pub(crate) records: u64,
    pub(crate) dir: PathBuf,
    /// What the sink takes a second.
    pub(crate) rate: u64,
    /// What the buffer may take on disk.
    pub(crate) max_bytes: u64,
    pub(crate) plot: Option<PathBuf>,
}

impl Options {
    /// How many lines come a second.
    pub(crate) fn burst_rate(&self) -> u64 {
        20 * self.rate
    }

    pub(crate) fn from_arguments(scratch: &Path) -> Result<Self> {
        let mut options = Self {
            input: None,
            records: 300_000,
            dir: scratch.to_path_buf(),
            rate: 100_000,
            max_bytes: 1 << 30,
            plot: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match name.as_str() {
                "--input" => options.input = Some(value.into()),
                "--records" => options.records = value.parse()?,
                "--dir" => options.dir = value.into(),
                "--rate" => options.rate = value.parse()?,
                "--max-bytes" => options.max_bytes = value.parse()?,
                "--plot" => options.plot = Some(value.into()),
                _ => return Err(USAGE.into()),
            }
        }
        std::fs::create_dir_all(&options.dir)?;
        Ok(options)
    }
}
