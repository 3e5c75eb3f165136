//! What slow calls were slow for, as far as it shows, and a table of it.

use super::observed::{Observed, is_in};
use super::paced::{Paced, SLOW, Slow};

/// Why a call was slow: the first of these that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    NewSegment,
    Preempted,
    Waited,
    MajorFault,
    FaultInSync,
    Fault,
    InSync,
    InDeletion,
    Unknown,
}

const CAUSES: [(Cause, &str); 9] = [
    (Cause::NewSegment, "it began a segment"),
    (Cause::Preempted, "another thread got its core"),
    (Cause::Waited, "it waited, for a lock or the disk"),
    (Cause::MajorFault, "a page that had to be read"),
    (Cause::FaultInSync, "a page fault, while syncing"),
    (Cause::Fault, "a page fault"),
    (Cause::InSync, "nothing counted, while syncing"),
    (Cause::InDeletion, "nothing counted, while deleting"),
    (Cause::Unknown, "unknown: interrupt, hypervisor"),
];

fn cause(slow: &Slow, observed: &Observed) -> Cause {
    let Slow { number, usage, .. } = *slow;
    let in_sync = is_in(&observed.syncs, number);
    match () {
        () if observed.begun.contains(&number) => Cause::NewSegment,
        () if usage.preemptions > 0 => Cause::Preempted,
        () if usage.waits > 0 => Cause::Waited,
        () if usage.major_faults > 0 => Cause::MajorFault,
        () if usage.minor_faults > 0 && in_sync => Cause::FaultInSync,
        () if usage.minor_faults > 0 => Cause::Fault,
        () if in_sync => Cause::InSync,
        () if is_in(&observed.deletions, number) => Cause::InDeletion,
        () => Cause::Unknown,
    }
}

/// Prints, for each band of the service times, what its calls were slow for.
pub fn print(paced: &Paced, observed: &Observed) {
    let edge = |millionths| paced.service.quantile(millionths);
    let bands = [
        ("p99 to p99.9", edge(990_000), edge(999_000)),
        ("p99.9 to p99.99", edge(999_000), edge(999_900)),
        ("above p99.99", edge(999_900), paced.service.max()),
    ];
    let micros = |nanos: u64| nanos as f64 / 1e3;
    println!(
        "\n| service time | for | calls | share | median µs | max µs |\n|---|---|---|---|---|---|"
    );
    for (band, from, to) in bands {
        let inside: Vec<&Slow> =
            paced.slow.iter().filter(|slow| slow.nanos > from && slow.nanos <= to).collect();
        let all = paced.service.up_to(to) - paced.service.up_to(from);
        let share = |calls: usize| 100.0 * calls as f64 / all as f64;
        let fast = all as usize - inside.len();
        if fast > 0 {
            let limit = micros(SLOW);
            println!(
                "| {band} | not above {limit} µs: not looked at | {fast} | {:.1} % | | |",
                share(fast)
            );
        }
        for (one, name) in CAUSES {
            let mut nanos: Vec<u64> = inside
                .iter()
                .filter(|slow| cause(slow, observed) == one)
                .map(|slow| slow.nanos)
                .collect();
            nanos.sort_unstable();
            let Some(max) = nanos.last() else { continue };
            println!(
                "| {band} | {name} | {} | {:.1} % | {:.1} | {:.1} |",
                nanos.len(),
                share(nanos.len()),
                micros(nanos[nanos.len() / 2]),
                micros(*max)
            );
        }
    }
}
