//! Dead letters, loads and the sweep, as calls.
//!
//! Takes a burial or a sweep of one shard, or a question to all of them; gives the calls and, of
//! the questions, sums by channel. Never reads a dead letter's text.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kanarie_queue::dead::{Buried, Bury, DeadSum, DeadSums, Load, Loads, SumDead, SumLoads};
use kanarie_queue::sweep::Sweep;
use kanarie_words::ids::SHARDS;
use redis::{Script, Value};

use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, flag, id, keys, number, only, owner, plain, script,
};
use crate::store::redis::verbs::deliveries;

static BURY: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "letters.lua", "bury.lua");
static SWEEP: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "letters.lua", "sweep.lua");
static DEAD_LETTERS: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "named_letters.lua", "dead_letters.lua");
static LOADS: LazyLock<Script> = script!(" flags=no-writes", "shard.lua", "loads.lua");

/// Dead letters by name, their names by time, their number by channel, and their names by channel.
pub(super) const DEAD: [&str; 4] = ["dl", "dlz", "dlc", "dlx"];

impl Scripted for Bury {
    const AT_ONCE: bool = false;

    fn calls(&self) -> Vec<Call> {
        owner(&BURY, &self.lease, &DEAD, [self.class.clone()])
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Buried> {
        match plain::<i64>(only(values))? {
            1 => Ok(Buried::Done),
            0 => Ok(Buried::Stale),
            -1 => Ok(Buried::Full),
            _ => Err(corrupt("a burial")),
        }
    }
}

impl Scripted for Sweep {
    fn calls(&self) -> Vec<Call> {
        let keys = keys(self.shard, &[DEAD[0], DEAD[1], DEAD[2], DEAD[3], "me", "mez"]);
        vec![Call { script: &SWEEP, keys, arguments: Vec::new() }, deliveries::forget()]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<()> {
        values.into_iter().try_for_each(|value| flag(value).map(drop))
    }
}

impl Scripted for SumDead {
    fn calls(&self) -> Vec<Call> {
        let call =
            |shard| Call { script: &DEAD_LETTERS, keys: keys(shard, &DEAD), arguments: Vec::new() };
        (0..SHARDS).map(call).collect()
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Vec<DeadSum>> {
        let mut sums = DeadSums::default();
        for value in values {
            for five in plain::<Vec<String>>(value)?.chunks(5) {
                let [channel, count, oldest, newest, class] = five else {
                    return Err(corrupt("the dead letters"));
                };
                let (count, oldest_at) = (number(Some(count))?, number(Some(oldest))?);
                let class = class.clone();
                let sum = DeadSum { channel: id(channel)?, count, oldest_at, class };
                sums.add(sum, number(Some(newest))?);
            }
        }
        Ok(sums.all())
    }
}

impl Scripted for SumLoads {
    fn calls(&self) -> Vec<Call> {
        let call =
            |shard| Call { script: &LOADS, keys: keys(shard, &[DEAD[2]]), arguments: Vec::new() };
        (0..SHARDS).map(call).collect()
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Vec<Load>> {
        let mut loads = Loads::default();
        for value in values {
            let (waiting, dead): (BTreeMap<String, u64>, BTreeMap<String, u64>) = plain(value)?;
            for (field, number) in waiting {
                let (channel, of) = field.split_once(' ').ok_or_else(|| corrupt("a load"))?;
                let of = if of == "m" { [number, 0, 0] } else { [0, number, 0] };
                loads.add(&id(channel)?, of);
            }
            for (channel, number) in dead {
                loads.add(&id(&channel)?, [0, 0, number]);
            }
        }
        Ok(loads.all())
    }
}
