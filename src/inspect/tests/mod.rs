//! Repairs that are interrupted.

mod power_cut;
