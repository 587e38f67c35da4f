//! Memory: the value `state` of a route Secret, which gateways drop and the operator must read.
//!
//! Takes bytes, gives `Memory`, or says why they must be left alone: written by a newer operator,
//! or not readable at all. Pure.

use std::collections::BTreeMap;

use kanarie_crds::channel::RevisionContent;
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of this form. A higher one is never written over.
pub const SCHEMA: u32 = 1;

/// What the operator must remember of a channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Version of the writer's form.
    pub schema: u32,
    /// Where the rollout is.
    pub rollout: State,
    /// Stable and canary by name.
    pub revisions: BTreeMap<RevisionName, Kept>,
}

/// A revision that is in service.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// What it fixes.
    pub content: RevisionContent,
    /// Since when it serves as what it is, Unix milliseconds.
    pub since_ms: u64,
}

/// Why a memory cannot be used. It stays as it is.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A newer operator wrote it.
    #[error(
        "the route's state has version {found}, this operator knows {SCHEMA}; update the operator"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is no such value.
    #[error(
        "the route's state cannot be read; restore it, or delete the route Secret to rebuild it"
    )]
    Unreadable(#[source] serde_json::Error),
    /// It names a revision without its content.
    #[error(
        "the route's state lacks the content of revision `{0}`; restore it, or delete the route Secret to rebuild it"
    )]
    Incomplete(RevisionName),
}

impl Memory {
    /// Reads a memory. The version comes first: the rest may have another form.
    pub fn decode(bytes: &[u8]) -> Result<Self, MemoryError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_slice(bytes).map_err(MemoryError::Unreadable)?;
        if schema > SCHEMA {
            return Err(MemoryError::Newer { found: schema });
        }
        let memory: Self = serde_json::from_slice(bytes).map_err(MemoryError::Unreadable)?;
        let missing = memory.in_service().find(|name| !memory.revisions.contains_key(*name));
        if let Some(missing) = missing {
            return Err(MemoryError::Incomplete(missing.clone()));
        }
        Ok(memory)
    }

    /// The memory of `next`: revisions out of service are dropped, a new one starts at `now_ms`.
    pub fn of(
        next: State,
        known: &BTreeMap<RevisionName, RevisionContent>,
        before: Option<&Self>,
        now_ms: u64,
    ) -> Result<Self, MemoryError> {
        let mut memory = Self { schema: SCHEMA, rollout: next, revisions: BTreeMap::new() };
        let stable = memory.rollout.split().stable.clone();
        let names: Vec<RevisionName> = memory.in_service().cloned().collect();
        for name in names {
            let content = known.get(&name).ok_or_else(|| MemoryError::Incomplete(name.clone()))?;
            let was = before.filter(|before| before.serves_as(&name, name == stable));
            let since_ms = was
                .and_then(|before| before.revisions.get(&name))
                .map_or(now_ms, |kept| kept.since_ms);
            memory.revisions.insert(name, Kept { content: content.clone(), since_ms });
        }
        Ok(memory)
    }

    /// Name of the revision in service with this content.
    pub fn name_of(&self, content: &RevisionContent) -> Option<&RevisionName> {
        let mut revisions = self.revisions.iter();
        revisions.find(|(_, kept)| kept.content == *content).map(|(name, _)| name)
    }

    fn in_service(&self) -> impl Iterator<Item = &RevisionName> {
        let split = self.rollout.split();
        std::iter::once(split.stable).chain(split.canary)
    }

    fn serves_as(&self, name: &RevisionName, stable: bool) -> bool {
        let split = self.rollout.split();
        if stable { split.stable == name } else { split.canary == Some(name) }
    }
}

#[cfg(test)]
mod tests {
    use kanarie_rollout::bounds::{
        MAX_COMMAND_CHARS, MAX_HISTORY, MAX_MESSAGE_CHARS, MAX_REJECTED,
    };
    use kanarie_rollout::policy::Policy;
    use kanarie_rollout::state::{
        CommandAnswer, CommandResult, Phase, RejectedRevision, Rolling, Stage, Transition,
    };
    use kanarie_rollout::steps::{Step, Steps};
    use kanarie_rollout::tally::{FinishedStep, Sum};
    use kanarie_words::on_failure::OnFailure;
    use kanarie_words::timestamp::Timestamp;
    use kanarie_words::weight::Weight;

    use super::*;

