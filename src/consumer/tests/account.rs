//! What members of one group were seen to do, and what was wrong with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::{Broker, Consumer, RebalanceListener, TopicPartition};

pub(super) const TOPIC: &str = "t";
pub(super) const GROUP: &str = "g";

/// What all members did, by partition.
#[derive(Clone, Default)]
pub(super) struct Account(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<u32, Seen>,
    /// Members that do not poll in time, and so may lose what they have.
    stalled: Vec<u64>,
    deliveries: u64,
    handovers: u64,
    trouble: Option<String>,
}

#[derive(Default)]
struct Seen {
    owner: Option<u64>,
    /// The offset each member is due to be given next.
    due: BTreeMap<u64, u64>,
    /// Behind the last record that was given to a member which then came back.
    finished: u64,
    /// Behind the last record that was given to somebody.
    given: u64,
}

impl Account {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().expect("the account"))
    }

    fn complain(&self, trouble: String) {
        self.with(|inner| inner.trouble.get_or_insert(trouble).truncate(500));
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.with(|inner| inner.trouble.clone())
    }

    /// How many records were given to members, and how often a partition came to one.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.with(|inner| (inner.deliveries, inner.handovers))
    }

    /// Says whether a member may lose partitions without letting go of them.
    pub(super) fn set_stalled(&self, member: u64, stalled: bool) {
        self.with(|inner| {
            inner.stalled.retain(|one| *one != member);
            if stalled {
                inner.stalled.push(member);
            }
        });
    }

    /// Looks at whether more is committed than was done.
    pub(super) fn check_commits(&self, broker: &Broker) {
        let partitions: Vec<u32> = self.with(|inner| inner.partitions.keys().copied().collect());
        for partition in partitions {
            let committed = broker.committed(GROUP, TOPIC, partition).ok().flatten();
            let committed = committed.map_or(0, |committed| committed.offset);
            let finished =
                self.with(|inner| inner.partitions.entry(partition).or_default().finished);
            if committed > finished {
                let trouble = format!("{committed} is committed, {finished} are done");
                self.complain(format!("partition {partition}: {trouble}"));
            }
        }
    }

    /// Looks at whether everything that was sent was done.
    pub(super) fn check_finished(&self, broker: &Broker) {
        for partition in broker.describe_topic(TOPIC).expect("topic").partitions {
            let finished = self
                .with(|inner| inner.partitions.entry(partition.partition).or_default().finished);
            if finished != partition.latest_offset {
                self.complain(format!(
                    "partition {}: {finished} are done of {}",
                    partition.partition, partition.latest_offset
                ));
            }
        }
    }

    fn assigned(&self, member: u64, consumer: &Consumer, partitions: &[TopicPartition]) {
        for one in partitions {
            let Ok(position) = consumer.position(&one.topic, one.partition) else { continue };
            let committed = consumer.committed(&one.topic, one.partition).ok().flatten();
            let committed = committed.map_or(0, |committed| committed.offset);
            let (owner, is_stalled, given) = self.with(|inner| {
                inner.handovers += 1;
                let seen = inner.partitions.entry(one.partition).or_default();
                let owner = seen.owner.replace(member).filter(|owner| *owner != member);
                seen.due.insert(member, position);
                let given = seen.given;
                (owner, owner.is_some_and(|owner| inner.stalled.contains(&owner)), given)
            });
            if let Some(owner) = owner.filter(|_| !is_stalled) {
                self.complain(format!("{one}: {member} has it while {owner} has not let go"));
            }
            // Who was taken out again in the meantime has no claim to a place.
            let is_fresh = !self.with(|inner| inner.stalled.contains(&member));
            if position > given || (is_fresh && position != committed) {
                self.complain(format!(
                    "{one}: {member} begins at {position}, {committed} is committed, {given} were given"
                ));
            }
        }
    }

    fn gone(&self, member: u64, partitions: &[TopicPartition]) {
        self.with(|inner| {
            for one in partitions {
                let seen = inner.partitions.entry(one.partition).or_default();
                seen.owner = seen.owner.filter(|owner| *owner != member);
                seen.due.remove(&member);
            }
        });
    }

    fn all_gone(&self, member: u64) {
        self.with(|inner| {
            for seen in inner.partitions.values_mut() {
                seen.owner = seen.owner.filter(|owner| *owner != member);
                seen.due.remove(&member);
            }
        });
    }

    fn given(&self, member: u64, partition: u32, offset: u64) {
        let due = self.with(|inner| {
            inner.deliveries += 1;
            let seen = inner.partitions.entry(partition).or_default();
            seen.given = seen.given.max(offset + 1);
            seen.due.insert(member, offset + 1)
        });
        if due != Some(offset) {
            self.complain(format!("partition {partition}: {member} got {offset}, due was {due:?}"));
        }
    }

    /// A partition that another has taken since it was read.
    fn robbed(&self, member: u64, pending: &BTreeMap<u32, u64>) -> Option<u32> {
        self.with(|inner| {
            let owner =
                |partition: &u32| inner.partitions.get(partition).and_then(|seen| seen.owner);
            pending.keys().find(|one| owner(one).is_some_and(|owner| owner != member)).copied()
        })
    }

    fn finished(&self, given: &BTreeMap<u32, u64>) {
        self.with(|inner| {
            for (partition, end) in given {
                let seen = inner.partitions.entry(*partition).or_default();
                seen.finished = seen.finished.max(*end);
            }
        });
    }
}

