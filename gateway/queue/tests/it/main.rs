//! The machine, held to its rules: stories, limits, random schedules, a model check.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod account;
mod budget;
mod clocks;
mod customers;
mod deliveries;
mod fast;
mod jumps;
mod leases;
mod letters;
mod limits;
mod model;
mod parking;
mod posting;
mod properties;
mod replays;
mod replies;
mod schedule;
mod sids;
mod tally;
mod waiting;
mod words;
