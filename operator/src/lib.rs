//! The operator: `WhatsAppChannel` → route, one file a hop.
//!
//! 1. `controller` receives a watch event and drives one reconcile, at most 30 seconds long.
//! 2. `validate` makes a `Channel` out of the object, or says what is wrong with it.
//! 3. `observe` reads the route, the Secrets, the revisions and the evidence.
//! 4. `rollout::decide` decides, without I/O.
//! 5. `build` makes the route's object.
//! 6. `apply` writes it under its resourceVersion: this write is the decision.
//! 7. `report` derives status and Events from what the write returned.
//!
//! The operator writes route Secrets, ControllerRevisions, status, Events, its Lease and the
//! control token. It never writes a spec, and never anything else in a watched namespace.

pub mod clock;
pub mod config;
pub mod control;
pub mod evidence;
pub mod lease;
pub mod metrics;
pub mod revisions;
pub mod triggers;
