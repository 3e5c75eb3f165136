//! Where records go that could not be delivered.
//!
//! Called by the workers, with no lock held: a record is appended here before it counts as done with.

use std::sync::Arc;

use super::sink_batch::SinkBatch;
use crate::error::{Error, Result};
use crate::producer::Producer;
use crate::record::Record;

/// The most characters of a reason that are kept.
const MAX_REASON_CHARS: usize = 1000;

/// Appends dead letters to a topic. Keeps the broker open.
#[derive(Debug)]
pub(super) struct DeadLetters {
    pub(super) producer: Producer,
    pub(super) topic: String,
    pub(super) group: Arc<str>,
}

impl DeadLetters {
    /// Appends the records of a batch, each with where it comes from and why it is here.
    pub(super) fn put(&self, batch: &SinkBatch, reason: &str) -> Result<()> {
        // A header is no place for a page.
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        let (partition, attempts) = (batch.partition().to_string(), batch.attempt().to_string());
        for record in batch {
            let offset = record.offset().to_string();
            let mut letter = Record::tombstone().timestamp(record.timestamp());
            letter.key = record.key();
            letter.value = record.value();
            letter.headers.extend(record.headers());
            let letter = letter
                .header("dead-letter.topic", batch.topic())
                .header("dead-letter.partition", &partition)
                .header("dead-letter.offset", &offset)
                .header("dead-letter.group", &*self.group)
                .header("dead-letter.attempts", &attempts)
                .header("dead-letter.reason", &reason);
            // To wait for room here would hold up a thread, and so other partitions, for as long as the
            // topic says. It is tried again instead.
            match self.producer.send_at_once(&self.topic, letter) {
                Ok(_) => {}
                // It was appended, and only a flush can tell when it is durable.
                Err(Error::NotSynced { .. }) => self.producer.flush()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether another try would lead to the same.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::RecordTooLarge { .. }
            | Error::TooManyHeaders { .. }
            | Error::TimestampOutOfRange { .. }
            | Error::UnknownTopic { .. }
            | Error::Closed
            | Error::Forked { .. }
            | Error::ReadOnly { .. }
            | Error::Poisoned { .. }
    )
}
