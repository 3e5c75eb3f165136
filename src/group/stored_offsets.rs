//! What all groups have committed, in memory: what the entries of the offset store come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::{Entry, OffsetEntry, TopicEntry};
use crate::offset_and_metadata::OffsetAndMetadata;

/// All groups that have committed something or were in use.
#[derive(Debug, Default)]
pub(super) struct StoredOffsets {
    groups: BTreeMap<Arc<str>, StoredGroup>,
}

#[derive(Debug, Default)]
struct StoredGroup {
    topics: BTreeMap<Arc<str>, StoredTopic>,
    /// When something was last written down for it, in milliseconds since the Unix epoch.
    active_at: i64,
    /// Whether it has members, or had when that was written down last.
    has_members: bool,
}

/// What a group has committed in a topic.
#[derive(Debug, Default)]
pub(super) struct StoredTopic {
    /// Tells the topic from another one of the same name.
    pub(super) id: u64,
    pub(super) partitions: BTreeMap<u32, OffsetAndMetadata>,
}

impl StoredOffsets {
    /// Makes the change an entry stands for.
    pub(super) fn apply(&mut self, entry: &Entry<'_>, at: i64) {
        match entry {
            Entry::Commit { group, topics } => {
                let stored = self.group_mut(group);
                stored.active_at = at;
                stored.has_members = true;
                for topic in topics {
                    stored.commit(topic);
                }
            }
            Entry::Members { group, any } => {
                let stored = self.group_mut(group);
                stored.active_at = at;
                stored.has_members = *any;
            }
            Entry::Delete { group } => drop(self.groups.remove(*group)),
            Entry::Forget { topic_id } => self.retain(|_, id| id != *topic_id),
            Entry::SnapshotEnd => {}
        }
    }

    fn group_mut(&mut self, group: &str) -> &mut StoredGroup {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.into(), StoredGroup::default());
        }
        self.groups.get_mut(group).expect("it was put there")
    }

    /// Keeps what was committed in topics of which `keep` says so, by name and identity.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, u64) -> bool) {
        for group in self.groups.values_mut() {
            group.topics.retain(|name, topic| keep(name, topic.id));
        }
    }

    /// Whether some group has committed something in the topic with this identity.
    pub(super) fn has_topic(&self, id: u64) -> bool {
        self.groups.values().any(|group| group.topics.values().any(|topic| topic.id == id))
    }

    pub(super) fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// When something was last written down for a group.
    pub(super) fn active_at(&self, group: &str) -> Option<i64> {
        self.groups.get(group).map(|group| group.active_at)
    }

    /// Whether a group has members, as far as that was written down.
    pub(super) fn has_members(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.has_members)
    }

    /// What a group has committed, by topic.
    pub(super) fn topics(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, &StoredTopic)> {
        self.groups.get(group).into_iter().flat_map(|group| &group.topics)
    }

    /// What a group has committed in the topic of this name and identity.
    pub(super) fn topic(&self, group: &str, topic: &str, id: u64) -> Option<&StoredTopic> {
        self.groups.get(group)?.topics.get(topic).filter(|topic| topic.id == id)
    }

    /// Entries that say all of this, and their times.
    pub(super) fn snapshot(&self) -> Vec<(i64, Vec<u8>)> {
        let mut entries = Vec::with_capacity(self.groups.len());
        for (name, group) in &self.groups {
            let mut put = |entry: Entry<'_>| {
                let mut body = Vec::new();
                entry.encode(&mut body);
                entries.push((group.active_at, body));
            };
            for (topic, stored) in &group.topics {
                for topics in stored.entries(topic) {
                    put(Entry::Commit { group: name, topics: vec![topics] });
                }
            }
            put(Entry::Members { group: name, any: group.has_members });
        }
        entries
    }
}

impl StoredGroup {
    fn commit(&mut self, entry: &TopicEntry<'_>) {
        if !self.topics.contains_key(entry.topic) {
            self.topics.insert(entry.topic.into(), StoredTopic::default());
        }
        let topic = self.topics.get_mut(entry.topic).expect("it was put there");
        if topic.id != entry.id {
            *topic = StoredTopic { id: entry.id, partitions: BTreeMap::new() };
        }
        for OffsetEntry { partition, offset, metadata } in &entry.offsets {
            let stored = topic.partitions.entry(*partition).or_default();
            stored.offset = *offset;
            if stored.metadata != *metadata {
                (*metadata).clone_into(&mut stored.metadata);
            }
        }
    }
}

/// How many offsets of a topic stand in one entry of a snapshot: with the longest texts they make an
/// entry of the longest kind.
const SNAPSHOT_OFFSETS: usize = 2048;

impl StoredTopic {
    fn entries<'a>(&'a self, topic: &'a str) -> Vec<TopicEntry<'a>> {
        let offset = |(partition, stored): (&u32, &'a OffsetAndMetadata)| OffsetEntry {
            partition: *partition,
            offset: stored.offset,
            metadata: &stored.metadata,
        };
        let mut offsets = self.partitions.iter().map(offset).peekable();
        let mut entries = Vec::new();
        while offsets.peek().is_some() {
            let offsets = offsets.by_ref().take(SNAPSHOT_OFFSETS).collect();
            entries.push(TopicEntry { topic, id: self.id, offsets });
        }
        entries
    }
}
