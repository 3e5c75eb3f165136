//! Joining, letting go, committing and leaving on two threads, in every order they can take.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --lib group::tests::hand_over`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;

use crate::background::{Background, Inline};
use crate::group::assignor::Assignor;
use crate::group::coordinator::Group;
use crate::group::member::{MemberLink, Wanted};
use crate::group::offset_store::{Backwards, OffsetStore, TopicOffsets};
use crate::group::planted::Planted;
use crate::group::state::{Joining, Taken};
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;
use crate::topic::TopicShape;
use crate::topic_partition::TopicPartition;

const SHAPE: TopicShape = TopicShape { id: 1, partitions: 2 };

/// A group with one topic of two partitions.
fn group(planted: Planted) -> Arc<Group> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1));
    let background: Arc<dyn Background> = Arc::new(Inline);
    let dir = PathBuf::from("/offsets");
    let store = OffsetStore::open(&storage, &background, dir, false, |_, _| true).expect("open");
    let group = Group::new("g".into(), Arc::new(store), 0);
    group.plant(planted);
    Arc::new(group)
}

/// A member, as a consumer would be, and what it holds.
struct Member {
    link: Arc<MemberLink>,
    held: Vec<Taken>,
}

impl Member {
    fn join(group: &Group, id: &str) -> Self {
        let link = Arc::new(MemberLink::new(id.into(), Arc::default()));
        let names = vec!["t".into()];
        let joining = Joining {
            link: Arc::clone(&link),
            instance: None,
            wanted: Wanted::Topics { names, is_pattern: false },
            assignor: (Assignor::default(), "cooperative-sticky".into()),
            is_returning: false,
            max_poll_interval: None,
            now: 0,
            pins: Vec::new(),
            at: 0,
        };
        group.join(joining).expect("join");
        group.rebalance(&|_| Some(SHAPE));
        Self { link, held: Vec::new() }
    }

    /// As a poll does: lets go of what is no longer its own, after `before`, and takes what is.
    fn look(&mut self, group: &Group, before: impl FnOnce(&Self, &[TopicPartition])) {
        if !self.link.is_changed() {
            thread::yield_now();
            return;
        }
        self.link.clear_changed();
        let released = group.to_release(&self.link).expect("a member");
        if !released.is_empty() {
            before(self, &released);
        }
        let (_, taken) = group.exchange(&self.link, &released).expect("a member");
        self.held.retain(|held| !released.contains(&held.partition));
        self.held.extend(taken);
    }

    fn commit(&self, group: &Group, partition: u32, offset: u64) -> crate::Result<u64> {
        let offsets = vec![(partition, offset.into())];
        let commit = TopicOffsets { topic: "t".into(), id: SHAPE.id, offsets };
        group.commit(&self.link, &[commit], Backwards::Keep, 0)
    }
}

/// One lets go of a partition, after a commit; the other joins and takes it.
fn hand_over(planted: Planted) {
    loom::model(move || {
        let group = group(planted);
        let mut first = Member::join(&group, "a");
        first.look(&group, |_, _| {});
        assert_eq!(first.held.len(), 2);
        let is_read = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true))];
        let other = {
            let (group, is_read) = (Arc::clone(&group), is_read.clone());
            thread::spawn(move || {
                let mut second = Member::join(&group, "b");
                while second.held.is_empty() {
                    second.look(&group, |_, _| {});
                }
                let taken = &second.held[0];
                let number = taken.partition.partition as usize;
                assert!(!is_read[number].load(Ordering::SeqCst), "it has two readers");
                let committed = taken.committed.as_ref().map(|committed| committed.offset);
                assert_eq!(committed, Some(20), "it starts from the last commit");
            })
        };
        while first.held.len() == 2 {
            first.look(&group, |first, released| {
                for partition in released {
                    let number = partition.partition;
                    first.commit(&group, number, 10).expect("it is still ours");
                    first.commit(&group, number, 20).expect("it is still ours");
                    is_read[number as usize].store(false, Ordering::SeqCst);
                }
            });
        }
        other.join().expect("the other");
    });
}

#[test]
fn a_partition_is_taken_after_it_was_let_go_of_and_from_the_last_commit() {
    hand_over(Planted::Nothing);
}

#[test]
#[should_panic(expected = "it has two readers")]
fn a_new_owner_that_starts_early_is_caught() {
    hand_over(Planted::StartsEarly);
}

/// What is committed while a member is taken out counts, or is refused and does not.
#[test]
fn a_commit_and_an_eviction_do_not_pass_each_other() {
    loom::model(|| {
        let group = group(Planted::Nothing);
        let mut first = Member::join(&group, "a");
        first.look(&group, |_, _| {});
        let other = {
            let (group, link) = (Arc::clone(&group), Arc::clone(&first.link));
            thread::spawn(move || {
                let mut second = Member::join(&group, "b");
                group.leave(&link);
                group.rebalance(&|_| Some(SHAPE));
                while second.held.len() < 2 {
                    second.look(&group, |_, _| {});
                }
                let start = second.held.iter().find(|taken| taken.partition.partition == 0);
                start.and_then(|taken| taken.committed.clone()).map(|committed| committed.offset)
            })
        };
        let committed = first.commit(&group, 0, 10);
        let start = other.join().expect("the other");
        assert_eq!(start, committed.is_ok().then_some(10), "{committed:?}");
    });
}

/// However a join and a leave meet, who is left is told of everything there is to take.
#[test]
fn nobody_waits_for_what_is_free() {
    loom::model(|| {
        let group = group(Planted::Nothing);
        let mut first = Member::join(&group, "a");
        first.look(&group, |_, _| {});
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || Member::join(&group, "b"))
        };
        group.leave(&first.link);
        group.rebalance(&|_| Some(SHAPE));
        let mut second = other.join().expect("the other");
        while second.link.is_changed() {
            second.look(&group, |_, _| {});
        }
        assert_eq!(second.held.len(), 2, "the flag says when there is something to take");
    });
}

/// Two that join at the same time share everything, and nothing twice.
#[test]
fn two_that_join_at_once_share_everything() {
    loom::model(|| {
        let group = group(Planted::Nothing);
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let mut second = Member::join(&group, "b");
                second.look(&group, |_, _| {});
                second
            })
        };
        let mut first = Member::join(&group, "a");
        first.look(&group, |_, _| {});
        let mut second = other.join().expect("the other");
        while first.link.is_changed() || second.link.is_changed() {
            first.look(&group, |_, _| {});
            second.look(&group, |_, _| {});
        }
        assert_eq!((first.held.len(), second.held.len()), (1, 1));
        assert_ne!(first.held[0].partition, second.held[0].partition);
    });
}
