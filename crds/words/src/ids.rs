//! Ids as types: an id of one kind cannot stand where another is asked for.
//!
//! Takes text, gives an id within its bounds. Every id is 1 to so many printable ASCII characters
//! without a space, so it can stand in a key, a label, a URL's path and a log line. Ids that name a
//! customer do not show themselves in `Debug`. Cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hex;

/// Number of shards, fixed for ever: a conversation's shard decides where its rows live.
pub const SHARDS: u8 = 32;

/// Text that is no such id. The text itself is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {what}: 1 to {most} printable ASCII characters without a space are")]
pub struct InvalidId {
    what: &'static str,
    most: usize,
}

/// An id: text between bounds.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, most $most:literal, shown $shown:literal) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest such id, in bytes.
            pub const MAX_BYTES: usize = $most;

            /// Parses the id.
            ///
            /// # Errors
            /// When the text is empty, too long or has other than printable ASCII characters.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let fits = (1..=$most).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic());
                if fits {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId { what: $what, most: $most })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if $shown { fmt::Debug::fmt(&self.0, f) } else { f.write_str("[private]") }
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                *self.0 == **text
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "maxLength": $most })
            }
        }
    };
}

/// An id that is made of bytes of the caller, random or of a digest.
macro_rules! id_of_bytes {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes:literal) => {
        id!($(#[$doc])* $name, $what, most 64, shown true);

        impl $name {
            /// From bytes: two hexadecimal digits each.
            pub fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(hex::encode(&bytes).into())
            }
        }
    };
}

id!(
    /// UID of a channel object.
    ChannelUid, "a UID of a channel", most 128, shown true
);
id!(
    /// Twilio account, `AC` and 32 hexadecimal digits.
    AccountSid, "an AccountSid", most 256, shown true
);
id!(
    /// WhatsApp sender of a channel, `whatsapp:+…`.
    SenderAddress, "an address of a sender", most 256, shown true
);
id!(
    /// A customer as Twilio names them, `whatsapp:+…` or `whatsapp:US.…`.
    CustomerAddress, "an address of a customer", most 256, shown false
);
id!(
    /// SID of a message, inbound or outbound: `SM` or `MM` and 32 hexadecimal digits.
    MessageSid, "a MessageSid", most 256, shown true
);
id!(
    /// What a repetition of a message is recognised by: account and MessageSid.
    DedupKey, "a key of a message", most 513, shown true
);
id!(
    /// Name of a revision, that of its ControllerRevision: at most the 52 characters of a channel's name, a
    /// hash of ten, and a number where two contents have the same.
    RevisionName, "a name of a revision", most 65, shown true
);
id!(
    /// Name of a replica of the gateway, new with each process.
    ReplicaName, "a name of a replica", most 300, shown true
);
id!(
    /// Random mark of a shard's memory: another one means that its evidence was lost.
    Epoch, "an epoch", most 64, shown true
);
id_of_bytes!(
    /// Digest over the epochs of all shards: another one means that evidence was lost.
    EpochDigest, "a digest of epochs", 32
);
id_of_bytes!(
    /// Digest over what is urgent in an answer to the operator: another one is worth an answer.
    UrgentDigest, "a digest of what is urgent", 16
);
id_of_bytes!(
    /// Hash of a route's bytes, or of all that a replica obeys.
    RouteHash, "a hash of a route", 16
);
id_of_bytes!(
    /// A process that holds leases: a digest of its replica's name.
    Holder, "a holder of leases", 8
);
id_of_bytes!(
    /// Proof of a lease: compared for equality only (its order serves maps, no rule). It begins with
    /// its holder's digits, so that the leases of a process that died can be told.
    Nonce, "a nonce", 16
);
id_of_bytes!(
    /// A committed reply; carried by the URL of its status callbacks.
    IntentId, "an id of a reply", 16
);
id_of_bytes!(
    /// One attempt at posting one segment.
    AttemptId, "an id of an attempt", 16
);

impl Nonce {
    /// A nonce of a holder, from random bytes.
    pub fn held_by(holder: &Holder, bytes: [u8; 16]) -> Self {
        Self(format!("{holder}{}", hex::encode(&bytes)).into())
    }

    /// Whether this holder made it.
    pub fn is_held_by(&self, holder: &Holder) -> bool {
        self.0.starts_with(holder.as_str())
    }
}

/// A conversation: 32 lower-case hexadecimal digits, a keyed hash of account, sender and customer.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(try_from = "String", into = "String")]
pub struct ConversationId(Arc<str>);

impl ConversationId {
    /// From 16 bytes of a keyed hash.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex::encode(&bytes).into())
    }

    /// Parses the 32 digits; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode::<16>(text).map(Self::from_bytes)
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shard that holds the conversation, below [`SHARDS`].
    pub fn shard(&self) -> u8 {
        u8::from_str_radix(&self.0[..2], 16).unwrap_or(0) % SHARDS
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for ConversationId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text).ok_or(InvalidId { what: "an id of a conversation", most: 32 })
    }
}

impl From<ConversationId> for String {
    fn from(id: ConversationId) -> Self {
        id.0.as_ref().to_owned()
    }
}

/// The 32 random bytes that the first replica made: conversations and buckets are drawn by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoreKey([u8; 32]);

impl StoreKey {
    /// From 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From their 64 digits; anything else is none.
    pub fn parse(digits: &str) -> Option<Self> {
        hex::decode(digits).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Their 64 digits.
    pub fn to_hex(self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

#[cfg(test)]
mod tests {
    use super::{ChannelUid, ConversationId, CustomerAddress, Holder, Nonce, StoreKey};

    #[test]
    fn an_id_is_printable_ascii_within_its_length() {
        assert!(ChannelUid::parse("a").is_ok());
        for text in ["", "a b", "a\n", "ü", &"a".repeat(129)] {
            assert!(ChannelUid::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_out_of_bounds_is_not_read_from_json_and_is_not_shown() {
        let error = serde_json::from_str::<ChannelUid>("\"se cret\"").map_err(|e| e.to_string());
        assert!(error.is_err_and(|text| !text.contains("cret")));
    }

    #[test]
    fn a_customer_is_not_shown_by_debug() {
        let customer = CustomerAddress::parse("whatsapp:+31612345678");
        assert!(!format!("{customer:?}").contains("316"));
        assert!(!format!("{:?}", StoreKey::from_bytes([7; 32])).contains('7'));
    }

    #[test]
    fn a_conversation_is_32_lower_case_digits_and_knows_its_shard() {
        let id = ConversationId::from_bytes([0x3f; 16]);
        assert_eq!((id.as_str().len(), id.shard()), (32, 31));
        assert_eq!(ConversationId::parse(&id.as_str().to_uppercase()), None);
        assert_eq!(ConversationId::parse(id.as_str()), Some(id));
    }

    #[test]
    fn random_bytes_become_digits() {
        assert_eq!(Nonce::from_bytes([1; 16]).as_str(), "01".repeat(16));
    }

    #[test]
    fn a_nonce_is_known_by_its_holder() {
        let (one, other) = (Holder::from_bytes([7; 8]), Holder::from_bytes([8; 8]));
        let nonce = Nonce::held_by(&one, [1; 16]);
        assert!(nonce.is_held_by(&one) && !nonce.is_held_by(&other));
        assert_eq!(Nonce::parse(nonce.as_str()), Ok(nonce));
    }
}
