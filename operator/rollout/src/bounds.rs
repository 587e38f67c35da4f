//! How much is remembered and looked at: the bounds that keep a route's object within its size.

/// Most steps of one rollout that are read; the schema of a channel allows ten.
pub const MAX_STEPS: usize = 20;
/// Most rejected revisions; with so many no rollout starts.
pub const MAX_REJECTED: usize = 50;
/// Most segments of a rollout that the judge remembers.
pub const MAX_SEGMENTS: usize = 40;
/// Most looks of a step that are remembered.
pub const MAX_LOOKS: usize = 4;
/// Most transitions that are remembered.
pub const MAX_HISTORY: usize = 10;
/// Longest text that the state keeps for one transition or answer, in bytes: the numbers of a step,
/// with every class of failure on both tracks.
pub const MAX_MESSAGE_BYTES: usize = 512;
/// Longest text that it keeps for one rejection, of which there may be many.
pub const MAX_REJECTION_BYTES: usize = 180;
/// Longest word of a reason, in bytes.
pub const MAX_REASON_BYTES: usize = 32;
/// Longest command, in bytes: a verb, a revision and a token.
pub const MAX_COMMAND_BYTES: usize = 128;
/// Longest first word of a command that is remembered, in bytes.
pub const MAX_VERB_BYTES: usize = 16;
/// Longest name of whoever commands that is remembered, in bytes.
pub const MAX_ACTOR_BYTES: usize = 64;
