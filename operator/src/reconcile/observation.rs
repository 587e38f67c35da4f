//! Observation: spec, command and what the gateways said, as the core takes them.
//!
//! Takes a channel, where its rollout is and what is asked of it; gives one observation, or none when
//! there is nothing to decide. Pure.

use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_rollout::observation::{Mode, Observation};
use kanarie_rollout::order::Command;
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;

use crate::gateways::answer::answer;
use crate::gateways::board::View;
use crate::reconcile::validate::{Channel, standard_policy};

/// What is asked of a rollout.
pub struct Wishes {
    /// The revision that the spec asks for.
    pub desired: Option<RevisionName>,
    /// A person's word.
    pub command: Option<Command>,
    /// Whether something is to be written or told although nothing is asked: the state is not the one that the
    /// route has, or status does not know what was done last.
    pub is_due: bool,
}

/// None when there is nothing to decide: the spec cannot be carried out, nothing rolls, and nobody waits for
/// an answer.
pub fn observation(
    channel: &Channel,
    state: &State,
    wishes: Wishes,
    view: &View,
) -> Option<Observation> {
    let Wishes { desired, command, is_due } = wishes;
    let generation = u64::try_from(channel.identity.generation).unwrap_or(0);
    let store = view.details.as_ref().map(answer);
    match &channel.spec {
        Ok(spec) => Some(Observation {
            generation,
            desired,
            policy: spec.policy.clone(),
            mode: spec.mode,
            paused: spec.paused,
            rollback_window_seconds: spec.rollback_window_seconds,
            command,
            store,
        }),
        Err(_) => {
            let is_answered = |command: &Command| {
                command.id.is_empty()
                    || state.last_command.as_ref().is_some_and(|last| command.is_answered_by(last))
            };
            let policy = match state.rolling() {
                Some(rolling) => rolling.policy.clone(),
                None if !is_due && command.as_ref().is_none_or(is_answered) => return None,
                // Nothing is measured by it.
                None => standard_policy()?,
            };
            let unasked = Observation {
                generation,
                desired: None,
                policy,
                mode: Mode::Automatic,
                paused: false,
                rollback_window_seconds: 0,
                command,
                store,
            };
            Some(unasked.without_spec(state))
        }
    }
}

/// Whether status does not know the last transition or the last answer.
pub fn is_untold(status: &WhatsAppChannelStatus, state: &State) -> bool {
    let told = status.last_command.as_ref().map(|last| &last.id);
    let answered = state.last_command.as_ref().map(|last| &last.id);
    status.transition < state.transition || told != answered
}
