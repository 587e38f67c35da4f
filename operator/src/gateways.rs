//! What the gateways say, and how they are asked.

pub mod answer;
pub mod board;
pub mod control;
pub mod reader;
