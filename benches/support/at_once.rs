//! Threads that begin at the same moment, and how long it takes until all are done.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs each of `others` on a thread of its own and `here` on this one. The clock starts with the first
/// that begins, which need not be this one, and stops when the last has ended.
pub fn at_once<F: FnOnce() + Send>(others: Vec<F>, here: impl FnOnce()) -> Duration {
    let are_ready = Barrier::new(others.len() + 1);
    let begin = || {
        are_ready.wait();
        Instant::now()
    };
    std::thread::scope(|scope| {
        let begin = &begin;
        let run = |other: F| {
            scope.spawn(move || {
                let _panics_are_final = EndsTheBench;
                let start = begin();
                other();
                start
            })
        };
        let threads: Vec<_> = others.into_iter().map(run).collect();
        let mut first = begin();
        here();
        for thread in threads {
            first = first.min(thread.join().expect("a panic would have ended the program"));
        }
        first.elapsed()
    })
}

/// Ends the program if it is dropped by a panic, so that nobody waits for what will not come.
struct EndsTheBench;

impl Drop for EndsTheBench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(101);
        }
    }
}
