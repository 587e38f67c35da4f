//! What is remembered of a channel: its phase with step and weight as one value, its numbers, its
//! rejected revisions, the last command and the last transitions. Written beside the route, in the
//! same object; what is in force (`State::split`) follows from it alone.

use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::{MAX_HISTORY, MAX_MESSAGE_BYTES, MAX_REJECTED, MAX_REJECTION_BYTES};
use crate::hold::Hold;
use crate::moment::StoreTime;
use crate::passing::upper_bound;
use crate::policy::Policy;
use crate::segments::{Begins, Segments};
use crate::tally::ServingTally;
use crate::why::Why;

/// Everything that is remembered of a channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Where the channel is: revisions, step and weight.
    pub phase: Phase,
    /// Grows when weight or revisions change or a step starts anew, and never otherwise.
    pub serving: u64,
    /// Number of the last transition.
    pub transition: u64,
    /// Highest generation of the spec that was decided for; an older one decides nothing.
    #[serde(default)]
    pub generation: u64,
    /// Since when a rollout waits for weight 0 to be acknowledged before it can start, if no transition led
    /// on to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<Timestamp>,
    /// Revisions that get no traffic until `retry`, oldest first, at most `MAX_REJECTED`.
    #[serde(default)]
    pub rejected: Vec<RejectedRevision>,
    /// The command that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_command: Option<CommandAnswer>,
    /// The last transitions, newest first, at most `MAX_HISTORY`.
    #[serde(default)]
    pub history: Vec<Transition>,
}

/// Where a channel is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// One revision serves everybody.
    Stable {
        /// That revision.
        stable: RevisionName,
        /// The one before it, to which a person may still go back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former: Option<FormerRevision>,
    },
    /// A canary was taken off: stable serves everybody, and nothing starts before every live
    /// replica has acknowledged so. The phase stays until the next start, which is what asks.
    Clearing {
        /// The revision that serves.
        stable: RevisionName,
    },
    /// A revision is rolled out.
    Rolling(Box<Rolling>),
}

/// The revision that was stable before a promotion.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct FormerRevision {
    /// Its name.
    pub revision: RevisionName,
    /// When another one was promoted in its place, on the operator's clock.
    pub replaced_at: Timestamp,
}

/// A rollout that runs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", try_from = "RawRolling")]
pub struct Rolling {
    /// The revision that serves everybody whom the canary does not.
    pub stable: RevisionName,
    /// The revision that is rolled out.
    pub canary: RevisionName,
    /// The policy as it was when the rollout started.
    pub policy: Policy,
    /// Step or weight.
    pub stage: Stage,
    /// What was counted, cut where the policy said beforehand.
    pub segments: Segments,
    /// Whether there was proof in a bake already: another one rejects.
    #[serde(default)]
    pub stepped_back: bool,
}

/// Step or weight of a rollout.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stage {
    /// At a step of the policy.
    Step {
        /// Which one, counted from 0.
        index: usize,
        /// Its hold; none until every live replica has acknowledged it.
        hold: Option<Box<Hold>>,
        /// How much of the deadline is used up.
        timer: Timer,
        /// Starts of the step that are used up, its beginning among them.
        #[serde(default)]
        starts: u8,
    },
    /// The verdict failed and the policy says Pause: the weight stays.
    Failed {
        /// That weight.
        weight: Weight,
        /// The numbers behind the verdict.
        explanation: String,
    },
    /// At a weight that a person chose.
    Manual {
        /// That weight.
        weight: Weight,
    },
}

/// How much of the deadline is used up, on the operator's clock.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Timer {
    /// It runs.
    Running {
        /// Since when.
        since: Timestamp,
        /// Milliseconds used up before that.
        used_ms: u64,
    },
    /// The rollout is paused.
    Stopped {
        /// Milliseconds used up before that.
        used_ms: u64,
    },
    /// The deadline has passed; the next progress clears it.
    Overdue,
}

/// A revision that gets no traffic until `retry`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct RejectedRevision {
    /// Its name.
    pub revision: RevisionName,
    /// The word of the transition that rejected it: RolledBack, Aborted or Undone. A text, as is a
    /// transition's: a word of a newer operator must not make the whole state unreadable.
    pub reason: String,
    /// The numbers behind it.
    pub message: String,
    /// When, on the operator's clock.
    pub at: Timestamp,
}

/// The answer to a command.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct CommandAnswer {
    /// The command as it was written, which tells it from an earlier one.
    pub id: String,
    /// Its first word.
    pub verb: String,
    /// Who said it, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What became of it.
    pub result: CommandResult,
    /// What was done, or why it was not.
    pub message: String,
    /// When, on the operator's clock.
    pub at: Timestamp,
}

/// What became of a command.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandResult {
    /// It was done.
    Executed,
    /// It was not.
    Refused,
}

