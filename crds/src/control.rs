//! `GET /control/v1/state`: what the gateways tell the operator.
//!
//! Any replica answers for all of them, from the store. Without a query the answer is the summary
//! with exceptions only; `?channels=UID,UID` adds the details of those channels, and
//! `&wait=SECONDS&known=DIGEST` lets the answer wait until it says something urgent that the asker does
//! not know. Pure types. A gateway and an operator of neighbouring versions understand each other: what one of them does
//! not know yet never spoils the rest of an answer.

use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, EpochDigest, ReplicaName, RouteHash, UrgentDigest};
use kanarie_words::track::Track;
use serde::{Deserialize, Serialize};

/// Most channels that one request may name.
pub const MAX_CHANNELS_PER_REQUEST: usize = 200;

/// Longest that an answer waits, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 30;

/// The answer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ControlState {
    /// The store's clock, Unix milliseconds.
    pub observed_at_ms: u64,
    /// Digest of the epochs of all shards: another one means that counts were lost.
    pub epoch: EpochDigest,
    /// Replicas with a heartbeat younger than ten seconds.
    pub replicas: Vec<Replica>,
    /// Routes that not every live replica holds alike, `uid` only.
    pub unsynced: Vec<ChannelUid>,
    /// Channels with dead letters.
    pub dead_letters: Vec<ChannelDeadLetters>,
    /// Channels with replies that were not delivered in the last 14 days; none from a gateway that does
    /// not keep what becomes of replies, which is not to say that there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<Vec<ChannelUndelivered>>,
    /// The channels that the query named and that some replica knows.
    pub channels: Vec<ChannelState>,
    /// Digest over what nobody should wait for: failures, rescues, acknowledgements, live replicas and
    /// lost counts. Only in an answer to a question that may wait; the next such question gives it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<UrgentDigest>,
}

/// A live replica.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its name.
    pub id: ReplicaName,
    /// Age of its heartbeat, in milliseconds.
    pub age_ms: u64,
}

/// Dead letters of one channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelDeadLetters {
    /// UID of the channel.
    pub uid: ChannelUid,
    /// How many are kept.
    pub count: u64,
    /// When the oldest one ended, Unix milliseconds.
    pub oldest_at_ms: u64,
    /// Class of the newest one.
    pub class: String,
}

/// Replies of one channel that were not delivered.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelUndelivered {
    /// UID of the channel.
    pub uid: ChannelUid,
    /// How many segments, since it last had none for 14 days.
    pub count: u64,
    /// Twilio's error code for the last one, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_code: Option<u32>,
    /// When that was, Unix milliseconds.
    pub last_at_ms: u64,
}

/// What the replicas hold and have counted for one channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// UID of the channel.
    pub uid: ChannelUid,
    /// One entry per live replica that holds a route of the channel.
    pub acknowledged: Vec<Acknowledged>,
    /// Evidence of every step that is still remembered; none of a channel whose route has no canary, for nobody
    /// judges it.
    pub counts: Vec<ClassCount>,
    /// The customers behind those counts. None from a gateway that counts messages only, which is
    /// another thing than counts of zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customers: Option<Vec<CustomerCount>>,
}

/// The route that one replica obeys.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// Name of the replica.
    pub replica: ReplicaName,
    /// `serving` of its route.
    pub serving: u64,
    /// Hash of its route.
    pub hash: RouteHash,
    /// Whether stable serves the canary's bucket there, because the canary failed everybody while
    /// nobody asked for the counts. What was asked meanwhile is counted nowhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// Messages whose first agent attempt ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(from = "WireCount", into = "WireCount")]
pub struct ClassCount {
    /// The step they were counted for.
    pub serving: u64,
    /// The track that was asked.
    pub track: Track,
    /// How the attempt ended.
    pub class: Class,
    /// How many.
    pub messages: u64,
}

/// Conversations whose messages were judged: a customer is drawn to a track once, so customers
/// decide where messages only describe.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CustomerCount {
    /// The step they were counted for.
    pub serving: u64,
    /// The track that was asked.
    pub track: Track,
    /// Distinct conversations that were asked.
    pub conversations: u64,
    /// Those of them that failed for the first time under this serving.
    pub failed: u64,
    /// Those of the failed whom stable answered at once; never any of stable itself. None from a
    /// gateway that does not count them, which is not to say that there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescued: Option<u64>,
}

/// A count as it is written. `class` is a word that every version knows; a later word stands
/// beside it, in `exact`, where an older reader does not look.
#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct WireCount {
    serving: u64,
    track: Track,
    class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    messages: u64,
}

impl From<ClassCount> for WireCount {
    fn from(count: ClassCount) -> Self {
        let ClassCount { serving, track, class, messages } = count;
        let (known, exact) = match class {
            // Whoever does not know the word counts what comes nearest: a refused connection.
            Class::Unavailable => (Class::Http, Some(class)),
            Class::Success
            | Class::Timeout
            | Class::Http
            | Class::Invalid
            | Class::NoAnswer
            | Class::Slow => (class, None),
        };
        let word = |class: Class| class.as_str().to_owned();
        Self { serving, track, class: word(known), exact: exact.map(word), messages }
    }
}

