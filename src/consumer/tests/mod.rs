//! What must hold whatever members do: tried with thousands of schedules under simulated time, and
//! with threads. Both find the bugs that are planted.

mod account;
mod chaos;
mod schedules;
