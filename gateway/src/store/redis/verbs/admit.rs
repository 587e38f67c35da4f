//! Admission, as a call.

use std::sync::LazyLock;

use kanarie_queue::admit::{Admission, Admit};
use redis::{Script, Value};

use crate::random;
use crate::store::redis::call::{Call, Decoded, Scripted, corrupt, keys, only, plain, script};

static ADMIT: LazyLock<Script> = script!("", "shard.lua", "admit.lua");

impl Scripted for Admit {
    fn calls(&self) -> Vec<Call> {
        let own = [format!("dd:{}", self.dedup_key), format!("rl:{}", self.conversation)];
        let keys = keys(self.conversation.shard(), &[&own[0], &own[1]]);
        let arguments = vec![
            self.conversation.to_string(),
            self.channel.to_string(),
            self.dedup_key.to_string(),
            self.envelope.clone(),
            self.limit.to_string(),
            self.window_ms.to_string(),
            self.dedup_ms.to_string(),
            random::token(),
        ];
        vec![Call { script: &ADMIT, keys, arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Admission> {
        match plain::<i64>(only(values))? {
            0 => Ok(Admission::Queued),
            -1 => Ok(Admission::Duplicate),
            -2 => Ok(Admission::Full),
            wait => u64::try_from(wait)
                .map(|retry_after_ms| Admission::Limited { retry_after_ms })
                .map_err(|_| corrupt("an admission")),
        }
    }
}
