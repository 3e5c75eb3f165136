//! What must hold of the parts of a group, each by itself.

#[cfg(loom)]
mod hand_over;
#[cfg(not(loom))]
mod offset_store;
