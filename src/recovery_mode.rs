//! What opening does about a log that does not end as it should.

/// What [`BrokerBuilder::recovery_mode`](crate::BrokerBuilder::recovery_mode) chooses: what is done
/// when a directory that was not closed cleanly is opened.
///
/// In every mode what is kept is a prefix of what was sent, what was done is in the
/// [`recovery_report`](crate::Broker::recovery_report), and nothing that was told
/// [`Acks::Synced`](crate::Acks::Synced) is ever cut silently.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// use forebay::{Broker, RecoveryMode};
///
/// let broker = Broker::builder(path).recovery_mode(RecoveryMode::Strict).open()?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Nothing is cut: bytes behind the last whole record, or damage anywhere that is looked at, are
    /// [`Error::Corrupt`](crate::Error::Corrupt), and the files stay as they are.
    Strict,
    /// A torn tail is cut and reported. Damage to what is known to have been on stable storage is
    /// left where it is and reported; reading it is [`Error::Corrupt`](crate::Error::Corrupt), and
    /// what lies behind it can be read by seeking there. A file that must be there and is not, or
    /// whose beginning is damaged, is an error.
    #[default]
    TruncateTail,
    /// As [`repair`](crate::Broker::repair) and then `TruncateTail`: what is damaged is put aside in
    /// the directory `quarantine`, never deleted, and all the rest is opened. Readers are told of
    /// what is missing by [`Error::Gap`](crate::Error::Gap).
    Salvage,
}

/// How logs are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HowToOpen {
    pub(crate) mode: RecoveryMode,
    /// Whether everything must stay as it is.
    pub(crate) read_only: bool,
}
