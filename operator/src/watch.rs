//! What is watched, and what a change of it leads to.

pub mod channels;
pub mod claims;
pub mod controller;
pub mod guarded;
pub mod health;
pub mod orphans;
pub mod queue;
pub mod routes;
pub mod told;
