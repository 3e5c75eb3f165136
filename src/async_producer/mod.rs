//! Sending without waiting: records are gathered in memory and appended in batches.
//!
//! [`AsyncProducer`] is what a user holds. `accept.rs` lays each record into the open batch of its
//! partition, in memory (`inbox.rs`, `lane.rs`, `batch.rs`); `drain.rs` appends batches, one thread
//! at a time: a sender that finds nobody at it, or the worker (`worker.rs`). What became of a batch
//! is its `fate.rs`, which a [`Ticket`] looks at and `results.rs` hands on.

mod accept;
mod batch;
mod body;
mod builder;
mod drain;
mod epochs;
mod fate;
mod inbox;
mod input;
mod interceptor;
mod lane;
mod outgoing;
mod owner;
mod producer;
mod quick;
mod results;
mod retry;
mod settings;
mod shared;
mod spares;
mod ticket;
mod topics;
mod worker;

pub use builder::AsyncProducerBuilder;
pub use interceptor::Interceptor;
pub use outgoing::OutgoingRecord;
pub use producer::AsyncProducer;
pub use results::{Delivered, Undelivered};
pub use settings::WhenFull;
pub use ticket::Ticket;
