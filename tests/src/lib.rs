//! What the tests and the demo stand on: real servers, fakes of the services outside, and chaos.
//!
//! Takes nothing from the product but its binaries and its API types. Everything that is started
//! here ends with the process that started it, however that process ends.

pub mod agent;
pub mod bench;
pub mod chaos;
pub mod control_plane;
pub mod customer;
pub mod demo;
pub mod graph;
pub mod hand;
pub mod langgraph;
pub mod manifest;
pub mod process;
pub mod product;
pub mod redis_server;
pub mod roles;
pub mod server;
pub mod signer;
pub mod stage;
pub mod street;
pub mod tools;
pub mod twilio;
pub mod world;
pub mod yaml;