    fn content(url: &str) -> RevisionContent {
        serde_json::from_str(&format!(r#"{{"agent": {{"http": {{"url": "{url}"}}}}}}"#)).unwrap()
    }

    fn memory() -> Memory {
        let known = BTreeMap::from([("a".parse().unwrap(), content("http://a"))]);
        let state = State::first("a".parse().unwrap(), Timestamp(5));
        Memory::of(state, &known, None, 5).unwrap()
    }

    #[test]
    fn a_memory_reads_back_as_it_was_written() {
        let bytes = serde_json::to_vec(&memory()).unwrap();
        assert_eq!(Memory::decode(&bytes).unwrap(), memory());
    }

    #[test]
    fn a_memory_of_a_newer_writer_is_not_read() {
        let bytes = br#"{"schema": 2, "rollout": "in a form that nobody knows yet"}"#;
        assert!(matches!(Memory::decode(bytes), Err(MemoryError::Newer { found: 2 })));
    }

    #[test]
    fn a_memory_without_the_content_of_stable_is_not_used() {
        let incomplete = Memory { revisions: BTreeMap::new(), ..memory() };
        let bytes = serde_json::to_vec(&incomplete).unwrap();
        assert!(
            matches!(Memory::decode(&bytes), Err(MemoryError::Incomplete(name)) if name == "a")
        );
    }

    const MAX: u32 = u32::MAX;

    fn name(number: usize) -> RevisionName {
        format!("{number:0>65}").parse().unwrap()
    }

    /// A state with as much as its bounds allow.
    fn largest_state() -> State {
        let at = Timestamp(u64::MAX);
        let sentence = "x".repeat(MAX_MESSAGE_CHARS);
        let rejection = |number: usize| RejectedRevision {
            revision: name(number),
            reason: "RolledBack".to_owned(),
            message: sentence.clone(),
            at,
        };
        let transition = |number: usize| Transition {
            number: u64::MAX,
            at,
            reason: "PausedOnFailure".to_owned(),
            revision: name(number),
            weight: Weight::FULL,
            message: sentence.clone(),
        };
        State {
            phase: Phase::Rolling(Box::new(largest_rollout(&sentence))),
            rejected: (0..MAX_REJECTED).map(rejection).collect(),
            history: (0..MAX_HISTORY).map(transition).collect(),
            last_command: Some(CommandAnswer {
                id: "\u{1f426}".repeat(MAX_COMMAND_CHARS),
                verb: "\u{1f426}".repeat(MAX_COMMAND_CHARS),
                result: CommandResult::Executed,
                message: sentence.clone(),
                at,
            }),
            ..State::first(name(0), at)
        }
    }

    fn largest_rollout(sentence: &str) -> Rolling {
        let weight = |percent| Weight::new(percent).unwrap();
        let steps = (81..=100).map(|percent| Step { weight: weight(percent), hold_seconds: MAX });
        // More judged messages than a channel has in a year of eighty a second.
        let sum = Sum(9_999_999_999, 9_999_999_999);
        let finished = |percent| FinishedStep { weight: weight(percent), stable: sum, canary: sum };
        Rolling {
            stable: name(0),
            canary: name(1),
            policy: Policy {
                steps: Steps::new(steps.collect()).unwrap(),
                max_error_basis_points: MAX,
                min_messages: u64::MAX,
                max_latency_ms: Some(u64::MAX),
                interval_seconds: MAX,
                on_failure: OnFailure::Rollback,
                retry_on_stable: false,
                progress_deadline_seconds: MAX,
            },
            stage: Stage::Failed { weight: Weight::FULL, explanation: sentence.repeat(3) },
            finished: (0..=100).map(finished).collect(),
        }
    }

    #[test]
    fn the_largest_memory_leaves_a_route_its_room() {
        let mut largest = content(&format!("https://{}", "a".repeat(504)));
        largest.reply.failure_text = "\u{1f426}".repeat(640);
        let known = [name(0), name(1)].map(|name| (name, largest.clone())).into();
        let memory = Memory::of(largest_state(), &known, None, u64::MAX).unwrap();
        let bytes = serde_json::to_vec(&memory).unwrap().len();
        let room = kanarie_crds::route::MAX_OBJECT_BYTES - crate::credentials::MAX_ROUTE_BYTES;
        assert!(bytes <= room, "{bytes} bytes of {room}");
    }

    #[test]
    fn a_revision_that_goes_on_serving_keeps_its_time() {
        let known = BTreeMap::from([("a".parse().unwrap(), content("http://a"))]);
        let again = Memory::of(memory().rollout, &known, Some(&memory()), 99).unwrap();
        assert_eq!(again.revisions["a"].since_ms, 5);
    }
}
