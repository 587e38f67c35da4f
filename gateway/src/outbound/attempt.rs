//! From a message to a committed reply: choose the revision, ask its agent, rescue, commit.
//!
//! Takes the work of a turn, ends with a reply on its way, a deliberate silence, or the head put
//! back. The first attempt that ends is the evidence; a failed one is recorded before anybody else
//! is asked. Never asks two agents at once, and never one whose breaker is open.

use std::time::Duration;

use futures::FutureExt as _;
use kanarie_crds::route::{AgentRoute, RevisionRoute, SecretText};
use kanarie_queue::types::{Class, Committed, Evidence, Intent, Track};
use tokio::time::Instant;

use crate::ends;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::agent::answer::{Answer, Failure, Question};
use crate::outbound::agent::breaker::Permission;
use crate::outbound::agent::langgraph::Run;
use crate::outbound::reply::{self, Reply};
use crate::outbound::track::{self, Choice};
use crate::outbound::turn::{Stale, Work, dead_letter, owned};
use crate::random;

/// Counted tries of one message, the first one included.
const MAX_TRIES: u32 = 6;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What an agent's answer is for the customer.
#[derive(Clone, Debug)]
enum Outcome {
    Reply(Reply),
    Silence,
}

/// What came of asking an agent.
enum Asked {
    /// It was not asked: its breaker is open for so long.
    NotNow(Duration),
    /// The attempt ended; a class says how it counts.
    Ended(Result<Outcome, Failure>, Class),
}

