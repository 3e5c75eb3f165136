//! Taking a record: on the thread that sends, into the open batch of its partition, or straight into
//! the log if nothing else waits.
//!
//! What is known at once to be wrong with a record is an error here. No user code runs under the lock:
//! a partitioner of the user's own is called before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::batch::Extra;
use super::inbox::{Inbox, Put};
use super::outgoing::OutgoingRecord;
use super::retry::is_transient;
use super::settings::WhenFull;
use super::shared::Shared;
use super::ticket::Ticket;
use crate::error::{Error, Result};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::record_codec;
use crate::sender::{Acks, check};
use crate::sent::Sent;
use crate::storage::frame::HEADER_BYTES;
use crate::topic::TopicState;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A thread that sends, and waits for room as it was set up to.
    Caller,
    /// The thread behind the input, which always waits, and goes on while the producer closes.
    Input,
}

/// What a send has found out while it had the lock, for when it comes back to it.
#[derive(Debug, Default)]
struct Attempt {
    /// The partition that was chosen.
    chosen: Option<Chosen>,
    /// Whether it was tried to append it straight away, in vain.
    was_tried: bool,
    /// Until when room is waited for, once it is.
    until: Option<Instant>,
    waits: bool,
}

/// A partition that was chosen for a record, and the topic it was chosen in: the topic of that name may be
/// another one when there is room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    topic_id: u64,
    number: u32,
}

impl Chosen {
    pub(super) fn new(topic: &TopicState, number: u32) -> Self {
        Self { topic_id: topic.shape().id, number }
    }

    fn number_in(self, topic: &TopicState) -> Option<u32> {
        Some(self.number).filter(|_| self.topic_id == topic.shape().id)
    }
}

/// Where a record goes: the place of its topic, the partition, and its lane.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    number: u32,
    lane: usize,
}

/// Why a place is not found at once.
enum Obstacle {
    Refused(Error),
    /// A partitioner of the user's own is to be asked.
    Unchosen(Arc<TopicState>),
    /// The topic was not looked up yet.
    Unresolved,
    /// The topic with this identity is no longer there.
    Stale(u64, Error),
}

impl Shared {
    /// Takes a record after it was shown to the interceptors.
    #[inline]
    pub(super) fn send(&self, topic: &str, record: &Record<'_>) -> Result<Ticket> {
        self.broker.check_owner()?;
        match self.put_quickly::<true>(topic, record) {
            Ok(Some(ticket)) => Ok(ticket),
            Ok(None) => self.send_closely(topic, record, None),
            Err(chosen) => self.send_closely(topic, record, chosen),
        }
    }

    /// As [`send`](Self::send), of which nobody asks what became.
    #[inline]
    pub(super) fn post(&self, topic: &str, record: &Record<'_>) -> Result<()> {
        self.broker.check_owner()?;
        match self.put_quickly::<false>(topic, record) {
            Ok(_) => Ok(()),
            Err(chosen) => self.send_closely(topic, record, chosen).map(drop),
        }
    }

    /// Takes a record that cannot go the quick way.
    fn send_closely(
        &self,
        topic: &str,
        record: &Record<'_>,
        chosen: Option<Chosen>,
    ) -> Result<Ticket> {
        if self.interceptors.is_empty() {
            let attempt = Attempt { chosen, ..Attempt::default() };
            return self.accept_from(topic, record, 0, Source::Caller, attempt);
        }
        let mut shown = OutgoingRecord::copy_of(topic, record);
        self.interceptors.on_send(&mut shown);
        self.accept(&shown.topic, &shown.as_record(), shown.tag, Source::Caller)
    }

    /// Takes a record.
    pub(super) fn accept(
        &self,
        topic: &str,
        record: &Record<'_>,
        tag: u64,
        source: Source,
    ) -> Result<Ticket> {
        self.accept_from(topic, record, tag, source, Attempt::default())
    }

