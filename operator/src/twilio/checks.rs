//! Which credentials wait to be checked, for whom, and what is known of those that were.
//!
//! Takes the credentials of each channel as a reconcile sees them, and what Twilio said; gives what to ask next, and
//! the channels for which an answer is news. Channels with the same credentials are one question. Those that Twilio
//! takes are forgotten but for that: they are handed in again by a later pass. Asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kanarie_crds::route::Credentials;
use kanarie_words::ids::AccountSid;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::cluster::key::ChannelKey;
use crate::twilio::answers::CredentialState;

/// How long Twilio's word is good for credentials that it takes; a channel at rest is passed over within a day.
const GOOD_FOR: Duration = Duration::from_secs(12 * 3600);
/// After that those are asked about again that it does not take.
const BAD_FOR: Duration = Duration::from_secs(300);
/// The first and the longest pause after no word at all.
const AGAIN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// The credentials of all channels.
#[derive(Default)]
pub struct CredentialChecks {
    book: Mutex<Book>,
    /// Something is to be asked, perhaps earlier than what is waited for.
    asked: Notify,
}

/// What is asked about.
#[derive(Clone, Debug)]
pub struct CredentialQuestion {
    /// The account.
    pub account: AccountSid,
    /// What it is reached with.
    pub credentials: Credentials,
    print: Print,
}

/// What tells credentials apart.
type Print = [u8; 32];

#[derive(Default)]
struct Book {
    known: BTreeMap<Print, Known>,
    of: BTreeMap<ChannelKey, Print>,
    due: BTreeSet<(Instant, Print)>,
    /// For whom something is known that no pass has seen.
    news: BTreeSet<ChannelKey>,
}

struct Known {
    users: BTreeSet<ChannelKey>,
    state: Option<CredentialState>,
    /// Until when that need not be asked again.
    good_until: Option<Instant>,
    /// What is to be asked, or is being asked.
    question: Option<CredentialQuestion>,
    failures: u32,
}

impl CredentialChecks {
    /// What Twilio said of the credentials that are in force for a channel; has it asked if it did not, or long ago.
    pub fn look(
        &self,
        channel: &ChannelKey,
        account: &AccountSid,
        credentials: &Credentials,
        now: Instant,
    ) -> Option<CredentialState> {
        let print = print(account, credentials);
        let mut book = self.lock();
        book.news.remove(channel);
        if book.of.get(channel) != Some(&print) {
            book.leave(channel);
            book.of.insert(channel.clone(), print);
        }
        let known = book.known.entry(print).or_insert_with(Known::new);
        known.users.insert(channel.clone());
        let is_good = known.good_until.is_some_and(|until| now < until);
        let state = known.state;
        if !is_good && known.question.is_none() {
            let (account, credentials) = (account.clone(), credentials.clone());
            known.question = Some(CredentialQuestion { account, credentials, print });
            book.due.insert((now, print));
            self.asked.notify_one();
        }
        state
    }

    /// Whether a pass is to look at a channel's credentials: something is known of them that none has seen, or they are
    /// not good and this process has not had them asked about.
    pub fn wants_a_look(&self, channel: &ChannelKey, is_good: bool) -> bool {
        let book = self.lock();
        book.news.contains(channel) || (!is_good && !book.of.contains_key(channel))
    }

    /// Forgets a channel that is gone, and what only it used.
    pub fn forget(&self, channel: &ChannelKey) {
        let mut book = self.lock();
        book.leave(channel);
        book.news.remove(channel);
    }

