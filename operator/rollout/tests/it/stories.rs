//! Stories of rollouts, one fact each, told to `decide` as the operator would: observe, decide,
//! write, repeat. Time is a number here, and every write succeeds at once.
//!
//! Which acceptance scenario of progressive delivery is kept where:
//!
//! | scenario | where |
//! |---|---|
//! | 1, 3, 4, 6, 8, 14, 16, 17, 22, 23, 26, 29, 31–37, 48, 51–53, 57, 60 | in these stories |
//! | 10 | `judgement.rs`, a dead canary in one decision; the seconds belong to the operator's tests |
//! | 11, 12, 13, 15 | `simulation.rs`: how soon, how rarely wrongly, how rarely missed |
//! | 25 | `properties/record.rs`: a record replays to the same decisions |
//! | 39, 40, 41, 43 | `model/`: crashes, lost and late writes, two operators |
//! | 2, 5, 7, 9, 42, 44, 49, 54, 55, 56, 59 | the operator, with a real API server |
//! | 18–21, 24, 27, 28, 30, 45–47, 50 | the gateway and its store: who is counted, and where |
//! | 38 | in `commands.rs`: an approval names its revision and promotes no other |
//! | 58 | `rollout.mode: Manual` reports the verdict and moves nothing by itself |
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod acknowledgement;
mod bake;
mod change;
mod commands;
mod deadline;
mod judgement;
mod lifecycle;
mod loss;
mod manual_mode;
mod passing;
mod rank;
mod record;
mod undo;
mod without_spec;
mod world;
