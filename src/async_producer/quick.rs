//! The way of most records: into a batch that is open and has room, of the topic the last record went to.
//!
//! It does what `accept.rs` does, for records that need nothing else: one lock, no call, no decision that
//! leads elsewhere. Whatever is not as usual is left to that, with nothing changed.

use std::sync::Arc;

use super::accept::Chosen;
use super::settings::Settings;
use super::shared::Shared;
use super::ticket::Ticket;
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::record_codec;
use crate::sender::{Acks, Sender};
use crate::storage::frame::HEADER_BYTES;

impl Shared {
    /// Whether this producer ever has open batches that records can be put into without more ado.
    pub(super) fn may_be_quick(settings: &Settings, sender: &Sender) -> bool {
        !settings.linger.is_zero()
            && settings.acks != Acks::None
            && !matches!(sender.partitioner, Partitioner::Custom(_))
    }

    /// Puts a record into the open batch of its partition, and returns its ticket if one is wanted: to
    /// count one takes a quarter of all this. If that is not all there is to do, nothing was done, but
    /// that its partition may have been chosen.
    #[inline]
    pub(super) fn put_quickly<const TICKET: bool>(
        &self,
        topic: &str,
        record: &Record<'_>,
    ) -> Result<Option<Ticket>, Option<Chosen>> {
        if !self.is_quick || !record.headers.is_empty() {
            return Err(None);
        }
        let bytes = record_codec::encoded_bytes(record, 0);
        let now = self.broker.clock().now();
        let mut locked = self.inbox.lock();
        let inbox = &mut *locked;
        let Some(found) = inbox.topics.last(topic).filter(|_| inbox.closing.is_none()) else {
            return Err(None);
        };
        let number = self.sender.choose(record, found.state.partition_count());
        let chosen = || Err(Some(Chosen::new(&found.state, number)));
        let Some(Some(lane)) = found.lanes.get(number as usize) else { return chosen() };
        let Some(Some(lane)) = inbox.lanes.get_mut(*lane) else { return chosen() };
        let Some(batch) = &mut lane.open else { return chosen() };
        let timestamp = match record.timestamp {
            Some(timestamp) if !found.is_append_time => timestamp,
            _ => now,
        };
        let is_usual = batch.count as usize + 1 < self.settings.batch_records
            && batch.bytes_with(bytes, timestamp) < self.settings.batch_bytes
            && inbox.records < self.settings.buffer_records
            && inbox.bytes + bytes <= self.settings.buffer_bytes
            && (bytes + HEADER_BYTES) as u64 <= found.max_record_bytes
            && !found.is_altered()
            && batch.is_append_time == found.is_append_time
            && record.timestamp.unwrap_or(now).is_valid()
            && lane.partition.log().check_gate().is_ok();
        if !is_usual {
            return chosen();
        }
        // Counting the ticket comes before the copy: it would wait for that to reach the cache.
        let ticket = TICKET
            .then(|| Ticket::waiting(Arc::clone(batch.promise.fate()), batch.count, timestamp));
        let added = batch.push_plain(record, bytes, timestamp);
        lane.records += 1;
        inbox.records += 1;
        inbox.bytes += added;
        Ok(ticket)
    }
}
