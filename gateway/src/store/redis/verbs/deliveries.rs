//! Deliveries, as calls.
//!
//! Takes a batch of reports, or the question which channels have undelivered replies; gives one call
//! each, for their rows lie in one slot of their own, of no shard. Never makes a call for no report.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered, Undelivered};
use kanarie_words::ids::ConversationId;
use redis::{Script, Value};

use crate::store::redis::call::{
    Call, Decoded, Scripted, corrupt, id, number, only, plain, script,
};

/// Nothing waits for these rows, so they may not take what is left of a full server.
static DELIVERIES: LazyLock<Script> = script!("", "time.lua", "deliveries.lua");
static UNDELIVERED: LazyLock<Script> = script!(" flags=no-writes", "time.lua", "undelivered.lua");

/// Time of the last change, undelivered replies by channel, and when they were.
const OWN: [&str; 3] = ["{gw:dlv}:now", "{gw:dlv}:un", "{gw:dlv}:unz"];

impl Scripted for NoteDeliveries {
    fn calls(&self) -> Vec<Call> {
        if self.reports.is_empty() {
            return Vec::new();
        }
        let mut keys: Vec<String> = OWN.map(str::to_owned).into();
        let mut places: BTreeMap<&ConversationId, usize> = BTreeMap::new();
        let mut arguments = Vec::with_capacity(4 * self.reports.len());
        for report in &self.reports {
            let next = places.len() + 1;
            let place = *places.entry(&report.conversation).or_insert_with(|| {
                keys.push(format!("{{gw:dlv}}:st:{}", report.conversation));
                next
            });
            arguments.extend([
                place.to_string(),
                report.channel.to_string(),
                format!("{}.{}", report.intent, report.segment),
                report.delivery.number().to_string(),
            ]);
        }
        vec![Call { script: &DELIVERIES, keys: keys.into(), arguments }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Vec<bool>> {
        let changed: Vec<i64> = match values.is_empty() {
            true => Vec::new(),
            false => plain(only(values))?,
        };
        if changed.len() != self.reports.len() || changed.iter().any(|one| !(0..=1).contains(one)) {
            return Err(corrupt("what reports changed"));
        }
        Ok(changed.into_iter().map(|one| one == 1).collect())
    }
}

impl Scripted for SumUndelivered {
    fn calls(&self) -> Vec<Call> {
        let keys = vec![OWN[0].to_owned(), OWN[1].to_owned()].into();
        vec![Call { script: &UNDELIVERED, keys, arguments: Vec::new() }]
    }

    fn answer(self, values: Vec<Value>) -> Decoded<Vec<Undelivered>> {
        let rows: BTreeMap<String, String> = plain(only(values))?;
        let read = |(channel, row): (String, String)| {
            let mut words = row.split(' ');
            let (count, code) = (number(words.next())?, number(words.next())?);
            let code = u32::try_from(code).map_err(|_| corrupt("an error code"))?;
            Ok(Undelivered {
                channel: id(&channel)?,
                count,
                last_code: Some(code).filter(|code| *code > 0),
                last_at: number(words.next())?,
            })
        };
        rows.into_iter().map(read).collect()
    }
}
