//! Why a sink did not take a batch, and how much of it it took all the same.

use std::fmt;

/// Says that a sink did not deliver all of a batch.
///
/// Any [`std::error::Error`] becomes one by `?`: it means that delivering is worth another try.
///
/// ```
/// use forebay::SinkError;
///
/// fn parse(text: &str) -> Result<u64, SinkError> {
///     Ok(text.parse()?)
/// }
///
/// let error = parse("x").unwrap_err();
/// assert!(!error.is_permanent());
/// let error = SinkError::reject("no such account").delivered(3);
/// assert_eq!(error.to_string(), "no such account");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a sink returns it"]
pub struct SinkError {
    message: String,
    permanent: bool,
    delivered: usize,
}

impl SinkError {
    /// It did not work, and may work later.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: false, delivered: 0 }
    }

    /// It will never work: what is to happen when retries are used up happens at once.
    pub fn reject(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: true, delivered: 0 }
    }

    /// The first `records` of the batch were delivered, and it failed behind them: they are not
    /// delivered again. Default: none.
    pub fn delivered(mut self, records: usize) -> Self {
        self.delivered = records;
        self
    }

    /// Whether it was made by [`reject`](Self::reject).
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// How many records of the batch were delivered.
    pub(super) fn delivered_records(&self) -> usize {
        self.delivered
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error, with what led to it, that is worth another try.
impl<E: std::error::Error> From<E> for SinkError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::retry(message)
    }
}
