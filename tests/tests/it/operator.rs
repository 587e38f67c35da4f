//! The operator alone, on a real API server and on a clock that the tests move.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod bake;
mod care;
mod channels;
mod credentials;
mod gateways;
mod installations;
mod namespaces;
mod processes;
mod rest;
mod rollouts;
mod routes;
mod supervision;
mod told;
mod trouble;
mod undo;
mod upgrade;