/// A consumer whose doings are accounted for.
pub(super) struct Watched {
    /// Dropped after the account was told.
    pub(super) consumer: Option<Consumer>,
    member: u64,
    account: Account,
    /// What the last poll returned: behind the last record, by partition.
    pending: BTreeMap<u32, u64>,
}

struct Listener {
    member: u64,
    account: Account,
}

impl RebalanceListener for Listener {
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        self.account.assigned(self.member, consumer, partitions);
    }

    fn revoked(&mut self, _consumer: &mut Consumer, partitions: &[TopicPartition]) {
        self.account.gone(self.member, partitions);
    }

    fn lost(&mut self, _consumer: &mut Consumer, partitions: &[TopicPartition]) {
        self.account.gone(self.member, partitions);
    }
}

impl Watched {
    pub(super) fn open(
        member: u64,
        account: &Account,
        builder: crate::ConsumerBuilder,
    ) -> crate::Result<Self> {
        let listener = Listener { member, account: account.clone() };
        let consumer = Some(builder.listener(listener).open()?);
        Ok(Self { consumer, member, account: account.clone(), pending: BTreeMap::new() })
    }

    pub(super) fn consumer(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("it is open")
    }

    /// Polls, which says that what was returned before is done. Returns how many records came.
    pub(super) fn poll(&mut self, timeout: std::time::Duration) -> crate::Result<usize> {
        self.finish();
        let batch = self.consumer().poll(timeout)?;
        for record in &batch {
            self.account.given(self.member, record.partition(), record.offset());
            self.pending.insert(record.partition(), record.offset() + 1);
        }
        Ok(batch.len())
    }

    /// Says that what was returned is done.
    pub(super) fn finish(&mut self) {
        self.account.finished(&std::mem::take(&mut self.pending));
    }

    pub(super) fn commit(&mut self) -> crate::Result<()> {
        let robbed = self.account.robbed(self.member, &self.pending);
        self.finish();
        self.consumer().commit()?;
        if let Some(partition) = robbed {
            let member = self.member;
            self.account.complain(format!("{member} committed in {partition}, which is another's"));
        }
        Ok(())
    }

    /// Leaves without saying what became of the last batch.
    pub(super) fn close(mut self) -> crate::Result<()> {
        let consumer = self.consumer.take().expect("it is open");
        consumer.close()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Whoever takes over may do so as soon as the consumer is dropped.
        self.account.all_gone(self.member);
    }
}
