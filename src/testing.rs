//! What users need to test their own use of a broker: a disk whose power can be cut. The clock
//! that is moved by hand is [`ManualClock`](crate::ManualClock), the broker that keeps nothing is
//! [`Broker::in_memory`](crate::Broker::in_memory).

pub use crate::storage::simulated::{Failure, SimulatedDisk};
