//! A member of a group: what the group knows of it, and the little it shares with its consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::description::MemberDescription;
use crate::sync::{AtomicBool, AtomicU64};
use crate::topic_partition::TopicPartition;
use crate::waker::Waker;

/// A token that no partition's registration has: the group has something to say.
pub(crate) const GROUP_TOKEN: usize = usize::MAX;
/// In place of a time: the member is in a poll at this moment.
const POLLING: u64 = u64::MAX;

/// What a consumer and its group share, to be looked at without the group's lock.
#[derive(Debug)]
pub(crate) struct MemberLink {
    id: Arc<str>,
    waker: Arc<Waker>,
    /// Whether the group has something for the member to do. Stored with Release after what it
    /// tells of, taken with Acquire before that is looked at; the group's lock does the rest.
    changed: AtomicBool,
    /// When the member's last poll returned, by the broker's monotonic clock, in milliseconds. A hint
    /// for whoever looks for members that do not poll; Relaxed, because only its value matters.
    idle_since: AtomicU64,
    /// Whether another has taken the member's name. Stored and loaded as `changed` is.
    superseded: AtomicBool,
    /// The generation in which the member last looked at what it has. Relaxed: only its value
    /// matters.
    generation: AtomicU64,
}

impl MemberLink {
    /// A member that has something to do: look at what it was given.
    pub(crate) fn new(id: Arc<str>, waker: Arc<Waker>) -> Self {
        Self {
            id,
            waker,
            changed: AtomicBool::new(true),
            idle_since: AtomicU64::new(POLLING),
            superseded: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Says that there is something to do; [`ring`](Self::ring) wakes the member if it sleeps.
    pub(crate) fn set_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    pub(crate) fn ring(&self) {
        self.waker.ring(GROUP_TOKEN);
    }

    /// Whether there is something to do.
    #[inline]
    pub(crate) fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Says that the member is about to look; what comes later it will be told again.
    pub(crate) fn clear_changed(&self) {
        self.changed.store(false, Ordering::Release);
    }

    /// The generation in which the member last looked at what it has.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Says that another has taken the member's name.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    /// Whether another has taken the member's name.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Says that the member is in a poll.
    pub(crate) fn set_polling(&self) {
        self.idle_since.store(POLLING, Ordering::Relaxed);
    }

    /// Says that the member's poll returned at `now`.
    pub(crate) fn set_idle(&self, now: u64) {
        self.idle_since.store(now, Ordering::Relaxed);
    }

    /// When the member will have been idle for `interval`, if it does not poll again.
    pub(super) fn overdue_at(&self, interval: Duration, now: u64) -> u64 {
        let since = match self.idle_since.load(Ordering::Relaxed) {
            POLLING => now,
            since => since,
        };
        since.saturating_add(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What a member reads, or wants to.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// Its share of these topics, which are sorted. `is_pattern` if they are those that matched.
    Topics { names: Vec<Arc<str>>, is_pattern: bool },
    /// Just these partitions.
    Partitions(Vec<TopicPartition>),
}

/// A member, as its group keeps it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) link: Arc<MemberLink>,
    /// The name under which an application has one member at a time.
    pub(super) instance: Option<Arc<str>>,
    pub(super) wanted: Wanted,
    pub(super) max_poll_interval: Option<Duration>,
    /// What an earlier member of the same name had.
    pub(super) remembered: Vec<TopicPartition>,
    /// What it is to read.
    pub(super) target: BTreeSet<TopicPartition>,
    /// What it does read, and the identity of the topic.
    pub(super) held: BTreeMap<TopicPartition, u64>,
}

impl Member {
    /// When it will have gone without a poll for too long, if that is looked at.
    pub(super) fn overdue_at(&self, now: u64) -> Option<u64> {
        Some(self.link.overdue_at(self.max_poll_interval?, now))
    }

    /// The topics it wants.
    pub(super) fn topics(&self) -> &[Arc<str>] {
        match &self.wanted {
            Wanted::Topics { names, .. } => names,
            Wanted::Partitions(_) => &[],
        }
    }

    pub(super) fn describe(&self) -> MemberDescription {
        MemberDescription {
            member: self.link.id().to_string(),
            static_member: self.instance.as_ref().map(ToString::to_string),
            topics: self.topics().to_vec(),
            assignment: self.held.keys().cloned().collect(),
            target: self.target.iter().cloned().collect(),
        }
    }

    /// Whether it named its partitions itself.
    pub(super) fn is_manual(&self) -> bool {
        matches!(self.wanted, Wanted::Partitions(_))
    }
}
