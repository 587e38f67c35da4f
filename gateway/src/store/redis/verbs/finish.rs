//! The end of a reply and the next head, as one call.
//!
//! Takes the SID of a last segment and, if one is wanted, a lease; gives the call, and reads whether
//! the head is done and what was claimed. Never takes a head for a lease that nobody asked for.

use std::sync::LazyLock;

use kanarie_queue::finish::{Finish, Finished};
use kanarie_queue::lease::Owned;
use redis::{Script, Value};

use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, flag, new_lease, only, owner, plain, script,
};
use crate::store::redis::verbs::claim::claimed;

static FINISH: LazyLock<Script> = script!(
    " flags=allow-oom",
    "shard.lua",
    "clock.lua",
    "next.lua",
    "intent.lua",
    "sent.lua",
    "finish.lua"
);

impl Scripted for Finish {
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        let attributed = format!("at:{}", self.lease.conversation);
        let [nonce, lease_ms] = new_lease(self.next.as_ref());
        let rest = [
            self.intent.to_string(),
            self.segment.to_string(),
            self.sid.to_string(),
            nonce,
            lease_ms,
        ];
        owner(&FINISH, &self.lease, &["me", &attributed], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Finished> {
        let (completed, next): (Value, Value) = plain(only(values))?;
        let completed = if flag(completed)? { Owned::Done } else { Owned::Stale };
        let next = match (self.next, next) {
            (None, Value::Nil) => None,
            (Some(lease), found @ Value::Array(_)) => Some(claimed(found, lease.nonce)?),
            _ => return Err(corrupt("a finish")),
        };
        Ok(Finished { completed, next })
    }
}
