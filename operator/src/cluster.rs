//! The objects that the operator keeps in the cluster: how each is read and written.

pub mod contents;
pub mod key;
pub mod memory;
pub mod revisions;
pub mod route_note;
pub mod route_object;
pub mod secrets;
pub mod stored;
