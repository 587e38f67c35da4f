//! The default rules of Flagger and Argo Rollouts as pilots, with steps of their own.
//!
//! Both know the success rate of the canary's requests in a window, and nothing else. Flagger looks once a
//! minute, and what it finds acts a minute later; Argo measures during pauses of ten minutes.

use crate::simulation::pilot::{Ending, Look, Pilot, Route};
use crate::simulation::setting::MINUTE_MS;

/// A rule of another product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Flagger: one step a minute, rolled back after so many failed checks.
    Flagger { threshold: u32 },
    /// Argo: measures once a minute over a window; aborts over the limit of failed measurements.
    Argo { window_minutes: usize, limit: u32, fewest: u64 },
}

/// Share of successes under which a check fails.
const SUCCESS: f64 = 0.99;
/// Argo's pause at each weight.
const PAUSE_MINUTES: u64 = 10;

impl Rule {
    /// Their names in the table.
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("F1", Self::Flagger { threshold: 1 }),
        ("F5", Self::Flagger { threshold: 5 }),
        ("A0", Self::Argo { window_minutes: 1, limit: 0, fewest: 0 }),
        ("A3", Self::Argo { window_minutes: 5, limit: 3, fewest: 0 }),
        ("G20", Self::Argo { window_minutes: 5, limit: 0, fewest: 20 }),
    ];

    /// Weights, and the seconds that each is held.
    pub(crate) fn steps(self) -> [(u8, u32); 2] {
        match self {
            Self::Flagger { .. } => [(10, 60), (50, 60)],
            Self::Argo { .. } => [(10, 600), (50, 600)],
        }
    }
}

/// A rollout by such a rule.
pub(crate) struct Other {
    rule: Rule,
    began: Option<u64>,
    step: usize,
    step_began: u64,
    failed_checks: u32,
    /// Successes and failures of the canary, minute by minute.
    minutes: Vec<(u64, u64)>,
    route: Route,
    ending: Option<Ending>,
}

impl Other {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            began: None,
            step: 0,
            step_began: 0,
            failed_checks: 0,
            minutes: Vec::new(),
            route: Route { serving: 1, weight: None },
            ending: None,
        }
    }

    /// The success rate over the last minutes, if the canary was asked at all.
    fn rate(&self, minutes: usize) -> (u64, Option<f64>) {
        let last = self.minutes[self.minutes.len() - 1];
        let first = self.minutes[self.minutes.len().saturating_sub(minutes + 1)];
        let (well, ill) = (last.0 - first.0, last.1 - first.1);
        let all = well + ill;
        (all, (all > 0).then(|| well as f64 / all as f64))
    }

    fn go_to(&mut self, weight: Option<u8>, at: u64) {
        self.route = Route { serving: self.route.serving + 1, weight };
        self.step_began = at;
    }

    fn end(&mut self, ending: Ending, at: u64) {
        self.ending = Some(ending);
        self.go_to(None, at);
    }

    fn flagger(&mut self, at: u64, threshold: u32) {
        // What one check finds acts at the next.
        if self.failed_checks >= threshold {
            return self.end(Ending::Rejected, at);
        }
        let (_, rate) = self.rate(1);
        if rate.is_none_or(|rate| rate < SUCCESS) {
            self.failed_checks += 1;
        } else {
            self.next(at);
        }
    }

    fn argo(&mut self, at: u64, (window, limit, fewest): (usize, u32, u64)) {
        let (all, rate) = self.rate(window);
        let failed = rate.is_none_or(|rate| rate < SUCCESS) && all >= fewest;
        self.failed_checks += u32::from(failed);
        if self.failed_checks > limit {
            self.end(Ending::Rejected, at);
        } else if at - self.step_began >= PAUSE_MINUTES * MINUTE_MS {
            self.next(at);
        }
    }

    fn next(&mut self, at: u64) {
        self.step += 1;
        match self.rule.steps().get(self.step) {
            Some((weight, _)) => self.go_to(Some(*weight), at),
            None => self.end(Ending::Promoted, at),
        }
    }
}

impl Pilot for Other {
    fn look(&mut self, look: Look<'_>) -> u64 {
        self.minutes.push(look.store.canary);
        if self.began.is_none() {
            self.began = Some(look.at);
            self.go_to(Some(self.rule.steps()[0].0), look.at);
            return look.at + MINUTE_MS;
        }
        match self.rule {
            Rule::Flagger { threshold } => self.flagger(look.at, threshold),
            Rule::Argo { window_minutes, limit, fewest } => {
                self.argo(look.at, (window_minutes, limit, fewest));
            }
        }
        look.at + MINUTE_MS
    }

    fn route(&self) -> Route {
        self.route
    }

    fn ending(&self) -> Option<Ending> {
        self.ending
    }
}
