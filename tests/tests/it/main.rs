//! The product from outside: its programs beside a real API server, Redis and LangGraph, and what else of
//! the repository only the real thing can judge, charts and Tiltfile.
//!
//! One binary, so that the product is linked once and one API server serves all tests; they keep apart by
//! namespaces and accounts, and change nothing of the process that they share: no variable, no folder, no
//! port that is not free. As many run at once as there are cores. The rules of the repository itself are
//! in `tidy`, which links nothing of the product and is run by itself.

mod api;
mod bake;
mod charts;
mod control_plane;
mod crash;
mod crowd;
mod dead_letters;
mod deliveries;
mod fakes;
mod inbound;
mod judgement;
mod langgraph;
mod memory;
mod neighbours;
mod operator;
mod outage;
mod outbound;
mod patience;
mod rollout;
mod tiltfile;
