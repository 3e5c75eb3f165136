//! The slow sink behind the buffer: a file to which it adds, for each line it is given, its number and its
//! checksum. What is in there was delivered, whatever happens to this process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay::{Sink, SinkBatch, SinkError};

use crate::{PARTITIONS, Result};

/// What one line takes in the file: its number and its checksum.
pub(crate) const ENTRY_BYTES: usize = 12;
pub(crate) const FILE: &str = "delivered";

#[derive(Clone, Debug)]
pub(crate) struct Downstream {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    /// When how many had been delivered in this run.
    calls: Vec<(Instant, u64)>,
    delivered: u64,
}

impl Downstream {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(dir.join(FILE))?;
        // A call that was interrupted by a kill may have left a part of a line.
        let bytes = file.metadata()?.len();
        file.set_len(bytes - bytes % ENTRY_BYTES as u64)?;
        let shared = Shared { file, calls: Vec::new(), delivered: 0 };
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// How many lines it was given in this run.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).delivered
    }

    /// Lines a second from the first call to the last, and in the second with most.
    pub(crate) fn rates(&self) -> (f64, f64) {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = &shared.calls;
        let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return (0.0, 0.0) };
        let mean = (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64().max(1e-9);
        let (mut from, mut most) = (0, 0);
        for call in calls {
            while call.0 - calls[from].0 > Duration::from_secs(1) {
                from += 1;
            }
            most = most.max(call.1 - calls[from].1);
        }
        (mean, most as f64)
    }
}

impl Sink for Downstream {
    fn deliver(&self, batch: &SinkBatch) -> std::result::Result<(), SinkError> {
        let mut entries = Vec::with_capacity(batch.len() * ENTRY_BYTES);
        for record in batch {
            let number = record.offset() * u64::from(PARTITIONS) + u64::from(record.partition());
            entries.extend(number.to_le_bytes());
            entries.extend(crc32fast::hash(record.value().unwrap_or_default()).to_le_bytes());
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.file.write_all(&entries)?;
        shared.delivered += batch.len() as u64;
        let call = (Instant::now(), shared.delivered);
        shared.calls.push(call);
        Ok(())
    }
}
