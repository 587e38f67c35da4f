//! Blocked: what stands in the way of a channel. Plain values.

use kanarie_words::reason::Reason;

/// What stands in the way, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Its word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
    /// What is wrong with the Secrets, if it is that.
    pub secrets: Option<SecretProblem>,
}

/// What is wrong with a channel's Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretProblem {
    /// Reason of the condition CredentialsReady.
    pub reason: Reason,
    /// Which Secret and key, and what to do.
    pub message: String,
}

impl Blocked {
    /// By anything but Secrets.
    pub fn by(reason: Reason, message: impl ToString) -> Self {
        Self { reason, message: message.to_string(), secrets: None }
    }

    /// By Secrets that are not ready.
    pub fn by_secrets(problem: SecretProblem) -> Self {
        let (reason, message) = (Reason::CredentialsNotReady, problem.message.clone());
        Self { reason, message, secrets: Some(problem) }
    }
}
