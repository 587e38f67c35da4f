//! Memory: the value `state` of a route Secret, which gateways drop and the operator must read.
//!
//! Takes bytes, gives `Memory`, or says why they must be left alone: written by a newer operator,
//! or not readable at all. Pure.

use std::collections::BTreeMap;

use kanarie_crds::channel::RevisionContent;
use kanarie_rollout::state::{Phase, State};
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
    /// Stable, canary and the one to which a person may still go back, by name.
    pub revisions: BTreeMap<RevisionName, Kept>,
}

/// A revision that serves, or may serve again at a word.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// What it fixes.
    pub content: RevisionContent,
    /// Since when it is what it is, Unix milliseconds.
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
        let mut memory: Self = serde_json::from_slice(bytes).map_err(MemoryError::Unreadable)?;
        memory.forget_unknown_former();
        let missing = memory.in_service().find(|name| !memory.revisions.contains_key(*name));
        if let Some(missing) = missing {
            return Err(MemoryError::Incomplete(missing.clone()));
        }
        Ok(memory)
    }

    /// The memory of `next`: revisions that it does not name are dropped, a new one starts at `now_ms`.
    pub fn of(
        next: State,
        known: &BTreeMap<RevisionName, RevisionContent>,
        before: Option<&Self>,
        now_ms: u64,
    ) -> Result<Self, MemoryError> {
        let mut memory = Self { schema: SCHEMA, rollout: next, revisions: BTreeMap::new() };
        let names: Vec<RevisionName> =
            memory.in_service().chain(memory.rollout.former()).cloned().collect();
        for name in names {
            let content = known.get(&name).ok_or_else(|| MemoryError::Incomplete(name.clone()))?;
            let was = before.filter(|before| before.role_of(&name) == memory.role_of(&name));
            let since_ms = was
                .and_then(|before| before.revisions.get(&name))
                .map_or(now_ms, |kept| kept.since_ms);
            memory.revisions.insert(name, Kept { content: content.clone(), since_ms });
        }
        Ok(memory)
    }

    /// Name of the revision with this content, if it serves or may serve again.
    pub fn name_of(&self, content: &RevisionContent) -> Option<&RevisionName> {
        let mut revisions = self.revisions.iter();
        revisions.find(|(_, kept)| kept.content == *content).map(|(name, _)| name)
    }

    fn in_service(&self) -> impl Iterator<Item = &RevisionName> {
        let split = self.rollout.split();
        std::iter::once(split.stable).chain(split.canary)
    }

    fn role_of(&self, name: &RevisionName) -> Option<Role> {
        let split = self.rollout.split();
        let roles = [
            (Some(split.stable), Role::Stable),
            (split.canary, Role::Canary),
            (self.rollout.former(), Role::Former),
        ];
        roles.into_iter().find(|(named, _)| *named == Some(name)).map(|(_, role)| role)
    }

    /// A former revision without its content cannot be put back, and nothing else depends on it.
    fn forget_unknown_former(&mut self) {
        if let Phase::Stable { former, .. } = &mut self.rollout.phase
            && former.as_ref().is_some_and(|known| !self.revisions.contains_key(&known.revision))
        {
            *former = None;
        }
    }
}

/// What a revision is to a channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Stable,
    Canary,
    Former,
}

#[cfg(test)]
mod tests {
    use kanarie_rollout::bounds::{
        MAX_ACTOR_BYTES, MAX_COMMAND_BYTES, MAX_HISTORY, MAX_LOOKS, MAX_MESSAGE_BYTES,
        MAX_REJECTED, MAX_REJECTION_BYTES, MAX_SEGMENTS, MAX_VERB_BYTES,
    };
    use kanarie_rollout::hold::{Hold, Look};
    use kanarie_rollout::moment::{Moment, StoreTime};
    use kanarie_rollout::policy::Policy;
    use kanarie_rollout::segments::STARTS;
    use kanarie_rollout::state::{
        CommandAnswer, CommandResult, FormerRevision, Phase, RejectedRevision, Rolling, Stage,
        Timer, Transition,
    };
    use kanarie_rollout::steps::{Step, Steps};
    use kanarie_rollout::tally::Sum;
    use kanarie_words::on_failure::OnFailure;
    use kanarie_words::timestamp::Timestamp;
    use kanarie_words::weight::Weight;
    use serde_json::json;

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

    const AT: Timestamp = Timestamp(u64::MAX);

    /// A state with as much as its bounds allow.
    fn largest_state(phase: Phase) -> State {
        let sentence = "x".repeat(MAX_MESSAGE_BYTES);
        let rejection = |number: usize| RejectedRevision {
            revision: name(number),
            reason: "RolledBack".to_owned(),
            message: "x".repeat(MAX_REJECTION_BYTES),
            at: AT,
        };
        let transition = |number: usize| Transition {
            number: u64::MAX,
            at: AT,
            reason: "SampleRatioMismatch".to_owned(),
            revision: name(number),
            weight: Weight::FULL,
            message: sentence.clone(),
        };
        State {
            phase,
            serving: u64::MAX,
            transition: u64::MAX,
            generation: u64::MAX,
            waits_since: Some(AT),
            rejected: (0..MAX_REJECTED).map(rejection).collect(),
            history: (0..MAX_HISTORY).map(transition).collect(),
            last_command: Some(CommandAnswer {
                id: "x".repeat(MAX_COMMAND_BYTES),
                verb: "x".repeat(MAX_VERB_BYTES),
                actor: Some("x".repeat(MAX_ACTOR_BYTES)),
                result: CommandResult::Executed,
                message: sentence,
                at: AT,
            }),
        }
    }

