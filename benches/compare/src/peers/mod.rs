//! The peers, one a file, and how one is chosen by its name.

mod commitlog;
mod crossbeam;
mod fjall;
mod forebay;
mod kafko;
mod raft_engine;
mod std_mpsc;
mod walrus;
mod yaque;

use crate::peer::{About, Need, Peer};

/// The peers in the order in which they are printed.
const ALL: [About; 9] = [
    forebay::Forebay::ABOUT,
    kafko::Kafko::ABOUT,
    walrus::WalrusPeer::ABOUT,
    commitlog::Commitlog::ABOUT,
    yaque::Yaque::ABOUT,
    raft_engine::RaftEngine::ABOUT,
    fjall::Fjall::ABOUT,
    crossbeam::Crossbeam::ABOUT,
    std_mpsc::StdMpsc::ABOUT,
];

pub fn all() -> &'static [About] {
    &ALL
}

/// Something to be done with a peer whose type is known only by name.
pub trait Task {
    type Result;

    fn with<P: Peer>(self) -> Self::Result;
}

/// `None` if there is no peer of that name.
pub fn with_named<T: Task>(name: &str, task: T) -> Option<T::Result> {
    Some(match name {
        "forebay" => task.with::<forebay::Forebay>(),
        "kafko" => task.with::<kafko::Kafko>(),
        "walrus-rust" => task.with::<walrus::WalrusPeer>(),
        "commitlog" => task.with::<commitlog::Commitlog>(),
        "yaque" => task.with::<yaque::Yaque>(),
        "raft-engine" => task.with::<raft_engine::RaftEngine>(),
        "fjall" => task.with::<fjall::Fjall>(),
        "crossbeam-channel" => task.with::<crossbeam::Crossbeam>(),
        "std-mpsc" => task.with::<std_mpsc::StdMpsc>(),
        _ => return None,
    })
}

/// Why a peer cannot do something, if so.
pub fn lacks(name: &str, need: Need) -> Option<&'static str> {
    struct Lacks(Need);
    impl Task for Lacks {
        type Result = Option<&'static str>;

        fn with<P: Peer>(self) -> Self::Result {
            P::lacks(self.0)
        }
    }
    with_named(name, Lacks(need)).flatten()
}

/// What no channel in memory can do.
fn channel_lacks(need: Need) -> Option<&'static str> {
    match need {
        Need::Nothing | Need::Parking => None,
        Need::Files | Need::Synced => Some("memory only"),
        Need::Commits => Some("no consumer positions"),
    }
}

/// The version of a package this program was built with.
pub fn version(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"");
    let mut lines = include_str!("../../Cargo.lock").lines();
    lines
        .by_ref()
        .find(|line| *line == name)
        .and_then(|_| lines.next())
        .and_then(|line| line.strip_prefix("version = \""))
        .map_or("unknown", |line| line.trim_end_matches('"'))
}
