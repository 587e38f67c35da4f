//! The boundary from outside: what a manifest becomes, what is refused, what is generated from the types.

mod compile;
mod generated;
mod validation;
mod versions;
