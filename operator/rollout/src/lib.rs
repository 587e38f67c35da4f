//! The decision core of the operator: what a channel's rollout does next, and why.
//!
//! `decide::decide` takes the remembered state, one observation and the operator's time; it gives
//! the next state, the reason and when to look again. It is total: no input makes it panic. It
//! never reads a clock, never does I/O, never draws a random number and never knows Kubernetes; a
//! record of observations and times replays to the same decisions.
//!
//! Guarantees, each with a property or a model check behind it:
//! - a failed verdict means weight 0 in that very decision, or, once and in the bake, the first
//!   step's weight; no pause, command or mode comes first;
//! - no step is skipped upward and none passes before its hold has run on the store's clock and on
//!   the operator's, from the moment every live replica acknowledged it, but at a person's `promote`;
//! - promotion follows a passed bake, or a person's explicit word; a former revision comes back only
//!   at a person's word, within its window;
//! - a rejected revision gets no traffic until `retry`;
//! - `serving` and `transition` never go back; unchanged facts change nothing.
//!
//! Assumptions: the state returned is written under the version of the state that was read, or not
//! at all; the weight and revisions of `State::split` are in force by that same write; two names
//! are equal exactly when the contents are.
//!
//! ```text
//!             new revision                    hold run, step passed
//!   Stable ───────────────► Rolling: Step 1 ───────────► … ───────► Step n, the bake
//!     ▲  ▲                     │  │                                   │
//!     │  └─────────────────────┼──┼───────────── passed ──────────────┘
//!     │ acknowledged           │  └─ failed, aborted, reverted, superseded ─► Clearing, weight 0
//!     └── by the next start ───┴───────────────────────────────────────────────────┘
//! ```
//! A bake that fails goes back to step 1 before it may reject; `undo` and the former spec lead from
//! Stable to Stable.
//!
//! Read `decide.rs` first, then `start.rs` and `step.rs`, the moves in `facts.rs`, `state.rs`; then the
//! judge: `analysis.rs`, `proof.rs` over `segments.rs`, `passing.rs`, `hold.rs`.

pub mod analysis;
pub mod bounds;
mod command;
pub mod decide;
mod facts;
pub mod hold;
mod likelihood;
mod mismatch;
pub mod moment;
pub mod numbers;
pub mod observation;
pub mod order;
mod passing;
pub mod policy;
pub mod proof;
pub mod rebuild;
pub mod segments;
mod start;
pub mod state;
mod step;
pub mod steps;
mod suffering;
pub mod tally;
mod weighed;
pub mod why;
