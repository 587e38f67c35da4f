//! What `/metrics` of both processes shows: one wrapper around the `prometheus` crate.
//!
//! Takes names and words, gives metrics that are counted and a page that shows them, with the version
//! of the process and what the system says of it. A label is a word of a closed set or the name of a
//! channel, and the series of a channel go with it. Never takes a customer's text or number.

pub mod by_channel;
pub mod label;
pub mod of_channel;
pub mod page;
mod process;
pub mod series;
