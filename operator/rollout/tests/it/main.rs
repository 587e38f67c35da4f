//! The core, held to its rules: stories, random histories, a model check, and how often it is wrong.

mod model;
mod properties;
mod simulation;
mod stories;
