//! Counts of one serving, by track: messages by the way they ended, and the customers behind them.
//! Plain numbers that never overflow and never go below zero; what they mean is for the judge to say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was counted for one `serving`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ServingTally {
    /// The `serving` of the routes under which the messages were claimed.
    pub serving: u64,
    /// What stable was asked.
    pub stable: Tally,
    /// What the canary was asked.
    pub canary: Tally,
}

/// Judged messages by the way their first attempt ended, and whose messages they were.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// With an answer, or with a deliberate silence.
    pub success: u64,
    /// Not before the agent's deadline.
    pub timeout: u64,
    /// With a refused connection or an HTTP error.
    pub http: u64,
    /// With something that is no answer.
    pub invalid: u64,
    /// Without an answer.
    pub no_answer: u64,
    /// With an answer over the latency limit.
    pub slow: u64,
    /// Not at all: the agent could not be asked.
    pub unavailable: u64,
    /// Who asked.
    pub customers: CustomerTally,
}

/// Distinct conversations of one serving and track.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomerTally {
    /// All of them.
    pub asked: u64,
    /// Those that failed at least once.
    pub failed: u64,
    /// Those that failed at least once and that stable then answered.
    pub rescued: u64,
}

/// Counts without the classes of failure, written as a row, since there are many of them:
/// messages, failed messages, customers, failed customers, rescued customers.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(from = "[u64; 5]", into = "[u64; 5]")]
pub struct Sum {
    /// All judged messages.
    pub messages: u64,
    /// Those that failed.
    pub failures: u64,
    /// Who asked.
    pub customers: CustomerTally,
}

impl Tally {
    /// Without the classes of failure.
    pub fn sum(self) -> Sum {
        Sum { messages: self.messages(), failures: self.failures(), customers: self.customers }
    }

    /// All judged messages.
    pub fn messages(self) -> u64 {
        self.success.saturating_add(self.failures())
    }

    /// Those that failed, of every class.
    pub fn failures(self) -> u64 {
        self.classes().into_iter().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Both together, class by class.
    pub fn plus(self, other: Self) -> Self {
        let add = u64::saturating_add;
        Self {
            success: add(self.success, other.success),
            timeout: add(self.timeout, other.timeout),
            http: add(self.http, other.http),
            invalid: add(self.invalid, other.invalid),
            no_answer: add(self.no_answer, other.no_answer),
            slow: add(self.slow, other.slow),
            unavailable: add(self.unavailable, other.unavailable),
            customers: self.customers.plus(other.customers),
        }
    }

    fn classes(self) -> [(&'static str, u64); 6] {
        [
            ("timeout", self.timeout),
            ("http", self.http),
            ("invalid", self.invalid),
            ("no-answer", self.no_answer),
            ("slow", self.slow),
            ("unavailable", self.unavailable),
        ]
    }
}

impl fmt::Display for Tally {
    /// `41 messages of 30 customers, 2 failed (1 timeout, 1 http)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, asked, failures) = (self.messages(), self.customers.asked, self.failures());
        write!(f, "{messages} messages of {asked} customers, {failures} failed")?;
        let classes = self.classes().into_iter().filter(|(_, count)| *count > 0);
        let classes: Vec<String> = classes.map(|(word, count)| format!("{count} {word}")).collect();
        if classes.is_empty() { Ok(()) } else { write!(f, " ({})", classes.join(", ")) }
    }
}

impl CustomerTally {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            asked: f(self.asked, other.asked),
            failed: f(self.failed, other.failed),
            rescued: f(self.rescued, other.rescued),
        }
    }
}

impl Sum {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What came on top of `earlier`, never below zero.
    pub fn minus(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// Messages that did not fail.
    pub fn successes(self) -> u64 {
        self.messages.saturating_sub(self.failures)
    }

    /// Whether more than `limit` hundredths of a percent of the messages failed.
    pub fn is_over(self, limit: u32) -> bool {
        u128::from(self.failures) * 10_000 > u128::from(limit) * u128::from(self.messages)
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            messages: f(self.messages, other.messages),
            failures: f(self.failures, other.failures),
            customers: self.customers.zip(other.customers, f),
        }
    }
}

impl From<[u64; 5]> for Sum {
    fn from([messages, failures, asked, failed, rescued]: [u64; 5]) -> Self {
        Self { messages, failures, customers: CustomerTally { asked, failed, rescued } }
    }
}

impl From<Sum> for [u64; 5] {
    fn from(sum: Sum) -> Self {
        let Sum { messages, failures, customers: CustomerTally { asked, failed, rescued } } = sum;
        [messages, failures, asked, failed, rescued]
    }
}
