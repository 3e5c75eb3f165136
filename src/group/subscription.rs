//! What the members of a group want and had, and the numbering of what they want.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::numbers::{Member, Number, Partition, Pool, Table};
use crate::topic_partition::TopicPartition;

/// One member of a group, as an assignor sees it.
///
/// ```
/// use forebay::{MemberSubscription, TopicPartition};
///
/// let member = MemberSubscription {
///     member: "a".into(),
///     topics: vec!["orders".into()],
///     owned: vec![TopicPartition::new("orders", 0)],
///     remembered: Vec::new(),
/// };
/// assert_eq!(&*member.member, "a");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSubscription {
    /// The member's id. Members are given in order of it.
    pub member: Arc<str>,
    /// The topics it wants, in order, each once.
    pub topics: Vec<Arc<str>>,
    /// The partitions it had before, in order. Some may no longer exist, be of topics that it no
    /// longer wants, or be claimed by another member too.
    pub owned: Vec<TopicPartition>,
    /// The partitions that an earlier member of the same static name had: a hint which ones to
    /// take for a member that is to get some anyway.
    pub remembered: Vec<TopicPartition>,
}

/// The partitions that are to be given away, numbered in order of topic and number, and who may
/// have them.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    topics: Vec<WantedTopic<'a>>,
    pub(super) pools: Pools,
    pub(super) members: usize,
}

/// A topic that at least one member wants.
#[derive(Debug)]
struct WantedTopic<'a> {
    name: &'a Arc<str>,
    partitions: u32,
    first: usize,
    pool: Pool,
}

/// Who may have which partitions. The topics that the same members want are one pool, so that
/// there is a single one in a group whose members are alike.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) of: Table<Partition, Pool>,
    /// The members that may have the partitions of a pool, in order.
    pub(super) takers: Table<Pool, Vec<Member>>,
}

impl Pools {
    /// The pool of each partition, and the takers of each pool, which were numbered one by one.
    pub(super) fn new(of: Table<Partition, Pool>, pools: &BTreeMap<&Vec<Member>, Pool>) -> Self {
        let mut takers = Table::filled(Vec::new(), pools.len());
        for (members, pool) in pools {
            takers[*pool].clone_from(members);
        }
        Self { of, takers }
    }

    pub(super) fn takers_of(&self, partition: Partition) -> &[Member] {
        &self.takers[self.of[partition]]
    }

    pub(super) fn may_have(&self, member: Member, partition: Partition) -> bool {
        self.takers_of(partition).binary_search(&member).is_ok()
    }
}

impl<'a> Wanted<'a> {
    pub(super) fn new(members: &[MemberSubscription], topics: &'a BTreeMap<Arc<str>, u32>) -> Self {
        let takers = takers(members, topics);
        let mut numbered = Vec::new();
        let mut pool_of = Vec::new();
        let mut pools = BTreeMap::new();
        for ((name, partitions), takers) in topics.iter().zip(&takers) {
            if takers.is_empty() {
                continue;
            }
            let next = Pool::nth(pools.len());
            let pool = *pools.entry(takers).or_insert(next);
            let first = pool_of.len();
            numbered.push(WantedTopic { name, partitions: *partitions, first, pool });
            pool_of.resize(first + *partitions as usize, pool);
        }
        Self {
            topics: numbered,
            pools: Pools::new(Table::new(pool_of), &pools),
            members: members.len(),
        }
    }

    /// For each topic in order its partitions and the members that want it.
    pub(super) fn topics(
        &self,
    ) -> impl Iterator<Item = (impl ExactSizeIterator<Item = Partition> + use<>, &[Member])> {
        self.topics.iter().map(|topic| {
            let end = topic.first + topic.partitions as usize;
            ((topic.first..end).map(Partition::nth), &*self.pools.takers[topic.pool])
        })
    }

    /// The number of a partition, if it exists and somebody wants it.
    fn number(&self, partition: &TopicPartition) -> Option<Partition> {
        let at = self.topics.binary_search_by(|topic| (**topic.name).cmp(&partition.topic)).ok()?;
        let topic = self.topics.get(at)?;
        (partition.partition < topic.partitions)
            .then(|| Partition::nth(topic.first + partition.partition as usize))
    }

    /// The number of a partition, if it exists and this member wants it.
    pub(super) fn number_for(
        &self,
        member: Member,
        partition: &TopicPartition,
    ) -> Option<Partition> {
        self.number(partition).filter(|number| self.pools.may_have(member, *number))
    }

    /// The name of a numbered partition.
    pub(super) fn name(&self, partition: Partition) -> TopicPartition {
        let after = self.topics.partition_point(|topic| topic.first <= partition.get());
        let topic = self.topics.get(after.wrapping_sub(1)).expect("each number is of a topic");
        TopicPartition::new(Arc::clone(topic.name), (partition.get() - topic.first) as u32)
    }

    /// The members' shares by name, each in order.
    pub(super) fn names(&self, shares: Table<Member, Vec<Partition>>) -> Vec<Vec<TopicPartition>> {
        let sorted = shares.into_rows().into_iter().map(|mut share| {
            share.sort_unstable();
            share.into_iter().map(|partition| self.name(partition)).collect()
        });
        sorted.collect()
    }
}

/// For each topic the members that want it. Neighbours that want the same topics, which is
/// usually all of them, are looked up once.
fn takers(members: &[MemberSubscription], topics: &BTreeMap<Arc<str>, u32>) -> Vec<Vec<Member>> {
    let names: Vec<_> = topics.keys().collect();
    let mut takers = vec![Vec::new(); names.len()];
    let mut first = 0;
    for alike in members.chunk_by(|a, b| a.topics == b.topics) {
        let end = first + alike.len();
        for topic in alike.iter().take(1).flat_map(|member| &member.topics) {
            let at = names.binary_search(&topic).ok();
            if let Some(takers) = at.and_then(|at| takers.get_mut(at)) {
                takers.extend((first..end).map(Member::nth));
            }
        }
        first = end;
    }
    takers
}
