//! Random groups before the assignors: everything is given away once, to those that want it, as
//! evenly as can be, and with the sticky one as little as possible moves. What the best possible
//! is, small groups are asked by trying everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forebay::{Assignor, CustomAssignor, MemberSubscription, TopicPartition};
use proptest::prelude::*;
use proptest::sample::subsequence;

type Shares = Vec<Vec<TopicPartition>>;

#[derive(Clone, Debug)]
struct Group {
    members: Vec<MemberSubscription>,
    topics: BTreeMap<Arc<str>, u32>,
}

fn name(topic: usize) -> Arc<str> {
    format!("t{topic}").into()
}

fn member(number: usize, topics: impl IntoIterator<Item = usize>) -> MemberSubscription {
    MemberSubscription {
        member: format!("m{number:03}").into(),
        topics: topics.into_iter().map(name).collect(),
        owned: Vec::new(),
        remembered: Vec::new(),
    }
}

/// Members that want these topics of topics with so many partitions.
fn group(wanted: &[&[usize]], partitions: &[u32]) -> Group {
    let members = wanted
        .iter()
        .enumerate()
        .map(|(number, topics)| member(number, topics.iter().copied()))
        .collect();
    Group { members, topics: (0..).map(name).zip(partitions.iter().copied()).collect() }
}

/// `members` members that all want all.
fn alike(members: usize, partitions: &[u32]) -> Group {
    let all: Vec<_> = (0..partitions.len()).collect();
    group(&vec![&*all; members], partitions)
}

fn list(text: &str) -> Vec<TopicPartition> {
    let names = text.split_whitespace().map(|name| name.split_once('p').expect("t0p0"));
    names.map(|(topic, number)| TopicPartition::new(topic, number.parse().expect("u32"))).collect()
}

impl Group {
    fn assign(&self, assignor: &Assignor) -> Shares {
        let shares = assignor.assign(&self.members, &self.topics);
        assert_eq!(shares, assignor.assign(&self.members, &self.topics), "chance has no part");
        assert!(shares.iter().all(|share| share.is_sorted()));
        self.assert_each_is_given_once(&shares);
        shares
    }

    fn sticky(&self) -> Shares {
        self.assign(&Assignor::CooperativeSticky)
    }

    /// The same members as they come to the next assignment.
    fn holding(mut self, shares: &Shares) -> Self {
        for (member, share) in self.members.iter_mut().zip(shares) {
            member.owned.clone_from(share);
        }
        self
    }

    fn wants(&self, member: usize, partition: &TopicPartition) -> bool {
        self.members[member].topics.contains(&partition.topic)
    }

    fn had(&self, member: usize, partition: &TopicPartition) -> bool {
        self.wants(member, partition) && self.members[member].owned.contains(partition)
    }

    /// The partitions that somebody wants.
    fn wanted(&self) -> Vec<TopicPartition> {
        let all = self.topics.iter().flat_map(|(topic, partitions)| {
            (0..*partitions).map(|number| TopicPartition::new(Arc::clone(topic), number))
        });
        all.filter(|partition| (0..self.members.len()).any(|member| self.wants(member, partition)))
            .collect()
    }

    fn assert_each_is_given_once(&self, shares: &Shares) {
        assert_eq!(shares.len(), self.members.len());
        for (member, share) in shares.iter().enumerate() {
            assert!(share.iter().all(|partition| self.wants(member, partition)));
        }
        let mut given: Vec<_> = shares.iter().flatten().cloned().collect();
        given.sort();
        assert_eq!(given, self.wanted());
    }

    /// How many partitions stay with a member that had them.
    fn kept(&self, shares: &Shares) -> usize {
        let kept = |member: usize| {
            shares[member].iter().filter(|partition| self.had(member, partition)).count()
        };
        (0..shares.len()).map(kept).sum()
    }

    /// Whether a chain of moves leads from a member with k partitions to one with k-2 or fewer.
    fn has_chain(&self, shares: &Shares) -> bool {
        (0..shares.len()).any(|start| {
            let (mut reached, mut open) = (BTreeSet::from([start]), vec![start]);
            while let Some(from) = open.pop() {
                let topics: BTreeSet<_> =
                    shares[from].iter().map(|partition| &partition.topic).collect();
                for to in 0..shares.len() {
                    let takes = self.members[to].topics.iter().any(|topic| topics.contains(topic));
                    if takes && reached.insert(to) {
                        open.push(to);
                    }
                }
            }
            reached.iter().any(|end| shares[*end].len() + 2 <= shares[start].len())
        })
    }

