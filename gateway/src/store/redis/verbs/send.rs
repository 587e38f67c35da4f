//! The reply, as calls.
//!
//! Takes what an owner does with a reply and what Twilio reports of it; gives the calls, and reads
//! whether a segment may be posted. An answer that no script gives is `Corrupt`: never leave to
//! post.

use std::sync::LazyLock;

use kanarie_queue::intent::{Memo, Sending};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::Outcome;
use kanarie_queue::send::{
    CommitReply, Committed, Complete, MarkSending, MarkSent, Marked, NoteMissed, Unmark,
};
use kanarie_words::ids::{AttemptId, ConversationId};
use redis::{Script, Value};

use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, flag, id, keys, number, only, optional, owned, owner, plain,
    script,
};
use crate::store::redis::rows::intent;

static COMMIT_REPLY: LazyLock<Script> = script!(
    " flags=allow-oom",
    "shard.lua",
    "clock.lua",
    "evidence.lua",
    "memo.lua",
    "rescue.lua",
    "commit_reply.lua"
);
static MARK_SENDING: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "intent.lua", "mark_sending.lua");
static NOTE_MISSED: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "intent.lua", "note_missed.lua");
static UNMARK: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "intent.lua", "unmark.lua");
static MARK_SENT: LazyLock<Script> = script!(
    " flags=allow-oom",
    "shard.lua",
    "clock.lua",
    "intent.lua",
    "sent.lua",
    "mark_sent.lua"
);
static COMPLETE: LazyLock<Script> = script!(
    " flags=allow-oom",
    "shard.lua",
    "clock.lua",
    "evidence.lua",
    "memo.lua",
    "rescue.lua",
    "complete.lua"
);

impl Scripted for CommitReply {
    fn calls(&self) -> Vec<Call> {
        let memo = if self.memo == Memo::default() {
            String::new()
        } else {
            serde_json::to_string(&self.memo).expect("a memo has string keys only")
        };
        let rest = [
            self.intent.id.to_string(),
            self.intent.segments.to_string(),
            self.intent.body.clone(),
            field(self.outcome.as_ref()),
            memo,
            optional(self.mark.as_ref().map(AttemptId::as_str)),
        ];
        ending(&COMMIT_REPLY, &self.lease, rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Committed> {
        let parts: Vec<String> = plain(only(values))?;
        match parts.as_slice() {
            [word] if word == "done" => Ok(Committed::Done),
            [word] if word == "stale" => Ok(Committed::Stale),
            [word, row, body] if word == "exists" => {
                Ok(Committed::Exists(Box::new(intent(row, body.clone())?)))
            }
            _ => Err(corrupt("a commit")),
        }
    }
}

impl Scripted for MarkSending {
    fn calls(&self) -> Vec<Call> {
        let rest = [
            self.post.intent.to_string(),
            self.post.segment.to_string(),
            self.post.attempt.to_string(),
            optional(self.refuted.as_ref().map(AttemptId::as_str)),
        ];
        owner(&MARK_SENDING, &self.lease, &[&attributed(&self.lease.conversation)], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Marked> {
        let parts: Vec<String> = plain(only(values))?;
        match parts.as_slice() {
            [word] if word == "go" => Ok(Marked::Go),
            [word] if word == "sent" => Ok(Marked::Sent),
            [word] if word == "stale" => Ok(Marked::Stale),
            [word, now, attempt, at, missed, attributed @ ..] if word == "ambiguous" => {
                let missed_at = if missed.is_empty() { None } else { Some(number(Some(missed))?) };
                let at = number(Some(at))?;
                Ok(Marked::Ambiguous {
                    sending: Sending { attempt: id(attempt)?, at, missed_at },
                    attributed: attributed.iter().map(|sid| id(sid)).collect::<Decoded<_>>()?,
                    now: number(Some(now))?,
                })
            }
            _ => Err(corrupt("a mark")),
        }
    }
}

impl Scripted for NoteMissed {
    fn calls(&self) -> Vec<Call> {
        let Self { lease, post } = self;
        let rest = [post.intent.to_string(), post.segment.to_string(), post.attempt.to_string()];
        owner(&NOTE_MISSED, lease, &[&attributed(&lease.conversation)], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for Unmark {
    fn calls(&self) -> Vec<Call> {
        let Self { lease, post } = self;
        let rest = [post.intent.to_string(), post.segment.to_string(), post.attempt.to_string()];
        owner(&UNMARK, lease, &[&attributed(&lease.conversation)], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for MarkSent {
    fn calls(&self) -> Vec<Call> {
        let keys = keys(self.conversation.shard(), &[&attributed(&self.conversation)]);
        let arguments = vec![
            self.conversation.to_string(),
            self.intent.to_string(),
            self.segment.to_string(),
            self.sid.to_string(),
        ];
        vec![Call { script: &MARK_SENT, keys, arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<bool> {
        flag(only(values))
    }
}

impl Scripted for Complete {
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        ending(&COMPLETE, &self.lease, [field(self.outcome.as_ref())])
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

fn attributed(conversation: &ConversationId) -> String {
    format!("at:{conversation}")
}

/// A verb that ends the asking: it may count, and it replaces what the conversation remembers.
fn ending<const N: usize>(
    script: &'static LazyLock<Script>,
    lease: &Lease,
    rest: [String; N],
) -> Vec<Call> {
    let [ev, cu, re] = ["ev", "cu", "re"].map(|rows| format!("{rows}:{}", lease.channel));
    owner(script, lease, &[&ev, &cu, "me", "mez", &re], rest)
}

fn field(outcome: Option<&Outcome>) -> String {
    outcome.map(Outcome::field).unwrap_or_default()
}
