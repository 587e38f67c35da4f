//! The message machine of the gateway, pure: no I/O, no clock, no randomness.
//!
//! Takes a verb, the store's time and the caller's random values; gives the verb's answer and the
//! rows it changed. The embedded store writes those rows before it passes the answer on; the scripts
//! of the Redis store do the same steps on the same rows (`docs/queue.md`), and one conformance suite
//! drives both.
//!
//! A conversation, and what its verbs do with it:
//!
//! ```text
//!          Admit               Claim                 CommitReply         MarkSending
//!  (none) ───────► ready ──────────────► leased ────────────────► intent ───────────► sending
//!                  ▲  ▲                   │ │ ▲                    ▲  ▲                │  │
//!                  │  │ Release, lease    │ │ │ Extend, KeepRun,   │  └──── Unmark ────┘  │
//!                  │  └─── expired ───────┘ │ │ EndAttempt         └────── MarkSent ─────┘
//!                  │                        │
//!                  │ due, a probe, WakeParked ├─ Retry, ParkHead ─► delayed (keeps its work)
//!                  └────────────────────────┼────────────────── delayed
//!                                           └─ Complete, Bury ─► next message ready, or (none)
//! ```
//!
//! `Replay` brings a dead letter back to where `Admit` brings a message; `EraseConversation` leads from
//! every place to none.
//!
//! Three verbs take two of these ways at once, for a message that meets no obstacle: `Admit` with a
//! lease, `CommitReply` with a mark, and `Finish`.
//!
//! | verb | who | file |
//! |---|---|---|
//! | `Admit` | the webhook | `admit.rs` |
//! | `Claim`, `Extend`, `KeepRun`, `Isolate`, `Retry`, `Release` | a worker | `claim.rs` |
//! | `ParkHead`, `WakeParked` | a worker | `park.rs` |
//! | `EndAttempt`, `ReadCounts` | a worker; the operator's poller | `evidence.rs` |
//! | `CommitReply`, `MarkSending`, `NoteMissed`, `Unmark`, `MarkSent`, `Complete` | a worker; a callback | `send.rs` |
//! | `ExpireLeases` | whoever sees that a process died | `expire.rs` |
//! | `Finish`: `MarkSent`, `Complete` and `Claim` in one | a worker | `finish.rs` |
//! | `Bury`, `SumDead`, `SumLoads` | a worker; the poller; a timer | `dead.rs` |
//! | `ReadLetters`, `Replay`, `EraseLetters`, `EraseConversation` | a person, by the admin port | `letters.rs`, `replay.rs`, `erase.rs` |
//! | `Reserve` | a worker | `reserve.rs` |
//! | `NoteDeliveries`, `SumUndelivered` | a batch of callbacks; the poller | `deliveries.rs` |
//! | `Sweep` | a timer | `sweep.rs` |
//!
//! What always holds, by the numbers that tests name:
//!
//! - **I1** A message answered `Queued` is waiting, buried or completed, and in one of these only, until
//!   somebody erases it.
//! - **I2** A conversation with messages is in exactly one of ready, leased, delayed; without any it
//!   has no record.
//! - **I3** Intents of a conversation are committed in the order of admission; so are first POSTs.
//! - **I4** At most one nonce owns a conversation; any other changes nothing.
//! - **I5** A message is admitted at most once per dedup window, however often it is repeated.
//! - **I6** In any window at most `limit` messages of a conversation are admitted.
//! - **I7** Refusals and duplicates cost no quota; a refusal makes no later copy a duplicate.
//! - **I8** The counter of bytes equals the sum over the envelopes (in Redis that of messages too).
//! - **I9** A head has at most one intent, and keeps it until it is completed or buried.
//! - **I10** Leave to post (`Go`) needs a committed intent, and leaves a mark of that attempt.
//! - **I11** A segment that another attempt has marked gets no `Go` without naming that mark.
//! - **I12** Segments get their `Go` in order, never before the one before them has its SID.
//! - **I13** Bounds hold: 200 messages a conversation, 64 MiB and 10,000 dead letters a shard.
//!   Nothing is trimmed: the verb answers that there is no room.
//! - **I14** While somebody claims, every ready conversation is claimed, and an expired lease is
//!   taken over.
//! - **I15** Of two channels with a backlog neither gets two turns more than the other.
//! - **I16** `reserve` grants at most `rate` + 8 sends in any second.
//! - **I17** A retried head stays the head.
//! - **I20** A verb repeated with the same arguments changes nothing more (`reserve` may waste a
//!   slot).
//! - **I22** A try is counted when it is claimed, a crash when its lease is taken back.
//! - **I19** Any order and any repetition of the reports of a segment ends in the same delivery, and
//!   one of them at most is the change to it.
//! - **I23** A dead letter that is replayed waits once, behind all that waited before it, and is a
//!   letter no more; a repetition of it stays a duplicate, and its first attempt counts no second time.
//! - **I25** Both stores give the same answers to the same schedule.
//!
//! I18, I21 and I24 belong to the worker, the scripts and the log. The
//! machine trusts its caller in two things: that nobody posts without a `Go`, and that a mark is only
//! refuted by two listings a minute apart.

pub mod admit;
mod budget;
pub mod claim;
pub mod clock;
pub mod dead;
mod delivered;
pub mod deliveries;
pub mod delivery;
pub mod erase;
pub mod evidence;
pub mod expire;
pub mod finish;
pub mod intent;
pub mod lease;
pub mod letters;
pub mod load;
pub mod outcome;
pub mod pace;
pub mod park;
pub mod queue;
pub mod replay;
pub mod reserve;
pub mod rows;
pub mod send;
mod shard;
mod sids;
pub mod sweep;
pub mod verb;
