//! gateway
pub mod store;
