//! Twilio's published signatures, our own WhatsApp-shaped ones, and every shape that must be
//! refused, the quirks of Twilio's own libraries among them. Pure: no server, no clock.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

pub(crate) mod check;
mod keys;
mod published;
mod refused;
pub(crate) mod vectors;
