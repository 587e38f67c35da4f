//! What both processes are made of: tasks that end a process, the way to the API server, ports, URLs of flags.
//!
//! Takes what each of them runs; gives what must be alike in both. Knows no message, no channel and
//! no route.

pub mod base_url;
pub mod cluster;
pub mod listen;
pub mod pace;
pub mod tasks;
