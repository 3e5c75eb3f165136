//! What an application may do with every record on its way, and with what became of it: Kafka's
//! `ProducerInterceptor`. Called with no lock held; a panic is caught and logged.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::outgoing::OutgoingRecord;
use super::results::{Delivered, Undelivered};

/// Sees every record before an [`AsyncProducer`](crate::AsyncProducer) takes it, and what became of
/// it.
///
/// A record is copied to be shown, so a producer with interceptors is slower than one without. One
/// that panics is logged, and what it was about to do is left undone.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
/// use forebay::{Broker, Delivered, Interceptor, OutgoingRecord, Record, TopicConfig, Undelivered};
///
/// #[derive(Default)]
/// struct Stamp(AtomicU64);
///
/// impl Interceptor for Stamp {
///     fn on_send(&self, record: &mut OutgoingRecord) {
///         record.headers.push(("via".to_owned(), b"gateway-1".to_vec()));
///     }
///
///     fn on_result(&self, result: Result<&Delivered, &Undelivered>) {
///         self.0.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
///     }
/// }
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let stamp = Arc::new(Stamp::default());
/// let producer = broker.async_producer().interceptor(stamp.clone()).open()?;
/// producer.send("orders", Record::new("paid"))?.wait()?;
/// producer.close(std::time::Duration::from_secs(1))?;
/// assert_eq!(stamp.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), forebay::Error>(())
/// ```
pub trait Interceptor: Send + Sync {
    /// May change a record before it is taken. Called on the thread that sends, or, for a record from
    /// the [input](crate::AsyncProducer::input), on the thread that takes it from there.
    fn on_send(&self, record: &mut OutgoingRecord) {
        let _ = record;
    }

    /// Told what became of a record that was accepted. Called on whatever thread found out; others
    /// wait for their records to be sent meanwhile, so it should be quick. A send from in here never
    /// waits for room: it is [`Error::BufferFull`](crate::Error::BufferFull) at once.
    fn on_result(&self, result: Result<&Delivered, &Undelivered>) {
        let _ = result;
    }
}

/// The interceptors of a producer, in the order they were given.
#[derive(Clone, Default)]
pub(super) struct Interceptors(Vec<Arc<dyn Interceptor>>);

impl Interceptors {
    pub(super) fn push(&mut self, interceptor: Arc<dyn Interceptor>) {
        self.0.push(interceptor);
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn on_send(&self, record: &mut OutgoingRecord) {
        for interceptor in &self.0 {
            let mut changed = record.clone();
            if guarded("on_send of an interceptor", || interceptor.on_send(&mut changed)) {
                *record = changed;
            }
        }
    }

    pub(super) fn on_result(&self, result: Result<&Delivered, &Undelivered>) {
        for interceptor in &self.0 {
            guarded("on_result of an interceptor", || interceptor.on_result(result));
        }
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interceptors").field(&self.0.len()).finish()
    }
}

/// Runs code of the user's, and returns whether it came back. A logger is such code, too.
pub(super) fn guarded(what: &str, work: impl FnOnce()) -> bool {
    let came_back = catch_unwind(AssertUnwindSafe(work)).is_ok();
    if !came_back {
        drop(catch_unwind(|| log::error!("{what} panicked")));
    }
    came_back
}
