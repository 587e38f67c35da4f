//! The process around the reconcile line.

pub mod admin;
pub mod chain;
pub mod channel_series;
pub mod clock;
pub mod config;
pub mod context;
pub mod lease;
pub mod metrics;
pub mod startup;
