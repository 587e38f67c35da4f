//! What a request about dead letters asks for, in its query.
//!
//! Takes the query and the parameters that its endpoint has; gives what is wanted. A parameter that is
//! unknown, doubled or out of its bounds refuses the whole request: what is mistyped would else be a wider
//! filter.

use std::collections::BTreeSet;

use kanarie_queue::letters::DeadLetterFilter;
use kanarie_words::ids::{ChannelUid, ConversationId};

use crate::admin::caller::Refusal;
use crate::admin::walk::Cursor;
use crate::routes::table::RouteTable;

/// Most letters that one request concerns.
pub(super) const MOST: usize = 1_000;

/// Parameters of an endpoint that concerns many letters.
pub(super) const OF_MANY: [&str; 6] = ["channel", "class", "conversation", "limit", "after", "all"];
/// Parameters of the one that shows a letter.
pub(super) const OF_ONE: [&str; 1] = ["text"];

/// What a request asks for.
#[derive(Default)]
pub(super) struct Query {
    /// Which letters.
    pub(super) wanted: DeadLetterFilter,
    /// How many at most.
    pub(super) limit: Option<usize>,
    /// From where.
    pub(super) after: Option<Cursor>,
    /// Whether all are meant when no filter is given.
    pub(super) is_all: bool,
    /// Whether the text is wanted.
    pub(super) text: bool,
}

impl Query {
    /// Parses a query.
    pub(super) fn parse(
        query: &str,
        parameters: &[&str],
        routes: &RouteTable,
    ) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let mut seen = BTreeSet::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_known = parameters.contains(&name.as_ref());
            if !is_known || !seen.insert(name.clone()) {
                let text = format!("each parameter once: {}", parameters.join(", "));
                return Err(Refusal::Wrong(text));
            }
            parsed.take(&name, &value, routes)?;
        }
        Ok(parsed)
    }

    /// Refuses a change of all letters that nobody has asked for by that word.
    pub(super) fn is_meant(&self) -> Result<(), Refusal> {
        if self.is_all || self.wanted != DeadLetterFilter::default() {
            return Ok(());
        }
        Err(Refusal::Wrong("name channel, class or conversation, or say all=true".to_owned()))
    }

    fn take(&mut self, name: &str, value: &str, routes: &RouteTable) -> Result<(), Refusal> {
        let wrong = |text: &str| Refusal::Wrong(text.to_owned());
        match name {
            "channel" => self.wanted.channel = Some(channel(value, routes)?),
            "class" => {
                let class = Some(value).filter(|class| is_word(class));
                let class = class.ok_or_else(|| wrong("class is a word like http"))?;
                self.wanted.class = Some(class.to_owned());
            }
            "conversation" => self.wanted.conversation = Some(conversation(value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                let text = format!("limit is a number from 1 to {MOST}");
                self.limit = Some(limit.ok_or(Refusal::Wrong(text))?);
            }
            "after" => {
                let cursor = Cursor::parse(value);
                let text = "after is the `next` of an earlier answer, as it was";
                self.after = Some(cursor.ok_or_else(|| wrong(text))?);
            }
            "all" => self.is_all = flag(value)?,
            _ => self.text = flag(value)?,
        }
        Ok(())
    }
}

/// The channel of that UID, or the one with a route of that `namespace/name`.
pub(super) fn channel(value: &str, routes: &RouteTable) -> Result<ChannelUid, Refusal> {
    let Some((namespace, name)) = value.split_once('/') else {
        return ChannelUid::parse(value)
            .map_err(|_| Refusal::Wrong("channel is namespace/name or a UID".to_owned()));
    };
    let entries = routes.all();
    let is_named =
        |of: &kanarie_crds::route::ChannelRef| of.namespace == namespace && of.name == name;
    let mut named = entries.iter().filter(|entry| is_named(&entry.route.channel));
    let live = named.clone().find(|entry| entry.gone_since.is_none());
    let found = live.or_else(|| named.next()).map(|entry| entry.route.channel.uid.clone());
    let text = "no channel of that namespace and name has a route here: name it by its UID";
    found.ok_or_else(|| Refusal::Unknown(text.to_owned()))
}

/// The conversation of these digits.
pub(super) fn conversation(value: &str) -> Result<ConversationId, Refusal> {
    let text = "a conversation is 32 lower-case hexadecimal digits, as a single letter shows them";
    ConversationId::parse(value).ok_or_else(|| Refusal::Wrong(text.to_owned()))
}

fn is_word(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}

fn flag(value: &str) -> Result<bool, Refusal> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Refusal::Wrong("it is true or false".to_owned())),
    }
}
