//! The webhook pipeline.
pub mod events;
pub mod heartbeat;
pub mod intent;
pub mod message;
pub mod route;
pub mod routes;
pub mod store;
