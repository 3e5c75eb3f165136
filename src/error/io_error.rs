//! The error as an [`io::Error`], for what knows those alone.

use std::io::{self, ErrorKind};

use super::Error;

/// The kind is the nearest there is, and the error itself is inside.
///
/// ```
/// use forebay::{Broker, Error};
///
/// fn look(broker: &Broker) -> std::io::Result<()> {
///     broker.topic("nowhere")?;
///     Ok(())
/// }
///
/// let error = look(&Broker::in_memory()?).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
/// assert!(matches!(inside, Some(Error::UnknownTopic { .. })));
/// # Ok::<(), forebay::Error>(())
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(kind(&error), error)
    }
}

/// Never one by which a caller is told to try again at once.
fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::StorageFull { .. } => ErrorKind::StorageFull,
        Error::TopicFull { .. } | Error::BrokerFull { .. } => ErrorKind::QuotaExceeded,
        Error::ReadOnly { .. } => ErrorKind::ReadOnlyFilesystem,
        Error::Closed => ErrorKind::BrokenPipe,
        Error::UnknownTopic { .. }
        | Error::UnknownPartition { .. }
        | Error::UnknownGroup { .. }
        | Error::NoCommittedOffset { .. } => ErrorKind::NotFound,
        Error::TopicExists { .. } => ErrorKind::AlreadyExists,
        Error::Locked { .. } | Error::GroupNotEmpty { .. } => ErrorKind::ResourceBusy,
        Error::InvalidTopicName { .. }
        | Error::InvalidGroupName { .. }
        | Error::InvalidConfig { .. }
        | Error::RecordTooLarge { .. }
        | Error::TooManyHeaders { .. }
        | Error::TooManyRecords { .. }
        | Error::TimestampOutOfRange { .. }
        | Error::CommitMetadataTooLong { .. }
        | Error::OffsetOutOfRange { .. } => ErrorKind::InvalidInput,
        Error::Corrupt { .. } | Error::UnsupportedVersion { .. } => ErrorKind::InvalidData,
        Error::Io { source, .. } | Error::NotSynced { source, .. } => match source.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock => ErrorKind::Other,
            kind => kind,
        },
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn nobody_is_told_to_try_again_at_once() {
        for kind in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
            let error = Error::io("reading", Path::new("data"), kind.into());
            assert_eq!(io::Error::from(error).kind(), ErrorKind::Other);
        }
        let error = Error::io("reading", Path::new("data"), ErrorKind::PermissionDenied.into());
        let error = io::Error::from(error);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "reading data: permission denied");
    }
}
