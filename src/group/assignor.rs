//! Which member of a group reads which partition: pure functions of the members and the topics.
//!
//! The coordinator of a group calls these while it makes a new generation of the group, and
//! refuses with [`check`] what a user's own assignor should not have returned.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::numbers::{Member, Number, Partition, Table};
use super::sticky;
use super::subscription::{MemberSubscription, Wanted};
use crate::topic_partition::TopicPartition;

/// How the partitions of its topics are divided among the members of a group.
///
/// Each partition goes to exactly one member that wants its topic. The default divides evenly over
/// all topics and moves as little as possible; two others are those that Kafka had before it.
///
/// ```
/// use std::collections::BTreeMap;
/// use forebay::{Assignor, MemberSubscription, TopicPartition};
///
/// let topics = BTreeMap::from([("orders".into(), 3), ("payments".into(), 3)]);
/// let mut members = ["a", "b"].map(|member| MemberSubscription {
///     member: member.into(),
///     topics: topics.keys().cloned().collect(),
///     owned: Vec::new(),
///     remembered: Vec::new(),
/// });
/// let sizes = |assignor: Assignor| {
///     assignor.assign(&members, &topics).iter().map(Vec::len).collect::<Vec<_>>()
/// };
/// assert_eq!(sizes(Assignor::Range), [4, 2]);
/// assert_eq!(sizes(Assignor::CooperativeSticky), [3, 3]);
///
/// // What a member had stays with it, as far as it can.
/// members[1].owned = vec![TopicPartition::new("orders", 0), TopicPartition::new("payments", 0)];
/// let shares = Assignor::CooperativeSticky.assign(&members, &topics);
/// assert!(members[1].owned.iter().all(|partition| shares[1].contains(partition)));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Assignor {
    /// As even as possible, and as little as possible changes hands, after the idea of Kafka's
    /// `CooperativeStickyAssignor` (KIP-54, KIP-429).
    ///
    /// Members that want the same topics get shares that differ by at most one partition, and no
    /// other even division would leave them more of what they had. Where members want different
    /// topics, no partition can go, directly or through others, from a member with k of them to
    /// the benefit of one with k-2 or fewer; if that is already so, nothing moves. Among what a
    /// member is to get anyway, what it remembers comes first.
    ///
    /// It is the default because each partition that moves interrupts its readers and because
    /// [`Range`](Assignor::Range) counts each topic by itself: of two topics with three partitions
    /// each, the first of two members gets 4 partitions and the second 2.
    #[default]
    CooperativeSticky,
    /// For each topic a run of consecutive partitions to each member, as Kafka's `RangeAssignor`
    /// does it. If they do not divide evenly, the first members get one more.
    ///
    /// The partitions of the same number of several topics go to the same member, if the topics
    /// have equally many and the same members want them: what is needed to join topics by key.
    Range,
    /// The partitions of all topics in order to the members in a circle, as Kafka's
    /// `RoundRobinAssignor` does it. Who does not want a topic is passed over.
    RoundRobin,
    /// The user's own.
    Custom(Arc<dyn CustomAssignor>),
}

/// A user's own way to divide partitions among the members of a group.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use forebay::{Assignor, CustomAssignor, MemberSubscription, TopicPartition};
///
/// /// The first member that wants a topic gets all of it, the others stand by.
/// #[derive(Debug)]
/// struct StandBy;
///
/// impl CustomAssignor for StandBy {
///     fn name(&self) -> &str {
///         "stand-by"
///     }
///
///     fn assign(
///         &self,
///         members: &[MemberSubscription],
///         topics: &BTreeMap<Arc<str>, u32>,
///     ) -> Vec<Vec<TopicPartition>> {
///         let mut shares = vec![Vec::new(); members.len()];
///         for (topic, partitions) in topics {
///             if let Some(first) = members.iter().position(|member| member.topics.contains(topic)) {
///                 let all = (0..*partitions).map(|number| TopicPartition::new(topic.clone(), number));
///                 shares[first].extend(all);
///             }
///         }
///         shares
///     }
/// }
///
/// assert_eq!(Assignor::Custom(Arc::new(StandBy)).name(), "stand-by");
/// ```
pub trait CustomAssignor: Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// The partitions of each member, in the order of the members.
    ///
    /// The members come in order of their ids; `topics` has the number of partitions of each
    /// topic. Each partition of a topic that a member wants must be given to exactly one member
    /// that wants it, and nothing else may be given.
    fn assign(
        &self,
        members: &[MemberSubscription],
        topics: &BTreeMap<Arc<str>, u32>,
    ) -> Vec<Vec<TopicPartition>>;
}

