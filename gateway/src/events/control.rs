//! What a person did by the admin port, as one event: who, what, to whom, how much.
//!
//! Takes the address that the request came from, since the token alone says no more than that its holder
//! may; gives one line and one number an act. Never sees customer text or a phone number.

use kanarie_metrics::label::Label as _;

use crate::labels::ControlAct;

/// An act of whoever holds the control token.
#[derive(Clone, Debug)]
pub struct ControlEvent {
    /// What was done.
    pub act: ControlAct,
    /// The address that asked for it.
    pub peer: Option<String>,
    /// The dead letter, if it was one.
    pub letter: Option<String>,
    /// The channel, as `namespace/name`, if one was named.
    pub channel: Option<String>,
    /// The class, if one was named.
    pub class: Option<String>,
    /// First digits of the conversation's hash, if it was one.
    pub conversation: Option<String>,
    /// Dead letters that were replayed or erased.
    pub letters: u64,
    /// Messages that were erased while they waited.
    pub messages: u64,
    /// Whether it came to its end: the store may have failed before.
    pub is_whole: bool,
}

impl ControlEvent {
    /// Writes its line.
    pub(super) fn log(&self) {
        let Self { act, peer, letter, channel, class, conversation, .. } = self;
        tell!(
            INFO,
            act = act.as_str(),
            who = "control token",
            peer = peer.as_deref(),
            letter = letter.as_deref(),
            channel = channel.as_deref(),
            class = class.as_deref(),
            conversation = conversation.as_deref(),
            letters = self.letters,
            messages = self.messages,
            whole = self.is_whole,
            "somebody used the control token"
        );
    }
}
