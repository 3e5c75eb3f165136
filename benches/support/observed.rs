//! What a broker does by itself while somebody sends, seen from outside: which send began a segment, and while
//! which sends a sync or a deletion was under way.
//!
//! Nothing is asked of the sending thread. A sync covers what was sent when it began, so the offset up to which
//! it went says when that was; when it ended is seen by another thread, which looks every millisecond.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::Topic;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(1);
/// At every so manieth look the directory is listed.
const LIST: u64 = 50;

/// Offsets of the sends during which something went on.
#[derive(Debug, Default)]
pub struct Observed {
    /// The first offset of each segment.
    pub begun: BTreeSet<u64>,
    pub syncs: Vec<RangeInclusive<u64>>,
    pub deletions: Vec<RangeInclusive<u64>>,
}

/// Looks at partition 0 until `is_over`.
pub fn observe(topic: &Topic, partition_dir: &Path, is_over: &AtomicBool) -> Observed {
    let mut observed = Observed::default();
    let end = || topic.latest_offset(0).expect("offset");
    let mut synced = topic.synced_offset(0).expect("offset");
    let mut first = topic.earliest_offset(0).expect("offset");
    let mut end_before = end();
    let mut look = 0;
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(EVERY);
        let (synced_here, first_here) =
            (topic.synced_offset(0).expect("offset"), topic.earliest_offset(0).expect("offset"));
        let end_here = end();
        if synced_here != synced {
            observed.syncs.push(synced_here..=end_here);
        }
        if first_here != first {
            observed.deletions.push(end_before..=end_here);
        }
        (synced, first, end_before) = (synced_here, first_here, end_here);
        look += 1;
        if look % LIST == 0 {
            list(partition_dir, &mut observed.begun);
        }
    }
    list(partition_dir, &mut observed.begun);
    observed
}

/// Adds the first offsets of the segments in a directory, which their files are named after.
fn list(dir: &Path, begun: &mut BTreeSet<u64>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log"));
        begun.extend(base.and_then(|base| base.parse::<u64>().ok()));
    }
}

/// Whether a number is in one of some ranges, whose ends rise.
pub fn is_in(ranges: &[RangeInclusive<u64>], number: u64) -> bool {
    let behind = ranges.partition_point(|range| *range.end() < number);
    ranges.get(behind).is_some_and(|range| range.contains(&number))
}
