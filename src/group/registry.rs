//! All groups of a broker, by name.
//!
//! A group is here while it has members; what it has committed is in the offset store, so one that
//! has no members costs nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::coordinator::Group;
use super::member::MemberLink;
use super::offset_store::{Backwards, OffsetStore, TopicOffsets};
use super::pin::{PinScope, pin};
#[cfg(test)]
use super::planted::Planted;
use super::state::{Joining, Shapes};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::timestamp::Timestamp;

/// The groups of a broker.
#[derive(Debug)]
pub(crate) struct Groups {
    store: Arc<OffsetStore>,
    /// The groups that have members. Comes before a group's own lock.
    active: Mutex<BTreeMap<Arc<str>, Arc<Group>>>,
    /// How long a group without members is remembered; `None` for ever.
    retention: Option<Duration>,
    /// Numbers members. Relaxed: only its values matter.
    members: AtomicU64,
    /// The highest generation of a group that has lost its members. Relaxed, as `members`.
    generations: AtomicU64,
    #[cfg(test)]
    planted: parking_lot::Mutex<Planted>,
}

/// The longest name of a group, in bytes.
const MAX_NAME_BYTES: usize = 249;

/// Checks the name of a group.
pub(crate) fn check_group_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 249 bytes"
    } else {
        return Ok(());
    };
    Err(Error::InvalidGroupName { name: name.to_owned(), reason })
}

impl Groups {
    pub(crate) fn new(store: Arc<OffsetStore>, retention: Option<Duration>) -> Self {
        let active = Mutex::new(BTreeMap::new());
        Self {
            store,
            active,
            retention,
            members: AtomicU64::new(1),
            generations: AtomicU64::new(0),
            #[cfg(test)]
            planted: parking_lot::Mutex::default(),
        }
    }

    /// Plants a bug in groups that come to be from now on.
    #[cfg(test)]
    #[cfg_attr(loom, expect(dead_code, reason = "groups are made without a registry there"))]
    pub(crate) fn plant(&self, planted: Planted) {
        *self.planted.lock() = planted;
    }

    pub(crate) fn store(&self) -> &Arc<OffsetStore> {
        &self.store
    }

