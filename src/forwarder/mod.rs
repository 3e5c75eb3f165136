//! Draining a group into a sink, at a steady rate.
//!
//! [`Forwarder`] is the handle. One thread (`dispatcher.rs`) owns the consumer, lays what it reads
//! into lanes, one for each partition (`lane.rs`), and commits what was delivered. Worker threads
//! (`worker.rs`) take batches from the lanes, as `schedule.rs` says, and call the sink. Between
//! them stands `flow.rs`, with the one lock. What is decided is decided by pure parts:
//! `acknowledged.rs` how far a partition has come, `limiter.rs` when a batch may go,
//! `verdict.rs` and `backoff.rs` what becomes of one that failed.

mod acknowledged;
mod backoff;
mod builder;
mod dead_letters;
mod dispatcher;
mod flow;
mod handle;
mod intake;
mod lane;
mod limiter;
mod meter;
mod outcome;
#[cfg(test)]
mod planted;
mod report;
mod schedule;
mod settings;
mod sink;
mod sink_batch;
mod sink_error;
mod slice;
mod stats;
#[cfg(all(test, not(loom)))]
mod tests;
mod topics;
mod verdict;
mod worker;

pub use builder::ForwarderBuilder;
pub use handle::Forwarder;
pub use report::{ForwarderReport, InSink, StopReason};
pub use settings::WhenExhausted;
pub use sink::Sink;
pub use sink_batch::{SinkBatch, SinkBatchIter};
pub use sink_error::SinkError;
pub use stats::ForwarderStats;
