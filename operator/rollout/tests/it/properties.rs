//! What holds for every history that anybody can think of: random specs, policies, commands,
//! clocks and counts against the real `decide`, starting from any state that it can reach.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod history;
mod record;
mod traffic;
