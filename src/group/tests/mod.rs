//! What must hold of the parts of a group, each by itself.

mod offset_store;
