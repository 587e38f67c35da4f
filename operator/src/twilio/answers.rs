//! What Twilio's answers say of a channel's credentials.
//!
//! Takes the answer to each question; gives what stands under CredentialsReady, or nothing when Twilio did not say.
//! Pure; never holds a credential.

use kanarie_words::reason::Reason;

/// What Twilio answered to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwilioAnswer {
    /// Done.
    Accepted,
    /// No such user, or another secret: 401, error 20003.
    Unknown,
    /// Known, without the right: 403.
    NotPermitted,
    /// The account is suspended or closed: its status says so, or errors 20005 and 30002.
    Suspended,
    /// Nothing about the credentials: 429, a server error, no answer.
    Silent,
}

/// The answers about the credentials of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialAnswers {
    /// To the list of one message, asked for by what sends replies: the API key, or the auth token.
    pub sending: TwilioAnswer,
    /// Whether an API key sends.
    pub by_key: bool,
    /// To the account, asked for by its auth token.
    pub token: TwilioAnswer,
    /// The same by the secondary token, if there is one.
    pub secondary: Option<TwilioAnswer>,
}

/// What is known of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    /// Twilio takes them.
    Verified,
    /// Twilio takes them, and two auth tokens stand in the Secret.
    RotationOverlap {
        /// Whether the secondary is the account's token already.
        is_promoted: bool,
    },
    /// Twilio does not know what sends.
    SendingRejected {
        /// Whether that is an API key.
        by_key: bool,
    },
    /// Twilio does not know the auth token, with which webhooks are verified.
    TokenRejected,
    /// What sends has not the right to.
    NotPermitted,
    /// The account is suspended or closed.
    Suspended,
}

impl CredentialAnswers {
    /// What they come to; none if Twilio did not say, so that the last word stays.
    pub fn state(&self) -> Option<CredentialState> {
        use TwilioAnswer::{Accepted, NotPermitted, Silent, Suspended, Unknown};
        let &Self { sending, by_key, token, secondary } = self;
        if [Some(sending), Some(token), secondary].contains(&Some(Suspended)) {
            return Some(CredentialState::Suspended);
        }
        match (sending, token, secondary) {
            (Unknown, ..) => Some(CredentialState::SendingRejected { by_key }),
            (NotPermitted, ..) => Some(CredentialState::NotPermitted),
            (_, Unknown, None | Some(Unknown)) => Some(CredentialState::TokenRejected),
            (Accepted, Unknown, Some(Accepted)) => {
                Some(CredentialState::RotationOverlap { is_promoted: true })
            }
            (Accepted, Accepted, Some(_)) => {
                Some(CredentialState::RotationOverlap { is_promoted: false })
            }
            (Accepted, Accepted, None) => Some(CredentialState::Verified),
            // An auth token has every right; whatever refuses it says nothing about it.
            (Accepted | Silent | Suspended, ..) => None,
        }
    }
}

impl CredentialState {
    /// Whether Twilio takes them.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Verified | Self::RotationOverlap { .. })
    }

    /// Its reason under CredentialsReady.
    pub fn reason(self) -> Reason {
        match self {
            Self::Verified => Reason::Verified,
            Self::RotationOverlap { .. } => Reason::RotationOverlap,
            Self::SendingRejected { .. } | Self::TokenRejected => Reason::RejectedByTwilio,
            Self::NotPermitted => Reason::NotPermitted,
            Self::Suspended => Reason::SuspendedAccount,
        }
    }

    /// What it means and what to do.
    pub fn message(self) -> &'static str {
        match self {
            Self::Verified => Reason::Verified.meaning(),
            Self::RotationOverlap { is_promoted: false } => {
                "two auth tokens are in the Secret, and webhooks signed with either are taken: promote \
                 `authTokenSecondary` at Twilio, then make it `authToken`"
            }
            Self::RotationOverlap { is_promoted: true } => {
                "Twilio has promoted `authTokenSecondary`: make it `authToken` and take the other one out"
            }
            Self::SendingRejected { by_key: true } => {
                "Twilio does not know the API key (401): no reply can be sent until `apiKeySid` and \
                 `apiKeySecret` are those of a key of this account"
            }
            Self::SendingRejected { by_key: false } => {
                "Twilio does not know the auth token (401): no reply can be sent until `authToken` is the \
                 account's primary token"
            }
            Self::TokenRejected => {
                "Twilio does not know the auth token (401): webhooks that it signs are refused until `authToken` \
                 is the account's primary token"
            }
            Self::NotPermitted => {
                "the credentials that send have not the right to read messages (403): give the API key the \
                 right to list and create messages, or take a standard key; test credentials send nothing"
            }
            Self::Suspended => {
                "the Twilio account is suspended or closed: nothing is received or sent until that is \
                 settled with Twilio"
            }
        }
    }
}

