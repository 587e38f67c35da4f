//! The closed vocabulary: every word that one part of Kanarie says to another, as a type.
//!
//! Takes text and bytes, gives words that are within their bounds, or says which word it was. Pure,
//! and without Kubernetes: the two cores stand on this crate.

pub mod class;
pub mod conditions;
pub mod hex;
pub mod ids;
pub mod on_failure;
pub mod reason;
pub mod timestamp;
pub mod track;
pub mod weight;

/// Unix milliseconds, on the clock that the place says.
pub type Millis = u64;
