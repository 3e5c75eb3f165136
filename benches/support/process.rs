//! What this process holds and has done, as Linux tells it: files, mappings, memory, time, writes.

use std::time::Duration;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    let kib = line.trim_start_matches(':').trim().trim_end_matches("kB").trim();
    kib.parse::<u64>().expect("a number") << 10
}

/// What it holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    pub files: u64,
    pub mappings: u64,
    /// Memory of its own, in bytes: no page of a file.
    pub own_bytes: u64,
    /// All resident memory, mapped pages of files included.
    pub resident_bytes: u64,
    /// What the kernel takes for its tables of pages, which no figure of resident memory has.
    pub page_table_bytes: u64,
}

impl Holdings {
    pub fn look() -> Self {
        let files = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
        Self {
            // The directory that is being read is one of them.
            files: files as u64 - 1,
            mappings: maps.lines().count() as u64,
            own_bytes: status("RssAnon"),
            resident_bytes: status("VmRSS"),
            page_table_bytes: status("VmPTE"),
        }
    }
}

/// What it has done since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Deeds {
    /// Processor time of all threads.
    pub time: Duration,
    /// Bytes handed to system calls that write, and how many of those there were.
    pub written_bytes: u64,
    pub write_calls: u64,
    /// Bytes that were made to go to the disk, by stores into mappings too.
    pub disk_bytes: u64,
}

impl Deeds {
    pub fn look() -> Self {
        let io = std::fs::read_to_string("/proc/self/io").expect("input and output");
        let of = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim().parse().expect("a number")
        };
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self {
            time: time.try_into().expect("time that has passed"),
            written_bytes: of("wchar:"),
            write_calls: of("syscw:"),
            disk_bytes: of("write_bytes:"),
        }
    }

    /// What was done since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            time: self.time.saturating_sub(before.time),
            written_bytes: self.written_bytes - before.written_bytes,
            write_calls: self.write_calls - before.write_calls,
            disk_bytes: self.disk_bytes - before.disk_bytes,
        }
    }
}