    /// By trying everything: the least sum of the squares of the shares' sizes, and the most that
    /// can be kept with it.
    fn best(&self) -> (usize, usize) {
        let wanted = self.wanted();
        let mut best = (usize::MAX, 0);
        self.try_all(&wanted, &mut vec![0; self.members.len()], 0, &mut best);
        best
    }

    fn try_all(
        &self,
        left: &[TopicPartition],
        sizes: &mut Vec<usize>,
        kept: usize,
        best: &mut (usize, usize),
    ) {
        let Some((partition, left)) = left.split_first() else {
            let squares = squares(sizes.iter().copied());
            if squares < best.0 || (squares == best.0 && kept > best.1) {
                *best = (squares, kept);
            }
            return;
        };
        for member in (0..sizes.len()).filter(|member| self.wants(*member, partition)) {
            sizes[member] += 1;
            self.try_all(left, sizes, kept + usize::from(self.had(member, partition)), best);
            sizes[member] -= 1;
        }
    }
}

fn squares(sizes: impl Iterator<Item = usize>) -> usize {
    sizes.map(|size| size * size).sum()
}

fn sizes(shares: &Shares) -> impl Iterator<Item = usize> {
    shares.iter().map(Vec::len)
}

/// Whether all members want the same.
#[derive(Clone, Copy)]
enum Wishes {
    Same,
    Different,
}

