//! What the tests and the demo of the whole product stand on: an API server, its processes, a world.
//!
//! Takes nothing from the product but its binaries and its API types. Everything that is started
//! here ends with the process that started it, however that process ends.

pub mod audit;
pub mod bench;
pub mod control_plane;
pub mod demo;
pub mod gateways;
pub mod graph;
pub mod hand;
pub mod langgraph;
pub mod manifest;
pub mod memory;
pub mod product;
pub mod roles;
pub mod stage;
pub mod street;
pub mod tools;
pub mod world;
pub mod yaml;
