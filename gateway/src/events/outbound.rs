//! What happens to the turns of the outbound line, as events.
//!
//! Takes an event, gives its metric and its log line; an error comes as the sentence that its own
//! file made of it. Never sees customer text, a phone number or a secret.

use std::time::Duration;

use kanarie_metrics::by_channel::CounterByChannel;
use kanarie_metrics::label::Label as _;
use kanarie_metrics::page::{MetricsPage, OTHERS_BUCKETS};
use kanarie_metrics::series::{Counter, CounterBy, CounterOfWords, TimingBy, TimingBy2};
use kanarie_words::class::Class;
use kanarie_words::track::Track;

use crate::clock::millis;
use crate::events::deliveries::code_word;
use crate::labels::{DeadLetterClass, ReplyOf, SendClass};

/// One thing that happened to a turn.
#[derive(Clone, Debug)]
pub enum OutboundEvent {
    /// The store did not answer a verb of a worker; it is asked again.
    StoreFailed {
        /// The store's error; store errors name no customer.
        error: String,
    },
    /// Another replica fell silent: what it held goes on.
    TakenOver {
        /// Its name.
        replica: String,
        /// How many leases ended.
        leases: u64,
    },
    /// A worker stopped because its lease is, or may be, somebody else's.
    LeaseLost,
    /// A message was left for a newer gateway, which wrote it.
    LeftForNewer,
    /// An agent was asked.
    Asked {
        /// The channel, as `namespace/name`.
        channel: String,
        /// Whose agent.
        track: Track,
        /// How it counts.
        class: Class,
        /// From the question to the answer or the failure.
        took: Duration,
        /// Why there is no answer.
        failure: Option<String>,
    },
    /// Stable answered a message that the canary had failed on.
    Rescued,
    /// A segment was posted to Twilio.
    Posted {
        /// Why it was not sent; none when it was.
        refused: Option<SendClass>,
        /// Twilio's error code, if it gave one.
        code: Option<u32>,
        /// Whether this version has a class for that code: all others are one label.
        known: bool,
    },
    /// Twilio did not list its messages, so an unknown outcome stays unknown for now.
    ListFailed {
        /// Why.
        error: String,
    },
    /// Twilio refuses the credentials of a channel: its replies wait.
    CredentialsRefused {
        /// The channel, as `namespace/name`.
        channel: String,
        /// Twilio's error code.
        code: Option<u32>,
    },
    /// The whole reply to a message is sent.
    Answered {
        /// The channel, as `namespace/name`.
        channel: String,
        /// Whose reply it was.
        of: ReplyOf,
        /// From the admission of the message.
        took: Duration,
    },
    /// A message became a dead letter.
    DeadLetter {
        /// Why.
        class: DeadLetterClass,
    },
}

/// The metrics of the outbound line.
pub(super) struct OutboundMetrics {
    store_failures: Counter,
    leases_lost: Counter,
    taken_over: Counter,
    left_for_newer: Counter,
    /// By outcome and Twilio's code; codes that this version does not know are one.
    sends: CounterOfWords<2>,
    list_failures: Counter,
    credentials_refused: Counter,
    answers: AnswerMetrics,
    buried: CounterBy<DeadLetterClass>,
}

/// What agents said, and what was sent of it.
struct AnswerMetrics {
    /// By track and class.
    attempts: CounterByChannel<2>,
    attempt_seconds: TimingBy2<Track, Class>,
    rescues: Counter,
    /// By whose they are.
    replies: CounterByChannel<1>,
    reply_seconds: TimingBy<ReplyOf>,
}

impl OutboundMetrics {
    pub(super) fn new(page: &MetricsPage) -> Self {
        Self {
            store_failures: page.counter(
                "kanarie_worker_store_failures_total",
                "Verbs of a worker that the store did not answer.",
            ),
            leases_lost: page.counter(
                "kanarie_leases_lost_total",
                "Turns that ended because the lease was somebody else's.",
            ),
            taken_over: page.counter(
                "kanarie_leases_taken_over_total",
                "Leases that this replica ended because another one fell silent.",
            ),
            left_for_newer: page.counter(
                "kanarie_left_for_newer_total",
                "Messages that were put back because a newer gateway wrote them.",
            ),
            sends: page.counter_of_words(
                "kanarie_sends_total",
                "Posted segments by outcome and error code.",
                ["outcome", "code"],
            ),
            list_failures: page
                .counter("kanarie_list_failures_total", "Listings that Twilio did not answer."),
            credentials_refused: page.counter(
                "kanarie_credentials_refused_total",
                "Channels whose sending began to wait for other credentials.",
            ),
            answers: AnswerMetrics::new(page),
            buried: page.counter_by(
                "kanarie_buried_total",
                "Messages that became dead letters, by class.",
                "class",
            ),
        }
    }

