//! The sticky assignor: shares as even as they can be, and as little as possible changes hands.
//!
//! The idea is that of Kafka's `StickyAssignor` (KIP-54) and `CooperativeStickyAssignor`
//! (KIP-429); the algorithm is its own. Everybody starts with what it had. Where all members want
//! the same topics, counting says how much each keeps. Where they do not, what nobody has goes to
//! those with the least and [`Chains`] level the rest. At the end partitions that change hands
//! anyway are exchanged, so that they go to members that remember them.
//!
//! Nothing depends on chance or on the order of a hash map: equal input gives equal shares.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use super::chains::Chains;
use super::claims::Claims;
use super::numbers::{Member, Partition, Table};
use super::subscription::{MemberSubscription, Wanted};

type Shares = Table<Member, Vec<Partition>>;

/// The partitions of each member.
pub(super) fn assign(wanted: &Wanted<'_>, members: &[MemberSubscription]) -> Shares {
    let claims = Claims::new(wanted, members);
    let shares = match wanted.pools.takers.rows() {
        [takers] => deal(takers, &claims, wanted.members),
        _ => level(wanted, &claims),
    };
    if claims.remembers.rows().iter().any(Option::is_some) {
        exchange(shares, wanted, &claims)
    } else {
        shares
    }
}

/// Shares for members that all want the same: everybody keeps what it had up to its quota, and
/// the rest is dealt to those below theirs. No even assignment keeps more, because the quotas
/// that are one higher go first to those that can fill them with what they had.
fn deal(takers: &[Member], claims: &Claims, members: usize) -> Shares {
    let mut shares = claims.shares(members);
    let quotas = quotas(takers, claims, &shares);
    let returning: Vec<_> = claims
        .remembers
        .rows()
        .iter()
        .map(|member| member.is_some_and(|member| shares[member].len() < quotas[member]))
        .collect();
    let returning = Table::new(returning);
    let mut is_free: Table<Partition, bool> =
        Table::new(claims.before.rows().iter().map(Option::is_none).collect());
    for member in takers {
        let share = &mut shares[*member];
        if share.len() > quotas[*member] {
            // The last ones go, but before all others those that a returning member remembers.
            share.sort_unstable_by_key(|partition| (returning[*partition], *partition));
            for partition in share.split_off(quotas[*member]) {
                is_free[partition] = true;
            }
        }
    }
    let mut circle: VecDeque<_> =
        takers.iter().copied().filter(|member| shares[*member].len() < quotas[*member]).collect();
    for partition in is_free.keys().filter(|partition| is_free[*partition]) {
        let member = circle.pop_front().expect("the quotas add up to all partitions");
        shares[member].push(partition);
        if shares[member].len() < quotas[member] {
            circle.push_back(member);
        }
    }
    shares
}

/// How many partitions each member gets. If they do not divide evenly, those that have more than
/// an even share keep one more, and after them those that have most, where what a member remembers
/// counts with it if it is free, and not with its owner if the member needs it.
fn quotas(takers: &[Member], claims: &Claims, shares: &Shares) -> Table<Member, usize> {
    let (even, left_over) =
        (claims.before.len() / takers.len(), claims.before.len() % takers.len());
    let had = |member: Member| shares[member].len();
    let mut expected = Table::new(shares.rows().iter().map(Vec::len).collect());
    for (partition, member) in claims.remembers.iter() {
        match (*member, claims.before[partition]) {
            (Some(member), None) => expected[member] += 1,
            (Some(member), Some(owner)) if member != owner && had(member) < even => {
                expected[owner] -= 1;
            }
            _ => (),
        }
    }
    let mut first_served = takers.to_vec();
    first_served.sort_by_key(|member| Reverse((had(*member) > even, expected[*member])));
    let mut quotas = Table::filled(0, shares.len());
    for (rank, member) in first_served.into_iter().enumerate() {
        quotas[member] = even + usize::from(rank < left_over);
    }
    quotas
}

/// Shares for members that want different topics: what nobody had goes to those with the least,
/// the partitions with the fewest takers first, and chains level what that leaves uneven.
fn level(wanted: &Wanted<'_>, claims: &Claims) -> Shares {
    let before = &claims.before;
    let mut chains = Chains::new(&wanted.pools, before, Table::filled(0, wanted.members));
    // From the last, so that the last is the first that a member hands on.
    for partition in before.keys().rev() {
        if let Some(owner) = before[partition] {
            chains.give(partition, owner);
        }
    }
    let mut free: Vec<_> = before.keys().filter(|partition| before[*partition].is_none()).collect();
    free.sort_by_key(|partition| wanted.pools.takers_of(*partition).len());
    for partition in free {
        chains.give_to_least(partition, claims.remembers[partition]);
    }
    chains.level()
}

/// Brings partitions to the members that remember them, in exchange for others that these members
/// have just received, and such that nobody loses more of what it had. The number of partitions
/// of each member stays.
fn exchange(shares: Shares, wanted: &Wanted<'_>, claims: &Claims) -> Shares {
    let members = shares.len();
    let mut owners = Table::filled(None, claims.before.len());
    // What each member could do without: neither had it nor remembers it.
    let mut received: Shares = Table::filled(Vec::new(), members);
    let is_new = |partition: Partition, member: Member| {
        claims.before[partition] != Some(member) && claims.remembers[partition] != Some(member)
    };
    for (member, share) in shares.iter() {
        for partition in share {
            owners[*partition] = Some(member);
        }
        received[member].extend(share.iter().filter(|partition| is_new(**partition, member)));
    }
    // The owners with whom each member sought an exchange in vain since it last received anything.
    let mut in_vain = Table::filled(BTreeSet::new(), members);
    for (partition, member) in claims.remembers.iter() {
        let (Some(member), Some(owner)) = (*member, owners[partition]) else { continue };
        let kept = claims.before[partition] == Some(owner);
        if member == owner || in_vain[member].contains(&(owner, kept)) {
            continue;
        }
        let offer = received[member].iter().rposition(|offer| {
            // What was received can have gone to somebody that remembers it.
            owners[*offer] == Some(member)
                && (claims.before[*offer] == Some(owner)
                    || (!kept && wanted.pools.may_have(owner, *offer)))
        });
        let Some(at) = offer else {
            in_vain[member].insert((owner, kept));
            continue;
        };
        let offer = received[member].swap_remove(at);
        (owners[partition], owners[offer]) = (Some(member), Some(owner));
        if is_new(offer, owner) {
            received[owner].push(offer);
            in_vain[owner].clear();
        }
    }
    let mut exchanged = Table::filled(Vec::new(), members);
    for (partition, owner) in owners.iter() {
        exchanged[owner.expect("every partition has an owner")].push(partition);
    }
    exchanged
}
