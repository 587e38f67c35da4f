//! What a person does to a rollout, and when: moves its weight, or pauses it.
//!
//! Takes chance and the time at which the rollout begins; gives times. Knows nothing of how it goes.

use crate::simulation::draws::Draws;
use crate::simulation::product::ByHand;
use crate::simulation::setting::MINUTE_MS;

/// A person moves the weight four times, to one or two weights in a row.
pub(crate) fn moves(chance: &mut Draws, begins_ms: u64) -> Vec<ByHand> {
    let mut from = begins_ms;
    let mut moves = Vec::new();
    for _ in 0..4 {
        from += chance.between(5 * MINUTE_MS, 60 * MINUTE_MS);
        for _ in 0..chance.between(1, 3) {
            let until = from + chance.between(2 * MINUTE_MS, 20 * MINUTE_MS);
            let weight = [5, 10, 25, 50, 60, 80][chance.between(0, 6) as usize];
            moves.push(ByHand { from, until, weight: Some(weight) });
            from = until;
        }
    }
    moves
}

/// A person pauses the rollout in the last two minutes of each hold, for up to half an hour; the holds
/// are those of a rollout that waits for nothing else.
pub(crate) fn pauses(chance: &mut Draws, begins_ms: u64, steps: &[(u8, u32)]) -> Vec<ByHand> {
    let mut step_begins = begins_ms;
    let mut pauses = Vec::new();
    for (_, seconds) in steps {
        let ends = step_begins + u64::from(*seconds) * 1000;
        let from = ends - chance.between(0, 2 * MINUTE_MS);
        step_begins = from + chance.between(3 * MINUTE_MS, 30 * MINUTE_MS);
        pauses.extend(pause(from, step_begins));
    }
    pauses
}

/// A person pauses the rollout once.
pub(crate) fn pause(from: u64, until: u64) -> Vec<ByHand> {
    vec![ByHand { from, until, weight: None }]
}
