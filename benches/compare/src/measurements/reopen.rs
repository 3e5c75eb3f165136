//! W7: a process writes 1 GB, says how much, and kills itself; then it is measured how long opening takes.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};

use super::{Measured, as_f64, check, fill};
use crate::payload::{Ledger, Look, Payloads};
use crate::peer::{Outcome, Peer, Receiver, Setup};
use crate::peers::{Task, with_named};

const RECORD_BYTES: usize = 1000;
const RECORDS: u64 = 1_000_000;
const FILLING: Duration = Duration::from_mins(1);

pub fn run<P: Peer>(dir: &Path) -> Outcome<Measured> {
    let told = Command::new(env::current_exe()?)
        .args(["--victim", P::ABOUT.name])
        .arg(dir)
        .stdout(Stdio::piped())
        .output()?;
    let text = String::from_utf8_lossy(&told.stdout);
    let sent = text.lines().find_map(|line| line.strip_prefix("@sent "));
    let sent: u64 = sent.ok_or("the process that was to be killed failed")?.parse()?;
    if told.status.code().is_some() {
        return Err("the process that was to be killed ended by itself".into());
    }
    let setup = Setup::plain(RECORD_BYTES);
    let begun = Instant::now();
    let peer = P::open(&dir.join("log"), &setup)?;
    let open = begun.elapsed();
    let payloads = Payloads::for_batches(RECORD_BYTES);
    let mut ledger = Ledger::new(&payloads, 1, Look::Whole);
    let mut receiver = peer.receiver(0)?;
    receiver.poll(1, &mut |payload| ledger.see(payload))?;
    let with_first = begun.elapsed();
    if P::MOST_READ < u64::MAX {
        drop(receiver);
        check(&peer, &payloads, 1, &[sent])?;
    } else {
        while receiver.poll(1000, &mut |payload| ledger.see(payload))? > 0 {}
        ledger.verdict(&[sent])?;
    }
    let figures = [open, with_first].map(|time| time.as_secs_f64() * 1e3).to_vec();
    Ok(Measured { figures, note: format!("{:.2} GB", as_f64(sent) * 1e-6) })
}

/// The process that is to be killed: sends what it can in batches, says how much, and is gone.
pub fn victim(peer: &str, dir: &Path) -> Outcome<()> {
    struct Victim<'a>(&'a Path);
    impl Task for Victim<'_> {
        type Result = Outcome<()>;

        fn with<P: Peer>(self) -> Self::Result {
            let peer = P::open(&self.0.join("log"), &Setup::plain(RECORD_BYTES))?;
            let mut payloads = Payloads::for_batches(RECORD_BYTES);
            let until = Instant::now() + FILLING;
            let sent = fill(&mut peer.sender(0)?, &mut payloads, 100, RECORDS, until)?;
            println!("\n@sent {sent}");
            std::io::stdout().flush()?;
            kill_process(getpid(), Signal::KILL)?;
            Err("it is dead by now".into())
        }
    }
    with_named(peer, Victim(dir)).ok_or("no such peer")?
}