impl Assignor {
    /// Its name: `cooperative-sticky`, `range` or `roundrobin` as in Kafka, or that of the user's
    /// own.
    ///
    /// ```
    /// assert_eq!(forebay::Assignor::default().name(), "cooperative-sticky");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Custom(custom) => custom.name(),
        }
    }

    /// The partitions of each member, in the order of the members, each list in order.
    ///
    /// The members are to be given in order of their ids, and `topics` with the number of
    /// partitions of each topic. Topics that are not in it are passed over.
    #[must_use]
    pub fn assign(
        &self,
        members: &[MemberSubscription],
        topics: &BTreeMap<Arc<str>, u32>,
    ) -> Vec<Vec<TopicPartition>> {
        if let Self::Custom(custom) = self {
            let mut shares = custom.assign(members, topics);
            for share in &mut shares {
                share.sort_unstable();
            }
            return shares;
        }
        let wanted = Wanted::new(members, topics);
        wanted.names(match self {
            Self::Range => range(&wanted),
            Self::RoundRobin => round_robin(&wanted),
            _ => sticky::assign(&wanted, members),
        })
    }
}

fn range(wanted: &Wanted<'_>) -> Table<Member, Vec<Partition>> {
    let mut shares = Table::filled(Vec::new(), wanted.members);
    for (mut partitions, takers) in wanted.topics() {
        let (even, left_over) = (partitions.len() / takers.len(), partitions.len() % takers.len());
        for (rank, taker) in takers.iter().enumerate() {
            let run = even + usize::from(rank < left_over);
            shares[*taker].extend(partitions.by_ref().take(run));
        }
    }
    shares
}

fn round_robin(wanted: &Wanted<'_>) -> Table<Member, Vec<Partition>> {
    let mut shares = Table::filled(Vec::new(), wanted.members);
    let mut turn = Member::nth(0);
    for (partitions, takers) in wanted.topics() {
        // Who has the first turn is searched once a topic, then the circle is of its takers only.
        let first = takers.partition_point(|taker| *taker < turn);
        for (partition, taker) in partitions.zip(takers.iter().cycle().skip(first)) {
            shares[*taker].push(partition);
            turn = Member::nth(taker.get() + 1);
        }
    }
    shares
}

/// Says what is wrong with an assignment: every partition of a topic that somebody wants is to be
/// given to exactly one member that wants it, and nothing else.
pub(crate) fn check(
    assignment: &[Vec<TopicPartition>],
    members: &[MemberSubscription],
    topics: &BTreeMap<Arc<str>, u32>,
) -> Result<(), String> {
    if assignment.len() != members.len() {
        return Err(format!("{} lists for {} members", assignment.len(), members.len()));
    }
    let wanted = Wanted::new(members, topics);
    let mut owners: Table<Partition, Option<&str>> = Table::filled(None, wanted.pools.of.len());
    for (number, (share, member)) in assignment.iter().zip(members).enumerate() {
        let id = &*member.member;
        for name in share {
            if topics.get(&name.topic).is_none_or(|partitions| name.partition >= *partitions) {
                return Err(format!("partition {name} of member {id} does not exist"));
            }
            let Some(partition) = wanted.number_for(Member::nth(number), name) else {
                return Err(format!(
                    "member {id} has partition {name} of a topic it does not want"
                ));
            };
            if let Some(other) = owners[partition].replace(id) {
                return Err(format!("partition {name} is given to member {other} and to {id}"));
            }
        }
    }
    match owners.iter().find(|(_, owner)| owner.is_none()) {
        Some((partition, _)) => {
            Err(format!("partition {} is given to nobody", wanted.name(partition)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, topics: &[&str]) -> MemberSubscription {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        MemberSubscription { member: id.into(), topics, owned: Vec::new(), remembered: Vec::new() }
    }

    #[test]
    fn a_bad_assignment_is_refused_with_the_reason() {
        let members = [member("a", &["t"]), member("b", &["t", "u"])];
        let topics = BTreeMap::from([("t".into(), 2), ("u".into(), 1), ("v".into(), 1)]);
        let told = |shares: &[&[(&str, u32)]]| {
            let shares: Vec<Vec<_>> = shares
                .iter()
                .map(|share| share.iter().map(|name| (*name).into()).collect())
                .collect();
            check(&shares, &members, &topics)
        };
        let refused = |text: &str| Err(text.to_owned());
        assert_eq!(told(&[&[("t", 0)], &[("u", 0), ("t", 1)]]), Ok(()));
        assert_eq!(told(&[&[("t", 0), ("t", 1)]]), refused("1 lists for 2 members"));
        assert_eq!(
            told(&[&[("t", 0)], &[("t", 0), ("t", 1), ("u", 0)]]),
            refused("partition t-0 is given to member a and to b")
        );
        assert_eq!(told(&[&[("t", 0)], &[("t", 1)]]), refused("partition u-0 is given to nobody"));
        assert_eq!(
            told(&[&[("t", 0), ("u", 0)], &[("t", 1)]]),
            refused("member a has partition u-0 of a topic it does not want")
        );
        assert_eq!(
            told(&[&[("t", 0), ("t", 2)], &[("t", 1), ("u", 0)]]),
            refused("partition t-2 of member a does not exist")
        );
        assert_eq!(
            told(&[&[("t", 0), ("x", 0)], &[("t", 1), ("u", 0)]]),
            refused("partition x-0 of member a does not exist")
        );
        assert_eq!(
            told(&[&[("t", 0)], &[("t", 1), ("u", 0), ("v", 0)]]),
            refused("member b has partition v-0 of a topic it does not want")
        );
    }
}
