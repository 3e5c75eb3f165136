//! What must hold of a log however its threads meet.

mod publish;
