//! The leases of this process: who holds what, and how a holder learns that it lost it.
//!
//! Takes claims, extends their leases every five seconds, tells a holder as soon as the store says
//! that the lease is somebody else's, or when the lease has run out without an answer. A holder
//! that is told stops before its next side effect; one that gives its lease up is told only when it
//! has run out, for what it asked says how that ended. Never takes a lease back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_queue::claim::{Extend, Head};
use kanarie_queue::lease::{Lease, NewLease};
use kanarie_words::ids::{ChannelUid, ConversationId, Holder, Nonce, ReplicaName};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::random;
use crate::store::SharedStore;

/// How long a lease lasts.
pub const LEASE_MS: u64 = 15_000;
const LEASE: Duration = Duration::from_millis(LEASE_MS);
/// Time between two extensions.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// Time until the next one after the store gave no answer.
const EXTEND_AGAIN: Duration = Duration::from_secs(1);

/// Every lease that a turn of this process holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leases {
    holder: Holder,
    entries: Entries,
}

type Entries = Arc<Mutex<HashMap<ConversationId, Entry>>>;

#[derive(Debug)]
struct Entry {
    nonce: Nonce,
    channel: ChannelUid,
    /// How long its message had waited when its claim was begun, and when that was.
    waited: Duration,
    began: Instant,
    /// Until when it is surely ours; none when it is lost.
    until: watch::Sender<Option<Instant>>,
    /// Whether its holder has begun to give it up: that somebody else has it then is no loss.
    is_leaving: bool,
}

/// A lease in use; dropping it ends its extension, nothing more.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    until: watch::Receiver<Option<Instant>>,
    leases: Entries,
}

/// What the nonces of a replica begin with.
pub fn holder(replica: &ReplicaName) -> Holder {
    let digest = Sha256::digest(replica.as_str());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    Holder::from_bytes(head)
}

impl Leases {
    /// Of a replica that holds none yet.
    pub fn of(replica: &ReplicaName) -> Self {
        Self { holder: holder(replica), entries: Entries::default() }
    }

    /// A lease to be asked for, under a nonce that nobody else has.
    pub(crate) fn fresh(&self) -> NewLease {
        NewLease { nonce: Nonce::held_by(&self.holder, random::bytes()), lease_ms: LEASE_MS }
    }

    /// Holds the lease of a claim that was begun at `began`.
    pub fn hold(&self, claim: &Head, began: Instant) -> Held {
        let lease = Lease {
            channel: claim.channel.clone(),
            conversation: claim.conversation.clone(),
            nonce: claim.nonce.clone(),
        };
        let (sender, until) = watch::channel(Some(began + LEASE));
        let entry = Entry {
            nonce: claim.nonce.clone(),
            channel: claim.channel.clone(),
            waited: Duration::from_millis(claim.now.saturating_sub(claim.admitted_at)),
            began,
            until: sender,
            is_leaving: false,
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let older = entries.insert(claim.conversation.clone(), entry);
        if let Some(older) = older.filter(|older| !older.is_leaving) {
            older.until.send_replace(None);
        }
        Held { lease, until, leases: Arc::clone(&self.entries) }
    }

    /// To be said before a verb is asked that gives the lease up. An extension that comes to the store
    /// after that verb is refused, and its answer may be here first.
    pub(crate) fn leaving(&self, lease: &Lease) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(&lease.conversation);
        if let Some(entry) = entry.filter(|entry| entry.nonce == lease.nonce) {
            entry.is_leaving = true;
        }
    }

    /// How old the messages are that are worked on.
    pub(crate) fn ages(&self) -> Vec<(ChannelUid, Duration)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |entry: &Entry| (entry.channel.clone(), entry.waited + entry.began.elapsed());
        entries.values().map(age).collect()
    }

    fn all(&self) -> Vec<(ConversationId, Nonce)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(id, entry)| (id.clone(), entry.nonce.clone())).collect()
    }

    /// Takes the answer to an extension of `asked` that was begun at `began`.
    fn extended(&self, asked: &[(ConversationId, Nonce)], lost: &[ConversationId], began: Instant) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for (conversation, nonce) in asked {
            let Some(entry) = entries.get(conversation).filter(|entry| entry.nonce == *nonce)
            else {
                continue;
            };
            let until = (!lost.contains(conversation)).then(|| began + LEASE);
            if until.is_some() || !entry.is_leaving {
                entry.until.send_replace(until);
            }
        }
    }
}

