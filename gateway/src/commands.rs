//! The commands for the first day.
//!
//! Each takes flags and environment as the gateway itself does. None admits, asks or sends by
//! itself, and none prints a secret.

pub mod check_signature;
mod configured;
pub mod send_test;
