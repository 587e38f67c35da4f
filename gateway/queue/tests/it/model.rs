//! Every interleaving of two workers on one conversation with two messages, in small bounds: who
//! may die, freeze or lose an answer at every point. The machine is the real one, read back from
//! its rows before each step. Variants of the rules, one rule broken in each, are shown to fail, so
//! the model can see what it is there to see. Times are shorter than the product's, their order is the
//! same: deadline of a POST + lag of a listing ≤ settling + the time between two listings.

use std::collections::BTreeMap;

use kanarie_queue::admit::Admit;
use kanarie_queue::claim::Claimed;
use kanarie_queue::intent::Post;
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::queue::Queue;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::Millis;
use kanarie_words::ids::{ConversationId, IntentId, Nonce};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::words::{self, Words as _, attempt_id, channel, intent, nonce};

const TICK_MS: Millis = 5_000;
const LEASE_MS: u64 = 10_000;

/// A message is listed by Twilio so long after its POST at the latest.
const LISTING_LAG_MS: u64 = 10_000;

/// The rules of workers and store that may be broken.
#[derive(Clone)]
struct Rules {
    /// Whether the store compares nonces.
    has_nonces: bool,
    /// Whether a foreign mark is settled before its segment is posted again.
    settles: bool,
    /// How long after a mark a listing may first miss its POST.
    settle_ms: u64,
    /// How long after that a second listing refutes it; without, the first one does.
    relist_ms: Option<u64>,
    /// How long after its mark a POST may leave.
    send_deadline_ms: u64,
    /// Whether workers mark with the commit, and claim with the end.
    in_a_hurry: bool,
}

const CONTRACT: Rules = Rules {
    has_nonces: true,
    settles: true,
    settle_ms: 10_000,
    relist_ms: Some(5_000),
    send_deadline_ms: 5_000,
    in_a_hurry: false,
};

/// The bounds of a check.
#[derive(Clone)]
struct Small {
    rules: Rules,
    until: Millis,
    faults: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    rows: BTreeMap<String, Vec<u8>>,
    now: Millis,
    workers: [Phase; 2],
    faults: u8,
    /// Each POST that Twilio took: its message, and the time until it is listed.
    posts: Vec<(u8, u64)>,
    /// Messages that were completed, in order.
    completed: Vec<u8>,
    /// Claims that found the work of a dead worker.
    took_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Holds { nonce: Nonce, message: u8, intent: Option<IntentId> },
    Marked { nonce: Nonce, message: u8, intent: IntentId, at: Millis },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Claim(usize),
    Step(usize),
    PostAndLoseTheAnswer(usize),
    PostAndDie(usize),
    Die(usize),
    Tick,
}

fn conversation() -> ConversationId {
    ConversationId::from_bytes([0; 16])
}

fn message(number: u8) -> Admit {
    words::message(0, &number.to_string())
}

impl Small {
    /// Reads the machine back, runs a verb, and keeps the rows.
    fn run<T>(state: &mut State, verb: impl FnOnce(&mut Queue, Millis) -> T) -> T {
        let mut queue = Queue::load(state.rows.clone()).expect("its own rows are good");
        let answer = verb(&mut queue, state.now);
        for row in queue.take_changes() {
            match row.value {
                Some(value) => {
                    let value = forget_history(&row.key, value);
                    state.rows.insert(row.key, value);
                }
                None => drop(state.rows.remove(&row.key)),
            }
        }
        answer
    }

    /// What a worker shows: its own nonce, or, where nobody compares, whatever is right.
    fn lease(&self, state: &State, own: &Nonce) -> Lease {
        let mut shown = own.clone();
        if !self.rules.has_nonces {
            let row = state.rows.get(&format!("00:conv:{}", conversation()));
            let row = row.and_then(|row| serde_json::from_slice::<serde_json::Value>(row).ok());
            let present = row.and_then(|row| Some(nonce(row["place"]["lse"]["nonce"].as_str()?)));
            shown = present.unwrap_or(shown);
        }
        Lease { channel: channel("channel"), conversation: conversation(), nonce: shown }
    }

