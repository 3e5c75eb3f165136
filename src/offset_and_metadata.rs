//! What a group commits for a partition.

/// An offset to be committed, or that was: the place where a group goes on reading, and a text of
/// the application's own.
///
/// Called as in Kafka. Made from an offset alone, or with a text:
///
/// ```
/// use forebay::OffsetAndMetadata;
///
/// assert_eq!(OffsetAndMetadata::from(42).offset, 42);
/// assert_eq!(OffsetAndMetadata::from((42, "batch 7")).metadata, "batch 7");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OffsetAndMetadata {
    /// The offset of the next record to read: one more than that of the last that is done with.
    pub offset: u64,
    /// Kept with it and given back with it; at most [`MAX_COMMIT_METADATA_BYTES`] long.
    pub metadata: String,
}

/// The longest text that is kept with a committed offset, in bytes; as Kafka's default for
/// `offset.metadata.max.bytes`.
pub const MAX_COMMIT_METADATA_BYTES: usize = 4096;

impl From<u64> for OffsetAndMetadata {
    fn from(offset: u64) -> Self {
        Self { offset, metadata: String::new() }
    }
}

impl<M: Into<String>> From<(u64, M)> for OffsetAndMetadata {
    fn from((offset, metadata): (u64, M)) -> Self {
        Self { offset, metadata: metadata.into() }
    }
}