    /// The next question, when it is due.
    pub async fn next(&self) -> CredentialQuestion {
        loop {
            let first = {
                let mut book = self.lock();
                if let Some(question) = book.take(Instant::now()) {
                    return question;
                }
                book.due.first().map(|(due, _)| *due)
            };
            let until = async {
                match first {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = until => {}
                () = self.asked.notified() => {}
            }
        }
    }

    /// Takes what Twilio said; gives the channels for which that is news. What it does not take, and what it said
    /// nothing about, is asked again by and by.
    pub fn answered(
        &self,
        question: &CredentialQuestion,
        state: Option<CredentialState>,
        now: Instant,
    ) -> Vec<ChannelKey> {
        let mut book = self.lock();
        let Book { known, due, news, .. } = &mut *book;
        // Nobody uses them any more.
        let Some(known) = known.get_mut(&question.print) else { return Vec::new() };
        known.failures = if state.is_none() { known.failures.saturating_add(1) } else { 0 };
        let is_good = state.is_some_and(CredentialState::is_good);
        if is_good {
            known.good_until = Some(now + GOOD_FOR);
            known.question = None;
        } else {
            let pause = if state.is_some() { BAD_FOR } else { again(known.failures) };
            due.insert((now + pause, question.print));
        }
        if state.is_none() || known.state == state {
            return Vec::new();
        }
        known.state = state;
        news.extend(known.users.iter().cloned());
        known.users.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new() -> Self {
        Self { users: BTreeSet::new(), state: None, good_until: None, question: None, failures: 0 }
    }
}

impl Book {
    /// The first question that is due.
    fn take(&mut self, now: Instant) -> Option<CredentialQuestion> {
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let (_, print) = self.due.pop_first()?;
            let known = self.known.get(&print);
            if let Some(question) = known.and_then(|known| known.question.clone()) {
                return Some(question);
            }
        }
        None
    }

    /// A channel uses other credentials now, or none.
    fn leave(&mut self, channel: &ChannelKey) {
        let Some(print) = self.of.remove(channel) else { return };
        let Some(known) = self.known.get_mut(&print) else { return };
        known.users.remove(channel);
        if known.users.is_empty() {
            self.known.remove(&print);
        }
    }
}

/// Signing keys have no question: Twilio lists them without their secrets.
fn print(account: &AccountSid, credentials: &Credentials) -> Print {
    let Credentials { auth_token, auth_token_secondary, api_key, signing_keys: _ } = credentials;
    let secondary = auth_token_secondary.as_ref().map(|token| token.expose());
    let key = api_key.as_ref().map(|key| (key.sid.as_str(), key.secret.expose()));
    let parts = (account.as_str(), auth_token.expose(), secondary, key);
    // Such a tuple is always JSON.
    Sha256::digest(serde_json::to_vec(&parts).unwrap_or_default()).into()
}

fn again(failures: u32) -> Duration {
    let (first, longest) = AGAIN;
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use kanarie_crds::route::SecretText;

    use super::*;

    fn key(name: &str) -> ChannelKey {
        ChannelKey { namespace: "shop".into(), name: name.into() }
    }

    fn account() -> AccountSid {
        "AC0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    fn credentials(token: &str) -> Credentials {
        Credentials {
            auth_token: SecretText::new(token),
            auth_token_secondary: None,
            api_key: None,
            signing_keys: Vec::new(),
        }
    }

    /// Tokens that are due, in the order in which they are asked about.
    fn due(checks: &CredentialChecks, now: Instant) -> Vec<CredentialQuestion> {
        let mut book = checks.lock();
        std::iter::from_fn(|| book.take(now)).collect()
    }

    #[test]
    fn channels_with_the_same_credentials_are_one_question_and_all_hear_the_answer() {
        let (checks, now) = (CredentialChecks::default(), Instant::now());
        for name in ["a", "b"] {
            assert_eq!(checks.look(&key(name), &account(), &credentials("t"), now), None);
        }
        checks.look(&key("c"), &account(), &credentials("other"), now);
        let asked = due(&checks, now);
        assert_eq!(asked.len(), 2);
        let its = asked.iter().find(|one| one.credentials.auth_token.expose() == "t").unwrap();
        let good = Some(CredentialState::Verified);
        assert_eq!(checks.answered(its, good, now), [key("a"), key("b")]);
        let wants = |name| checks.wants_a_look(&key(name), true);
        assert!(wants("a") && !wants("c"));
        assert_eq!(checks.look(&key("a"), &account(), &credentials("t"), now), good);
        assert!(!wants("a"));
        assert!(checks.wants_a_look(&key("unknown"), false) && !wants("unknown"));
    }

    #[test]
    fn what_is_good_is_asked_again_after_half_a_day_and_what_is_bad_after_five_minutes() {
        let (checks, now) = (CredentialChecks::default(), Instant::now());
        let look = |at| checks.look(&key("a"), &account(), &credentials("t"), at);
        look(now);
        let question = due(&checks, now).remove(0);
        let bad = Some(CredentialState::TokenRejected);
        assert_eq!(checks.answered(&question, bad, now), [key("a")]);
        assert!(due(&checks, now + BAD_FOR - Duration::from_secs(1)).is_empty());
        let again = due(&checks, now + BAD_FOR).remove(0);
        assert!(checks.answered(&again, bad, now + BAD_FOR).is_empty(), "that is known");
        let mended = due(&checks, now + BAD_FOR * 2).remove(0);
        let good = Some(CredentialState::Verified);
        assert_eq!(checks.answered(&mended, good, now), [key("a")]);
        look(now + GOOD_FOR - Duration::from_secs(1));
        assert!(due(&checks, now + GOOD_FOR).is_empty());
        look(now + GOOD_FOR);
        assert_eq!(due(&checks, now + GOOD_FOR).len(), 1);
    }

    #[test]
    fn no_word_leaves_the_last_one_and_is_asked_again_ever_more_seldom() {
        let (checks, mut now) = (CredentialChecks::default(), Instant::now());
        checks.look(&key("a"), &account(), &credentials("t"), now);
        for pause in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            let question = due(&checks, now).remove(0);
            assert!(checks.answered(&question, None, now).is_empty());
            let pause = Duration::from_secs(pause);
            assert!(due(&checks, now + pause - Duration::from_secs(1)).is_empty());
            now += pause;
        }
        assert_eq!(checks.look(&key("a"), &account(), &credentials("t"), now), None);
    }

    #[test]
    fn of_other_credentials_nothing_is_known_and_the_former_are_forgotten() {
        let (checks, now) = (CredentialChecks::default(), Instant::now());
        checks.look(&key("a"), &account(), &credentials("old"), now);
        let old = due(&checks, now).remove(0);
        assert_eq!(checks.look(&key("a"), &account(), &credentials("new"), now), None);
        assert!(checks.answered(&old, Some(CredentialState::TokenRejected), now).is_empty());
        assert_eq!(due(&checks, now + BAD_FOR).len(), 1, "the new ones only");
        checks.forget(&key("a"));
        let book = checks.lock();
        assert!(book.known.is_empty() && book.of.is_empty() && book.news.is_empty());
    }

    #[tokio::test]
    async fn whoever_waits_for_a_question_gets_it_when_it_is_asked() {
        let checks = CredentialChecks::default();
        let (question, _) = tokio::join!(checks.next(), async {
            tokio::task::yield_now().await;
            checks.look(&key("a"), &account(), &credentials("t"), Instant::now())
        });
        assert_eq!(question.credentials, credentials("t"));
    }
}
