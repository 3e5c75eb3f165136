//! Where a forwarder delivers to.

use super::sink_batch::SinkBatch;
use super::sink_error::SinkError;

/// Takes records out of the queue: an HTTP client, a database, another queue. Any closure of the same
/// shape is one.
///
/// It is called by the forwarder's own threads, as many at once as
/// [`concurrency`](crate::ForwarderBuilder::concurrency) allows, but never with two batches of one
/// partition. It may block for as long as it wants: that holds up its partition and one thread. A
/// batch it returns `Ok` for was delivered. One it panics over, or returns an error for, comes again,
/// and one that was delivered may come again after a crash: a sink is best idempotent.
///
/// ```
/// use forebay::{Sink, SinkBatch, SinkError};
///
/// struct Print;
///
/// impl Sink for Print {
///     fn deliver(&self, batch: &SinkBatch) -> Result<(), SinkError> {
///         for (at, record) in batch.iter().enumerate() {
///             let Some(value) = record.value() else { continue };
///             let text = std::str::from_utf8(value)
///                 .map_err(|error| SinkError::reject(error.to_string()).delivered(at))?;
///             println!("{text}");
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// Delivers the records, in their order.
    ///
    /// # Errors
    ///
    /// [`SinkError::retry`] if it may work later, [`SinkError::reject`] if it never will; with
    /// [`delivered`](SinkError::delivered) where some of it worked.
    fn deliver(&self, batch: &SinkBatch) -> Result<(), SinkError>;
}

impl<F> Sink for F
where
    F: Fn(&SinkBatch) -> Result<(), SinkError> + Send + Sync + 'static,
{
    fn deliver(&self, batch: &SinkBatch) -> Result<(), SinkError> {
        self(batch)
    }
}