    pub(super) fn count(&self, event: &OutboundEvent) {
        match event {
            OutboundEvent::StoreFailed { .. } => self.store_failures.inc(),
            OutboundEvent::LeaseLost => self.leases_lost.inc(),
            OutboundEvent::TakenOver { leases, .. } => self.taken_over.inc_by(*leases),
            OutboundEvent::LeftForNewer => self.left_for_newer.inc(),
            OutboundEvent::Asked { channel, track, class, took, .. } => {
                self.answers.attempts.inc(channel, [track.as_str(), class.as_str()]);
                self.answers.attempt_seconds.observe(*track, *class, *took);
            }
            OutboundEvent::Rescued => self.answers.rescues.inc(),
            OutboundEvent::Posted { refused, code, known } => {
                let outcome = refused.map_or("sent", SendClass::as_str);
                self.sends.inc([outcome, &code_word(*code, *known)]);
            }
            OutboundEvent::ListFailed { .. } => self.list_failures.inc(),
            OutboundEvent::CredentialsRefused { .. } => self.credentials_refused.inc(),
            OutboundEvent::Answered { channel, of, took } => {
                self.answers.replies.inc(channel, [of.as_str()]);
                self.answers.reply_seconds.observe(*of, *took);
            }
            OutboundEvent::DeadLetter { class } => self.buried.inc(*class),
        }
    }
}

impl AnswerMetrics {
    fn new(page: &MetricsPage) -> Self {
        Self {
            attempts: page.counter_by_channel(
                "kanarie_attempts_total",
                "Agent attempts that ended, by channel, track and class.",
                ["track", "class"],
            ),
            attempt_seconds: page.timing_by2(
                "kanarie_agent_duration_seconds",
                "Time that agents took, by track and class.",
                ["track", "class"],
                &OTHERS_BUCKETS,
            ),
            rescues: page.counter(
                "kanarie_rescues_total",
                "Messages that stable answered after the canary had failed on them.",
            ),
            replies: page.counter_by_channel(
                "kanarie_replies_total",
                "Replies that were sent whole, by channel and track; earlier: of a turn before the last one.",
                ["track"],
            ),
            reply_seconds: page.timing_by(
                "kanarie_reply_duration_seconds",
                "Time from the admission of a message to its sent reply, by track.",
                "track",
                &OTHERS_BUCKETS,
            ),
        }
    }
}

impl OutboundEvent {
    /// Writes its line; a reply that was sent is a number, not a line.
    pub(super) fn log(&self) {
        match self {
            Self::StoreFailed { error } => {
                tell!(DEBUG, %error, "a worker waits: the store gave no answer");
            }
            Self::TakenOver { replica, leases } => {
                tell!(WARN, %replica, leases, "a replica fell silent: its conversations go on here");
            }
            Self::LeaseLost => {
                tell!(WARN, "a worker stopped: its conversation is another's now")
            }
            Self::LeftForNewer => {
                tell!(WARN, "a newer gateway wrote this message or its reply: it waits for one");
            }
            Self::Asked { class, took, failure, .. } => match failure {
                Some(failure) => tell!(WARN, class = class.as_str(), %failure, "no answer"),
                None => {
                    let took_ms = millis(*took);
                    tell!(DEBUG, class = class.as_str(), took_ms, "an agent answered");
                }
            },
            Self::Rescued => tell!(INFO, "stable answered in place of the canary"),
            Self::Posted { refused: None, .. } => tell!(DEBUG, "a segment was sent"),
            Self::Posted { refused: Some(class), code, .. } => {
                tell!(WARN, outcome = class.as_str(), code, "a segment was not sent");
            }
            Self::ListFailed { error } => tell!(WARN, %error, "an unknown send stays unknown"),
            Self::CredentialsRefused { channel, code } => {
                tell!(ERROR, channel, code, "Twilio refuses the credentials: replies wait");
            }
            Self::Answered { took, .. } => {
                tell!(DEBUG, took_ms = millis(*took), "a message was answered");
            }
            Self::DeadLetter { class } => {
                tell!(ERROR, class = class.as_str(), "a message became a dead letter");
            }
        }
    }
}