    fn largest_rollout(stage: Stage) -> Phase {
        let weight = |percent| Weight::new(percent).unwrap();
        let steps = (81..=100).map(|percent| Step { weight: weight(percent), hold_seconds: MAX });
        // A serving is no larger than the seconds since 1970, a limit at most 100 %, and all masses of
        // twenty steps add up to 9,600.
        let segment = json!({
            "of": 9_999_999_999_u64, "w": 100, "limit": 10_000, "mass": 9_600,
            "s": largest_sum(), "c": largest_sum(),
        });
        let segments = json!({"list": vec![segment; MAX_SEGMENTS], "spent": MAX});
        Phase::Rolling(Box::new(Rolling {
            stable: name(0),
            canary: name(1),
            policy: Policy {
                steps: Steps::new(steps.collect()).unwrap(),
                max_error_basis_points: MAX,
                certify_basis_points: Some(MAX),
                min_messages: u64::MAX,
                max_latency_ms: Some(u64::MAX),
                timeout_seconds: MAX,
                interval_seconds: MAX,
                on_failure: OnFailure::Rollback,
                retry_on_stable: false,
                progress_deadline_seconds: MAX,
            },
            stage,
            segments: serde_json::from_value(segments).unwrap(),
            stepped_back: false,
        }))
    }

    /// More judged messages than a channel has in a year of eighty a second.
    fn largest_sum() -> Sum {
        Sum::from([9_999_999_999; 5])
    }

    fn largest_step() -> Stage {
        let at = Moment { store: StoreTime(u64::MAX), operator: AT };
        let look = Look { at, stable: largest_sum(), canary: largest_sum() };
        let hold = Hold {
            began: at,
            epoch: "e".repeat(64).parse().unwrap(),
            starts_before: STARTS,
            cut: at,
            looks: vec![look; MAX_LOOKS],
            passing: Some(look),
            degraded: Some(at),
        };
        let timer = Timer::Running { since: AT, used_ms: u64::MAX };
        Stage::Step { index: 19, hold: Some(Box::new(hold)), timer, starts: STARTS }
    }

    #[test]
    fn the_largest_memory_leaves_a_route_its_room() {
        let mut largest = content(&format!("https://{}", "a".repeat(504)));
        largest.reply.failure_text = "\u{1f426}".repeat(640);
        let known = [name(0), name(1)].map(|name| (name, largest.clone())).into();
        let explanation = "x".repeat(2 * MAX_MESSAGE_BYTES);
        let phases = [
            Phase::Stable {
                stable: name(0),
                former: Some(FormerRevision { revision: name(1), replaced_at: AT }),
            },
            largest_rollout(largest_step()),
            largest_rollout(Stage::Failed { weight: Weight::FULL, explanation }),
        ];
        for phase in phases {
            let memory = Memory::of(largest_state(phase), &known, None, u64::MAX).unwrap();
            assert_eq!(memory.revisions.len(), 2, "no phase names a third one");
            let bytes = serde_json::to_vec(&memory).unwrap();
            assert_eq!(Memory::decode(&bytes).unwrap(), memory);
            let room = kanarie_crds::route::MAX_OBJECT_BYTES
                - crate::reconcile::credentials::MAX_ROUTE_BYTES;
            assert!(bytes.len() <= room, "{} bytes of {room}", bytes.len());
        }
    }

    /// b was promoted over a.
    fn promoted() -> Memory {
        let known = ["a", "b"].map(|name| (name.parse().unwrap(), content(name))).into();
        let former = FormerRevision { revision: "a".parse().unwrap(), replaced_at: Timestamp(9) };
        let phase = Phase::Stable { stable: "b".parse().unwrap(), former: Some(former) };
        let state = State { phase, ..memory().rollout };
        Memory::of(state, &known, Some(&memory()), 9).unwrap()
    }

    #[test]
    fn the_former_revision_is_found_by_its_content_while_the_state_names_it() {
        let promoted = promoted();
        assert_eq!(promoted.name_of(&content("a")).unwrap().as_str(), "a");
        assert_eq!(promoted.name_of(&content("b")).unwrap().as_str(), "b");
        let known = ["a", "b"].map(|name| (name.parse().unwrap(), content(name))).into();
        let phase = Phase::Stable { stable: "b".parse().unwrap(), former: None };
        let state = State { phase, ..promoted.rollout.clone() };
        let after = Memory::of(state, &known, Some(&promoted), 10).unwrap();
        assert_eq!(after.name_of(&content("a")), None);
    }

    #[test]
    fn a_former_revision_whose_content_is_gone_is_forgotten_and_hinders_nothing() {
        let mut promoted = promoted();
        promoted.revisions.remove("a");
        let read = Memory::decode(&serde_json::to_vec(&promoted).unwrap()).unwrap();
        assert_eq!((read.rollout.former(), read.rollout.split().stable.as_str()), (None, "b"));
    }

    #[test]
    fn a_revision_that_comes_back_serves_since_then() {
        let known = ["a", "b"].map(|name| (name.parse().unwrap(), content(name))).into();
        let phase = Phase::Stable { stable: "a".parse().unwrap(), former: None };
        let state = State { phase, ..promoted().rollout };
        let back = Memory::of(state, &known, Some(&promoted()), 12).unwrap();
        assert_eq!(back.revisions["a"].since_ms, 12);
    }

    #[test]
    fn a_revision_that_goes_on_serving_keeps_its_time() {
        let known = BTreeMap::from([("a".parse().unwrap(), content("http://a"))]);
        let again = Memory::of(memory().rollout, &known, Some(&memory()), 99).unwrap();
        assert_eq!(again.revisions["a"].since_ms, 5);
    }
}
