//! The numbers of a step: what was counted, what it is worth and what is missing, in one sentence for
//! status, Events, log and metrics alike. Plain values; judges nothing.

use std::fmt;

use crate::proof::PROOF;
use crate::tally::Tally;

/// The numbers of the present step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// What the canary was asked.
    pub canary: Tally,
    /// What stable was asked in the same time.
    pub stable: Tally,
    /// Evidence against the canary over the whole rollout; `proof::PROOF` is proof.
    pub evidence: u64,
    /// Highest error rate with which the step passes, in hundredths of a percent.
    pub limit: u32,
    /// The lowest error rate that the counts exclude by now, with 95 %.
    pub certifies: Option<u32>,
    /// The one that they are to exclude.
    pub certify: u32,
    /// Messages without a failure that are missing.
    pub missing: u64,
    /// When they come at the present traffic; none without any.
    pub missing_seconds: Option<u64>,
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "canary {}; stable {}", self.canary, self.stable)?;
        write!(f, "; evidence {} of {PROOF}", self.evidence.min(1_000_000))?;
        if let Some(certified) = self.certifies {
            write!(f, "; excludes {}", Percent(certified))?;
        }
        if self.missing > 0 {
            write!(f, "; {} messages missing to exclude {}", self.missing, Percent(self.certify))?;
            if let Some(seconds) = self.missing_seconds {
                write!(f, ", in about {seconds} s")?;
            }
        }
        Ok(())
    }
}

/// Basis points as a percentage.
struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        if rest == 0 { write!(f, "{whole} %") } else { write!(f, "{whole}.{rest:02} %") }
    }
}
