//! From a message to a reply that can be committed: ask the agent that was chosen, and rescue.
//!
//! Takes a head, its message, its route and the choice; gives the reply, or the end of the turn: a
//! deliberate silence, or the head put back. The first attempt that ends is the evidence; a failed
//! one is recorded before anybody else is asked. Never asks two agents at once, and never one whose
//! breaker is open.

use std::time::Duration;

use futures::FutureExt as _;
use kanarie_crds::route::{AgentRoute, RevisionRoute, Route, SecretText};
use kanarie_queue::intent::Intent;
use kanarie_queue::outcome::Evidence;
use kanarie_words::class::Class;
use kanarie_words::ids::IntentId;
use kanarie_words::track::Track;
use tokio::time::Instant;

use crate::envelope::InboundMessage;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::agent::answer::{Answer, Failure, Question};
use crate::outbound::agent::langgraph::Run;
use crate::outbound::end::End;
use crate::outbound::owner::Owner;
use crate::outbound::reply::{self, Reply};
use crate::outbound::track::Choice;
use crate::random;

/// Counted tries of one message, the first one included.
const MAX_TRIES: u32 = 6;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who asks, about what.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) owner: &'a Owner<'a>,
    pub(crate) route: &'a Route,
    pub(crate) message: &'a InboundMessage,
}

/// A reply to commit, and what the attempt that gave it counts as.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    reply: Reply,
    pub(crate) evidence: Option<Evidence>,
}

/// What came of asking an agent.
enum Asked {
    /// It was not asked: its breaker is open for so long.
    NotNow(Duration),
    /// The attempt ended, with a reply or a deliberate silence or a failure; a class says how it
    /// counts.
    Ended(Result<Option<Reply>, Failure>, Class),
}

/// Gets a reply to the message.
pub(crate) async fn answer(asking: Asking<'_>, choice: Choice<'_>) -> Result<Ready, End> {
    let run = asking.owner.claim.run.as_deref().and_then(Run::parse);
    let (resume, left) = match run {
        Some(run) if is_asked_of(&run, choice.revision) => (Some(run), None),
        Some(run) => (None, asking.leave(&run).await),
        None => (None, None),
    };
    if let Some(reply) = left {
        // Its worker died while it ran, so it is nobody's evidence.
        return ready(reply, None);
    }
    let rescued = choice.track == Track::Canary && asking.route.retry_on_stable;
    match asking.ask(choice.revision, resume.as_ref()).await? {
        Asked::Ended(Ok(reply), class) => ready(reply, asking.evidence(&choice, class)),
        Asked::Ended(Err(failure), class) => {
            asking.record_failure(&choice, class).await?;
            if rescued {
                asking.rescue().await
            } else {
                asking.fail(choice.revision, failure).await
            }
        }
        // An open breaker is no attempt: stable's is the first one then.
        Asked::NotNow(_) if rescued => asking.divert(&choice).await,
        Asked::NotNow(pause) => Err(End::wait(pause)),
    }
}

