//! Whether Twilio takes the credentials of a channel.
//!
//! `answers` says what Twilio's answers mean (pure), `api` asks, `checks` keeps which credentials wait to be checked
//! and what is known of them, `checker` asks about them at a pace of its own. No reconcile waits for Twilio.

pub mod answers;
pub mod api;
pub mod checker;
pub mod checks;
