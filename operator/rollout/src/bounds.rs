//! How much is remembered and looked at: the bounds that keep a route's object within its size.

/// Most steps of one rollout.
pub const MAX_STEPS: usize = 20;
/// Most rejected revisions; with so many no rollout starts.
pub const MAX_REJECTED: usize = 50;
/// Most segments of a rollout that the judge remembers.
pub const MAX_SEGMENTS: usize = 40;
/// Most looks of a step that are remembered.
pub const MAX_LOOKS: usize = 4;
/// Most transitions that are remembered.
pub const MAX_HISTORY: usize = 10;
/// Longest text that the state keeps for one rejection, transition or answer, in characters.
pub const MAX_MESSAGE_CHARS: usize = 240;
/// Longest command id and verb that are looked at, in characters.
pub const MAX_COMMAND_CHARS: usize = 64;
