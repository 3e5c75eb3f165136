//! The command line.

use std::path::PathBuf;

use crate::peer::Outcome;
use crate::peers;
use crate::workload::{self, Workload};

pub const USAGE: &str = "\
cargo run --release --manifest-path benches/compare/Cargo.toml -- [workload …] [options]
cargo run --release --manifest-path benches/compare/Cargo.toml -- sweep --svg FILE [options]

Without a workload all of them are run. `w3` means w3-1, w3-8 and w3-64, and so on.

  --peer NAME       this peer only; may be given several times (limits are always run)
  --rounds N        how often each is measured, interleaved with the others (3; a sweep: 1)
  --markdown FILE   write the tables there, too
  --svg FILE        where a sweep is drawn
  --dir DIR         where peers put their files (below the target directory of this package)
  --list            print the workloads and the peers";

#[derive(Debug, Default)]
pub struct Arguments {
    pub is_sweep: bool,
    pub list: bool,
    wanted: Vec<String>,
    peers: Vec<String>,
    pub rounds: Option<usize>,
    pub markdown: Option<PathBuf>,
    pub svg: Option<PathBuf>,
    pub dir: Option<PathBuf>,
}

impl Arguments {
    pub fn parse(mut given: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut arguments = Self::default();
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--peer" => arguments.peers.push(value()?),
                "--rounds" => arguments.rounds = Some(value()?.parse()?),
                "--markdown" => arguments.markdown = Some(value()?.into()),
                "--svg" => arguments.svg = Some(value()?.into()),
                "--dir" => arguments.dir = Some(value()?.into()),
                "--list" => arguments.list = true,
                "sweep" => arguments.is_sweep = true,
                _ if argument.starts_with('-') => {
                    return Err(format!("unknown option {argument}").into());
                }
                _ => arguments.wanted.push(argument),
            }
        }
        arguments.check()?;
        Ok(arguments)
    }

    fn check(&self) -> Outcome<()> {
        let is_peer = |name: &&String| peers::all().iter().any(|about| about.name == **name);
        if let Some(name) = self.peers.iter().find(|name| !is_peer(name)) {
            return Err(format!("there is no peer {name}").into());
        }
        let is_workload = |name: &&String| workload::ALL.iter().any(|one| one.is_named(name));
        if let Some(name) = self.wanted.iter().find(|name| !is_workload(name)) {
            return Err(format!("there is no workload {name}").into());
        }
        if self.rounds == Some(0) {
            return Err("there is at least one round".into());
        }
        if self.is_sweep && (self.svg.is_none() || !self.wanted.is_empty()) {
            return Err("a sweep goes alone and needs --svg FILE".into());
        }
        Ok(())
    }

    pub fn workloads(&self) -> Vec<&'static Workload> {
        let is_wanted = |one: &&Workload| {
            self.wanted.is_empty() || self.wanted.iter().any(|name| one.is_named(name))
        };
        workload::ALL.iter().filter(is_wanted).collect()
    }

    pub fn peers(&self) -> Vec<&'static str> {
        let names = peers::all().iter().map(|about| about.name);
        let is_wanted =
            |name: &&str| self.peers.is_empty() || self.peers.iter().any(|one| one == name);
        names.filter(is_wanted).collect()
    }
}
