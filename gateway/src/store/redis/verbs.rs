//! Every verb of the machine as a call of its script, a file a group.

mod admit;
mod claim;
mod dead;
mod evidence;
pub(super) mod fleet;
mod reserve;
mod send;
