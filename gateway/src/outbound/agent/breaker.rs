//! A breaker: when an agent that fails is left alone for a while, and when it is tried again.
//!
//! Takes outcomes, whose conversation they are of and the time they came at; gives whether a call may
//! go out. Pure: `now` comes from the caller. Never counts evidence: an open breaker is no attempt.
//! Never has two probes out, and never opens for what ails one or two customers only.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use kanarie_words::ids::ConversationId;
use tokio::time::Instant;

/// Failures in a row that open it.
const IN_A_ROW: usize = 5;
/// Customers that those failures are of, at least: one whose thread is broken writes again and again,
/// and his messages wait by themselves.
const CUSTOMERS: usize = 3;
/// Outcomes that the rate is taken over; it opens when more than half of them are failures.
const WINDOW: usize = 20;
/// How long it stays open at first, doubling with every probe that fails; and the shortest time
/// between two probes.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest time it stays open, unless the agent asks for longer: one question in so long hurts
/// nobody, and customers wait no longer than that for an agent that is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Longest time for which an agent's own word keeps it open: one customer's long ban says little about
/// the others. That customer's message waits as long as it was told.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// A breaker that has been due for so long is one that nobody asks about any more.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Shortest time between two words that what waits may be woken.
const WAKING: Duration = Duration::from_secs(1);

/// The state of one dependency.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    recent: VecDeque<Outcome>,
    open: Option<Open>,
    probes: u64,
    woke: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Outcome {
    conversation: ConversationId,
    succeeded: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    outage: Outage,
    /// When a message that has waited may try: another replica may have found the agent well.
    earliest: Instant,
    pause: Duration,
    /// The number of the probe that is out.
    probe: Option<u64>,
}

/// Since when an agent has been left alone, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the breaker opened.
    pub since: Instant,
    /// When the next probe may go out; while one is out, about when it is worth asking again.
    pub until: Instant,
}

/// Whether a call may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may; with a number when it is the probe.
    Go(Option<u64>),
    /// It may not.
    Wait(Outage),
}

/// How a call ended, as far as its agent's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The agent is well.
    Well,
    /// It is not; it may ask to be left alone for so long.
    Ill(Option<Duration>),
}

/// A call that was permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// Whose message it is about.
    pub conversation: ConversationId,
    /// Whether that message has waited for the agent before.
    pub waited: bool,
    /// Its number, when it is the probe.
    pub probe: Option<u64>,
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that others need to know.
    None,
    /// The agent is left alone from now on.
    Opened,
    /// It is no longer left alone: what waits for it is to be woken.
    Closed,
    /// It is well: what waits for it in another replica's memory is to be woken.
    Well,
}

impl Breaker {
    /// Whether a call may go out at `now`, about a message that has `waited` for the agent or not.
    /// Of an open breaker whose pause is over exactly one caller gets a Go, and the others wait for
    /// what becomes of it.
    pub fn permit(&mut self, waited: bool, now: Instant) -> Permission {
        let Some(open) = &mut self.open else { return Permission::Go(None) };
        let due = if waited { open.earliest } else { open.outage.until };
        if now < due {
            return Permission::Wait(open.outage);
        }
        if open.probe.is_some() {
            let until = open.outage.until.max(now + FIRST_PAUSE);
            return Permission::Wait(Outage { until, ..open.outage });
        }
        self.probes += 1;
        open.probe = Some(self.probes);
        Permission::Go(open.probe)
    }

