//! Chains of moves that level what the members hold.
//!
//! Where not every member may have every partition, a member that holds too much may be unable to
//! hand anything to the one that holds too little, but a third can stand between them. A chain
//! starts at a member with k partitions, hands one from member to member, each wanting what it
//! receives, and ends at one with k-2 or fewer. The shares are as even as they can be exactly when
//! there is no such chain (Harvey, Ladner, Lovász, Tamir, "Semi-matchings for bipartite graphs and
//! load balancing", 2006).

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::numbers::{Member, Partition, Pool, Table};
use super::subscription::Pools;

/// Who holds what while it is levelled.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    pools: &'a Pools,
    before: &'a Table<Partition, Option<Member>>,
    /// What each member holds and may hand on, without pools of which it holds nothing. It hands
    /// on from the end, so what it had before stands at the front.
    held: Table<Member, BTreeMap<Pool, VecDeque<Partition>>>,
    /// How much each member has; more than it holds here if it has what may not be moved.
    loads: Table<Member, usize>,
    /// The members that may still be part of a chain.
    open: Table<Member, bool>,
}

/// How a search reached a member: from this one, with a partition of this pool.
type Link = Option<(Member, Pool)>;

impl<'a> Chains<'a> {
    /// Members that have this much that does not move and hold nothing that does.
    pub(super) fn new(
        pools: &'a Pools,
        before: &'a Table<Partition, Option<Member>>,
        loads: Table<Member, usize>,
    ) -> Self {
        let held = Table::filled(BTreeMap::new(), loads.len());
        let open = Table::filled(true, loads.len());
        Self { pools, before, held, loads, open }
    }

    /// Gives a partition to a member.
    pub(super) fn give(&mut self, partition: Partition, member: Member) {
        self.put(partition, member);
        self.loads[member] += 1;
    }

    /// Gives a partition to the one that has least of those that may have it, and if some have
    /// equally little, to this one of them or to the first.
    pub(super) fn give_to_least(&mut self, partition: Partition, preferred: Option<Member>) {
        let takers = self.pools.takers_of(partition).iter().copied();
        let least = takers.min_by_key(|taker| (self.loads[*taker], Some(*taker) != preferred));
        self.give(partition, least.expect("somebody may have each partition"));
    }

    /// Moves partitions along chains until there is none, and returns who holds what.
    ///
    /// It goes from the fullest member to the emptiest it reaches. If it reaches none that is two
    /// below, then all that it reaches hold as much or one less, nothing can leave them, and
    /// nobody with as much or less can use them for a chain: they are done. So the searches are at
    /// most as many as the moves and the members together.
    pub(super) fn level(mut self) -> Table<Member, Vec<Partition>> {
        while let Some((fullest, lowest)) = self.bounds() {
            let (links, end) = self.search(fullest, lowest);
            match end {
                Some(end) => self.shift(&links, fullest, end),
                None => self.close(&links, fullest),
            }
        }
        let held = self.held.into_rows().into_iter();
        Table::new(held.map(|held| held.into_values().flatten().collect()).collect())
    }

    /// The fullest of the open members and the lowest load among them, if they are not level.
    fn bounds(&self) -> Option<(Member, usize)> {
        let open = || self.loads.iter().filter(|(member, _)| self.open[*member]);
        let (fullest, most) = open().max_by_key(|(member, load)| (**load, Reverse(*member)))?;
        let lowest = open().map(|(_, load)| *load).min()?;
        (lowest + 2 <= *most).then_some((fullest, lowest))
    }

    /// Searches breadth first, so that of the chains to equally empty members it finds a shortest.
    /// Returns how it reached each member, and the end of the chain.
    fn search(&self, start: Member, lowest: usize) -> (Table<Member, Link>, Option<Member>) {
        let mut links: Table<Member, Link> = Table::filled(None, self.loads.len());
        let mut used = Table::filled(false, self.pools.takers.len());
        let mut end = None;
        let mut bound = self.loads[start] - 1;
        let mut queue = VecDeque::from([start]);
        while let Some(from) = queue.pop_front() {
            for pool in self.held[from].keys() {
                if std::mem::replace(&mut used[*pool], true) {
                    continue;
                }
                for taker in &self.pools.takers[*pool] {
                    if *taker == start || links[*taker].is_some() || !self.open[*taker] {
                        continue;
                    }
                    links[*taker] = Some((from, *pool));
                    queue.push_back(*taker);
                    if self.loads[*taker] < bound {
                        bound = self.loads[*taker];
                        end = Some(*taker);
                    }
                    if bound == lowest {
                        return (links, end);
                    }
                }
            }
        }
        (links, end)
    }

    /// Hands one partition along each link of the chain. No pool is used twice in a search, so
    /// what a member hands on is not what it has just received.
    fn shift(&mut self, links: &Table<Member, Link>, start: Member, end: Member) {
        let mut to = end;
        while let Some((from, pool)) = links[to] {
            let partition = self.take(pool, from);
            self.put(partition.expect("the link was found by what is held"), to);
            to = from;
        }
        debug_assert_eq!(to, start, "a chain leads back to its start");
        self.loads[start] -= 1;
        self.loads[end] += 1;
    }

    fn put(&mut self, partition: Partition, member: Member) {
        let held = self.held[member].entry(self.pools.of[partition]).or_default();
        if self.before[partition] == Some(member) {
            held.push_front(partition);
        } else {
            held.push_back(partition);
        }
    }

    fn take(&mut self, pool: Pool, member: Member) -> Option<Partition> {
        let held = self.held[member].get_mut(&pool)?;
        let partition = held.pop_back();
        if held.is_empty() {
            self.held[member].remove(&pool);
        }
        partition
    }

    fn close(&mut self, links: &Table<Member, Link>, start: Member) {
        for member in links.keys() {
            if member == start || links[member].is_some() {
                self.open[member] = false;
            }
        }
    }
}
