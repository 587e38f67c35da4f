//! What the tests and the demo stand on: real servers, fakes of the services outside, and chaos.
//!
//! Takes nothing from the product but its binaries and its API types. Everything that is started
//! here ends with the process that started it, however that process ends.

pub mod control_plane;
pub mod process;
pub mod tools;
pub mod yaml;
