//! Who had each partition before, as far as it counts: a partition that exists, with one previous
//! owner that still wants it.

use std::collections::BTreeMap;

use super::chains::Chains;
use super::numbers::{Member, Number, Partition, Pool, Table};
use super::subscription::{MemberSubscription, Pools, Wanted};

/// What the members had before.
#[derive(Debug)]
pub(super) struct Claims {
    /// The previous owner of each partition.
    pub(super) before: Table<Partition, Option<Member>>,
    /// The member that remembers each partition; the first, if several do.
    pub(super) remembers: Table<Partition, Option<Member>>,
}

impl Claims {
    pub(super) fn new(wanted: &Wanted<'_>, members: &[MemberSubscription]) -> Self {
        let mut before = Table::filled(None, wanted.pools.of.len());
        let mut remembers = before.clone();
        let mut disputed: BTreeMap<Partition, Vec<Member>> = BTreeMap::new();
        for (number, member) in members.iter().enumerate() {
            let number = Member::nth(number);
            for partition in member.owned.iter().filter_map(|name| wanted.number_for(number, name))
            {
                match before[partition] {
                    None => before[partition] = Some(number),
                    Some(other) if other == number => (),
                    Some(other) => {
                        let claimants = disputed.entry(partition).or_insert_with(|| vec![other]);
                        if claimants.last() != Some(&number) {
                            claimants.push(number);
                        }
                    }
                }
            }
            for name in &member.remembered {
                if let Some(partition) = wanted.number_for(number, name) {
                    remembers[partition].get_or_insert(number);
                }
            }
        }
        if !disputed.is_empty() {
            settle(&mut before, &disputed, wanted.members);
        }
        Self { before, remembers }
    }

    /// What each member had, in order.
    pub(super) fn shares(&self, members: usize) -> Table<Member, Vec<Partition>> {
        let mut shares = Table::filled(Vec::new(), members);
        for (partition, owner) in self.before.iter() {
            if let Some(owner) = *owner {
                shares[owner].push(partition);
            }
        }
        shares
    }
}

/// Leaves each disputed partition to one of its claimants. The more even the claims are, the more
/// of them can be granted, so the partitions that the same members claim are a pool, and chains
/// level them.
fn settle(
    before: &mut Table<Partition, Option<Member>>,
    disputed: &BTreeMap<Partition, Vec<Member>>,
    members: usize,
) {
    // What is not disputed is not given to the chains, so its pool is never looked up.
    let mut pool_of = Table::filled(Pool::nth(0), before.len());
    let mut pools = BTreeMap::new();
    for (partition, claimants) in disputed {
        before[*partition] = None;
        let next = Pool::nth(pools.len());
        pool_of[*partition] = *pools.entry(claimants).or_insert(next);
    }
    let mut loads = Table::filled(0, members);
    for owner in before.rows().iter().flatten() {
        loads[*owner] += 1;
    }
    let pools = Pools::new(pool_of, &pools);
    let mut chains = Chains::new(&pools, before, loads);
    for partition in disputed.keys() {
        chains.give_to_least(*partition, None);
    }
    for (member, partitions) in chains.level().iter() {
        for partition in partitions {
            before[*partition] = Some(member);
        }
    }
}
