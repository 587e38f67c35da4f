//! What is drawn before a rollout begins: traffic, faults, and who is broken.

use crate::simulation::product::Looks;

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;

/// A world, but for its seed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    /// Messages a minute in all.
    pub(crate) per_minute: f64,
    /// Share of the messages that fail on both tracks, independently.
    pub(crate) base: f64,
    /// Whether each customer writes once.
    pub(crate) once: bool,
    /// Customers whose every message fails, on both tracks.
    pub(crate) broken: usize,
    pub(crate) fault: Fault,
    /// The share of the customers that the canary really has, by its weight.
    pub(crate) share: f64,
    pub(crate) looks: Looks,
    pub(crate) person: Person,
    /// Weights and seconds of the product.
    pub(crate) steps: [(u8, u32); 3],
    /// Deadlines of the canary's agent and of stable's, in milliseconds.
    pub(crate) timeouts_ms: (u64, u64),
    pub(crate) horizon_ms: u64,
}

/// What a person does to a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Person {
    Absent,
    /// Moves the weight now and then.
    Moves,
    /// Pauses it whenever a hold is about to end.
    PausesAtEnds,
    /// Pauses it in this time since it began.
    Pauses {
        from_ms: u64,
        until_ms: u64,
    },
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) begins: Begins,
    pub(crate) lasts_ms: u64,
    /// Share of the canary's and of stable's messages that fail meanwhile.
    pub(crate) canary: f64,
    pub(crate) stable: f64,
    /// Whether they fail only when the agent's time is over.
    pub(crate) hangs: bool,
}

/// When it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Begins {
    Never,
    /// So long after the rollout began.
    After(u64),
    /// So long after this weight was first asked for.
    AtWeight(u8, u64),
    /// So long after this weight was asked for, each time.
    EachAtWeight(u8, u64),
}

impl Fault {
    pub(crate) const NONE: Self =
        Self { begins: Begins::Never, lasts_ms: 0, canary: 0.0, stable: 0.0, hangs: false };

    /// Of the canary alone, for good.
    pub(crate) fn of_canary(begins: Begins, share: f64, hangs: bool) -> Self {
        Self { begins, lasts_ms: u64::MAX, canary: share, stable: 0.0, hangs }
    }
}