impl CommandResult {
    /// The word in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "Executed",
            Self::Refused => "Refused",
        }
    }
}

/// A transition that happened.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Its number.
    pub number: u64,
    /// When, on the operator's clock.
    pub at: Timestamp,
    /// The word of its reason.
    pub reason: String,
    /// The revision it concerns.
    pub revision: RevisionName,
    /// Weight of the canary after it.
    pub weight: Weight,
    /// What happened, with the numbers.
    pub message: String,
}

/// What is in force: revisions and weight of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// The revision that serves everybody whom the canary does not.
    pub stable: &'a RevisionName,
    /// The revision that is rolled out.
    pub canary: Option<&'a RevisionName>,
    /// Percent of the conversations on the canary; 0 without one.
    pub weight: Weight,
}

impl State {
    /// The state of a channel that never had one: its revision serves at once.
    pub fn first(revision: RevisionName, now: Timestamp) -> Self {
        let state = Self {
            phase: Phase::Stable { stable: revision.clone(), former: None },
            serving: 0,
            transition: 0,
            generation: 0,
            waits_since: None,
            rejected: Vec::new(),
            last_command: None,
            history: Vec::new(),
        };
        let mut state = state.with_transition(&Why::FirstRevision, revision, now);
        state.serving = 1;
        state
    }

    /// What is in force in this state.
    pub fn split(&self) -> Split<'_> {
        self.phase.split()
    }

    /// The rollout that runs.
    pub fn rolling(&self) -> Option<&Rolling> {
        match &self.phase {
            Phase::Rolling(rolling) => Some(rolling),
            Phase::Stable { .. } | Phase::Clearing { .. } => None,
        }
    }

    /// The revision to which a person may still go back. Not known here: whether the time for it is over.
    pub fn former(&self) -> Option<&RevisionName> {
        match &self.phase {
            Phase::Stable { former, .. } => former.as_ref().map(|former| &former.revision),
            Phase::Clearing { .. } | Phase::Rolling(_) => None,
        }
    }

    /// Whether and why `revision` is rejected.
    pub fn rejection(&self, revision: &RevisionName) -> Option<&RejectedRevision> {
        self.rejected.iter().find(|rejection| rejection.revision == *revision)
    }

    /// Takes on `phase`; `serving` grows when weight or revisions change by it, and only then.
    pub(crate) fn with_phase(mut self, phase: Phase) -> Self {
        if phase.split() != self.split() {
            self.serving = self.serving.saturating_add(1);
        }
        self.phase = phase;
        self
    }

    /// Takes on another beginning of what it does already: only `serving` grows.
    pub(crate) fn with_new_serving(mut self, phase: Phase) -> Self {
        self.serving = self.serving.saturating_add(1);
        self.phase = phase;
        self
    }

    /// Counts a transition, after the phase was taken on, and remembers it.
    pub(crate) fn with_transition(
        mut self,
        why: &Why,
        revision: RevisionName,
        now: Timestamp,
    ) -> Self {
        self.transition = self.transition.saturating_add(1);
        let transition = Transition {
            number: self.transition,
            at: now,
            reason: why.reason().as_str().to_owned(),
            revision,
            weight: self.split().weight,
            message: short(&why.to_string(), MAX_MESSAGE_BYTES),
        };
        self.history.insert(0, transition);
        self.history.truncate(MAX_HISTORY);
        self
    }

    /// Rejects `revision`, in place of what was known of it before.
    pub(crate) fn with_rejection(
        mut self,
        revision: RevisionName,
        why: &Why,
        now: Timestamp,
    ) -> Self {
        self.rejected.retain(|rejection| rejection.revision != revision);
        self.rejected.push(RejectedRevision {
            revision,
            reason: why.reason().as_str().to_owned(),
            message: short(&why.to_string(), MAX_REJECTION_BYTES),
            at: now,
        });
        let excess = self.rejected.len().saturating_sub(MAX_REJECTED);
        self.rejected.drain(..excess);
        self
    }
}

impl Phase {
    /// What is in force in this phase.
    pub fn split(&self) -> Split<'_> {
        match self {
            Self::Stable { stable, former: _ } | Self::Clearing { stable } => {
                Split { stable, canary: None, weight: Weight::ZERO }
            }
            Self::Rolling(rolling) => Split {
                stable: &rolling.stable,
                canary: Some(&rolling.canary),
                weight: rolling.weight(),
            },
        }
    }
}

impl Rolling {
    /// The weight in force. A step that the policy does not have weighs nothing.
    pub fn weight(&self) -> Weight {
        match &self.stage {
            Stage::Step { index, .. } => {
                self.policy.steps.get(*index).map_or(Weight::ZERO, |step| step.weight)
            }
            Stage::Failed { weight, .. } | Stage::Manual { weight } => *weight,
        }
    }

