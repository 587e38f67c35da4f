//! The webhook pipeline.
pub mod intent;
pub mod message;
pub mod store;
