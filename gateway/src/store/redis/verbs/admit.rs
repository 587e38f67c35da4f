//! Admission, as a call.
//!
//! Takes a message with its limits, gives the call of `admit.lua` and reads its answer: one of the
//! four, or the head that was leased at once. Brings an epoch for a shard that has none yet. Never
//! refuses a message by itself: the script decides.

use std::sync::LazyLock;

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Head;
use redis::{Script, Value};

use crate::random;
use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, keys, new_lease, number, only, plain, script,
};
use crate::store::redis::rows::memo;

static ADMIT: LazyLock<Script> = script!("", "shard.lua", "clock.lua", "admit.lua");

impl Scripted for Admit {
    fn calls(&self) -> Vec<Call> {
        let own = [format!("dd:{}", self.dedup_key), format!("rl:{}", self.conversation)];
        let keys = keys(self.conversation.shard(), &[&own[0], &own[1], "me"]);
        let mut arguments = vec![
            self.conversation.to_string(),
            self.channel.to_string(),
            self.dedup_key.to_string(),
            self.envelope.clone(),
            self.limit.to_string(),
            self.window_ms.to_string(),
            self.dedup_ms.to_string(),
            random::token(),
        ];
        arguments.extend(new_lease(self.lease.as_ref()));
        vec![Call { script: &ADMIT, keys, arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Admission> {
        let value = only(values);
        if matches!(value, Value::Array(_)) {
            return leased(self, value);
        }
        match plain::<i64>(value)? {
            0 => Ok(Admission::Queued),
            -1 => Ok(Admission::Duplicate),
            -2 => Ok(Admission::Full),
            wait => u64::try_from(wait)
                .map(|retry_after_ms| Admission::Limited { retry_after_ms })
                .map_err(|_| corrupt("an admission")),
        }
    }
}

/// What a claim would tell of a message that was just admitted, and that nobody has worked on.
fn leased(admitted: Admit, value: Value) -> Decoded<Admission> {
    let mut parts = plain::<Vec<Option<String>>>(value)?.into_iter();
    let lease = admitted.lease.ok_or_else(|| corrupt("a lease that nobody wanted"))?;
    let now = number(parts.next().flatten().as_deref())?;
    Ok(Admission::Leased(Box::new(Head {
        conversation: admitted.conversation,
        nonce: lease.nonce,
        channel: admitted.channel,
        envelope: admitted.envelope,
        admitted_at: now,
        now,
        tries: 1,
        crashes: 0,
        crashed_alone: false,
        counted: false,
        failed_on: None,
        run: None,
        intent: None,
        memo: memo(parts.next().flatten().as_deref()),
    })))
}
