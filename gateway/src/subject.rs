//! What a line of the log is about: the channel, the conversation and the message that a task works on.
//!
//! Takes them as a webhook or a turn learns them, gives a span that names them to each line that is written
//! within. The span is made when a line is, for most messages have none: a message pays some pointers for
//! it. A conversation is the first digits of its keyed hash. Never knows a customer's number or text.

use std::cell::OnceCell;
use std::sync::Arc;

use kanarie_words::ids::{ChannelUid, ConversationId, MessageSid};
use tracing::field::display;
use tracing::span::EnteredSpan;
use tracing::{Span, error_span};

use crate::routes::table::Entry;

tokio::task_local! {
    static SUBJECT: Option<Subject>;
}

/// Digits of a conversation's hash that tell it from the others of a log.
const DIGITS: usize = 8;

/// A conversation as the log names it.
pub fn short(conversation: &ConversationId) -> &str {
    &conversation.as_str()[..DIGITS]
}

/// What a task works on, as far as it is known.
#[derive(Clone, Debug)]
pub struct Subject {
    work: Work,
    entry: OnceCell<Arc<Entry>>,
    /// For a channel without a route.
    uid: Option<ChannelUid>,
    conversation: OnceCell<ConversationId>,
    message: OnceCell<MessageSid>,
}

/// What is done with it.
#[derive(Clone, Copy, Debug)]
enum Work {
    Webhook,
    Turn,
}

impl Subject {
    /// Of a webhook, of which nothing is known yet.
    pub fn webhook() -> Self {
        Self {
            work: Work::Webhook,
            entry: OnceCell::new(),
            uid: None,
            conversation: OnceCell::new(),
            message: OnceCell::new(),
        }
    }

    /// Of a turn of a conversation, and its channel's route if there is one.
    pub fn turn(
        channel: &ChannelUid,
        route: Option<Arc<Entry>>,
        conversation: &ConversationId,
    ) -> Self {
        Self {
            work: Work::Turn,
            uid: route.is_none().then(|| channel.clone()),
            entry: route.map_or_else(OnceCell::new, OnceCell::from),
            conversation: OnceCell::from(conversation.clone()),
            message: OnceCell::new(),
        }
    }

    /// Does this work; each line that is written within is about this subject.
    pub async fn within<T>(self, work: impl Future<Output = T>) -> T {
        SUBJECT.scope(Some(self), work).await
    }

    fn span(&self) -> Span {
        let entry = self.entry.get().map(|entry| display(&entry.route.channel));
        let uid = self.uid.as_ref().map(display);
        let conversation = self.conversation.get().map(|id| display(short(id)));
        let message_sid = self.message.get().map(display);
        match self.work {
            Work::Webhook => error_span!("webhook", channel = entry, conversation, message_sid),
            Work::Turn if entry.is_none() => {
                error_span!("turn", channel = uid, conversation, message_sid)
            }
            Work::Turn => error_span!("turn", channel = entry, conversation, message_sid),
        }
    }
}

/// The channel is known now.
pub fn found(entry: &Arc<Entry>) {
    note(|subject| drop(subject.entry.set(Arc::clone(entry))));
}

/// The conversation is known now.
pub fn of(conversation: &ConversationId) {
    note(|subject| drop(subject.conversation.set(conversation.clone())));
}

/// The message is known now.
pub fn about(message: &MessageSid) {
    note(|subject| drop(subject.message.set(message.clone())));
}

/// Enters a span that names the subject of this task, until what it gives is dropped; without a subject
/// there is none.
pub fn entered() -> Option<EnteredSpan> {
    SUBJECT.try_with(|subject| subject.as_ref().map(Subject::span)).ok()?.map(Span::entered)
}

/// Work for another task, about the subject of this one.
pub fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let subject = SUBJECT.try_with(Option::clone).ok().flatten();
    SUBJECT.scope(subject, work)
}

/// Outside of any work there is nothing to note.
fn note(what: impl FnOnce(&Subject)) {
    let _ = SUBJECT.try_with(|subject| subject.as_ref().map(what));
}
