//! What must hold whatever the sink does and however forwarders come and go; and that the bugs which
//! are planted are found.

mod account;
mod faults;