/// Whether a reason is Twilio's word on credentials, and not what was found in Secrets.
pub fn is_twilios(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Verified
            | Reason::RotationOverlap
            | Reason::RejectedByTwilio
            | Reason::NotPermitted
            | Reason::SuspendedAccount
    )
}

#[cfg(test)]
mod tests {
    use super::TwilioAnswer::{Accepted, NotPermitted, Silent, Suspended, Unknown};
    use super::*;

    fn state(
        sending: TwilioAnswer,
        token: TwilioAnswer,
        secondary: Option<TwilioAnswer>,
    ) -> Option<CredentialState> {
        CredentialAnswers { sending, by_key: true, token, secondary }.state()
    }

    #[test]
    fn what_sends_comes_before_what_verifies_and_a_suspended_account_before_both() {
        assert_eq!(state(Accepted, Accepted, None), Some(CredentialState::Verified));
        let rejected = Some(CredentialState::SendingRejected { by_key: true });
        assert_eq!(state(Unknown, Accepted, None), rejected);
        assert_eq!(state(Unknown, Unknown, None), rejected);
        assert_eq!(state(NotPermitted, Accepted, None), Some(CredentialState::NotPermitted));
        assert_eq!(state(Accepted, Unknown, None), Some(CredentialState::TokenRejected));
        assert_eq!(state(Unknown, Suspended, None), Some(CredentialState::Suspended));
    }

    #[test]
    fn through_a_rotation_the_credentials_are_good_until_neither_token_is_known() {
        let overlap = |is_promoted| Some(CredentialState::RotationOverlap { is_promoted });
        assert_eq!(state(Accepted, Accepted, Some(Accepted)), overlap(false));
        // Until it is promoted Twilio takes calls by a secondary token; a deleted one hinders nobody.
        assert_eq!(state(Accepted, Accepted, Some(Unknown)), overlap(false));
        assert_eq!(state(Accepted, Unknown, Some(Accepted)), overlap(true));
        assert_eq!(state(Accepted, Unknown, Some(Unknown)), Some(CredentialState::TokenRejected));
    }

    #[test]
    fn a_limit_an_outage_and_a_refused_account_say_nothing() {
        for (sending, token, secondary) in [
            (Silent, Accepted, None),
            (Accepted, Silent, None),
            (Accepted, Silent, Some(Accepted)),
            (Accepted, Unknown, Some(Silent)),
            (Accepted, NotPermitted, None),
            (Silent, Silent, None),
        ] {
            assert_eq!(
                state(sending, token, secondary),
                None,
                "{sending:?} {token:?} {secondary:?}"
            );
        }
    }

    #[test]
    fn every_state_stands_under_credentials_ready_as_good_or_bad() {
        use kanarie_words::conditions::{ConditionStatus, ConditionType};
        for state in [
            CredentialState::Verified,
            CredentialState::RotationOverlap { is_promoted: false },
            CredentialState::RotationOverlap { is_promoted: true },
            CredentialState::SendingRejected { by_key: true },
            CredentialState::SendingRejected { by_key: false },
            CredentialState::TokenRejected,
            CredentialState::NotPermitted,
            CredentialState::Suspended,
        ] {
            let status =
                if state.is_good() { ConditionStatus::True } else { ConditionStatus::False };
            let stands = (ConditionType::CredentialsReady, status);
            assert_eq!(state.reason().conditions(), [stands], "{state:?}");
            assert!(is_twilios(state.reason()) && !state.message().is_empty());
        }
    }
}
