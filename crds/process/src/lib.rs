//! What both processes are made of: tasks that end a process.
//!
//! Takes what each of them runs; gives what must be alike in both. Knows no message, no channel and
//! no route.

pub mod tasks;