/// Groups in which each partition was claimed by up to `claims` members, which may have stopped to
/// want it, and in which some of what was owned and remembered does not exist.
fn groups(
    wishes: Wishes,
    members: usize,
    topics: usize,
    partitions: u32,
    claims: usize,
) -> impl Strategy<Value = Group> {
    (1..=members, prop::collection::vec(0..=partitions, 1..=topics)).prop_flat_map(
        move |(members, partitions)| {
            let all: Vec<_> = (0..partitions.len()).collect();
            let wanted = match wishes {
                Wishes::Same => Just(vec![all; members]).boxed(),
                Wishes::Different => {
                    prop::collection::vec(subsequence(all, 0..=partitions.len()), members).boxed()
                }
            };
            // One partition more than there are of each topic.
            let names: usize = partitions.iter().map(|partitions| *partitions as usize + 1).sum();
            let some = 0..=claims.min(members);
            let claimed =
                prop::collection::vec(subsequence((0..members).collect::<Vec<_>>(), some), names);
            let remembered = prop::collection::vec(prop::option::of(0..members), names);
            (Just(partitions), wanted, claimed, remembered).prop_map(
                |(partitions, wanted, claimed, remembered)| {
                    let wanted: Vec<_> = wanted.iter().map(|topics| &**topics).collect();
                    let mut group = group(&wanted, &partitions);
                    let names = partitions.iter().enumerate().flat_map(|(topic, partitions)| {
                        (0..=*partitions)
                            .map(move |number| TopicPartition::new(name(topic), number))
                    });
                    for ((partition, claimed), remembered) in names.zip(claimed).zip(remembered) {
                        for member in claimed {
                            group.members[member].owned.push(partition.clone());
                        }
                        if let Some(member) = remembered {
                            group.members[member].remembered.push(partition);
                        }
                    }
                    group
                },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn range_and_round_robin_give_each_partition_once(group in groups(Wishes::Different, 8, 5, 9, 0)) {
        group.assign(&Assignor::RoundRobin);
        let shares = group.assign(&Assignor::Range);
        for topic in group.topics.keys() {
            let of_topic = |share: &Vec<TopicPartition>| {
                share.iter().filter(|partition| partition.topic == *topic).count()
            };
            let takers = (0..shares.len()).filter(|member| group.members[*member].topics.contains(topic));
            let counts: Vec<_> = takers.map(|member| of_topic(&shares[member])).collect();
            prop_assert!(counts.is_sorted_by(|a, b| *a == *b || *a == *b + 1), "{counts:?}");
        }
    }

    #[test]
    fn members_that_want_the_same_get_even_shares_and_keep_all_they_can(
        group in groups(Wishes::Same, 9, 4, 12, 1),
    ) {
        let shares = group.sticky();
        let (even, left_over) = (group.wanted().len() / shares.len(), group.wanted().len() % shares.len());
        prop_assert!(sizes(&shares).all(|size| size == even || size == even + 1));
        let had: Vec<_> = (0..shares.len())
            .map(|member| group.wanted().iter().filter(|partition| group.had(member, partition)).count())
            .collect();
        let more_than_even = had.iter().filter(|had| **had > even).count();
        let best = had.iter().map(|had| (*had).min(even)).sum::<usize>() + more_than_even.min(left_over);
        prop_assert_eq!(group.kept(&shares), best);
    }

    #[test]
    fn of_disputed_partitions_as_many_are_kept_as_by_trying_everything(
        group in groups(Wishes::Same, 3, 3, 2, 3),
    ) {
        let shares = group.sticky();
        prop_assert_eq!((squares(sizes(&shares)), group.kept(&shares)), group.best());
    }

    #[test]
    fn members_that_want_different_topics_get_shares_as_even_as_by_trying_everything(
        group in groups(Wishes::Different, 4, 4, 2, 2),
    ) {
        let shares = group.sticky();
        let (squares_best, kept_best) = group.best();
        prop_assert_eq!(squares(sizes(&shares)), squares_best);
        prop_assert!(group.kept(&shares) <= kept_best);
    }

    #[test]
    fn no_chain_of_moves_makes_shares_more_even(group in groups(Wishes::Different, 12, 8, 9, 2)) {
        prop_assert!(!group.has_chain(&group.sticky()));
    }

    #[test]
    fn what_is_even_stays_as_it_is(
        group in prop_oneof![groups(Wishes::Same, 9, 4, 9, 2), groups(Wishes::Different, 9, 6, 9, 2)],
    ) {
        let shares = group.sticky();
        prop_assert_eq!(&group.holding(&shares).sticky(), &shares);
    }

    #[test]
    fn a_member_that_joins_takes_its_share_and_nothing_else_moves(
        group in groups(Wishes::Same, 9, 4, 12, 1),
        place in any::<prop::sample::Index>(),
    ) {
        let shares = group.sticky();
        let before = group.wanted().len();
        let mut joined = group.holding(&shares);
        let place = place.index(shares.len() + 1);
        let topics = joined.members[0].topics.clone();
        joined.members.insert(place, MemberSubscription { topics, ..member(0, []) });
        let after = joined.sticky();
        prop_assert_eq!(after[place].len(), before / after.len());
        prop_assert_eq!(joined.kept(&after), before - before / after.len());
    }

    #[test]
    fn when_a_member_leaves_only_its_partitions_move(
        group in groups(Wishes::Same, 9, 4, 12, 1),
        place in any::<prop::sample::Index>(),
    ) {
        let shares = group.sticky();
        let mut left = group.holding(&shares);
        prop_assume!(shares.len() > 1);
        left.members.remove(place.index(shares.len()));
        let after = left.sticky();
        for (member, share) in left.members.iter().zip(&after) {
            prop_assert!(member.owned.iter().all(|partition| share.contains(partition)));
        }
    }

    #[test]
    fn a_static_member_that_restarts_gets_what_it_had(
        group in prop_oneof![groups(Wishes::Same, 9, 4, 9, 1), groups(Wishes::Different, 9, 6, 9, 1)],
        place in any::<prop::sample::Index>(),
    ) {
        let shares = group.sticky();
        let mut restarted = group.holding(&shares);
        for member in &mut restarted.members {
            member.remembered.clear();
        }
        let member = &mut restarted.members[place.index(shares.len())];
        member.remembered = std::mem::take(&mut member.owned);
        prop_assert_eq!(restarted.sticky(), shares);
    }

    #[test]
    fn static_members_that_restart_together_get_what_they_had(
        group in groups(Wishes::Same, 9, 4, 9, 1),
        restarts in prop::collection::vec(any::<bool>(), 9),
    ) {
        let shares = group.sticky();
        let mut restarted = group.holding(&shares);
        for (member, restarts) in restarted.members.iter_mut().zip(restarts) {
            member.remembered.clear();
            if restarts {
                member.remembered = std::mem::take(&mut member.owned);
            }
        }
        prop_assert_eq!(restarted.sticky(), shares);
    }

    #[test]
    fn a_static_member_that_comes_back_late_takes_of_what_it_had_while_others_join(
        group in groups(Wishes::Same, 9, 4, 12, 1),
        place in any::<prop::sample::Index>(),
        joining in 0..3_usize,
    ) {
        let shares = group.sticky();
        prop_assume!(shares.len() > 1);
        let place = place.index(shares.len());
        let mut group = group.holding(&shares);
        for member in &mut group.members {
            member.remembered.clear();
        }
        let mut back = group.members.remove(place);
        let without = group.sticky();
        let mut group = group.holding(&without);
        back.remembered = std::mem::take(&mut back.owned);
        let topics = back.topics.clone();
        group.members.insert(place, back);
        let joining = (0..joining).map(|number| MemberSubscription { topics: topics.clone(), ..member(100 + number, []) });
        group.members.extend(joining);
        let after = group.sticky();
        let remembered = &group.members[place].remembered;
        prop_assert!(after[place].iter().all(|partition| remembered.contains(partition)));
    }

    #[test]
    fn memory_decides_which_partitions_move_and_not_how_many(
        group in groups(Wishes::Same, 9, 4, 12, 2),
    ) {
        let with = group.kept(&group.sticky());
        let mut forgetful = group;
        for member in &mut forgetful.members {
            member.remembered.clear();
        }
        prop_assert_eq!(forgetful.kept(&forgetful.sticky()), with);
    }
}

#[test]
fn range_is_as_kafka_documents_it() {
    let shares = alike(3, &[7]).assign(&Assignor::Range);
    assert_eq!(shares, [list("t0p0 t0p1 t0p2"), list("t0p3 t0p4"), list("t0p5 t0p6")]);
    let shares = alike(2, &[3, 3]).assign(&Assignor::Range);
    assert_eq!(shares, [list("t0p0 t0p1 t1p0 t1p1"), list("t0p2 t1p2")]);
}

#[test]
fn round_robin_is_as_kafka_documents_it() {
    let shares = alike(2, &[3, 3]).assign(&Assignor::RoundRobin);
    assert_eq!(shares, [list("t0p0 t0p2 t1p1"), list("t0p1 t1p0 t1p2")]);
    let shares = group(&[&[0], &[0, 1], &[0, 1, 2]], &[1, 2, 3]).assign(&Assignor::RoundRobin);
    assert_eq!(shares, [list("t0p0"), list("t1p0"), list("t1p1 t2p0 t2p1 t2p2")]);
}

#[test]
fn sticky_is_more_even_than_round_robin_where_kafka_documents_it() {
    let shares = group(&[&[0], &[0, 1], &[0, 1, 2]], &[1, 2, 3]).sticky();
    assert_eq!(shares, [list("t0p0"), list("t1p0 t1p1"), list("t2p0 t2p1 t2p2")]);
}

#[test]
fn a_chain_goes_through_a_member_that_is_full_already() {
    let mut group = group(&[&[0], &[0, 1], &[1]], &[3, 1]);
    group.members[0].owned = list("t0p0 t0p1 t0p2");
    group.members[1].owned = list("t1p0");
    assert_eq!(group.sticky(), [list("t0p0 t0p1"), list("t0p2"), list("t1p0")]);
}

#[test]
fn what_two_members_claim_stays_with_one_and_what_nobody_may_have_is_forgotten() {
    let mut group = group(&[&[0], &[0], &[]], &[4, 1]);
    // There is no t0p9 and no t9, and nobody wants t1.
    group.members[0].owned = list("t0p0 t0p1 t0p2 t0p9 t1p0 t9p0");
    group.members[1].owned = list("t0p2 t0p3");
    group.members[2].owned = list("t0p3");
    assert_eq!(group.sticky(), [list("t0p0 t0p1"), list("t0p2 t0p3"), list("")]);
}

#[test]
fn a_member_that_comes_back_gets_the_partitions_that_it_remembers() {
    let mut group = alike(3, &[9]);
    group.members[0].owned = list("t0p0 t0p2 t0p4 t0p6 t0p8");
    group.members[2].owned = list("t0p1 t0p3 t0p5 t0p7");
    group.members[1].remembered = list("t0p0 t0p1 t0p2");
    let shares = group.sticky();
    assert_eq!(shares, [list("t0p4 t0p6 t0p8"), list("t0p0 t0p1 t0p2"), list("t0p3 t0p5 t0p7")]);
}

#[test]
fn nobody_and_nothing_are_assigned_nothing() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range, Assignor::RoundRobin] {
        assert_eq!(alike(0, &[3]).assign(&assignor), Shares::new());
        assert_eq!(alike(2, &[]).assign(&assignor), [list(""), list("")]);
        assert_eq!(alike(2, &[0]).assign(&assignor), [list(""), list("")]);
        assert_eq!(alike(3, &[1]).assign(&assignor), [list("t0p0"), list(""), list("")]);
    }
}

#[test]
fn the_lists_of_a_users_own_assignor_are_put_in_order() {
    #[derive(Debug)]
    struct Backwards;

    impl CustomAssignor for Backwards {
        fn name(&self) -> &'static str {
            "backwards"
        }

        fn assign(
            &self,
            _: &[MemberSubscription],
            topics: &BTreeMap<Arc<str>, u32>,
        ) -> Vec<Vec<TopicPartition>> {
            let all = topics.iter().flat_map(|(topic, partitions)| {
                (0..*partitions).rev().map(|number| TopicPartition::new(Arc::clone(topic), number))
            });
            vec![all.collect()]
        }
    }

    let assignor = Assignor::Custom(Arc::new(Backwards));
    assert_eq!(assignor.name(), "backwards");
    assert_eq!(alike(1, &[3]).assign(&assignor), [list("t0p0 t0p1 t0p2")]);
}
