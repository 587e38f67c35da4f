//! What the gateway does, from outside: through its public types, its ports and its program.
//!
//! Takes the crate as others see it. What needs several processes or Kubernetes is in `tests/`.

mod help;
