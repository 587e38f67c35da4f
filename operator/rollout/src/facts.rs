//! The facts that one decision rests on, and the moves that lead from them to a next state. Decides
//! nothing: `decide`, `start` and `step` choose the move.

use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;

use crate::command::Ruling;
use crate::moment::Moment;
use crate::observation::{Observation, StoreAnswer};
use crate::segments::{Begins, STARTS, Segments};
use crate::state::{FormerRevision, Phase, Rolling, Stage, State, Timer};
use crate::tally::ServingTally;
use crate::why::Why;

/// Everything that a decision rests on.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a State,
    pub(crate) seen: &'a Observation,
    pub(crate) now: Timestamp,
}

/// A next state and why; `ruling` is on the standing command, if one is unanswered.
pub(crate) struct Next {
    pub(crate) state: State,
    pub(crate) why: Why,
    pub(crate) ruling: Option<Ruling>,
}

impl Facts<'_> {
    /// Whether the spec asks for another revision than the canary.
    pub(crate) fn leaves(self, rolling: &Rolling) -> bool {
        self.seen.desired.as_ref().is_some_and(|desired| *desired != rolling.canary)
    }

    /// Why nothing advances, whatever was counted.
    pub(crate) fn held_back(self) -> Option<Why> {
        match (&self.seen.desired, self.seen.paused) {
            (None, _) => Some(Why::NothingAsked),
            (Some(_), true) => Some(Why::Paused),
            (Some(_), false) => None,
        }
    }

    pub(crate) fn promote(self, revision: &RevisionName, why: Why) -> Next {
        let before = self.state.split().stable.clone();
        let former = Some(FormerRevision { revision: before, replaced_at: self.now });
        self.go(Phase::Stable { stable: revision.clone(), former }, revision, why)
    }

    pub(crate) fn reject(self, rolling: &Rolling, why: Why) -> Next {
        let phase = Phase::Clearing { stable: rolling.stable.clone() };
        let next = self.go(phase, &rolling.canary, why);
        let state = next.state.with_rejection(rolling.canary.clone(), &next.why, self.now);
        Next { state, ..next }
    }

    pub(crate) fn go_to_stage(self, rolling: &Rolling, stage: Stage, why: Why) -> Next {
        let next = rolling.at_stage(stage, &self.counted(), self.state.serving);
        self.go(Phase::Rolling(Box::new(next)), &rolling.canary, why)
    }

    /// The same weight from its very beginning, under a serving of its own: hold and sample start
    /// from zero. What was counted against the canary stays.
    pub(crate) fn restart(self, rolling: &Rolling, why: Why) -> Next {
        let mut next = rolling.clone();
        next.segments = rolling.segments.with(&self.counted());
        // Nothing is there of a rollout that an older operator began.
        let is_first = rolling.segments.as_slice().is_empty();
        let mut begins = if is_first { Begins::Rollout } else { Begins::Nothing };
        if let Stage::Step { hold, starts, .. } = &mut next.stage {
            *hold = None;
            if is_first {
                *starts = 1;
                begins = Begins::FirstStep;
            } else if *starts < STARTS {
                *starts += 1;
                begins = Begins::Starts(1);
            }
        }
        let state = self.state.clone();
        next.begin(begins, state.serving.saturating_add(1));
        let state = state.with_new_serving(Phase::Rolling(Box::new(next)));
        let state = state.with_transition(&why, rolling.canary.clone(), self.now);
        Next { state, why, ruling: None }
    }

    /// From the bake to the first step, where stable is the control: a rollout that is judged anew.
    pub(crate) fn step_back(self, rolling: &Rolling, why: Why) -> Next {
        let mut next = Rolling {
            stage: self.fresh_step(0),
            segments: Segments::default(),
            stepped_back: true,
            ..rolling.clone()
        };
        next.begin(Begins::FirstStep, self.state.serving.saturating_add(1));
        self.go(Phase::Rolling(Box::new(next)), &rolling.canary, why)
    }

    /// A transition to `phase`.
    pub(crate) fn go(self, phase: Phase, revision: &RevisionName, why: Why) -> Next {
        let state = self.state.clone().with_phase(phase);
        let state = state.with_transition(&why, revision.clone(), self.now);
        Next { state, why, ruling: None }
    }

    pub(crate) fn stay(self, why: Why) -> Next {
        Next { state: self.state.clone(), why, ruling: None }
    }

    /// Counts of the present serving; none when no gateway answered.
    pub(crate) fn present(self) -> Option<ServingTally> {
        self.seen.store.as_ref().map(|store| store.evidence_of(self.state.serving))
    }

    /// Counts of every serving; none when no gateway answered.
    pub(crate) fn counted(self) -> Vec<ServingTally> {
        self.seen.store.as_ref().map(StoreAnswer::by_serving).unwrap_or_default()
    }

    /// The present moment, if a gateway told the store's time.
    pub(crate) fn moment(self) -> Option<Moment> {
        let store = self.seen.store.as_ref()?;
        Some(Moment { store: store.at, operator: self.now })
    }

    pub(crate) fn waiting_for_gateways(self, store: &StoreAnswer) -> Why {
        Why::WaitingForGateways {
            acknowledged: store.acknowledged(self.state.serving),
            live: store.replicas.len(),
            lacking: store.lacking(self.state.serving),
        }
    }

    /// Something worth remembering that is no transition.
    pub(crate) fn note(self, rolling: &Rolling, why: Why) -> Next {
        let state = self.state.clone().with_phase(Phase::Rolling(Box::new(rolling.clone())));
        Next { state, why, ruling: None }
    }

    /// A step from its very beginning. The deadline runs from here, since reaching it is progress.
    pub(crate) fn fresh_step(self, index: usize) -> Stage {
        let timer = Timer::Running { since: self.now, used_ms: 0 };
        Stage::Step { index, hold: None, timer, starts: 1 }
    }
}