impl Asking<'_> {
    /// Asks stable after the canary's agent failed: an outcome that counts for neither track.
    async fn rescue(&self) -> Result<Ready, End> {
        match self.ask(&self.route.stable, None).await? {
            Asked::Ended(Ok(reply), _) => {
                emit(OutboundEvent::Rescued);
                ready(reply, None)
            }
            Asked::Ended(Err(failure), _) => self.fail(&self.route.stable, failure).await,
            Asked::NotNow(pause) => Err(End::wait(pause)),
        }
    }

    /// Asks stable instead of a canary whose breaker is open.
    async fn divert(&self, canary: &Choice<'_>) -> Result<Ready, End> {
        let revision = &self.route.stable;
        let choice = Choice { track: Track::Stable, revision, judged: canary.judged };
        match self.ask(revision, None).await? {
            Asked::Ended(Ok(reply), class) => ready(reply, self.evidence(&choice, class)),
            Asked::Ended(Err(failure), class) => {
                self.record_failure(&choice, class).await?;
                self.fail(revision, failure).await
            }
            Asked::NotNow(pause) => Err(End::wait(pause)),
        }
    }

    async fn ask(&self, revision: &RevisionRoute, resume: Option<&Run>) -> Result<Asked, End> {
        let agents = &self.owner.worker.ctx.agents;
        let permit = match agents.permit(&self.route.channel, revision) {
            Ok(permit) => permit,
            Err(outage) => {
                let pause = outage.until.saturating_duration_since(Instant::now());
                return Ok(Asked::NotNow(pause));
            }
        };
        let keep =
            |run: String| async move { self.owner.keep_run(Some(run)).await.is_ok() }.boxed();
        let began = Instant::now();
        let attempt = agents.ask(self.question(), revision, resume, &keep).await;
        let took = began.elapsed();
        permit.record(&attempt);
        let Some(mut class) = attempt.class() else { return Err(End::Lost) };
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
    async fn leave(&self, run: &Run) -> Option<Option<Reply>> {
        let agents = &self.owner.worker.ctx.agents;
        let answer = agents.leave(run, self.server_key(run), self.question()).await?;
        prepared(answer, &self.route.stable).ok()
    }

    async fn record_failure(&self, choice: &Choice<'_>, class: Class) -> Result<(), End> {
        let failed_on = (choice.track == Track::Canary && self.route.retry_on_stable)
            .then(|| choice.revision.revision.clone());
        if self.owner.claim.counted && failed_on.is_none() {
            return Ok(());
        }
        // Without a canary it is recorded all the same: a later try is no first attempt.
        self.owner.end_attempt(self.evidence(choice, class), failed_on).await
    }

    /// What an attempt counts as: none without a canary, or after the first one.
    fn evidence(&self, choice: &Choice<'_>, class: Class) -> Option<Evidence> {
        (choice.judged && !self.owner.claim.counted).then_some(Evidence {
            serving: self.route.serving,
            track: choice.track,
            class,
        })
    }

    /// Tries again later; after the last try there is the failure text, if any, and the end.
    async fn fail(&self, revision: &RevisionRoute, failure: Failure) -> Result<Ready, End> {
        let class = failure.class().ok_or(End::Lost)?;
        self.forget_run(revision).await?;
        let tries = self.owner.claim.tries;
        if tries < MAX_TRIES {
            let pause = random::jittered(pause_after(tries));
            return Err(End::Later { pause, counted: true });
        }
        match reply::build_failure(class, revision) {
            Some(reply) => Ok(Ready { reply, evidence: None }),
            None => Err(End::failed(class)),
        }
    }

    /// What ended is not waited for again: the next attempt begins a run of its own.
    async fn forget_run(&self, asked: &RevisionRoute) -> Result<(), End> {
        let may_have_run = matches!(asked.agent, AgentRoute::LangGraph { .. });
        if may_have_run || self.owner.claim.run.is_some() {
            self.owner.keep_run(None).await?;
        }
        Ok(())
    }

    fn question(&self) -> Question<'_> {
        Question {
            channel: &self.route.channel,
            conversation: &self.owner.claim.conversation,
            message: self.message,
            interrupt: None,
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

impl Ready {
    /// The reply as the store keeps it, under an id of its own.
    pub(crate) fn intent(&self) -> Intent {
        let segments = u32::try_from(self.reply.segments.len()).unwrap_or(u32::MAX);
        let body = serde_json::json!(self.reply).to_string();
        Intent::fresh(IntentId::from_bytes(random::bytes()), segments, body)
    }
}

fn ready(reply: Option<Reply>, evidence: Option<Evidence>) -> Result<Ready, End> {
    match reply {
        Some(reply) => Ok(Ready { reply, evidence }),
        None => Err(End::Silence(evidence)),
    }
}

/// 1, 2, 4, … seconds, never more than a minute.
fn pause_after(tries: u32) -> Duration {
    let seconds = 1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_PAUSE)
}

/// The reply with an answer's text; none for a deliberate silence.
fn prepared(answer: Answer, revision: &RevisionRoute) -> Result<Option<Reply>, Failure> {
    match answer {
        Answer::Text(text) | Answer::Interrupted { text, .. } => {
            reply::build(&text, revision).map(Some).ok_or(Failure::TooLong)
        }
        Answer::Silence => Ok(None),
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
