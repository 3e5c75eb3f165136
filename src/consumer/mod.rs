//! Members of groups.
//!
//! [`Consumer`] polls; `membership.rs` lets partitions come and go; `progress.rs` knows what the
//! application is done with and `commit.rs` says so; the coordinator on the other side is in `group/`.

mod builder;
mod channel;
mod commit;
mod core;
mod event;
mod lent;
mod membership;
mod position;
mod progress;
mod records;
mod subscription;
#[cfg(all(test, not(loom)))]
mod tests;
mod wakeup;

pub use builder::ConsumerBuilder;
pub use channel::ConsumerChannel;
pub use core::{Consumer, RebalanceListener};
pub use event::{ConsumerEvent, Rebalance};
pub use records::ConsumerRecords;
pub use subscription::TopicPattern;
pub use wakeup::Wakeup;
