//! What the offset store writes down: one entry a change, in the form `bincode` gives it.
//!
//! An entry is the body of a frame; the frame's timestamp is the time of the change. The order of
//! the variants is part of the format.

use serde::{Deserialize, Serialize};

/// A change to what groups have committed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Entry<'a> {
    /// A group, which has members, committed these offsets; what it had committed elsewhere stays.
    Commit {
        group: &'a str,
        #[serde(borrow)]
        topics: Vec<TopicEntry<'a>>,
    },
    /// A group has members from now on, or none.
    Members { group: &'a str, any: bool },
    /// A group was deleted, with all it had committed.
    Delete { group: &'a str },
    /// A topic was deleted: no group has offsets in it any more.
    Forget { topic_id: u64 },
    /// Everything that was known when the file was begun stands before this.
    SnapshotEnd,
}

/// The offsets committed in one topic.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TopicEntry<'a> {
    pub(super) topic: &'a str,
    /// Tells the topic from an earlier one of the same name.
    pub(super) id: u64,
    #[serde(borrow)]
    pub(super) offsets: Vec<OffsetEntry<'a>>,
}

/// The offset committed in one partition.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OffsetEntry<'a> {
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) metadata: &'a str,
}

/// The longest entry, in bytes.
pub(super) const MAX_ENTRY_BYTES: usize = 16 << 20;
/// What decoding an entry may allocate: more than the longest one needs.
const DECODE_LIMIT: usize = 32 * MAX_ENTRY_BYTES;

impl<'a> Entry<'a> {
    /// Puts its bytes in `buffer`, in place of what was there.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        bincode::serde::encode_into_std_write(self, buffer, bincode::config::standard())
            .expect("numbers and strings are written to memory");
    }

    /// The entry these bytes are, or what is wrong with them.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
        match bincode::serde::borrow_decode_from_slice(bytes, config) {
            Ok((entry, used)) if used == bytes.len() => Ok(entry),
            Ok(_) => Err("bytes are left over behind an entry".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