    /// An id no other member of this broker has.
    pub(crate) fn member_id(&self, instance: Option<&str>) -> Arc<str> {
        let number = self.members.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:06}", instance.unwrap_or("consumer")).into()
    }

    /// Adds a member to a group, and shares its partitions out anew.
    pub(crate) fn join(
        &self,
        name: &str,
        joining: Joining,
        shapes: Shapes<'_>,
    ) -> Result<Arc<Group>> {
        let now = Timestamp::from_millis(joining.at);
        let group = {
            let mut groups = self.active.lock();
            let present = groups.get(name).map(Arc::clone);
            let is_first = present.is_none();
            let group = present.unwrap_or_else(|| {
                let generation = self.generations.load(Ordering::Relaxed);
                Arc::new(Group::new(name.into(), Arc::clone(&self.store), generation))
            });
            group.join(joining)?;
            if is_first {
                self.note_members(name, true, now);
            }
            #[cfg(test)]
            group.plant(*self.planted.lock());
            groups.insert(Arc::clone(group.name()), Arc::clone(&group));
            group
        };
        self.store.follow_up();
        group.rebalance(shapes);
        Ok(group)
    }

    /// Writes down whether a group has members, if groups without are forgotten. What cannot be
    /// written down is taken from what was written last, or from when the broker was opened.
    fn note_members(&self, name: &str, any: bool, now: Timestamp) {
        if self.retention.is_some() {
            drop(self.store.set_members(name, any, now.as_millis()));
        }
    }

    /// Takes a member out of its group, and shares its partitions out anew.
    pub(crate) fn leave(
        &self,
        group: &Arc<Group>,
        link: &MemberLink,
        shapes: Shapes<'_>,
        now: Timestamp,
    ) {
        group.leave(link);
        let is_empty = {
            let mut groups = self.active.lock();
            let is_empty = group.member_count() == 0;
            if is_empty && groups.get(group.name()).is_some_and(|one| Arc::ptr_eq(one, group)) {
                self.generations.fetch_max(group.generation(), Ordering::Relaxed);
                self.note_members(group.name(), false, now);
                groups.remove(group.name());
            }
            is_empty
        };
        if !is_empty {
            group.rebalance(shapes);
        }
        // Whoever leaves is not to be held up by what others have left behind.
        drop(self.expire(now));
    }

    /// Takes it that groups which had members when the broker ended, as it was killed, for one, had them
    /// until now.
    pub(crate) fn settle_members(&self, now: Timestamp) -> Result<()> {
        if self.retention.is_some() {
            for name in self.store.names().iter().filter(|name| self.store.has_members(name)) {
                self.store.set_members(name, false, now.as_millis())?;
            }
            self.store.follow_up();
        }
        Ok(())
    }

    /// Writes down that all groups have lost their members, because the broker closes.
    pub(crate) fn close(&self, now: Timestamp) -> Result<()> {
        for group in self.all() {
            self.note_members(group.name(), false, now);
        }
        self.store.close()
    }

    /// Says that topics were created, deleted or grown.
    pub(crate) fn topics_changed(&self, shapes: Shapes<'_>) {
        for group in self.all() {
            if group.topics_changed(shapes) {
                group.rebalance(shapes);
            }
        }
    }

    /// Tells every member of every group that there is something to look at.
    pub(crate) fn call_all(&self) {
        for group in self.all() {
            group.call_all();
        }
    }

    fn all(&self) -> Vec<Arc<Group>> {
        self.active.lock().values().map(Arc::clone).collect()
    }

    /// The group of this name, if it has members.
    pub(crate) fn active(&self, name: &str) -> Option<Arc<Group>> {
        self.active.lock().get(name).map(Arc::clone)
    }

    /// The names of all groups that have members or have committed something, sorted.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let mut names = self.store.names();
        names.extend(self.active.lock().keys().map(Arc::clone));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Commits where a group begins in partitions that the member holds who asks, as far as that has
    /// not been decided.
    pub(crate) fn pin_held(&self, name: &str, start: TopicOffsets, at: i64) -> Result<()> {
        pin(&self.store, name, start, PinScope::Held, at)?;
        self.store.follow_up();
        Ok(())
    }

    /// Deletes a group that has no members, durably.
    pub(crate) fn delete(&self, name: &str, now: Timestamp) -> Result<()> {
        let written = self.without_members(name, || {
            if self.store.active_at(name).is_none() {
                return Err(Error::UnknownGroup { group: name.to_owned() });
            }
            self.store.delete(name, now.as_millis())
        })?;
        self.store.follow_up();
        self.store.sync_to(written)
    }

    /// Sets what a group without members has committed, durably.
    pub(crate) fn reset(&self, name: &str, offsets: &[TopicOffsets], now: Timestamp) -> Result<()> {
        let commit = || {
            let written = self.store.commit(name, offsets, Backwards::Allow, now.as_millis())?;
            // It is as idle as it was.
            self.note_members(name, false, now);
            Ok(written)
        };
        let written = self.without_members(name, commit)?;
        self.store.follow_up();
        self.store.sync_to(written)
    }

    /// The error for a group that has members.
    pub(crate) fn check_without_members(&self, name: &str) -> Result<()> {
        self.without_members(name, || Ok(()))
    }

    /// Does `work` while nobody can join the group, if it has no members.
    fn without_members<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let groups = self.active.lock();
        if let Some(group) = groups.get(name) {
            let members = group.member_count();
            if members > 0 {
                return Err(Error::GroupNotEmpty { group: name.to_owned(), members });
            }
        }
        work()
    }

    /// Forgets groups that have been without members for longer than they are to be remembered.
    pub(crate) fn expire(&self, now: Timestamp) -> Result<()> {
        let Some(retention) = self.retention else { return Ok(()) };
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        for name in self.store.names() {
            let is_idle = || {
                let active_at = self.store.active_at(&name);
                active_at.is_some_and(|at| at.saturating_add(retention) <= now.as_millis())
            };
            let forget = || {
                if is_idle() {
                    self.store.delete(&name, now.as_millis())?;
                }
                Ok(())
            };
            match self.without_members(&name, forget) {
                Ok(()) | Err(Error::GroupNotEmpty { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.store.follow_up();
        Ok(())
    }
}
