//! What the operator does, from outside. What needs an API server is in `tests/`.

mod earliest;
mod evidence;
mod help;
mod older;
mod told;