impl Held {
    /// What the store's verbs ask for.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether the lease is surely ours now.
    pub fn is_ours(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the lease is lost, or no longer surely ours.
    pub async fn lost(&self) {
        let mut changes = self.until.clone();
        loop {
            let Some(until) = *changes.borrow_and_update() else { return };
            tokio::select! {
                // Nobody extends it any more: it was being given up, and the next claim is here.
                changed = changes.changed() => if changed.is_err() { return sleep_until(until).await },
                () = sleep_until(until) => return,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut entries = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let conversation = &self.lease.conversation;
        if entries.get(conversation).is_some_and(|entry| entry.nonce == self.lease.nonce) {
            entries.remove(conversation);
        }
    }
}

/// Extends every lease of this process, for ever.
pub(crate) async fn keep(store: SharedStore, leases: Leases) {
    let mut pause = EXTEND_EVERY;
    loop {
        sleep(pause).await;
        pause = EXTEND_EVERY;
        let asked = leases.all();
        if asked.is_empty() {
            continue;
        }
        let began = Instant::now();
        let extend = Extend { leases: asked.clone(), lease_ms: LEASE_MS };
        match store.run(extend).await {
            Ok(lost) => leases.extended(&asked, &lost, began),
            Err(error) => {
                emit(OutboundEvent::StoreFailed { error: error.to_string() });
                pause = EXTEND_AGAIN;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_queue::claim::Head;
    use kanarie_queue::intent::Memo;
    use kanarie_words::ids::ConversationId;
    use tokio::time::{Instant, advance, timeout};

    use super::Leases;

    fn claim(nonce: &str) -> Head {
        Head {
            conversation: ConversationId::from_bytes([1; 16]),
            nonce: nonce.parse().unwrap(),
            channel: "uid".parse().unwrap(),
            envelope: String::new(),
            admitted_at: 0,
            now: 0,
            tries: 1,
            crashes: 0,
            crashed_alone: false,
            counted: false,
            failed_on: None,
            run: None,
            intent: None,
            memo: Memo::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_extended_is_lost_after_fifteen_seconds() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let held = leases.hold(&claim("a"), Instant::now());
        advance(Duration::from_millis(14_999)).await;
        assert!(held.is_ours());
        advance(Duration::from_millis(1)).await;
        assert!(!held.is_ours());
        held.lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_counts_from_when_it_was_asked_for() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let began = Instant::now();
        let held = leases.hold(&claim("a"), began);
        let asked = leases.all();
        advance(Duration::from_secs(10)).await;
        leases.extended(&asked, &[], began + Duration::from_secs(8));
        advance(Duration::from_secs(12)).await;
        assert!(held.is_ours());
        advance(Duration::from_secs(1)).await;
        assert!(!held.is_ours());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_worked_on_is_as_old_as_when_it_was_claimed_and_grows_older() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let waited = Head { admitted_at: 1_000, now: 31_000, ..claim("a") };
        let held = leases.hold(&waited, Instant::now());
        advance(Duration::from_secs(2)).await;
        assert_eq!(leases.ages(), [("uid".parse().unwrap(), Duration::from_secs(32))]);
        drop(held);
        assert_eq!(leases.ages(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_learns_that_its_lease_is_somebody_else_s() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let held = leases.hold(&claim("a"), Instant::now());
        let asked = leases.all();
        leases.extended(&asked, &[asked[0].0.clone()], Instant::now());
        assert!(!held.is_ours());
        held.lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_up_is_not_lost_when_an_extension_comes_after_that() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let held = leases.hold(&claim("a"), Instant::now());
        let asked = leases.all();
        leases.leaving(held.lease());
        leases.extended(&asked, &[asked[0].0.clone()], Instant::now());
        assert!(held.is_ours());
        assert!(timeout(Duration::from_millis(14_999), held.lost()).await.is_err());
        held.lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_up_is_not_lost_when_the_next_claim_is_here_before_its_answer() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let first = leases.hold(&claim("a"), Instant::now());
        leases.leaving(first.lease());
        let second = leases.hold(&claim("b"), Instant::now());
        leases.leaving(first.lease());
        assert!(timeout(Duration::from_millis(14_999), first.lost()).await.is_err());
        first.lost().await;
        let asked = leases.all();
        leases.extended(&asked, &[asked[0].0.clone()], Instant::now());
        assert!(!second.is_ours(), "the one that is not given up is lost as ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_claim_of_the_same_conversation_ends_the_first_one() {
        let leases = Leases::of(&"gateway-1".parse().unwrap());
        let first = leases.hold(&claim("a"), Instant::now());
        let second = leases.hold(&claim("b"), Instant::now());
        assert!(!first.is_ours());
        drop(first);
        assert_eq!(leases.all().len(), 1, "dropping the first one does not touch the second");
        assert!(timeout(Duration::from_secs(1), second.lost()).await.is_err());
    }
}
