//! The records of a batch by the partitions they go to, and how they are appended together.
//!
//! A batch is measured and given room in all its partitions before a byte is written in any. The
//! locks are taken by rising partition. Most batches go to one partition: they take one lock and need no
//! list.

use smallvec::{SmallVec, smallvec};

use crate::clock::Clock;
use crate::error::Result;
use crate::partition::Partition;
use crate::record::Record;
use crate::segment::Append;
use crate::sent::Sent;
use crate::timestamp::Timestamp;
use crate::topic::TopicState;

/// The partitions chosen for the records of a batch.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    /// Of the first records, the partition, and how many there are.
    first: u32,
    count: usize,
    /// Of all records, once they are not all the same.
    all: Vec<u32>,
}

impl Choices {
    /// Whether the last record went to `number`, so that it is known to be there.
    #[inline]
    pub(crate) fn is_last(&self, number: u32) -> bool {
        self.all.last().map_or(self.count > 0 && self.first == number, |last| *last == number)
    }

    #[inline]
    pub(crate) fn push(&mut self, number: u32) {
        if self.all.is_empty() {
            if self.count == 0 || self.first == number {
                self.first = number;
                self.count += 1;
                return;
            }
            self.all = vec![self.first; self.count];
        }
        self.all.push(number);
    }
}

/// The records of a batch by partition, partitions rising and records in the order given.
pub(crate) struct Partitioned<'a, 'r> {
    groups: SmallVec<[(u32, Group<'a, 'r>); 1]>,
    choices: Choices,
}

/// Those of one partition.
enum Group<'a, 'r> {
    All(&'a [Record<'r>]),
    Some(Vec<&'a Record<'r>>),
}

/// Does the same with the records of a group, however they are kept.
macro_rules! with_records {
    ($group:expr, $records:ident => $what:expr) => {
        match $group {
            Group::All(all) => {
                let $records = all.iter();
                $what
            }
            Group::Some(some) => {
                let $records = some.iter().copied();
                $what
            }
        }
    };
}

impl<'a, 'r> Partitioned<'a, 'r> {
    /// `records`, for each of which a partition was chosen.
    pub(crate) fn new(records: &'a [Record<'r>], choices: Choices) -> Self {
        if choices.all.is_empty() {
            let group = (choices.first, Group::All(records));
            let groups = if records.is_empty() { smallvec![] } else { smallvec![group] };
            return Self { groups, choices };
        }
        let mut present = choices.all.clone();
        present.sort_unstable();
        present.dedup();
        let mut groups: SmallVec<[(u32, Vec<&Record<'_>>); 1]> =
            present.into_iter().map(|number| (number, Vec::new())).collect();
        for (record, number) in records.iter().zip(&choices.all) {
            let group = groups.binary_search_by_key(number, |(number, _)| *number);
            if let Some((_, group)) = group.ok().and_then(|at| groups.get_mut(at)) {
                group.push(record);
            }
        }
        let group = |(number, group)| (number, Group::Some(group));
        Self { groups: groups.into_iter().map(group).collect(), choices }
    }

    /// Appends all of them, and says what was appended to each partition, and when.
    pub(crate) fn append(
        &self,
        topic: &TopicState,
        clock: &Clock,
    ) -> Result<(SmallVec<[Append; 1]>, Timestamp)> {
        if let [(number, group)] = &self.groups[..] {
            let partition = topic.partition(*number)?;
            let (append, now) =
                with_records!(group, records => partition.append_batch(records, clock))?;
            return Ok((smallvec![append], now));
        }
        self.append_to_several(topic, clock)
    }

    /// Takes all append locks, makes room everywhere, and only then writes.
    fn append_to_several(
        &self,
        topic: &TopicState,
        clock: &Clock,
    ) -> Result<(SmallVec<[Append; 1]>, Timestamp)> {
        let mut locked = Vec::with_capacity(self.groups.len());
        for (number, records) in &self.groups {
            let partition = topic.partition(*number)?;
            locked.push((partition, records, partition.lock_to_append()?));
        }
        let now = clock.now();
        let mut appends = SmallVec::with_capacity(locked.len());
        for (_, records, appender) in &locked {
            let writer = &appender.writer;
            let measured = with_records!(records, records => writer.measure_batch(records, now));
            appends.push(measured?);
        }
        let mut each = locked.iter_mut().zip(&appends);
        let refused = each.find_map(|((_, _, appender), append)| {
            appender.writer.prepare_batch(append, now).err()
        });
        if let Some(error) = refused {
            for (_, _, appender) in &mut locked {
                appender.writer.give_back();
            }
            return Err(error);
        }
        let mut filled = Vec::with_capacity(locked.len());
        for ((_, records, appender), append) in locked.iter_mut().zip(&appends) {
            let writer = &mut appender.writer;
            let fill = with_records!(records, records => writer.fill_batch(append, records, now));
            filled.push(fill?);
        }
        let mut result = Ok(());
        for (place, (((partition, _, appender), append), filled)) in
            locked.iter_mut().zip(&appends).zip(&filled).enumerate()
        {
            if let Err(error) = appender.writer.publish_batch(append, filled) {
                // Where files are mapped this does not happen. If others were published already,
                // what became of the batch is for recovery to find out.
                result = Err(if place == 0 { error } else { partition.log().give_up(&error) });
                break;
            }
        }
        let left: Vec<_> = locked
            .into_iter()
            .map(|(partition, _, appender)| (partition, Partition::unlock(appender)))
            .collect();
        for (partition, left) in left {
            if let Some(left) = left {
                partition.follow_up(left);
            }
        }
        result?;
        Ok((appends, now))
    }

    /// Where each record went, in the order they were given.
    pub(crate) fn places(&self, appends: &[Append], now: Timestamp) -> Vec<Sent> {
        if let ([(partition, Group::All(records))], [append]) = (&self.groups[..], appends) {
            let place = |(record, offset): (&Record<'_>, u64)| Sent {
                partition: *partition,
                offset,
                timestamp: append.timestamp_of(record, now),
            };
            return records.iter().zip(append.offset..).map(place).collect();
        }
        let mut left: Vec<_> = self
            .groups
            .iter()
            .zip(appends)
            .filter_map(|((_, group), append)| match group {
                Group::Some(records) => Some((records.iter(), append, append.offset..)),
                Group::All(_) => None,
            })
            .collect();
        let place = |number: &u32| {
            let at = self.groups.binary_search_by_key(number, |(number, _)| *number).ok()?;
            let (records, append, offsets) = left.get_mut(at)?;
            let timestamp = append.timestamp_of(records.next()?, now);
            Some(Sent { partition: *number, offset: offsets.next()?, timestamp })
        };
        self.choices.all.iter().map_while(place).collect()
    }

    /// Waits until all of it is on stable storage.
    pub(crate) fn sync(&self, topic: &TopicState, appends: &[Append]) -> Result<()> {
        for ((number, _), append) in self.groups.iter().zip(appends) {
            let end = append.offset + u64::from(append.count);
            topic.partition(*number)?.log().sync_to(end)?;
        }
        Ok(())
    }
}
