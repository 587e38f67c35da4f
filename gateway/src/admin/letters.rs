//! Dead letters by the admin port: listed, shown, replayed, erased, one of them or many.
//!
//! Takes the control token with each request; gives JSON. What changes something, or shows what a customer
//! wrote, is told to the log as an act of whoever holds the token. A request that concerns many
//! does so much and says where the next one goes on, so that no shard stands still for it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use kanarie_queue::erase::EraseLetters;
use kanarie_queue::letters::{DeadLetterFilter, DeadLetterId, DeadLetterRead, ReadLetters};
use kanarie_queue::replay::REPLAYED;
use tokio::time::Instant;

use crate::admin::caller::{Answered, Refusal, authorize, peer};
use crate::admin::query::{MOST, OF_MANY, OF_ONE, Query};
use crate::admin::replay::{replay_met, replay_some};
use crate::admin::shared::Admin;
use crate::admin::told::{
    EraseReport, LettersPage, NO_CHANNEL, NO_TEXT, ReplayReport, ToldLetter, channel_name,
};
use crate::events::control::ControlEvent;
use crate::events::emit;
use crate::labels::ControlAct;
use crate::subject::short;

/// All letters.
pub const PATH: &str = "/control/v1/dead-letters";
/// Many of them, replayed.
pub const REPLAY_PATH: &str = "/control/v1/dead-letters/replay";
/// One of them.
pub const ONE_PATH: &str = "/control/v1/dead-letters/{id}";
/// One of them, replayed.
pub const REPLAY_ONE_PATH: &str = "/control/v1/dead-letters/{id}/replay";

/// Letters of a page when nobody says.
const USUAL: usize = 100;
/// Time after which a request that concerns many says where the next one goes on.
const ENOUGH: Duration = Duration::from_secs(2);
/// Longest that an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Lists letters.
pub(super) async fn list(State(admin): State<Arc<Admin>>, parts: Parts) -> Answered<LettersPage> {
    authorize(&admin, &parts.headers)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default(), &OF_MANY, &admin.routes)?;
    within(async {
        let mut page = LettersPage::default();
        let (mut cursor, limit) = (query.after.unwrap_or_default(), query.limit.unwrap_or(USUAL));
        let began = Instant::now();
        while !cursor.is_at_end() && page.dead_letters.len() < limit && began.elapsed() < ENOUGH {
            let room = limit - page.dead_letters.len();
            let letters = cursor.step(&admin.store, &query.wanted, room).await?;
            let told = letters.into_iter().map(|letter| ToldLetter::of(letter, &admin.routes));
            page.dead_letters.extend(told);
        }
        page.next = cursor.next();
        Ok(Json(page))
    })
    .await
}

/// Shows one letter.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    id: AnyPath,
    parts: Parts,
) -> Answered<ToldLetter> {
    authorize(&admin, &parts.headers)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default(), &OF_ONE, &admin.routes)?;
    let Path(id) = id.map_err(|_| no_id())?;
    let letter = within(find(&admin, &id, query.text)).await?;
    if query.text {
        emit(event(ControlAct::ShowText, &admin, &parts, &Subject::One(&letter)));
    }
    let conversation_id = letter.conversation.clone();
    Ok(Json(ToldLetter { conversation_id, ..ToldLetter::of(letter, &admin.routes) }))
}

/// Replays one letter.
pub(super) async fn replay_one(
    State(admin): State<Arc<Admin>>,
    id: AnyPath,
    parts: Parts,
) -> Answered<ReplayReport> {
    authorize(&admin, &parts.headers)?;
    Query::parse(parts.uri.query().unwrap_or_default(), &[], &admin.routes)?;
    let Path(id) = id.map_err(|_| no_id())?;
    let letter = within(find(&admin, &id, false)).await?;
    let mut report = ReplayReport::default();
    let letters = [letter];
    let done = within(replay_some(&admin, &letters, &mut report)).await;
    admin.full.stir();
    let told = event(ControlAct::Replay, &admin, &parts, &Subject::One(&letters[0]));
    emit(ControlEvent { letters: report.replayed, is_whole: done.is_ok(), ..told });
    done?;
    match report.left.keys().next() {
        None if report == ReplayReport::default() => Err(unknown(&id)),
        None => Ok(Json(report)),
        Some(why) => Err(Refusal::Conflict(format!("dead letter {id} stays: {}", meaning(why)))),
    }
}

/// Replays many letters.
pub(super) async fn replay_many(
    State(admin): State<Arc<Admin>>,
    parts: Parts,
) -> Answered<ReplayReport> {
    authorize(&admin, &parts.headers)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default(), &OF_MANY, &admin.routes)?;
    query.is_meant()?;
    let mut report = ReplayReport::default();
    let done = within(async {
        let mut cursor = query.after.unwrap_or_default();
        let (mut left, began) = (query.limit.unwrap_or(MOST), Instant::now());
        while !cursor.is_at_end() && left > 0 && began.elapsed() < ENOUGH {
            let some = cursor.step(&admin.store, &query.wanted, left.min(REPLAYED)).await?;
            left -= some.len();
            replay_met(&admin, some, &query.wanted, &mut report).await?;
        }
        report.next = cursor.next();
        Ok(())
    })
    .await;
    admin.full.stir();
    let told = event(ControlAct::Replay, &admin, &parts, &Subject::Many(&query.wanted));
    emit(ControlEvent { letters: report.replayed, is_whole: done.is_ok(), ..told });
    done.map(|()| Json(report))
}

