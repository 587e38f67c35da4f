//! The outbound pace, as a call.
//!
//! Takes a sender, its rate and how many sends, gives the call that books them and the wait that it
//! answers. Its key belongs to the sender and to no shard. Never waits.

use std::sync::LazyLock;

use kanarie_queue::pace::{MOST, Reserved};
use kanarie_queue::reserve::Reserve;
use redis::{Script, Value};

use crate::store::redis::call::{Call, Decoded, Scripted, corrupt, only, plain, script};

static RESERVE: LazyLock<Script> = script!(" flags=allow-oom", "time.lua", "reserve.lua");

impl Scripted for Reserve {
    fn calls(&self) -> Vec<Call> {
        let keys = vec![format!("{{snd:{}}}:tat", self.sender)].into();
        let count = self.count.clamp(1, MOST);
        let arguments = vec![self.per_second.max(1).to_string(), count.to_string()];
        vec![Call { script: &RESERVE, keys, arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Reserved> {
        let (word, wait): (String, u64) = plain(only(values))?;
        match word.as_str() {
            "after" => Ok(Reserved::After(wait)),
            "busy" => Ok(Reserved::Busy(wait)),
            _ => Err(corrupt("a reservation")),
        }
    }
}
