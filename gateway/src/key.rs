//! The store's key: 32 random bytes that the first replica made, learned once a process.
//!
//! Takes the store, gives the key to everybody who waits for it; draws conversations and buckets by
//! it, so that no key of the store names a customer. Never shows it, and never makes one itself.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use kanarie_words::ids::{AccountSid, ConversationId, CustomerAddress, SenderAddress, StoreKey};
use sha2::Sha256;
use tokio::sync::{SetOnce, watch};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::stop::stopped;
use crate::store::SharedStore;

/// Asks the store for its key until it is known: a gateway may start before its store. Then waits
/// for its own end, so that ending before is a fault like that of any other task.
pub async fn learn(store: SharedStore, known: LearnedKey, mut shutdown: watch::Receiver<bool>) {
    let learn = async {
        loop {
            match store.key().await {
                Ok(key) => {
                    known.set(key);
                    return std::future::pending().await;
                }
                Err(error) => emit(OutboundEvent::StoreFailed { error: error.to_string() }),
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = learn => {}
        () = stopped(&mut shutdown) => {}
    }
}

/// The conversation of a customer with a sender.
pub fn conversation(
    key: StoreKey,
    account: &AccountSid,
    sender: &SenderAddress,
    customer: &CustomerAddress,
) -> ConversationId {
    let parts = [account.as_str(), "|", sender.as_str(), "|", customer.as_str()];
    let digest = digest(key, &parts);
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    ConversationId::from_bytes(head)
}

/// The bucket of a conversation in the rollout of one canary, below [`BUCKETS`].
pub fn bucket(key: StoreKey, channel: &str, canary: &str, conversation: &ConversationId) -> u64 {
    // A separator that occurs in none of the parts, so that no two triples give the same bytes.
    let parts = [channel, "\0", canary, "\0", conversation.as_str(), "\0"];
    let mut head = [0; 8];
    head.copy_from_slice(&digest(key, &parts)[..8]);
    u64::from_be_bytes(head) % BUCKETS
}

/// Buckets that conversations fall into: a weight of one percent is a hundred of them.
pub const BUCKETS: u64 = 10_000;

/// Time between two questions for the key.
const EVERY: Duration = Duration::from_millis(250);

/// The store's key, once it is known. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LearnedKey(Arc<SetOnce<StoreKey>>);

impl LearnedKey {
    /// The key, if it is known.
    pub fn get(&self) -> Option<StoreKey> {
        self.0.get().copied()
    }

    /// Waits for the key.
    pub async fn wait(&self) -> StoreKey {
        *self.0.wait().await
    }

    /// Takes the key; the first one stays.
    pub fn set(&self, key: StoreKey) {
        // Whoever came second learned the same one, or must not change it under everybody.
        let _ = self.0.set(key);
    }
}

fn digest(key: StoreKey, parts: &[&str]) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("an HMAC takes any length of key");
    parts.iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use kanarie_words::ids::{
        AccountSid, ConversationId, CustomerAddress, SenderAddress, StoreKey,
    };

    use super::{bucket, conversation};

    fn key(byte: u8) -> StoreKey {
        StoreKey::from_bytes([byte; 32])
    }

    #[test]
    fn a_conversation_depends_on_key_account_sender_and_customer() {
        let of = |key, account: &str, sender: &str, customer: &str| {
            let sender = SenderAddress::parse(sender).unwrap();
            let customer = CustomerAddress::parse(customer).unwrap();
            conversation(key, &AccountSid::parse(account).unwrap(), &sender, &customer)
        };
        let one = of(key(7), "AC1", "whatsapp:+31", "whatsapp:+32");
        assert_eq!(one, of(key(7), "AC1", "whatsapp:+31", "whatsapp:+32"));
        for other in [
            of(key(1), "AC1", "whatsapp:+31", "whatsapp:+32"),
            of(key(7), "AC2", "whatsapp:+31", "whatsapp:+32"),
            of(key(7), "AC1", "whatsapp:+33", "whatsapp:+32"),
            of(key(7), "AC1", "whatsapp:+31", "whatsapp:+33"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_bucket_of_a_conversation_never_changes_between_versions() {
        // Computed once by another implementation of HMAC-SHA256.
        assert_eq!(
            bucket(key(7), "u-1", "r2", &ConversationId::from_bytes(1_u128.to_be_bytes())),
            3652
        );
    }
}
