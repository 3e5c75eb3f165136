//! A topic as something to write to: the sink of a logger, or of anything else that knows
//! [`std::io::Write`] alone.
//!
//! `options` are what a user chooses, `label` is what each record gets, `lines` cuts bytes into
//! records and knows nothing of topics, `sink` sends what was cut and keeps the account of what was
//! refused, `writer` is what a user holds. No lock of its own is held anywhere: what is shared between
//! clones are counters.

mod label;
mod lines;
mod options;
mod sink;
mod writer;

pub use options::{Framing, LossReport, WhenRefused};
pub use writer::TopicWriter;
