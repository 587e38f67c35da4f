//! Evidence, as calls.
//!
//! Takes the end of a first attempt, or the channels that are asked about; gives the calls, and the
//! counts summed over the shards with the epoch of each. Never counts anything by itself, and never
//! passes over a counter that it cannot read.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::lease::Owned;
use kanarie_queue::outcome::{Counted, Counters, CountsRead, Evidence};
use kanarie_words::ids::{ChannelUid, RevisionName, SHARDS};
use redis::{Script, Value};

use crate::random;
use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, id, keys, optional, owned, owner, plain, script,
};

static END_ATTEMPT: LazyLock<Script> =
    script!(" flags=allow-oom", "shard.lua", "clock.lua", "evidence.lua", "end_attempt.lua");
static COUNTS: LazyLock<Script> = script!(" flags=allow-oom", "shard.lua", "counts.lua");

impl Scripted for EndAttempt {
    fn calls(&self) -> Vec<Call> {
        let rest = [
            self.evidence.as_ref().map(Evidence::field).unwrap_or_default(),
            optional(self.failed_on.as_ref().map(RevisionName::as_str)),
        ];
        let (ev, cu) = (format!("ev:{}", self.lease.channel), format!("cu:{}", self.lease.channel));
        owner(&END_ATTEMPT, &self.lease, &[&ev, &cu], rest)
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Owned> {
        owned(values)
    }
}

impl Scripted for ReadCounts {
    fn calls(&self) -> Vec<Call> {
        let rows = |uid: &ChannelUid| [format!("ev:{uid}"), format!("re:{uid}")];
        let own: Vec<String> = self.channels.iter().flat_map(rows).collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let call = |shard| Call {
            script: &COUNTS,
            keys: keys(shard, &own),
            arguments: vec![random::token()],
        };
        (0..SHARDS).map(call).collect()
    }

    fn answer(self, values: Vec<Value>) -> Decoded<CountsRead> {
        let mut epochs = Vec::with_capacity(values.len());
        let mut sums = vec![Counters::default(); self.channels.len()];
        for value in values {
            let Value::Array(parts) = value else { return Err(corrupt("the counts")) };
            let mut parts = parts.into_iter();
            let epoch: String = plain(parts.next().unwrap_or_default())?;
            epochs.push(Some(id(&epoch)?));
            for sum in &mut sums {
                let mut next = || counters(parts.next().unwrap_or_default());
                let (counted, rescued) = (next()?, next()?);
                sum.add(&rescued_of(rescued, &counted));
                sum.add(&counted);
            }
        }
        let counts = self.channels.into_iter().zip(sums);
        let counts = counts.map(|(channel, sum)| sum.counts(channel)).collect();
        Ok(CountsRead { epochs, counts })
    }
}

/// The rescued of servings that are still counted: the two rows age apart, and a gateway that knows no
/// rescue drops a serving from one of them only.
fn rescued_of(rescued: Counters, counted: &Counters) -> Counters {
    let is_counted = |(serving, track)| counted.0.contains_key(&(serving, track, Counted::Asked));
    let rescued = rescued.0.into_iter();
    Counters(rescued.filter(|((serving, track, _), _)| is_counted((*serving, *track))).collect())
}

fn counters(fields: Value) -> Decoded<Counters> {
    let fields: BTreeMap<String, u64> = plain(fields)?;
    let counters = fields.into_iter().map(|(field, count)| {
        let counter = Counters::parse(&field).ok_or_else(|| corrupt("a class of evidence"))?;
        Ok((counter, count))
    });
    Ok(Counters(counters.collect::<Decoded<_>>()?))
}
