//! Tests of the whole that have to reach inside: crash states by the hundred thousand, with bugs
//! planted to see that they are found.

mod crash_states;
#[cfg(target_os = "linux")]
mod page_size;
mod planted;
#[cfg(target_os = "linux")]
mod rest;

pub(crate) use planted::{Planted, is_planted};
