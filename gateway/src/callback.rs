//! The id that ties a send to its status callbacks: conversation, reply and segment in one word.
//!
//! Takes and gives text only; it stands in the query of the callback's URL, so it holds nothing that
//! needs escaping and nothing that names a person. Its parameter has a name that no webhook URL uses
//! for something of its own, and whatever else the query says is passed over. Also says where Twilio
//! reports to. Pure: the random part comes from the caller.
//!
//! Twilio reports to the webhook's URL with `/webhooks/twilio/status` in place of
//! `/webhooks/twilio/whatsapp`, query kept; where a proxy rewrites the path, so that it does not
//! end so, to the webhook's URL itself, and the message endpoint settles it just the same. So no
//! second URL has to be configured, and the one that is known to arrive is used: a `statusURL` in
//! the channel would be one more field to get wrong. Any verified callback proves that Twilio has
//! the reply, so the id is all that the line needs; what it says beyond that is `deliveries.rs`'s.
//! `o=`, the parameter's former name, is still read: callbacks of replies from before an upgrade come
//! after it.
//!
//! The id is a capability: whoever has a channel's token can sign a callback that names any
//! conversation, so what keeps one tenant from settling, marking or waking another's reply is that
//! the intent's id is 128 random bits and is told to nobody but Twilio, in the URL of that reply.

use std::fmt;

use kanarie_words::ids::{ConversationId, IntentId};

/// Path of the endpoint for messages.
pub const MESSAGE_PATH: &str = "/webhooks/twilio/whatsapp";
/// Path of the endpoint for status callbacks.
pub const STATUS_PATH: &str = "/webhooks/twilio/status";

/// The parameter that carries the id.
const PARAMETER: &str = "kanarie-reply";
/// The parameter of replies that were sent before that one was introduced: their callbacks still
/// come after an upgrade.
const FORMER_PARAMETER: &str = "o";

/// Where Twilio reports what becomes of a reply of the channel with this webhook URL: the status
/// endpoint beside it. A webhook URL whose path something rewrites on the way has no known
/// neighbour; then it is the webhook URL itself, which is known to arrive.
pub fn status_url(webhook_url: &str) -> String {
    let webhook_url = webhook_url.split('#').next().unwrap_or_default();
    let (base, query) = match webhook_url.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (webhook_url, None),
    };
    let url = match base.strip_suffix(MESSAGE_PATH) {
        Some(prefix) => format!("{prefix}{STATUS_PATH}"),
        None => base.to_owned(),
    };
    query.map_or(url.clone(), |query| format!("{url}?{query}"))
}

/// Names one segment of one reply, as `<conversation>.<intent>.<segment>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentId {
    /// The conversation that the reply belongs to.
    pub conversation: ConversationId,
    /// Id of the intent: one to 64 ASCII letters and digits.
    pub intent: IntentId,
    /// The segment, from 0.
    pub segment: u32,
}

impl SegmentId {
    /// The URL for Twilio to report this segment to.
    pub fn callback_url(&self, webhook_url: &str) -> String {
        let url = status_url(webhook_url);
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}{PARAMETER}={self}")
    }

    /// Finds the id in the query of a callback's URL, whatever parameters the webhook URL has of
    /// its own: what is no id is not ours.
    pub fn in_query(query: &str) -> Option<Self> {
        [PARAMETER, FORMER_PARAMETER].into_iter().find_map(|name| {
            // Ours stands last, behind those of the webhook URL.
            query.rsplit('&').find_map(|pair| {
                let (parameter, value) = pair.split_once('=')?;
                (parameter == name).then(|| Self::parse(value))?
            })
        })
    }

    /// Parses what [`fmt::Display`] writes; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let conversation = ConversationId::parse(parts.next()?)?;
        let intent = parts.next()?;
        let segment = parts.next()?;
        let plain = intent.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let digits = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || !digits {
            return None;
        }
        Some(Self {
            conversation,
            intent: IntentId::parse(intent).ok()?,
            segment: segment.parse().ok()?,
        })
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.conversation, self.intent, self.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::{SegmentId, status_url};
    use kanarie_words::ids::ConversationId;

    fn id(intent: &str) -> SegmentId {
        let conversation = ConversationId::from_bytes([7; 16]);
        SegmentId { conversation, intent: intent.parse().unwrap(), segment: 3 }
    }

    #[test]
    fn an_id_is_parsed_back_from_its_own_text() {
        assert_eq!(SegmentId::parse(&id("a1B2").to_string()), Some(id("a1B2")));
    }

    #[test]
    fn an_id_with_anything_but_letters_and_digits_is_none() {
        let conversation = "07".repeat(16);
        for intent in ["", "a b", "a.b", "a&b", "ü", &"a".repeat(65)] {
            assert_eq!(SegmentId::parse(&format!("{conversation}.{intent}.3")), None, "{intent}");
        }
    }

    #[test]
    fn a_segment_that_is_no_number_is_none() {
        let conversation = "07".repeat(16);
        for segment in ["", "+1", "-1", "x", "1.2", "4294967296"] {
            assert_eq!(SegmentId::parse(&format!("{conversation}.abc.{segment}")), None);
        }
    }

    #[test]
    fn status_is_reported_beside_the_webhook() {
        let url = "https://h.example/eu/webhooks/twilio/whatsapp?tenant=acme#rc=2";
        assert_eq!(status_url(url), "https://h.example/eu/webhooks/twilio/status?tenant=acme");
    }

    #[test]
    fn status_is_reported_to_a_rewritten_webhook_itself() {
        assert_eq!(status_url("https://h.example/acme"), "https://h.example/acme");
    }

    #[test]
    fn the_id_is_found_again_in_the_query_of_its_callback() {
        for webhook in
            ["https://h.example/webhooks/twilio/whatsapp", "https://h.example/acme?tenant=1"]
        {
            let url = id("a1").callback_url(webhook);
            let (_, query) = url.split_once('?').expect("the id stands in the query");
            assert_eq!(SegmentId::in_query(query), Some(id("a1")), "{url}");
        }
    }

    #[test]
    fn a_webhook_url_with_parameters_like_ours_hides_no_id() {
        for own in ["o=acme", "kanarie-reply=acme", "o=&o", "a=1&o=acme&kanarie-reply"] {
            let url = id("a1").callback_url(&format!("https://h.example/acme?{own}"));
            let (_, query) = url.split_once('?').expect("the id stands in the query");
            assert_eq!(SegmentId::in_query(query), Some(id("a1")), "{url}");
        }
    }

    #[test]
    fn the_id_of_a_reply_that_was_sent_before_an_upgrade_is_found() {
        let id = id("a1");
        for query in [format!("o={id}"), format!("tenant=1&o={id}"), format!("o=acme&o={id}")] {
            assert_eq!(SegmentId::in_query(&query), Some(id.clone()), "{query}");
        }
    }

    #[test]
    fn a_query_without_an_id_has_none() {
        for query in ["", "o=acme", "kanarie-reply=", "kanarie-reply", "x=1&&="] {
            assert_eq!(SegmentId::in_query(query), None, "{query}");
        }
    }
}