    /// A nonce is new after each death; nobody but its own life knows it.
    fn claim(state: &mut State, worker: usize) -> Option<Phase> {
        let own = nonce(&format!("{worker}-at-{}-after-{}-faults", state.now, state.faults));
        let claimed = Self::run(state, |queue, now| queue.claim(now, 0, own, LEASE_MS));
        Self::claimed(state, claimed)
    }

    fn claimed(state: &mut State, claimed: Claimed) -> Option<Phase> {
        let Claimed::Head(head) = claimed else { return None };
        state.took_over |= head.crashes > 0;
        let message = head.envelope.parse().expect("an envelope is its number");
        let intent = head.intent.filter(|intent| intent.sent.is_empty()).map(|intent| intent.id);
        Some(Phase::Holds { nonce: head.nonce, message, intent })
    }

    /// The next thing that a worker does when all goes well.
    fn step(&self, state: &mut State, phase: Phase) -> Phase {
        match phase {
            Phase::Idle => Phase::Idle,
            Phase::Holds { nonce, message, intent } => match intent {
                None => self.commit_or_complete(state, nonce, message),
                Some(intent) => self.mark(state, nonce, message, intent),
            },
            Phase::Marked { nonce, message, intent, at } => {
                if state.now > at + self.rules.send_deadline_ms {
                    let lease = self.lease(state, &nonce);
                    let post = attempt(&intent, &nonce);
                    Self::run(state, |queue, now| queue.unmark(now, &lease, &post));
                    return Phase::Holds { nonce, message, intent: Some(intent) };
                }
                state.posts.push((message, LISTING_LAG_MS));
                if self.rules.in_a_hurry {
                    return self.finish(state, &nonce, message, &intent);
                }
                Self::sent(state, &intent);
                self.complete(state, &nonce, message)
            }
        }
    }

    /// A claim of a head whose reply is out, or whose reply is still to be made.
    fn commit_or_complete(&self, state: &mut State, nonce: Nonce, message: u8) -> Phase {
        let reply = intent(&format!("{message}-by-{nonce}"), 1);
        let (id, lease) = (reply.id.clone(), self.lease(state, &nonce));
        let mark = attempt(&id, &nonce).attempt;
        let committed = Self::run(state, |queue, now| match self.rules.in_a_hurry {
            true => queue.commit_marked(now, &lease, reply, mark.as_str()),
            false => queue.commit_reply(now, &lease, reply, None),
        });
        match committed {
            Committed::Done if self.rules.in_a_hurry => {
                Phase::Marked { nonce, message, intent: id, at: state.now }
            }
            Committed::Done => Phase::Holds { nonce, message, intent: Some(id) },
            Committed::Exists(standing) if standing.sent.is_empty() => {
                Phase::Holds { nonce, message, intent: Some(standing.id) }
            }
            Committed::Exists(_) => self.complete(state, &nonce, message),
            Committed::Stale => Phase::Idle,
        }
    }

    fn mark(&self, state: &mut State, nonce: Nonce, message: u8, intent: IntentId) -> Phase {
        let lease = self.lease(state, &nonce);
        let post = attempt(&intent, &nonce);
        let marked = Self::run(state, |queue, now| queue.mark_sending(now, &lease, &post, None));
        let sending = match marked {
            Marked::Go => return Phase::Marked { nonce, message, intent, at: state.now },
            Marked::Sent => return self.complete(state, &nonce, message),
            Marked::Stale => return Phase::Idle,
            Marked::Ambiguous { sending, .. } => sending,
        };
        if self.rules.settles {
            if state.now < sending.at + self.rules.settle_ms {
                return Self::wait(state, &lease, sending.at + self.rules.settle_ms);
            }
            if state.posts.contains(&(message, 0)) {
                Self::sent(state, &intent);
                return self.complete(state, &nonce, message);
            }
            if let Some(relist_ms) = self.rules.relist_ms {
                let missed_at = sending.missed_at.unwrap_or(state.now);
                let missed = Post { attempt: sending.attempt.clone(), ..post.clone() };
                Self::run(state, |queue, now| queue.note_missed(now, &lease, &missed));
                if state.now < missed_at + relist_ms {
                    return Self::wait(state, &lease, missed_at + relist_ms);
                }
            }
        }
        let refuted = Some(sending.attempt.as_str());
        match Self::run(state, |queue, now| queue.mark_sending(now, &lease, &post, refuted)) {
            Marked::Go => Phase::Marked { nonce, message, intent, at: state.now },
            _ => Phase::Idle,
        }
    }