impl Work<'_> {
    /// Answers the message.
    pub(crate) async fn answer(&self) -> Result<(), Stale> {
        let claim = &self.turn.claim;
        let failed_on = claim.failed_on.as_deref();
        let key = self.turn.worker.key;
        let choice = track::choose(key, self.route, &claim.conversation, failed_on);
        let run = claim.run.as_deref().and_then(Run::parse);
        let (resume, left) = match run {
            Some(run) if is_asked_of(&run, choice.revision) => (Some(run), None),
            Some(run) => (None, self.leave(&run).await),
            None => (None, None),
        };
        if let Some(outcome) = left {
            // Its worker died while it ran, so it is nobody's evidence.
            return self.commit(outcome, None).await;
        }
        let rescued = choice.track == Track::Canary && self.route.retry_on_stable;
        match self.ask(choice.revision, resume.as_ref()).await? {
            Asked::Ended(Ok(outcome), class) => {
                let evidence = self.evidence(&choice, class);
                self.commit(outcome, evidence).await
            }
            Asked::Ended(Err(failure), class) => {
                self.record_failure(&choice, class).await?;
                if rescued {
                    self.rescue().await
                } else {
                    self.fail(choice.revision, failure).await
                }
            }
            // An open breaker is no attempt: stable's is the first one then.
            Asked::NotNow(_) if rescued => self.divert(&choice).await,
            Asked::NotNow(pause) => self.turn.wait(pause).await,
        }
    }

    /// Asks stable after the canary's agent failed: an outcome that counts for neither track.
    async fn rescue(&self) -> Result<(), Stale> {
        match self.ask(&self.route.stable, None).await? {
            Asked::Ended(Ok(outcome), _) => {
                emit(OutboundEvent::Rescued);
                self.commit(outcome, None).await
            }
            Asked::Ended(Err(failure), _) => self.fail(&self.route.stable, failure).await,
            Asked::NotNow(pause) => self.turn.wait(pause).await,
        }
    }

    /// Asks stable instead of a canary whose breaker is open.
    async fn divert(&self, canary: &Choice<'_>) -> Result<(), Stale> {
        let revision = &self.route.stable;
        let choice = Choice { track: Track::Stable, revision, judged: canary.judged };
        match self.ask(revision, None).await? {
            Asked::Ended(Ok(outcome), class) => {
                let evidence = self.evidence(&choice, class);
                self.commit(outcome, evidence).await
            }
            Asked::Ended(Err(failure), class) => {
                self.record_failure(&choice, class).await?;
                self.fail(revision, failure).await
            }
            Asked::NotNow(pause) => self.turn.wait(pause).await,
        }
    }

    async fn ask(&self, revision: &RevisionRoute, resume: Option<&Run>) -> Result<Asked, Stale> {
        let agents = &self.turn.worker.ctx.agents;
        if let Permission::Wait(pause) = agents.permit(&self.route.channel, &revision.agent) {
            return Ok(Asked::NotNow(pause));
        }
        let keep = |run: String| async move { self.keep_run(Some(run)).await == Ok(()) }.boxed();
        let began = Instant::now();
        let attempt = agents.ask(self.question(), revision, resume, &keep).await;
        let took = began.elapsed();
        let Some(mut class) = attempt.class() else { return Err(Stale) };
        let outcome = attempt.outcome.and_then(|answer| prepared(answer, revision));
        if let Some(failed) = outcome.as_ref().err().and_then(|failure| failure.class()) {
            class = failed;
        } else if class == Class::Success && resume.is_none() && self.is_slow(took) {
            // How long a run took that somebody else began is not known.
            class = Class::Slow;
        }
        let failure = outcome.as_ref().err().map(Failure::to_string);
        emit(OutboundEvent::Asked { class, took, failure });
        Ok(Asked::Ended(outcome, class))
    }

    /// Leaves a run of another revision; gives its answer if it had finished.
    async fn leave(&self, run: &Run) -> Option<Outcome> {
        let agents = &self.turn.worker.ctx.agents;
        let answer = agents.leave(run, self.server_key(run), self.question()).await?;
        prepared(answer, &self.route.stable).ok()
    }

    async fn record_failure(&self, choice: &Choice<'_>, class: Class) -> Result<(), Stale> {
        let failed_on = (choice.track == Track::Canary && self.route.retry_on_stable)
            .then(|| choice.revision.revision.clone());
        let counted = self.turn.claim.counted;
        if !choice.judged || (counted && failed_on.is_none()) {
            return Ok(());
        }
        let evidence = Evidence { serving: self.route.serving, track: choice.track, class };
        let record = self
            .turn
            .verb(|store, lease| store.end_attempt(lease, evidence.clone(), failed_on.clone()));
        owned(record.await)
    }

    /// What a successful attempt counts as: none without a canary, or counted before.
    fn evidence(&self, choice: &Choice<'_>, class: Class) -> Option<Evidence> {
        (choice.judged && !self.turn.claim.counted).then_some(Evidence {
            serving: self.route.serving,
            track: choice.track,
            class,
        })
    }

    async fn commit(&self, outcome: Outcome, evidence: Option<Evidence>) -> Result<(), Stale> {
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Silence => {
                let complete =
                    self.turn.verb(|store, lease| store.complete(lease, evidence.clone()));
                owned(complete.await)?;
                ends::remember(&self.message.sid, ends::Outcome::Silent);
                return Ok(());
            }
        };
        let intent = intent(&reply);
        let commit = self
            .turn
            .verb(|store, lease| store.commit_reply(lease, intent.clone(), evidence.clone()));
        match commit.await {
            Committed::Done => self.deliver(intent).await,
            Committed::Exists(intent) => self.deliver(*intent).await,
            Committed::Stale => Err(Stale),
        }
    }

    /// Tries again later; after the last try sends the failure text, if there is one, and gives up.
    async fn fail(&self, revision: &RevisionRoute, failure: Failure) -> Result<(), Stale> {
        let Some(class) = failure.class() else { return Err(Stale) };
        self.forget_run(revision).await?;
        let tries = self.turn.claim.tries;
        if tries < MAX_TRIES {
            return self.turn.put_back(random::jittered(pause_after(tries)), true).await;
        }
        match reply::build_failure(class, revision) {
            Some(reply) => self.commit(Outcome::Reply(reply), None).await,
            None => self.turn.bury(dead_letter(class)).await,
        }
    }

    async fn keep_run(&self, run: Option<String>) -> Result<(), Stale> {
        owned(self.turn.verb(|store, lease| store.keep_run(lease, run.clone())).await)
    }

    /// What ended is not waited for again: the next attempt begins a run of its own.
    async fn forget_run(&self, asked: &RevisionRoute) -> Result<(), Stale> {
        let may_have_run = matches!(asked.agent, AgentRoute::LangGraph { .. });
        if may_have_run || self.turn.claim.run.is_some() {
            self.keep_run(None).await?;
        }
        Ok(())
    }

    fn question(&self) -> Question<'_> {
        Question {
            channel: &self.route.channel,
            conversation: &self.turn.claim.conversation,
            message: self.message,
        }
    }

    /// The key of a run's server, as far as the route still knows that server.
    fn server_key(&self, run: &Run) -> Option<&SecretText> {
        let revisions = [Some(&self.route.stable), self.route.canary.as_ref()];
        revisions.into_iter().flatten().find_map(|revision| match &revision.agent {
            AgentRoute::LangGraph { url, api_key, .. } if *url == run.url => api_key.as_ref(),
            _ => None,
        })
    }

    fn is_slow(&self, took: Duration) -> bool {
        self.route.max_latency_ms.is_some_and(|most| took > Duration::from_millis(most))
    }
}

/// 1, 2, 4, … seconds, never more than a minute.
fn pause_after(tries: u32) -> Duration {
    let seconds = 1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_PAUSE)
}

fn prepared(answer: Answer, revision: &RevisionRoute) -> Result<Outcome, Failure> {
    match answer {
        Answer::Text(text) => {
            reply::build(&text, revision).map(Outcome::Reply).ok_or(Failure::TooLong)
        }
        Answer::Silence => Ok(Outcome::Silence),
    }
}

fn intent(reply: &Reply) -> Intent {
    Intent {
        id: random::token(),
        segments: u32::try_from(reply.segments.len()).unwrap_or(u32::MAX),
        body: serde_json::json!(reply).to_string(),
        sent: Vec::new(),
        sending: None,
        resent: false,
    }
}

fn is_asked_of(run: &Run, revision: &RevisionRoute) -> bool {
    match &revision.agent {
        AgentRoute::LangGraph { url, assistant_id, .. } => {
            *url == run.url && *assistant_id == run.assistant
        }
        AgentRoute::Http { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::pause_after;

    #[test]
    fn pauses_double_from_a_second_to_a_minute() {
        let pauses: Vec<u64> = (1..=8).map(|tries| pause_after(tries).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
