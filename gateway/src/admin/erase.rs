//! `POST /control/v1/erase`: everything that is kept of one customer of a channel goes.
//!
//! Takes the control token and whom to erase, in the body: a number in a URL would stand in the logs of
//! whatever lies between. Gives how much there was; a second request finds nothing. First what waits goes,
//! whatever works on it, then the dead letters: so none can come after them. Counts stay, and the keys by
//! which Twilio's repetitions are recognised; neither says whose they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use kanarie_queue::erase::{EraseConversation, EraseLetters};
use kanarie_queue::letters::{DeadLetterFilter, ReadLetters};
use kanarie_words::ids::{ChannelUid, ConversationId, CustomerAddress};

use crate::admin::caller::{Answered, Refusal, authorize, peer};
use crate::admin::query;
use crate::admin::shared::Admin;
use crate::admin::told::{CustomerErased, EraseRequest, channel_name};
use crate::events::control::ControlEvent;
use crate::events::emit;
use crate::key;
use crate::labels::ControlAct;
use crate::server::body::{BodyBudget, BodyError, read_body};
use crate::server::limits::ClientLimits;
use crate::store::error::StoreError;
use crate::subject::short;

/// Path of the endpoint.
pub const PATH: &str = "/control/v1/erase";

/// Most bytes of a body.
const MAX_BODY: usize = 4_096;
/// Dead letters that are erased at once.
const AT_ONCE: usize = 100;

/// Erases a customer.
pub(super) async fn erase(
    State(admin): State<Arc<Admin>>,
    request: Request,
) -> Answered<CustomerErased> {
    let (parts, body) = request.into_parts();
    authorize(&admin, &parts.headers)?;
    let limits = ClientLimits { body_bytes: MAX_BODY, ..ClientLimits::default() };
    // So small a body has room by itself.
    let body = read_body(body, &limits, &BodyBudget::of(0)).await.map_err(|error| match error {
        BodyError::TooSlow => Refusal::Late,
        BodyError::TooLarge | BodyError::Broken | BodyError::NoRoom => wrong(HOW),
    })?;
    let asked: EraseRequest = serde_json::from_slice(&body).map_err(|_| wrong(HOW))?;
    let (conversation, channel) = whom(&admin, &asked)?;
    let name =
        |uid: &ChannelUid| channel_name(uid, &admin.routes).unwrap_or_else(|| uid.to_string());
    let named = channel.as_ref().map(name);
    let mut report =
        CustomerErased { conversation: short(&conversation).to_owned(), ..Default::default() };
    let done = erase_all(&admin, &conversation, channel, &mut report).await;
    admin.full.stir();
    emit(ControlEvent {
        act: ControlAct::EraseCustomer,
        peer: peer(&parts),
        letter: None,
        channel: named,
        class: None,
        conversation: Some(report.conversation.clone()),
        letters: report.dead_letters,
        messages: report.messages,
        is_whole: done.is_ok(),
    });
    done?;
    Ok(Json(report))
}

/// What a body looks like.
const HOW: &str = "the body is JSON: {\"channel\": \"namespace/name or UID\", \"customer\": \
                   \"whatsapp:+…\"}, or {\"conversation\": \"32 digits\"}";

fn wrong(text: &str) -> Refusal {
    Refusal::Wrong(text.to_owned())
}

/// The conversation that is meant, and its channel as far as it is named.
fn whom(
    admin: &Admin,
    asked: &EraseRequest,
) -> Result<(ConversationId, Option<ChannelUid>), Refusal> {
    let channel = asked.channel.as_deref().map(|name| query::channel(name, &admin.routes));
    let channel = channel.transpose()?;
    match (&asked.conversation, &asked.customer, channel) {
        (Some(digits), None, channel) => Ok((query::conversation(digits)?, channel)),
        (None, Some(customer), Some(channel)) => {
            let customer = customer.strip_prefix("whatsapp:").unwrap_or(customer);
            let customer = CustomerAddress::parse(&format!("whatsapp:{customer}"));
            let customer = customer.map_err(|_| wrong("customer is an address: whatsapp:+…"))?;
            let text = "that channel has no route here: name the conversation by its digits";
            let entry = admin.routes.find_channel(channel.as_str());
            let route = &entry.ok_or_else(|| Refusal::Unknown(text.to_owned()))?.route;
            let key = admin.key.get();
            let text = "the store's key is not known yet";
            let key = key.ok_or_else(|| Refusal::Unavailable(text.to_owned()))?;
            let id = key::conversation(key, &route.account_sid, &route.sender, &customer);
            Ok((id, Some(channel)))
        }
        _ => Err(wrong(HOW)),
    }
}

/// Until no channel shows up that may have counted him and was not asked yet.
async fn erase_all(
    admin: &Admin,
    conversation: &ConversationId,
    channel: Option<ChannelUid>,
    report: &mut CustomerErased,
) -> Result<(), StoreError> {
    let mut channels: BTreeSet<ChannelUid> = channel.into_iter().collect();
    loop {
        let known = channels.len();
        let asked = channels.iter().cloned().collect();
        let verb = EraseConversation { conversation: conversation.clone(), channels: asked };
        let erased = admin.store.run(verb).await?;
        report.messages += erased.messages;
        report.in_progress |= erased.was_leased;
        channels.extend(erased.channel);
        report.dead_letters += erase_letters(admin, conversation, &mut channels).await?;
        if channels.len() == known {
            return Ok(());
        }
    }
}

/// Erases all dead letters of a conversation; gives how many there were, and adds their channels.
async fn erase_letters(
    admin: &Admin,
    conversation: &ConversationId,
    channels: &mut BTreeSet<ChannelUid>,
) -> Result<u64, StoreError> {
    let shard = conversation.shard();
    let (mut after, mut erased) = (0, 0);
    loop {
        let wanted = DeadLetterFilter {
            conversation: Some(conversation.clone()),
            ..DeadLetterFilter::default()
        };
        let read =
            ReadLetters { shard, after, until: None, wanted, limit: AT_ONCE, with_text: false };
        let read = admin.store.run(read).await?;
        let numbers: Vec<u64> = read.letters.iter().map(|letter| letter.id.number).collect();
        channels.extend(read.letters.into_iter().map(|letter| letter.channel));
        if !numbers.is_empty() {
            erased += admin.store.run(EraseLetters { shard, numbers }).await?;
        }
        match read.next {
            Some(next) => after = next,
            None => return Ok(erased),
        }
    }
}