    fn wait(state: &mut State, lease: &Lease, until: Millis) -> Phase {
        let delay = until - state.now;
        Self::run(state, |queue, now| queue.retry(now, lease, delay, false));
        Phase::Idle
    }

    fn sent(state: &mut State, intent: &IntentId) {
        let id = intent.as_str();
        Self::run(state, |queue, now| queue.mark_sent(now, &conversation(), id, 0, "S"));
    }

    /// The end of a head, and the claim of the next one by a nonce that comes after this one.
    fn finish(&self, state: &mut State, nonce: &Nonce, message: u8, intent: &IntentId) -> Phase {
        let (lease, next) = (self.lease(state, nonce), format!("{nonce}-next"));
        let finished = Self::run(state, |queue, now| {
            queue.finish(now, &lease, intent.as_str(), 0, Some(&next))
        });
        if finished.completed == Owned::Done {
            state.completed.push(message);
        }
        let next = finished.next.and_then(|found| Self::claimed(state, found));
        next.unwrap_or(Phase::Idle)
    }

    fn complete(&self, state: &mut State, nonce: &Nonce, message: u8) -> Phase {
        let lease = self.lease(state, nonce);
        if Self::run(state, |queue, now| queue.complete(now, &lease, None)) == Owned::Done {
            state.completed.push(message);
        }
        Phase::Idle
    }
}

/// Drops from a row what no rule of this model asks for, so that two ways to the same place are one
/// state: how often it was claimed, and when the last change was (time only goes on here).
fn forget_history(key: &str, row: Vec<u8>) -> Vec<u8> {
    let history: &[&str] = match key.split(':').nth(1) {
        Some("conv") => &["tries", "score"],
        Some("meta") => &["now", "clock"],
        Some("vt") => return b"0".to_vec(),
        _ => return row,
    };
    let mut value: serde_json::Value = serde_json::from_slice(&row).expect("a row is JSON");
    for name in history {
        value[*name] = 0.into();
    }
    value.to_string().into_bytes()
}

fn attempt(intent: &IntentId, nonce: &Nonce) -> Post {
    Post { intent: intent.clone(), segment: 0, attempt: attempt_id(nonce.as_str()) }
}

