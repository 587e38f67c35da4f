//! The message machine of the gateway, pure: no I/O, no clock, no randomness.
//!
//! Takes a verb, the store's time and the caller's random values; gives the verb's result and the
//! rows it changed. The embedded store writes those rows, the scripts of the Redis store do the
//! same steps, and one conformance suite drives both.

pub mod types;
