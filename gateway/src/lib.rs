//! The webhook pipeline.
pub mod agent;
pub mod breaker;
pub mod doorbell;
pub mod events;
pub mod heartbeat;
pub mod intent;
pub mod message;
pub mod reply;
pub mod route;
pub mod routes;
pub mod signature;
pub mod store;
pub mod twilio;
pub mod worker;
