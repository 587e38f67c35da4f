//! What the gateway does, from outside: through its public types, its ports, its stores and its program.
//!
//! Takes the crate as others see it; `store` holds both stores to the rules of `docs/queue.md`, `inbound` and
//! `worker` are the two lines, with fake neighbours and time that tests move. What needs several processes
//! or Kubernetes is in `tests/`.

mod admin;
mod agent_protocol;
mod commands;
mod config;
mod goldens;
mod help;
mod inbound;
mod kept_connections;
mod routes;
mod server;
mod signature_random;
mod signature_vectors;
mod store;
mod worker;
