//! The commands beside the gateway itself: two for the first day, two for the day after an outage.
//!
//! Each takes flags and environment as the gateway itself does. None admits, asks or sends by
//! itself, and none prints a secret.

pub mod check_signature;
mod configured;
pub mod control_port;
pub mod dead_letters;
pub mod erase;
mod local;
pub mod send_test;