    /// Takes a record of which something is known already.
    fn accept_from(
        &self,
        topic: &str,
        record: &Record<'_>,
        tag: u64,
        source: Source,
        mut attempt: Attempt,
    ) -> Result<Ticket> {
        self.broker.check_owner()?;
        let bytes = record_codec::encoded_bytes(record, 0);
        let extra = Extra { tag, has_partition: record.partition.is_some() };
        let is_direct = self.settings.linger.is_zero() && self.senders_drain();
        let mut inbox = self.inbox.lock();
        loop {
            if inbox.closing.is_some() && source == Source::Caller {
                return Err(Error::ProducerClosed);
            }
            let place = match self.find_place(&mut inbox, topic, record, attempt.chosen) {
                Ok(place) => place,
                Err(obstacle) => {
                    inbox = self.overcome(inbox, obstacle, topic, record, &mut attempt)?;
                    continue;
                }
            };
            attempt.chosen =
                inbox.topics.get(place.at).map(|at| Chosen::new(&at.state, place.number));
            if inbox.records >= self.settings.buffer_records
                || inbox.bytes + bytes > self.settings.buffer_bytes
            {
                inbox = self.make_room(inbox, &mut attempt, topic, (bytes, source))?;
                continue;
            }
            if is_direct && !attempt.was_tried && inbox.is_idle() {
                attempt.was_tried = true;
                let Some(partition) = inbox.partition(place.lane) else { continue };
                inbox.is_draining = true;
                drop(inbox);
                match self.append_now(&partition, record, tag) {
                    Ok(sent) => return Ok(self.sent_now(sent)),
                    Err(error) if !is_transient(&error) => return Err(error),
                    Err(_) => inbox = self.inbox.lock(),
                }
                continue;
            }
            return self.put(inbox, &place, record, bytes, extra);
        }
    }

    /// Finds the partition a record goes to, and its lane.
    #[inline]
    fn find_place(
        &self,
        inbox: &mut Inbox,
        topic: &str,
        record: &Record<'_>,
        chosen: Option<Chosen>,
    ) -> Result<Place, Obstacle> {
        let Some(at) = inbox.topics.find(topic) else { return Err(Obstacle::Unresolved) };
        let Some(found) = inbox.topics.get(at) else { return Err(Obstacle::Unresolved) };
        check(&found.state, record).map_err(Obstacle::Refused)?;
        let chosen = chosen.and_then(|chosen| chosen.number_in(&found.state));
        let number = match (chosen, &self.sender.partitioner) {
            (Some(number), _) => number,
            (None, Partitioner::Custom(_)) => {
                return Err(Obstacle::Unchosen(Arc::clone(&found.state)));
            }
            (None, _) => self.sender.choose(record, found.state.partition_count()),
        };
        match found.lanes.get(number as usize) {
            Some(Some(lane)) if inbox.is_open(*lane) => Ok(Place { at, number, lane: *lane }),
            _ => Self::look_closely(inbox, at, number),
        }
    }

    /// As [`find_place`](Self::find_place), where there is no lane yet or the topic is gone.
    #[cold]
    fn look_closely(inbox: &mut Inbox, at: usize, number: u32) -> Result<Place, Obstacle> {
        let Some(found) = inbox.topics.get(at) else { return Err(Obstacle::Unresolved) };
        let stale = |error| Obstacle::Stale(found.state.shape().id, error);
        let partition = found.state.partition(number);
        match partition.and_then(|partition| partition.log().check_gate()) {
            Ok(()) => {}
            Err(error) if found.is_gone() => return Err(stale(error)),
            Err(error) => return Err(Obstacle::Refused(error)),
        }
        let lane = inbox.lane_of(at, number).ok_or(Obstacle::Unresolved)?;
        Ok(Place { at, number, lane })
    }