    /// Takes the outcome of a call that was permitted.
    pub fn record(&mut self, call: Permitted, health: Health, now: Instant) -> Change {
        let Permitted { conversation, waited, probe } = call;
        match (&mut self.open, health) {
            (Some(_), Health::Well) => {
                *self = Self { probes: self.probes, woke: Some(now), ..Self::default() };
                Change::Closed
            }
            (Some(open), Health::Ill(asked)) => {
                if probe.is_some() && open.probe == probe {
                    open.probe = None;
                    open.pause = (open.pause * 2).min(LONGEST_PAUSE);
                    open.outage.until = now + open.pause;
                    open.earliest = now + FIRST_PAUSE;
                }
                // A call from before it opened says nothing new, but for what the agent asks.
                let rest = now + asked.unwrap_or_default().min(LONGEST_ASKED);
                open.outage.until = open.outage.until.max(rest);
                open.earliest = open.earliest.max(rest);
                Change::None
            }
            (None, health) => {
                let change = self.count(conversation, health, now);
                if health == Health::Well && waited { self.wakes(now) } else { change }
            }
        }
    }

    /// A message that had to wait was answered, so others may be waiting: said once a second.
    fn wakes(&mut self, now: Instant) -> Change {
        if self.woke.is_some_and(|woke| now < woke + WAKING) {
            return Change::None;
        }
        self.woke = Some(now);
        Change::Well
    }

    /// A probe ended without an outcome: another may go out at once.
    pub fn give_back(&mut self, probe: u64) {
        if let Some(open) = &mut self.open
            && open.probe == Some(probe)
        {
            open.probe = None;
        }
    }

    /// Since when it is open, and until when.
    pub fn outage(&self) -> Option<Outage> {
        self.open.map(|open| open.outage)
    }

    /// Whether it remembers no trouble, or only an old one that nobody asks about.
    pub fn is_idle(&self, now: Instant) -> bool {
        match &self.open {
            Some(open) => open.probe.is_none() && now > open.outage.until + FORGOTTEN,
            None => self.recent.iter().all(|outcome| outcome.succeeded),
        }
    }

    fn count(&mut self, conversation: ConversationId, health: Health, now: Instant) -> Change {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(Outcome { conversation, succeeded: health == Health::Well });
        let in_a_row = self.recent.iter().rev().take_while(|outcome| !outcome.succeeded);
        let failed = self.recent.iter().filter(|outcome| !outcome.succeeded);
        let is_full = self.recent.len() == WINDOW;
        let is_ill = are_many(in_a_row, IN_A_ROW) || is_full && are_many(failed, WINDOW / 2 + 1);
        if !is_ill {
            return Change::None;
        }
        let asked = match health {
            Health::Ill(asked) => asked.unwrap_or_default(),
            Health::Well => Duration::ZERO,
        };
        let until = now + FIRST_PAUSE.max(asked);
        let outage = Outage { since: now, until };
        self.open = Some(Open { outage, earliest: until, pause: FIRST_PAUSE, probe: None });
        Change::Opened
    }
}

