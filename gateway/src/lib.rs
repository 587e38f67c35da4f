//! The webhook pipeline.
pub mod events;
pub mod intent;
pub mod message;
pub mod store;
