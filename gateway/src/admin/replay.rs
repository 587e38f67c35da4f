//! Letters of one shard, put back into the queue as far as there is somebody to serve them.
//!
//! Takes letters as they were read; notes in the report what became of each. One whose reply may have
//! arrived stays unless it is meant by name: nothing is sent twice unasked. One whose channel is gone goes
//! to whichever channel has its sender now. A channel that holds as much as it may gets no more. Rings
//! for what waits now, here and elsewhere.

use std::sync::Arc;

use kanarie_metrics::label::Label as _;
use kanarie_queue::letters::{DeadLetterFilter, DeadLetterRead, ReadLetters};
use kanarie_queue::replay::{MessageAgain, Replay, Replayed};

use crate::admin::caller::Refusal;
use crate::admin::shared::Admin;
use crate::admin::told::{FULL, MAYBE_SENT, NO_CHANNEL, NO_TEXT, ReplayReport};
use crate::envelope;
use crate::labels::DeadLetterClass;
use crate::routes::table::Entry;
use crate::store::error::StoreError;

/// Replays those letters of one shard that were met while many were asked for: of class `unknown` only
/// where that class was named.
pub(super) async fn replay_met(
    admin: &Admin,
    letters: Vec<DeadLetterRead>,
    wanted: &DeadLetterFilter,
    report: &mut ReplayReport,
) -> Result<(), Refusal> {
    let maybe_sent = DeadLetterClass::Unknown.as_str();
    let is_named = wanted.class.as_deref() == Some(maybe_sent);
    let may = |letter: &DeadLetterRead| is_named || letter.class != maybe_sent;
    let (letters, left): (Vec<_>, Vec<_>) = letters.into_iter().partition(may);
    left.iter().for_each(|_| report.leave(MAYBE_SENT));
    replay_some(admin, &letters, report).await
}

/// Replays letters of one shard, each of them meant.
pub(super) async fn replay_some(
    admin: &Admin,
    letters: &[DeadLetterRead],
    report: &mut ReplayReport,
) -> Result<(), Refusal> {
    let mut again = Vec::new();
    for letter in letters {
        match prepare(admin, letter).await? {
            Ok(letter) => again.push(letter),
            Err(why) => report.leave(why),
        }
    }
    let Some(shard) = letters.first().map(|letter| letter.id.shard) else { return Ok(()) };
    if again.is_empty() {
        return Ok(());
    }
    let replayed = admin.store.run(Replay { shard, letters: again }).await;
    // Without an answer they may wait all the same.
    admin.doorbell.ring(shard);
    admin.doorbell.call_others(shard);
    replayed?.into_iter().for_each(|replayed: Replayed| report.note(replayed));
    Ok(())
}

/// What the queue is told of a letter, or why it stays.
async fn prepare(
    admin: &Admin,
    letter: &DeadLetterRead,
) -> Result<Result<MessageAgain, &'static str>, StoreError> {
    let Some(dedup_key) = letter.dedup_key.clone().filter(|_| letter.bytes.is_some()) else {
        return Ok(Err(NO_TEXT));
    };
    let Some(entry) = entry(admin, letter).await? else { return Ok(Err(NO_CHANNEL)) };
    let channel = entry.route.channel.uid.clone();
    if admin.full.is_full(&channel) {
        return Ok(Err(FULL));
    }
    let (number, dedup_ms) = (letter.id.number, entry.route.limits.dedup_ms);
    Ok(Ok(MessageAgain { number, dedup_key, channel, dedup_ms }))
}

/// The route that serves a letter: its channel's, or that of its sender.
async fn entry(admin: &Admin, letter: &DeadLetterRead) -> Result<Option<Arc<Entry>>, StoreError> {
    let is_live = |entry: &Arc<Entry>| entry.gone_since.is_none();
    let own = admin.routes.find_channel(letter.channel.as_str()).filter(is_live);
    if own.is_some() {
        return Ok(own);
    }
    let (shard, number, wanted) = (letter.id.shard, letter.id.number, DeadLetterFilter::default());
    let (after, until) = (number.saturating_sub(1), Some(number));
    let read = ReadLetters { shard, after, until, wanted, limit: 1, with_text: true };
    let text = admin.store.run(read).await?.letters.into_iter().find_map(|letter| letter.text);
    let message = text.and_then(|text| envelope::read(&text).ok());
    let of_sender = message
        .and_then(|message| admin.routes.find(message.account.as_str(), message.sender.as_str()));
    Ok(of_sender.filter(is_live))
}