/// Erases one letter.
pub(super) async fn erase_one(
    State(admin): State<Arc<Admin>>,
    id: AnyPath,
    parts: Parts,
) -> Answered<EraseReport> {
    authorize(&admin, &parts.headers)?;
    Query::parse(parts.uri.query().unwrap_or_default(), &[], &admin.routes)?;
    let Path(id) = id.map_err(|_| no_id())?;
    let letter = within(find(&admin, &id, false)).await?;
    let mut report = EraseReport::default();
    let done = within(erase_some(&admin, std::slice::from_ref(&letter), &mut report)).await;
    admin.full.stir();
    let told = event(ControlAct::EraseLetters, &admin, &parts, &Subject::One(&letter));
    emit(ControlEvent { letters: report.erased, is_whole: done.is_ok(), ..told });
    done.map(|()| Json(report))
}

/// Erases many letters.
pub(super) async fn erase_many(
    State(admin): State<Arc<Admin>>,
    parts: Parts,
) -> Answered<EraseReport> {
    authorize(&admin, &parts.headers)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default(), &OF_MANY, &admin.routes)?;
    query.is_meant()?;
    let mut report = EraseReport::default();
    let done = within(async {
        let mut cursor = query.after.unwrap_or_default();
        let (mut left, began) = (query.limit.unwrap_or(MOST), Instant::now());
        while !cursor.is_at_end() && left > 0 && began.elapsed() < ENOUGH {
            let some = cursor.step(&admin.store, &query.wanted, left.min(USUAL)).await?;
            left -= some.len();
            erase_some(&admin, &some, &mut report).await?;
        }
        report.next = cursor.next();
        Ok(())
    })
    .await;
    admin.full.stir();
    let told = event(ControlAct::EraseLetters, &admin, &parts, &Subject::Many(&query.wanted));
    emit(ControlEvent { letters: report.erased, is_whole: done.is_ok(), ..told });
    done.map(|()| Json(report))
}

/// What stands for the id of a letter, whether it is text or not: that is said after the token is seen.
type AnyPath = Result<Path<String>, PathRejection>;

/// What an act concerns.
enum Subject<'a> {
    One(&'a DeadLetterRead),
    Many(&'a DeadLetterFilter),
}

/// The act as the log tells it, before anything is done.
fn event(act: ControlAct, admin: &Admin, parts: &Parts, subject: &Subject<'_>) -> ControlEvent {
    let (letter, channel, class, conversation) = match subject {
        Subject::One(of) => {
            (Some(of.id.to_string()), Some(&of.channel), Some(&of.class), &of.conversation)
        }
        Subject::Many(of) => (None, of.channel.as_ref(), of.class.as_ref(), &of.conversation),
    };
    let named = |uid: &kanarie_words::ids::ChannelUid| {
        channel_name(uid, &admin.routes).unwrap_or_else(|| uid.to_string())
    };
    ControlEvent {
        act,
        peer: peer(parts),
        letter,
        channel: channel.map(named),
        class: class.cloned(),
        conversation: conversation.as_ref().map(|id| short(id).to_owned()),
        letters: 0,
        messages: 0,
        is_whole: true,
    }
}

/// Erases letters of one shard.
async fn erase_some(
    admin: &Admin,
    letters: &[DeadLetterRead],
    report: &mut EraseReport,
) -> Result<(), Refusal> {
    let Some(first) = letters.first() else { return Ok(()) };
    let numbers = letters.iter().map(|letter| letter.id.number).collect();
    report.erased += admin.store.run(EraseLetters { shard: first.id.shard, numbers }).await?;
    Ok(())
}

/// The letter of that name.
async fn find(admin: &Admin, id: &str, with_text: bool) -> Result<DeadLetterRead, Refusal> {
    let DeadLetterId { shard, number } = DeadLetterId::parse(id).ok_or_else(no_id)?;
    let (after, until, wanted) = (number - 1, Some(number), DeadLetterFilter::default());
    let read = ReadLetters { shard, after, until, wanted, limit: 1, with_text };
    let found = admin.store.run(read).await?.letters.into_iter().next();
    found.ok_or_else(|| unknown(id))
}

fn no_id() -> Refusal {
    Refusal::Wrong("the id of a dead letter looks like 07-42".to_owned())
}

fn unknown(id: &str) -> Refusal {
    let why = "it was replayed or erased, is over 14 days old, or never was";
    Refusal::Unknown(format!("there is no dead letter {id}: {why}"))
}

fn meaning(why: &str) -> &'static str {
    match why {
        NO_TEXT => "its text is gone after 24 hours, so there is nothing to replay",
        NO_CHANNEL => "no channel has a route for its sender",
        _ => "its conversation, its channel or the queue is full; try again later",
    }
}

/// Nobody waits for a store for long.
async fn within<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| Err(Refusal::Unavailable("the store is too slow".to_owned())))
}
