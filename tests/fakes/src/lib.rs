//! What the tests of every crate stand on: the services outside, played by fakes that can be told to
//! go wrong; a real Redis server and a bad network before it; sample objects; texts that must stay as they
//! are.
//!
//! Takes nothing from the product, not even its types, so every crate may use it in its tests. What it
//! starts ends with the process that started it. Is in no binary that is shipped.

pub mod agent;
mod asked;
pub mod chaos;
pub mod customer;
pub mod fields;
pub mod golden;
pub mod help;
pub mod process;
pub mod programs;
pub mod redis_server;
pub mod samples;
pub mod server;
pub mod signer;
pub mod twilio;