impl From<WireCount> for ClassCount {
    fn from(wire: WireCount) -> Self {
        let WireCount { serving, track, class, exact, messages } = wire;
        let exact = exact.as_deref().and_then(Class::parse);
        // Success has a word of its own, so a word that nobody here knows is a failure.
        let class = exact.or_else(|| Class::parse(&class)).unwrap_or(Class::Invalid);
        Self { serving, track, class, messages }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn count(class: Class) -> ClassCount {
        ClassCount { serving: 3, track: Track::Canary, class, messages: 2 }
    }

    fn wire(class: &str) -> Value {
        json!({"serving": 3, "track": "canary", "class": class, "messages": 2})
    }

    #[test]
    fn the_words_of_the_first_version_are_written_as_it_wrote_them() {
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Unavailable) {
            assert_eq!(serde_json::to_value(count(class)).unwrap(), wire(class.as_str()));
        }
    }

    #[test]
    fn every_class_reads_back_as_it_was_written() {
        for class in Class::ALL {
            let bytes = serde_json::to_vec(&count(class)).unwrap();
            assert_eq!(serde_json::from_slice::<ClassCount>(&bytes).unwrap(), count(class));
        }
    }

    #[test]
    fn a_later_word_is_a_failure_that_the_first_version_knows() {
        let written = serde_json::to_value(count(Class::Unavailable)).unwrap();
        assert_eq!((&written["class"], &written["exact"]), (&json!("http"), &json!("unavailable")));
    }

    #[test]
    fn an_answer_of_the_first_version_is_read_and_written_as_it_was() {
        let text = concat!(
            r#"{"observedAtMs":7,"epoch":"e","replicas":[{"id":"gateway-0","ageMs":3}],"#,
            r#""unsynced":["u"],"deadLetters":[{"uid":"u","count":1,"oldestAtMs":5,"class":"http"}],"#,
            r#""channels":[{"uid":"u","acknowledged":[{"replica":"gateway-0","serving":3,"#,
            r#""hash":"h"}],"counts":[{"serving":3,"track":"stable","class":"no-answer","#,
            r#""messages":2}]}]}"#,
        );
        let state: ControlState = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&state).unwrap(), text);
    }

    #[test]
    fn undelivered_replies_are_read_with_and_without_a_code_and_from_a_gateway_without_any() {
        let read = |undelivered: &str| {
            let text = format!(
                r#"{{"observedAtMs":7,"epoch":"e","replicas":[],"unsynced":[],"deadLetters":[],
                "channels":[]{undelivered}}}"#
            );
            serde_json::from_str::<ControlState>(&text).unwrap().undelivered
        };
        assert_eq!(read(""), None);
        assert_eq!(read(r#","undelivered":[]"#), Some(Vec::new()));
        let of = |count, last_code| ChannelUndelivered {
            uid: "u".parse().unwrap(),
            count,
            last_code,
            last_at_ms: 5,
        };
        let text = concat!(
            r#","undelivered":[{"uid":"u","count":2,"lastCode":63016,"lastAtMs":5},"#,
            r#"{"uid":"u","count":1,"lastAtMs":5,"melted":true}]"#,
        );
        assert_eq!(read(text), Some(vec![of(2, Some(63_016)), of(1, None)]));
    }

    #[test]
    fn a_gateway_that_counts_messages_only_is_told_from_one_without_customers() {
        let read = |text: &str| serde_json::from_str::<ChannelState>(text).unwrap().customers;
        assert_eq!(read(r#"{"uid": "u", "acknowledged": [], "counts": []}"#), None);
        let none = r#"{"uid": "u", "acknowledged": [], "counts": [], "customers": []}"#;
        assert_eq!(read(none), Some(Vec::new()));
    }

    #[test]
    fn a_gateway_that_counts_no_rescues_is_told_from_one_that_has_none() {
        let read = |rescued: &str| {
            let text = format!(
                r#"{{"serving":3,"track":"canary","conversations":2,"failed":1{rescued}}}"#
            );
            let count: CustomerCount = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&count).unwrap(), text);
            count.rescued
        };
        assert_eq!(read(""), None);
        assert_eq!(read(r#","rescued":0"#), Some(0));
        assert_eq!(read(r#","rescued":1"#), Some(1));
    }

    #[test]
    fn a_channel_without_customers_is_written_as_the_first_version_wrote_it() {
        let channel = ChannelState {
            uid: "u".parse().unwrap(),
            acknowledged: Vec::new(),
            counts: Vec::new(),
            customers: None,
        };
        let expected = json!({"uid": "u", "acknowledged": [], "counts": []});
        assert_eq!(serde_json::to_value(channel).unwrap(), expected);
    }

    #[test]
    fn a_word_of_the_future_is_a_failure_and_spoils_nothing_else() {
        let mut beside = wire("http");
        beside["exact"] = json!("melted");
        let channel = json!({
            "uid": "u",
            "acknowledged": [],
            "counts": [wire("melted"), beside, wire("success")],
        });
        let channel: ChannelState = serde_json::from_value(channel).unwrap();
        let expected = [Class::Invalid, Class::Http, Class::Success].map(count);
        assert_eq!(channel.counts, expected);
    }
}
