//! The API boundary of Kanarie: every type that one process writes and another reads.
//!
//! Takes and gives values only: no client, no clock, no I/O.
//! `channel` is the object users write, `status` what the operator answers in it, `route` what the
//! operator tells the gateways, `control` what the gateways tell the operator.
//!
//! One crate, because the operator and a gateway that reads `--channels DIR` must turn the same
//! spec and the same Secrets into the same route: two copies would drift. A route is also part of
//! what a fleet must agree on during an upgrade, like the definition itself, so one review sees
//! both. A crate of its own for the route would be one more manifest, and all its users need this
//! one as well.

pub mod channel;
pub mod compile;
pub mod control;
pub mod route;
pub mod rules;
pub mod schema;
pub mod secrets;
pub mod status;
pub mod validate;

/// API group of every object of ours.
pub const GROUP: &str = "kanarie.dev";
/// Field manager of the operator's server-side applies.
pub const FIELD_MANAGER: &str = "kanarie-operator";
/// Annotation with a command for the operator: `<verb> [revision] [#token]`.
pub const COMMAND_ANNOTATION: &str = "kanarie.dev/command";
/// Annotation with the name of whoever writes that command.
pub const ACTOR_ANNOTATION: &str = "kanarie.dev/actor";
/// Annotation of earlier versions with the id of a command: where it stands, no command is executed.
pub const COMMAND_ID_ANNOTATION: &str = "kanarie.dev/command-id";
