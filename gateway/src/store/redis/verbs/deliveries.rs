//! Deliveries, as calls.
//!
//! Takes a batch of reports, or the question which channels have undelivered replies; gives one call
//! each, for their rows lie in one slot of their own, of no shard. So a verb of a shard that has to do
//! with them makes a call here beside its own. Never makes a call for no report.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered, Undelivered};
use kanarie_words::ids::ConversationId;
use redis::{Script, Value};

use crate::store::redis::call::{
    Call, Decoded, Keys, Scripted, corrupt, id, number, only, plain, script,
};

/// Nothing waits for these rows, so they may not take what is left of a full server.
static DELIVERIES: LazyLock<Script> =
    script!("", "time.lua", "delivery_rows.lua", "deliveries.lua");
static FORGET: LazyLock<Script> =
    script!(" flags=allow-oom", "time.lua", "delivery_rows.lua", "forget_deliveries.lua");
static ERASE: LazyLock<Script> =
    script!(" flags=allow-oom", "time.lua", "delivery_rows.lua", "erase_deliveries.lua");
static UNDELIVERED: LazyLock<Script> = script!(" flags=no-writes", "time.lua", "undelivered.lua");

/// Time of the last change; undelivered replies by channel, and when they were; segments by
/// conversation, and when they are forgotten.
const OWN: [&str; 5] =
    ["{gw:dlv}:now", "{gw:dlv}:un", "{gw:dlv}:unz", "{gw:dlv}:st", "{gw:dlv}:stz"];

/// Drops what has ended, beside a sweep.
pub(super) fn forget() -> Call {
    Call { script: &FORGET, keys: own(), arguments: Vec::new() }
}

/// Drops what is remembered of a conversation's last segments.
pub(super) fn erase(conversation: &ConversationId) -> Call {
    Call { script: &ERASE, keys: own(), arguments: vec![conversation.to_string()] }
}

fn own() -> Keys {
    OWN.map(str::to_owned).to_vec().into()
}

impl Scripted for NoteDeliveries {
    fn calls(&self) -> Vec<Call> {
        if self.reports.is_empty() {
            return Vec::new();
        }
        let arguments = self.reports.iter().flat_map(|report| {
            [
                report.conversation.to_string(),
                report.channel.to_string(),
                format!("{}.{}", report.intent, report.segment),
                report.delivery.number().to_string(),
            ]
        });
        vec![Call { script: &DELIVERIES, keys: own(), arguments: arguments.collect() }]
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