    /// Present step counted from 0, of a rollout that goes by steps.
    pub fn step_index(&self) -> Option<usize> {
        match &self.stage {
            Stage::Step { index, .. } => Some(*index),
            Stage::Failed { .. } | Stage::Manual { .. } => None,
        }
    }

    /// When every live replica had acknowledged the step, on the store's clock.
    pub fn step_started_at(&self) -> Option<StoreTime> {
        Some(self.hold()?.began.store)
    }

    /// The earliest time of the next step or of the promotion, on the store's clock.
    pub fn next_step_at(&self) -> Option<StoreTime> {
        let step = self.policy.steps.get(self.step_index()?)?;
        let StoreTime(began) = self.step_started_at()?;
        // What was asked at the beginning may take as long as the agent has.
        let seconds = step.hold_seconds.max(self.policy.timeout_seconds);
        Some(StoreTime(began.saturating_add(u64::from(seconds) * 1000)))
    }

    /// The hold that runs.
    pub fn hold(&self) -> Option<&Hold> {
        match &self.stage {
            Stage::Step { hold, .. } => hold.as_deref(),
            Stage::Failed { .. } | Stage::Manual { .. } => None,
        }
    }

    /// Whether it is at its last step.
    pub fn is_baking(&self) -> bool {
        self.step_index().is_some_and(|index| self.policy.steps.after(index).is_none())
    }

    /// When the rollout is overdue, on the operator's clock; none while that does not run.
    pub fn deadline_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Step { timer: Timer::Running { since, used_ms }, .. } => {
                let allowed = u64::from(self.policy.progress_deadline_seconds) * 1000;
                Some(since.plus_millis(allowed.saturating_sub(*used_ms)))
            }
            Stage::Step { .. } | Stage::Failed { .. } | Stage::Manual { .. } => None,
        }
    }

    /// The same rollout at another stage, with what was counted by now; `serving` is the present one.
    /// Another weight begins another segment, since it is another serving.
    pub(crate) fn at_stage(&self, stage: Stage, counted: &[ServingTally], serving: u64) -> Self {
        let mut next = Self { stage, segments: self.segments.with(counted), ..self.clone() };
        if next.weight() != self.weight() {
            let begins = if next.step_index().is_some() { Begins::Step } else { Begins::Nothing };
            next.begin(begins, serving.saturating_add(1));
        }
        next
    }

    /// Begins a segment at the present weight.
    pub(crate) fn begin(&mut self, begins: Begins, serving: u64) {
        let (weight, limit) = (self.weight(), self.limit());
        self.segments.begin(begins, self.policy.steps.count(), (serving, weight, limit));
    }

    /// The error rate that the canary may have where there is no control: no lower than what stable
    /// itself has shown before, and frozen from the beginning of the step.
    fn limit(&self) -> u32 {
        let limit = self.policy.max_error_basis_points;
        let frozen = self.segments.limit_at(self.weight());
        let shown = || upper_bound(self.segments.stable()).map_or(limit, |shown| limit.max(shown));
        frozen.unwrap_or_else(shown)
    }
}

/// A rollout as it is written, before it is known to make sense.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRolling {
    stable: RevisionName,
    canary: RevisionName,
    policy: Policy,
    stage: Stage,
    /// None in the form of older operators, which kept other counts: the step starts anew.
    #[serde(default)]
    segments: Segments,
    #[serde(default)]
    stepped_back: bool,
}

impl TryFrom<RawRolling> for Rolling {
    type Error = RollingError;

    fn try_from(raw: RawRolling) -> Result<Self, RollingError> {
        let RawRolling { stable, canary, policy, stage, segments, stepped_back } = raw;
        let rolling = Self { stable, canary, policy, stage, segments, stepped_back };
        if rolling.stable == rolling.canary {
            return Err(RollingError::SameRevision { revision: rolling.canary });
        }
        let steps = rolling.policy.steps.count();
        match rolling.step_index() {
            Some(index) if index >= steps => Err(RollingError::NoSuchStep { index, steps }),
            _ => Ok(rolling),
        }
    }
}

/// A written rollout that makes no sense.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
pub enum RollingError {
    /// It is at a step that its policy does not have.
    #[error("the rollout is at step index {index} of {steps}; the state was not written by us")]
    NoSuchStep {
        /// The index.
        index: usize,
        /// How many steps there are.
        steps: usize,
    },
    /// It rolls out what already serves.
    #[error("revision {revision} is both stable and canary; the state was not written by us")]
    SameRevision {
        /// That revision.
        revision: RevisionName,
    },
}

/// Cuts a text to so many bytes, at the end of a clause where there is one.
pub(crate) fn short(text: &str, most: usize) -> String {
    let cut = &text[..text.floor_char_boundary(most)];
    let whole = if cut.len() < text.len() { cut.rsplit_once("; ") } else { None };
    whole.map_or(cut, |(clauses, _)| clauses).to_owned()
}