    /// Does what stands between a record and its place, with the lock given back meanwhile.
    #[cold]
    fn overcome<'a>(
        &'a self,
        inbox: MutexGuard<'a, Inbox>,
        obstacle: Obstacle,
        topic: &str,
        record: &Record<'_>,
        attempt: &mut Attempt,
    ) -> Result<MutexGuard<'a, Inbox>> {
        drop(inbox);
        let stale = match obstacle {
            Obstacle::Refused(error) => return Err(error),
            Obstacle::Unchosen(state) => {
                let number = self.sender.choose(record, state.partition_count());
                attempt.chosen = Some(Chosen::new(&state, number));
                return Ok(self.inbox.lock());
            }
            Obstacle::Unresolved => None,
            Obstacle::Stale(id, error) => Some((id, error)),
        };
        attempt.chosen = None;
        let found = self.broker.topic_to_send(topic)?;
        match stale {
            // It is on its way out, or the broker is.
            Some((id, error)) if id == found.shape().id => Err(error),
            _ => {
                let mut inbox = self.inbox.lock();
                inbox.add_topic(found);
                Ok(inbox)
            }
        }
    }

    /// The ticket of a record that was appended at once.
    #[inline]
    fn sent_now(&self, sent: Sent) -> Ticket {
        let is_known = self.settings.acks != Acks::None;
        Ticket::known(if is_known { sent } else { Sent { offset: Sent::UNKNOWN_OFFSET, ..sent } })
    }

    /// Puts a record into the open batch of its partition, for which there is room.
    #[inline]
    fn put<'a>(
        &'a self,
        mut inbox: MutexGuard<'a, Inbox>,
        place: &Place,
        record: &Record<'_>,
        bytes: usize,
        extra: Extra,
    ) -> Result<Ticket> {
        let Place { at, number, lane } = *place;
        let Some(topic) = inbox.topics.get_mut(at) else { return Err(Error::ProducerClosed) };
        let needed = (bytes + HEADER_BYTES) as u64;
        if topic.is_altered() {
            topic.look();
        }
        if needed > topic.max_record_bytes {
            let (topic, max_bytes) = (topic.state.name().to_string(), topic.max_record_bytes);
            return Err(Error::RecordTooLarge { topic, bytes: needed, max_bytes });
        }
        let is_append_time = topic.is_append_time;
        let timestamp = match record.timestamp {
            Some(timestamp) if !is_append_time => timestamp,
            _ => self.broker.clock().now(),
        };
        let put = Put {
            record,
            bytes,
            timestamp,
            extra,
            partition: number,
            owner: self.owner,
            is_append_time,
            batch_records: self.settings.batch_records,
            batch_bytes: self.settings.batch_bytes,
            linger: self.settings.linger,
            acks: self.settings.acks,
        };
        let Some((ticket, is_ripe)) = inbox.put(lane, &put) else {
            return Err(Error::ProducerClosed);
        };
        let at_once = self.settings.linger.is_zero();
        if at_once || is_ripe {
            inbox.ripen(lane, at_once);
            if self.senders_drain() && !inbox.is_draining && !inbox.ready.is_empty() {
                inbox = self.drain_for_a_while(inbox);
            }
        }
        self.leave_to_worker(inbox);
        Ok(ticket)
    }

    /// Waits for room, as long as that is wanted, with the lock given back meanwhile. What waits to
    /// become more is sent at once.
    #[cold]
    fn make_room<'a>(
        &'a self,
        mut inbox: MutexGuard<'a, Inbox>,
        attempt: &mut Attempt,
        topic: &str,
        (bytes, source): (usize, Source),
    ) -> Result<MutexGuard<'a, Inbox>> {
        if bytes > self.settings.buffer_bytes {
            let (topic, buffer_bytes) = (topic.to_owned(), self.settings.buffer_bytes);
            return Err(Error::LargerThanBuffer { topic, bytes, buffer_bytes });
        }
        inbox.ripen_all(false);
        if self.senders_drain() && !inbox.is_draining && !inbox.ready.is_empty() {
            inbox = self.drain_for_a_while(inbox);
            self.wake_worker(&mut inbox);
            return Ok(inbox);
        }
        let full = |inbox: &Inbox| Error::BufferFull {
            topic: topic.to_owned(),
            records: inbox.records,
            bytes: inbox.bytes,
        };
        if !attempt.waits {
            attempt.waits = true;
            attempt.until = match (source, self.settings.when_full) {
                (Source::Caller, WhenFull::Timeout(timeout)) => Instant::now().checked_add(timeout),
                _ => None,
            };
        }
        let refuses = source == Source::Caller
            && (self.settings.when_full == WhenFull::Refuse || inbox.must_not_wait());
        let is_late = |until: Option<Instant>| until.is_some_and(|until| until <= Instant::now());
        if refuses || is_late(attempt.until) {
            let error = full(&inbox);
            self.leave_to_worker(inbox);
            return Err(error);
        }
        let until = if source == Source::Input {
            // Nobody waits for it longer than for the rest.
            if is_late(inbox.closing) {
                return Err(Error::ProducerClosed);
            }
            inbox.closing
        } else {
            attempt.until
        };
        inbox.waiting_for_room += 1;
        self.wake_worker(&mut inbox);
        match until {
            Some(until) => drop(self.room.wait_until(&mut inbox, until)),
            None => self.room.wait(&mut inbox),
        }
        inbox.waiting_for_room -= 1;
        Ok(inbox)
    }

    /// Has the worker look, if it sleeps.
    pub(super) fn wake_worker(&self, inbox: &mut Inbox) {
        if inbox.sleep != super::inbox::Sleep::Awake {
            inbox.sleep = super::inbox::Sleep::Awake;
            self.work.notify_one();
        }
    }

    /// When something that may take `timeout` is late; far away if that is no moment there is.
    pub(super) fn deadline(timeout: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
        let now = Instant::now();
        now.checked_add(timeout.min(FAR)).unwrap_or(now)
    }
}
