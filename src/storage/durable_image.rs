//! What a simulated disk has on stable storage, beside what a running process sees.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::memory::{NodeId, ROOT};

/// What is on stable storage.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    pub(super) dirs: HashMap<NodeId, BTreeMap<String, NodeId>>,
    pub(super) files: HashMap<NodeId, Vec<u8>>,
    /// Changes to directories since they were synced, oldest first.
    pub(super) pending: Vec<(NodeId, DirChange)>,
}

/// A change to the entries of a directory.
#[derive(Clone, Debug)]
pub(super) enum DirChange {
    Link(String, NodeId),
    Unlink(String),
    Rename(String, String),
}

impl Durable {
    /// Makes a change to a directory durable.
    pub(super) fn apply(&mut self, dir: NodeId, change: &DirChange) {
        let entries = self.dirs.entry(dir).or_default();
        match change {
            DirChange::Link(name, id) => {
                entries.insert(name.clone(), *id);
            }
            DirChange::Unlink(name) => {
                entries.remove(name);
            }
            DirChange::Rename(from, to) => {
                if let Some(id) = entries.remove(from) {
                    entries.insert(to.clone(), id);
                }
            }
        }
    }

    /// Makes every pending change to a directory durable.
    pub(super) fn sync_dir(&mut self, dir: NodeId) {
        let (of_dir, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|(at, _)| *at == dir);
        self.pending = rest;
        let changes: Vec<(NodeId, DirChange)> = of_dir;
        for (_, change) in &changes {
            self.apply(dir, change);
        }
    }
}

/// Every file and directory that durable entries lead to.
pub(super) fn reachable(durable: &Durable) -> HashSet<NodeId> {
    let mut reached = HashSet::from([ROOT]);
    let mut open = vec![ROOT];
    while let Some(dir) = open.pop() {
        for id in durable.dirs.get(&dir).into_iter().flat_map(BTreeMap::values) {
            if reached.insert(*id) {
                open.push(*id);
            }
        }
    }
    reached
}