/// Whether there are so many failures, and of several customers.
fn are_many<'a>(failures: impl Iterator<Item = &'a Outcome>, least: usize) -> bool {
    let customers: Vec<_> = failures.map(|outcome| &outcome.conversation).collect();
    let distinct: HashSet<_> = customers.iter().collect();
    customers.len() >= least && distinct.len() >= CUSTOMERS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_words::ids::ConversationId;
    use tokio::time::Instant;

    use super::{Breaker, Change, Health, Outage, Permission, Permitted};

    const ILL: Health = Health::Ill(None);

    /// A breaker, and a customer for every outcome that it takes.
    #[derive(Default)]
    struct Asked(Breaker, u8);

    impl Asked {
        fn permit(&mut self, waited: bool, now: Instant) -> Permission {
            self.0.permit(waited, now)
        }

        fn record(
            &mut self,
            health: Health,
            probe: Option<u64>,
            waited: bool,
            now: Instant,
        ) -> Change {
            self.1 = self.1.wrapping_add(1);
            self.of(self.1, health, probe, waited, now)
        }

        fn of(
            &mut self,
            customer: u8,
            health: Health,
            probe: Option<u64>,
            waited: bool,
            now: Instant,
        ) -> Change {
            let conversation = ConversationId::from_bytes([customer; 16]);
            self.0.record(Permitted { conversation, waited, probe }, health, now)
        }
    }

    fn failing(count: u32, now: Instant) -> Asked {
        let mut breaker = Asked::default();
        (0..count).for_each(|_| {
            breaker.record(ILL, None, false, now);
        });
        breaker
    }

    fn health(is_well: bool) -> Health {
        if is_well { Health::Well } else { ILL }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// The number of the probe that goes out.
    fn probe(breaker: &mut Asked, now: Instant) -> Option<u64> {
        match breaker.permit(false, now) {
            Permission::Go(probe) => Some(probe.expect("a probe has a number")),
            Permission::Wait(_) => None,
        }
    }

    #[test]
    fn four_failures_in_a_row_leave_it_closed() {
        let now = Instant::now();
        assert_eq!(failing(4, now).permit(false, now), Permission::Go(None));
    }

    #[test]
    fn the_fifth_failure_in_a_row_opens_it_for_five_seconds() {
        let now = Instant::now();
        let mut breaker = failing(4, now);
        assert_eq!(breaker.record(ILL, None, false, now), Change::Opened);
        let outage = Outage { since: now, until: now + seconds(5) };
        assert_eq!(breaker.permit(false, now + seconds(2)), Permission::Wait(outage));
        assert_eq!(breaker.0.outage(), Some(outage));
    }

    #[test]
    fn more_than_half_of_the_last_twenty_open_it() {
        let now = Instant::now();
        let mut breaker = Asked::default();
        // Two failures, one success: never three in a row, and two thirds fail.
        (0..19).for_each(|index| {
            breaker.record(health(index % 3 == 0), None, false, now);
        });
        assert_eq!(breaker.permit(false, now), Permission::Go(None), "nineteen are no window yet");
        assert_eq!(breaker.record(ILL, None, false, now), Change::Opened);
    }

    #[test]
    fn what_ails_one_or_two_customers_never_opens_it() {
        let now = Instant::now();
        let mut breaker = Asked::default();
        (0..100).for_each(|index| {
            assert_eq!(breaker.of(index % 2, ILL, None, false, now), Change::None);
        });
        assert_eq!(breaker.of(2, ILL, None, false, now), Change::Opened, "a third one is ill too");
    }

    #[test]
    fn exactly_half_of_the_last_twenty_leave_it_closed() {
        let now = Instant::now();
        let mut breaker = Asked::default();
        (0..40).for_each(|index| {
            breaker.record(health(index % 2 == 0), None, false, now);
        });
        assert_eq!(breaker.permit(false, now), Permission::Go(None));
    }

    #[test]
    fn a_success_does_not_make_it_forget_the_failures_before() {
        let now = Instant::now();
        let mut breaker = failing(1, now);
        breaker.record(Health::Well, None, false, now);
        assert!(!breaker.0.is_idle(now));
        (0..20).for_each(|_| {
            breaker.record(Health::Well, None, false, now);
        });
        assert!(breaker.0.is_idle(now));
    }

    #[test]
    fn after_the_pause_one_caller_probes_and_the_others_wait_for_it_however_long() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        assert!(probe(&mut breaker, now + seconds(5)).is_some());
        for later in [5, 185, 4_000] {
            assert_eq!(probe(&mut breaker, now + seconds(later)), None);
        }
    }

    #[test]
    fn a_success_closes_it_and_what_waits_is_woken_once() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        let number = probe(&mut breaker, now + seconds(5));
        assert_eq!(breaker.record(Health::Well, number, false, now + seconds(6)), Change::Closed);
        assert!(breaker.0.is_idle(now));
        assert_eq!(breaker.record(Health::Well, None, false, now + seconds(6)), Change::None);
    }

    #[test]
    fn every_probe_that_fails_doubles_the_pause_up_to_a_quarter_of_a_minute() {
        let start = Instant::now();
        let (mut now, mut breaker) = (start, failing(5, start));
        for pause in [5, 10, 15, 15] {
            let outage = Outage { since: start, until: now + seconds(pause) };
            assert_eq!(breaker.permit(false, now), Permission::Wait(outage));
            now += seconds(pause);
            let number = probe(&mut breaker, now);
            assert_eq!(breaker.record(ILL, number, false, now), Change::None);
        }
    }

    #[test]
    fn a_call_from_before_it_opened_is_not_taken_for_the_probe() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        assert!(probe(&mut breaker, now + seconds(5)).is_some());
        breaker.record(ILL, None, false, now + seconds(6));
        assert_eq!(probe(&mut breaker, now + seconds(60)), None, "the probe is still out");
    }

    #[test]
    fn a_probe_that_is_given_back_is_followed_by_another_at_once() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        let first = probe(&mut breaker, now + seconds(5)).unwrap();
        breaker.0.give_back(first);
        let second = probe(&mut breaker, now + seconds(5)).unwrap();
        breaker.0.give_back(first);
        assert_eq!(probe(&mut breaker, now + seconds(5)), None, "only its own is given back");
        assert_ne!(first, second);
    }

    #[test]
    fn an_agent_that_asks_to_be_left_alone_is_for_a_minute_at_the_most() {
        let now = Instant::now();
        let mut breaker = failing(4, now);
        breaker.record(Health::Ill(Some(seconds(40))), None, false, now);
        let until = |breaker: &Asked| breaker.0.outage().unwrap().until;
        assert_eq!(until(&breaker), now + seconds(40));
        breaker.record(Health::Ill(Some(seconds(3_600))), None, false, now);
        assert_eq!(until(&breaker), now + seconds(60));
        let later = now + seconds(60);
        let number = probe(&mut breaker, later);
        breaker.record(Health::Ill(Some(seconds(3))), number, false, later);
        assert_eq!(until(&breaker), later + seconds(10), "never before its own pause is over");
    }

    #[test]
    fn one_that_nobody_asks_about_any_more_is_idle() {
        let now = Instant::now();
        let breaker = failing(5, now);
        assert!(!breaker.0.is_idle(now + seconds(600)) && breaker.0.is_idle(now + seconds(606)));
    }

    #[test]
    fn a_message_that_has_waited_may_probe_five_seconds_after_the_last_probe() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        let mut later = now + seconds(5);
        let number = probe(&mut breaker, later);
        breaker.record(ILL, number, false, later);
        later += seconds(4);
        assert!(matches!(breaker.permit(true, later), Permission::Wait(_)));
        later += seconds(1);
        assert!(matches!(breaker.permit(false, later), Permission::Wait(_)), "a new one waits");
        assert!(matches!(breaker.permit(true, later), Permission::Go(Some(_))));
        assert!(matches!(breaker.permit(true, later), Permission::Wait(_)), "one at a time");
    }

    #[test]
    fn a_message_that_has_waited_does_not_try_before_the_agent_wants_it() {
        let now = Instant::now();
        let mut breaker = failing(4, now);
        breaker.record(Health::Ill(Some(seconds(40))), None, false, now);
        assert!(matches!(breaker.permit(true, now + seconds(39)), Permission::Wait(_)));
        assert!(matches!(breaker.permit(true, now + seconds(40)), Permission::Go(Some(_))));
    }

    #[test]
    fn the_answer_to_a_message_that_has_waited_wakes_the_others_once_a_second() {
        let (now, mut breaker) = (Instant::now(), Asked::default());
        let well = |breaker: &mut Asked, now| breaker.record(Health::Well, None, true, now);
        assert_eq!(well(&mut breaker, now), Change::Well);
        assert_eq!(well(&mut breaker, now), Change::None);
        assert_eq!(well(&mut breaker, now + seconds(1)), Change::Well);
        assert_eq!(breaker.record(Health::Well, None, false, now + seconds(9)), Change::None);
    }
}
