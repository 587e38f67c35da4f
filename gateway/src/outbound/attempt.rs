//! From a message to a reply that can be committed: ask the agent that was chosen, and rescue.
//!
//! Takes a head, its message, its route and the choice; gives the reply, or the end of the turn: a
//! deliberate silence, or the head put back for as long as its patience lasts. The first attempt that
//! ends is the evidence; a failed one is recorded before anybody else is asked, and what stable answers
//! at once after a canary's failure is a rescue. Never asks two agents at once, nor a stable one whose breaker is open; a canary has none, for it is to be judged.

use std::time::Duration;

use futures::FutureExt as _;
use kanarie_crds::route::{AgentRoute, RevisionRoute, Route};
use kanarie_queue::intent::{Intent, Memo};
use kanarie_queue::lease::Park;
use kanarie_queue::outcome::{Evidence, Outcome};
use kanarie_words::class::Class;
use kanarie_words::ids::IntentId;
use kanarie_words::track::Track;
use tokio::time::Instant;

use crate::envelope::InboundMessage;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::agent::answer::{Answer, Attempt, Failure, Question};
use crate::outbound::agent::breaker::{Change, Health, Outage};
use crate::outbound::agent::interrupt::Interrupt;
use crate::outbound::agent::langgraph::Run;
use crate::outbound::agent::permit::Permit;
use crate::outbound::end::End;
use crate::outbound::limit::Sign;
use crate::outbound::owner::Owner;
use crate::outbound::places::InFlight;
use crate::outbound::reply::{self, Reply};
use crate::outbound::track::Choice;
use crate::random;

/// Shortest pause between two tries.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two tries, unless the agent asks for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Time until an agent is asked again for whose answer there was no memory.
const NO_MEMORY: Duration = Duration::from_secs(5);
/// The last try begins when the patience ends, and at most so much later.
const LAST_TRY: Duration = Duration::from_secs(30);

/// Who asks, about what.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) owner: &'a Owner<'a>,
    pub(crate) route: &'a Route,
    pub(crate) message: &'a InboundMessage,
    /// The question of a graph that the message may answer.
    pub(crate) interrupt: Option<&'a Interrupt>,
}

/// What is said to the customer, and what the attempt that said it counts as.
#[derive(Clone)]
pub(crate) struct Ready {
    said: Said,
    pub(crate) outcome: Option<Outcome>,
}

/// A reply, and what the conversation remembers of it.
#[derive(Clone)]
struct Said {
    reply: Reply,
    memo: Memo,
}

/// What an earlier owner began.
#[derive(Clone, Copy, Default)]
struct Begun<'a> {
    /// The run that it kept.
    run: Option<&'a Run>,
    /// Whether there may be one that it could not keep.
    may_be_lost: bool,
}

/// How an attempt ended: with a reply, a deliberate silence or a failure; and how it counts.
type Ended = (Result<Option<Said>, Failure>, Class);

/// Gets a reply to the message.
pub(crate) async fn answer(asking: Asking<'_>, choice: Choice<'_>) -> Result<Ready, End> {
    let choice = asking.stable_that_asked(choice).unwrap_or(choice);
    if asking.owner.claim.counted && asking.is_overdue() {
        return asking.give_up(choice.revision, Class::Unavailable);
    }
    let (resume, left) = asking.begun_before(choice.revision).await;
    if let Some(said) = left {
        // Its worker died while it ran, so it is nobody's evidence.
        return ready(said, None);
    }
    let permit = match choice.track {
        Track::Canary => None,
        // Waiting for what was begun asks nobody.
        Track::Stable if resume.is_some() => None,
        Track::Stable => match asking.permit() {
            Ok(permit) => Some(permit),
            Err(outage) => {
                asking.record_failure(&choice, Class::Unavailable).await?;
                return asking.park(outage);
            }
        },
    };
    let begun = Begun { run: resume.as_ref(), may_be_lost: asking.may_have_lost_a_run() };
    let (outcome, class) = asking.ask(choice.track, choice.revision, permit, begun).await?;
    let failure = match outcome {
        Ok(said) => {
            asking.learn(&choice, false);
            return ready(said, asking.evidence(&choice, class).map(Outcome::First));
        }
        Err(failure) => failure,
    };
    asking.record_failure(&choice, class).await?;
    if choice.track == Track::Canary && asking.route.retry_on_stable {
        asking.rescue(&choice).await
    } else {
        asking.learn(&choice, false);
        asking.fail(choice.revision, failure).await
    }
}