impl Model for Small {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            rows: BTreeMap::new(),
            now: 0,
            workers: [Phase::Idle, Phase::Idle],
            faults: 0,
            posts: Vec::new(),
            completed: Vec::new(),
            took_over: false,
        };
        for number in 0..2 {
            Self::run(&mut state, |queue, now| queue.admit(now, message(number)));
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (worker, phase) in state.workers.iter().enumerate() {
            match phase {
                Phase::Idle => actions.push(Action::Claim(worker)),
                Phase::Holds { .. } => actions.push(Action::Step(worker)),
                Phase::Marked { .. } => {
                    actions.push(Action::Step(worker));
                    if state.faults < self.faults {
                        actions.push(Action::PostAndLoseTheAnswer(worker));
                        actions.push(Action::PostAndDie(worker));
                    }
                }
            }
            if state.faults < self.faults && *phase != Phase::Idle {
                actions.push(Action::Die(worker));
            }
        }
        if state.now < self.until {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Claim(worker) => state.workers[worker] = Self::claim(&mut state, worker)?,
            Action::Step(worker) => {
                let phase = std::mem::replace(&mut state.workers[worker], Phase::Idle);
                state.workers[worker] = self.step(&mut state, phase);
            }
            Action::Die(worker) => {
                state.faults += 1;
                state.workers[worker] = Phase::Idle;
            }
            Action::PostAndLoseTheAnswer(worker) | Action::PostAndDie(worker) => {
                let phase = std::mem::replace(&mut state.workers[worker], Phase::Idle);
                let Phase::Marked { nonce, message, at, .. } = phase else { return None };
                if state.now > at + self.rules.send_deadline_ms {
                    return None;
                }
                state.faults += 1;
                state.posts.push((message, LISTING_LAG_MS));
                if matches!(action, Action::PostAndLoseTheAnswer(_)) {
                    let lease = self.lease(&state, &nonce);
                    let settle_ms = self.rules.settle_ms;
                    Self::run(&mut state, |queue, now| queue.retry(now, &lease, settle_ms, false));
                }
            }
            Action::Tick => {
                state.now += TICK_MS;
                let lags = state.posts.iter_mut().map(|(_, lag)| lag);
                lags.for_each(|lag| *lag = lag.saturating_sub(TICK_MS));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("no reply leaves twice, none before its turn", |_, state| {
                state.posts.windows(2).all(|pair| pair[0].0 < pair[1].0)
            }),
            Property::<Self>::always("each message ends once and in order", |_, state| {
                state.completed.windows(2).all(|pair| pair[0] < pair[1])
            }),
            Property::<Self>::always("nothing ends before its reply has left", |_, state| {
                state.completed.len() <= state.posts.len()
            }),
            Property::<Self>::sometimes("everything is answered", |_, state| {
                state.completed.len() == 2
            }),
            Property::<Self>::sometimes("a dead worker's head is answered", |_, state| {
                state.took_over && state.completed.len() == 2
            }),
        ]
    }
}

/// Whether something that must never happen can happen under these rules.
fn is_broken(rules: Rules, until: Millis, faults: u8) -> bool {
    let checker = Small { rules, until, faults }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let always =
        ["no reply leaves twice, none before its turn", "each message ends once and in order"];
    always.into_iter().any(|name| checker.discovery(name).is_some())
}

#[test]
fn under_the_contract_no_interleaving_loses_doubles_or_reorders_a_reply() {
    let small = Small { rules: CONTRACT, until: 20_000, faults: 1 };
    let checker = small.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn nor_does_one_of_workers_that_mark_with_the_commit_and_claim_with_the_end() {
    let rules = Rules { in_a_hurry: true, ..CONTRACT };
    let small = Small { rules, until: 20_000, faults: 1 };
    small.checker().threads(2).spawn_bfs().join().assert_properties();
}

#[test]
fn in_a_hurry_a_blind_resend_posts_twice_as_well() {
    let rules = Rules { in_a_hurry: true, settles: false, ..CONTRACT };
    assert!(is_broken(rules, 30_000, 1));
}

#[test]
fn without_nonces_a_woken_worker_does_harm() {
    assert!(is_broken(Rules { has_nonces: false, ..CONTRACT }, 30_000, 0));
}

#[test]
fn a_blind_resend_posts_twice() {
    assert!(is_broken(Rules { settles: false, ..CONTRACT }, 30_000, 1));
}

#[test]
fn a_listing_that_comes_too_soon_posts_twice() {
    assert!(is_broken(Rules { settle_ms: TICK_MS, ..CONTRACT }, 30_000, 1));
}

#[test]
fn a_single_listing_posts_twice() {
    assert!(is_broken(Rules { relist_ms: None, ..CONTRACT }, 30_000, 1));
}

#[test]
fn a_post_without_a_deadline_posts_twice() {
    assert!(is_broken(Rules { send_deadline_ms: Millis::MAX / 2, ..CONTRACT }, 30_000, 0));
}
