//! What is watched, and what a change of it leads to.

pub mod channels;
pub mod controller;
pub mod orphans;
pub mod triggers;
