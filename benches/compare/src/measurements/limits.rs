//! What the machine allows: the bare loops that the peers are compared with.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};

use super::latency::shares;
use super::send::sweep_point;
use super::{BUDGET, Measured, count_of};
use crate::payload::{Ledger, Look, Payloads};
use crate::peer::Outcome;

/// What a record has around it.
const HEADER: usize = 24;

/// Runs the limit row of that name.
pub fn limit(name: &str, record_bytes: usize, dir: &Path) -> Outcome<Measured> {
    match name {
        "limit: warm mmap + CRC" => {
            write(&dir.join("file"), record_bytes, 1, count_of(record_bytes), Duration::MAX)
        }
        "limit: CRC per 100" => {
            let count = count_of(record_bytes).next_multiple_of(100);
            write(&dir.join("file"), record_bytes, 100, count, Duration::MAX)
        }
        "limit: walk + CRC" => walk(&dir.join("file"), record_bytes),
        "limit: pwrite + fdatasync" => durable(&dir.join("file"), record_bytes),
        "limit: spin, one way" => Ok(spin()),
        "limit: condvar, one way" => Ok(condvar()),
        "limit: sweep" => {
            let (count, budget) = sweep_point(record_bytes);
            write(&dir.join("file"), record_bytes, 1, count, budget)
        }
        _ => Err("no such limit".into()),
    }
}

/// A file with real blocks, mapped, and every page touched.
fn warm_file(path: &Path, bytes: usize) -> Outcome<MmapMut> {
    let file = reserved(path, bytes)?;
    // SAFETY: nobody else knows the file.
    #[allow(unsafe_code, reason = "the limit is what a bare mapping allows")]
    let mut map = unsafe { MmapMut::map_mut(&file) }?;
    map.fill(1);
    Ok(map)
}

fn reserved(path: &Path, bytes: usize) -> Outcome<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
    Ok(file)
}

/// Payload and header copied into a mapped file, one CRC for every `group` records.
fn write(
    path: &Path,
    record_bytes: usize,
    group: usize,
    count: u64,
    budget: Duration,
) -> Outcome<Measured> {
    let mut map = warm_file(path, (usize::try_from(count)? + group) * (record_bytes + HEADER))?;
    let mut payloads =
        if group > 1 { Payloads::for_batches(record_bytes) } else { Payloads::new(record_bytes) };
    let begun = Instant::now();
    let (mut at, mut number) = (0, 0);
    while number < count {
        let start = at + HEADER;
        let mut end = start;
        for _ in 0..group {
            map[end..end + record_bytes].copy_from_slice(payloads.stamped(number));
            end += record_bytes;
            number += 1;
        }
        let crc = crc32fast::hash(&map[start..end]);
        let length = u32::try_from(end - start)?;
        map[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        map[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        map[at + 8..at + 16].copy_from_slice(&number.to_le_bytes());
        map[at + 16..at + 24].copy_from_slice(&number.to_le_bytes());
        at = end;
        if number % 256 == 0 && begun.elapsed() >= budget {
            break;
        }
    }
    let time = begun.elapsed();
    let mut ledger = Ledger::new(&payloads, 1, Look::Whole);
    visit(&map[..at], record_bytes, &mut ledger)?;
    ledger.verdict(&[number])?;
    Ok(Measured::rate(number, time))
}

/// Frames in place, each checksum checked.
fn visit(map: &[u8], record_bytes: usize, ledger: &mut Ledger) -> Outcome<()> {
    let mut at = 0;
    while at < map.len() {
        let word = |at: usize| u32::from_le_bytes(map[at..at + 4].try_into().expect("4 bytes"));
        let length = usize::try_from(word(at + 4))?;
        let body = &map[at + HEADER..at + HEADER + length];
        if crc32fast::hash(body) != word(at) {
            return Err("check failed: a checksum is wrong".into());
        }
        body.chunks_exact(record_bytes).for_each(|payload| ledger.see(payload));
        at += HEADER + length;
    }
    Ok(())
}

fn walk(path: &Path, record_bytes: usize) -> Outcome<Measured> {
    let count = count_of(record_bytes);
    write(path, record_bytes, 1, count, Duration::MAX)?;
    let file = File::open(path)?;
    // SAFETY: nobody else knows the file.
    #[allow(unsafe_code, reason = "the limit is what a bare mapping allows")]
    let map = unsafe { memmap2::Mmap::map(&file) }?;
    let bytes = usize::try_from(count)? * (record_bytes + HEADER);
    let mut ledger = Ledger::new(&Payloads::new(record_bytes), 1, Look::Quick);
    let begun = Instant::now();
    visit(&map[..bytes], record_bytes, &mut ledger)?;
    let time = begun.elapsed();
    ledger.verdict(&[count])?;
    Ok(Measured::rate(count, time))
}

/// One record after the other into reserved space, each synced.
fn durable(path: &Path, record_bytes: usize) -> Outcome<Measured> {
    let file = reserved(path, 8 << 20)?;
    file.sync_all()?;
    let mut payloads = Payloads::new(record_bytes);
    let mut frame = vec![0; record_bytes + HEADER];
    let (mut sent, begun) = (0, Instant::now());
    while begun.elapsed() < BUDGET {
        frame[HEADER..].copy_from_slice(payloads.stamped(sent));
        file.write_all_at(&frame, sent * frame.len() as u64)?;
        file.sync_data()?;
        sent += 1;
    }
    Ok(Measured::rate(sent, begun.elapsed()))
}

/// Half of what a round trip between two threads takes, by its shares.
fn half_trips(mut trip: impl FnMut(u64), trips: u64) -> Measured {
    let mut times: Vec<u64> = (1..=trips)
        .map(|number| {
            let begun = Instant::now();
            trip(number);
            u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX) / 2
        })
        .collect();
    times.sort_unstable();
    Measured { figures: shares(&times), note: "half of a round trip".to_owned() }
}

fn spin() -> Measured {
    const TRIPS: u64 = 200_000;
    let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let until = |word: &AtomicU64, number| {
        while word.load(Ordering::Acquire) < number {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=TRIPS {
                until(&there, number);
                back.store(number, Ordering::Release);
            }
        });
        let trip = |number| {
            there.store(number, Ordering::Release);
            until(&back, number);
        };
        half_trips(trip, TRIPS)
    })
}

fn condvar() -> Measured {
    const TRIPS: u64 = 20_000;
    let (word, changed) = (Mutex::new(0), Condvar::new());
    // Even numbers are for the one thread, odd ones for the other.
    let until = |number: u64| {
        let mut held = word.lock().unwrap_or_else(PoisonError::into_inner);
        while *held < number {
            held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let put = |number: u64| {
        *word.lock().unwrap_or_else(PoisonError::into_inner) = number;
        changed.notify_one();
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=TRIPS {
                until(2 * number - 1);
                put(2 * number);
            }
        });
        let trip = |number| {
            put(2 * number - 1);
            until(2 * number);
        };
        half_trips(trip, TRIPS)
    })
}