impl Asking<'_> {
    /// Stable, when the message answers its question though the customer has moved to the canary
    /// since: an attempt that is nobody's evidence, for the weight did not choose it.
    fn stable_that_asked(&self, choice: Choice<'_>) -> Option<Choice<'_>> {
        let interrupt = self.interrupt?;
        let stable = &self.route.stable;
        let asked = |revision| is_question_of(interrupt, revision);
        let moved = !asked(choice.revision) && asked(stable);
        (moved && interrupt.is_open(self.message.received_at)).then_some(Choice {
            track: Track::Stable,
            revision: stable,
            judged: false,
        })
    }

    /// Asks stable after the canary's agent failed: an attempt that counts for neither track, though an
    /// answer counts its customer as rescued: stable could, at the very time at which the canary could
    /// not. What it answers in a later turn says nothing of that time.
    async fn rescue(&self, canary: &Choice<'_>) -> Result<Ready, End> {
        let stable = &self.route.stable;
        let permit = match self.permit() {
            Ok(permit) => permit,
            Err(outage) => {
                self.learn(canary, false);
                return self.park(outage);
            }
        };
        let (outcome, _) = self.ask(Track::Stable, stable, Some(permit), Begun::default()).await?;
        self.learn(canary, outcome.is_ok());
        match outcome {
            Ok(said) => {
                emit(OutboundEvent::Rescued);
                ready(said, Some(Outcome::Rescued { serving: self.route.serving }))
            }
            Err(failure) => self.fail(stable, failure).await,
        }
    }

    /// Notes for a canary whether it failed and stable's answer helped.
    fn learn(&self, choice: &Choice<'_>, rescued: bool) {
        if choice.track == Track::Canary {
            let cuts = &self.owner.worker.ctx.cuts;
            cuts.learn(&self.route.channel.uid, &choice.revision.revision, rescued);
        }
    }

    /// Notes how stable is and how much room it has; wakes what waits for it when it is well.
    fn learn_of_stable(
        &self,
        permit: Permit,
        question: &InFlight,
        attempt: &Attempt,
        began: Instant,
    ) {
        let (stable, health) = (&self.route.stable, attempt.health());
        let change = permit.record(attempt);
        if matches!(change, Change::Closed | Change::Well) {
            self.owner.wake(stable.revision.clone());
        }
        let is_away = self.outage(stable).is_some();
        let is_busy = attempt.outcome.as_ref().is_err_and(|failure| failure.is_busy());
        let sign = match (change, health) {
            (Change::Closed, _) => Sign::Back,
            (_, Some(Health::Well)) => Sign::Answered,
            (_, Some(Health::Ill(_))) if is_busy && !is_away => Sign::Busy(began),
            _ => return,
        };
        question.learn(sign, Instant::now());
    }

    /// Nobody's outcome: more answers to the channel's namespace are read than there is memory for.
    fn without_memory(&self) -> End {
        if self.is_overdue() { End::failed(Class::Unavailable) } else { End::wait(NO_MEMORY) }
    }

    /// The permit to ask stable, or since when and until when it is left alone.
    fn permit(&self) -> Result<Permit, Outage> {
        let (agents, claim) = (&self.owner.worker.ctx.agents, self.owner.claim);
        agents.permit(self.agent(&self.route.stable), claim.conversation.clone(), claim.counted)
    }

    /// Since when and until when the agent of a revision is left alone, if it is.
    fn outage(&self, revision: &RevisionRoute) -> Option<Outage> {
        // A canary is not: it has no breaker, so none is ever found open.
        self.owner.worker.ctx.agents.outage(&self.agent(revision))
    }

    /// The agent of a revision of this channel.
    fn agent(&self, revision: &RevisionRoute) -> Park {
        Park { channel: self.route.channel.uid.clone(), revision: revision.revision.clone() }
    }

    async fn ask(
        &self,
        track: Track,
        revision: &RevisionRoute,
        permit: Option<Permit>,
        begun: Begun<'_>,
    ) -> Result<Ended, End> {
        let agents = &self.owner.worker.ctx.agents;
        let keep =
            |run: String| async move { self.owner.keep_run(Some(run)).await.is_ok() }.boxed();
        let began = Instant::now();
        // Only stable has a permit, and only its questions count for its room.
        let places = &self.owner.worker.places;
        let question = permit.is_some().then(|| places.ask(&self.route.channel.uid));
        let attempt =
            agents.ask(self.question(begun.may_be_lost), revision, begun.run, &keep).await;
        let took = began.elapsed();
        if let (Some(permit), Some(question)) = (permit, question) {
            self.learn_of_stable(permit, &question, &attempt, began);
        }
        if attempt.outcome == Err(Failure::NoMemory) {
            return Err(self.without_memory());
        }
        let Some(mut class) = attempt.class() else { return Err(End::Lost) };
        let outcome = attempt.outcome.and_then(|answer| prepared(answer, revision));
        if let Some(failed) = outcome.as_ref().err().and_then(|failure| failure.class()) {
            class = failed;
        } else if class == Class::Success && begun.run.is_none() && self.is_slow(took) {
            // How long a run took that somebody else began is not known.
            class = Class::Slow;
        }
        if outcome.is_ok() {
            // A turn is answered once.
            let _ = self.owner.said_by.set(track);
        }
        let failure = outcome.as_ref().err().map(Failure::to_string);
        let channel = self.route.channel.to_string();
        emit(OutboundEvent::Asked { channel, track, class, took, failure });
        Ok((outcome, class))
    }

    /// The run that the head keeps, if this revision began it; else what it answered when it was left.
    async fn begun_before(&self, revision: &RevisionRoute) -> (Option<Run>, Option<Option<Said>>) {
        match self.owner.claim.run.as_deref().and_then(Run::parse) {
            Some(run) if is_asked_of(&run, revision) => (Some(run), None),
            Some(run) => (None, self.leave(&run).await),
            None => (None, None),
        }
    }

    /// Leaves a run of another revision; gives its answer if it had finished.
    async fn leave(&self, run: &Run) -> Option<Option<Said>> {
        let agents = &self.owner.worker.ctx.agents;
        let answer = agents.leave(run, self.known_server(run), self.question(false)).await?;
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

    /// Waits for stable with everything that waits for it, as long as there is patience.
    fn park(&self, outage: Outage) -> Result<Ready, End> {
        let Some(until) = self.patience() else {
            return self.give_up(&self.route.stable, Class::Unavailable);
        };
        let revision = self.route.stable.revision.clone();
        let probe = outage.until.saturating_duration_since(Instant::now()).max(SHORTEST_PAUSE);
        Err(End::Park { revision, until, probe: random::jittered(probe).min(until) })
    }

    /// Tries again later, as long as there is patience.
    async fn fail(&self, revision: &RevisionRoute, failure: Failure) -> Result<Ready, End> {
        let class = failure.class().ok_or(End::Lost)?;
        self.forget_run(revision).await?;
        let Some(patience) = self.patience() else { return self.give_up(revision, class) };
        // What others wait for is waited for with them.
        if let Some(outage) = self.outage(revision) {
            return self.park(outage);
        }
        let (pause, counted) = match failure {
            // Spread a little, and never sooner than asked.
            Failure::Busy { retry_after: Some(rest), .. } => {
                (rest + random::jittered(rest / 20), false)
            }
            // Its tries do not count: as long again as it has waited.
            Failure::Busy { retry_after: None, .. } => {
                (random::jittered(self.owner.age().clamp(SHORTEST_PAUSE, LONGEST_PAUSE)), false)
            }
            _ => (random::jittered(pause_after(self.owner.claim.tries)), true),
        };
        Err(End::Later { pause: pause.max(SHORTEST_PAUSE).min(patience), counted })
    }

    /// How much longer the message is asked about; none when it has been for long enough.
    fn patience(&self) -> Option<Duration> {
        let all = Duration::from_millis(self.route.limits.patience_ms);
        all.checked_sub(self.owner.age()).filter(|left| !left.is_zero())
    }

    /// Whether even the last try is over: the message waits for room among the dead letters, or was
    /// held up by something else than its agent.
    fn is_overdue(&self) -> bool {
        self.owner.age() > Duration::from_millis(self.route.limits.patience_ms) + LAST_TRY
    }

    /// Tells the customer, unless that was the last thing that was said: one outage, one apology.
    fn give_up(&self, revision: &RevisionRoute, class: Class) -> Result<Ready, End> {
        let apology = reply::build_failure(class, revision);
        match apology.filter(|_| !self.owner.claim.memo.apologised) {
            Some(reply) => {
                let memo = Memo { question: None, apologised: true };
                Ok(Ready { said: Said { reply, memo }, outcome: None })
            }
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

    /// Whether an earlier owner may have died between beginning a run and keeping its id.
    fn may_have_lost_a_run(&self) -> bool {
        let claim = self.owner.claim;
        claim.crashes > 0 && !claim.counted && claim.run.is_none()
    }

    fn question(&self, may_have_begun: bool) -> Question<'_> {
        Question {
            channel: &self.route.channel,
            conversation: &self.owner.claim.conversation,
            message: self.message,
            interrupt: self.interrupt,
            may_have_begun,
        }
    }

    /// A run's server, as far as the route still knows it.
    fn known_server(&self, run: &Run) -> Option<&AgentRoute> {
        let revisions = [Some(&self.route.stable), self.route.canary.as_ref()];
        let mut agents = revisions.into_iter().flatten().map(|revision| &revision.agent);
        agents.find(|agent| matches!(agent, AgentRoute::LangGraph { url, .. } if *url == run.url))
    }

    fn is_slow(&self, took: Duration) -> bool {
        self.route.max_latency_ms.is_some_and(|most| took > Duration::from_millis(most))
    }
}

impl Ready {
    /// The reply as the store keeps it, under an id of its own.
    pub(crate) fn intent(&self) -> Intent {
        let reply = &self.said.reply;
        let segments = u32::try_from(reply.segments.len()).unwrap_or(u32::MAX);
        let body = reply::write(reply);
        Intent::fresh(IntentId::from_bytes(random::bytes()), segments, body)
    }

    /// What the conversation remembers of it.
    pub(crate) fn memo(&self) -> Memo {
        self.said.memo.clone()
    }
}

fn ready(said: Option<Said>, outcome: Option<Outcome>) -> Result<Ready, End> {
    match said {
        Some(said) => Ok(Ready { said, outcome }),
        None => Err(End::Silence(outcome)),
    }
}

/// 1, 2, 4, … seconds, never more than a minute.
fn pause_after(tries: u32) -> Duration {
    let seconds = 1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_PAUSE)
}

/// The reply with an answer's text; none for a deliberate silence.
fn prepared(answer: Answer, revision: &RevisionRoute) -> Result<Option<Said>, Failure> {
    let (text, question) = match answer {
        Answer::Text(text) => (text, None),
        Answer::Interrupted { text, interrupt } => (text, Some(interrupt.kept())),
        Answer::Silence => return Ok(None),
    };
    let reply = reply::build(&text, revision).ok_or(Failure::TooLong)?;
    Ok(Some(Said { reply, memo: Memo { question, apologised: false } }))
}

fn is_asked_of(run: &Run, revision: &RevisionRoute) -> bool {
    match &revision.agent {
        AgentRoute::LangGraph { url, assistant_id, .. } => {
            *url == run.url && *assistant_id == run.assistant
        }
        AgentRoute::Http { .. } => false,
    }
}

fn is_question_of(interrupt: &Interrupt, revision: &RevisionRoute) -> bool {
    match &revision.agent {
        AgentRoute::LangGraph { url, assistant_id, .. } => interrupt.is_of(url, assistant_id),
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
