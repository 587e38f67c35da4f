//! Finds the channel that an unverified body is for, and what its signature is checked against.
//!
//! Takes the endpoint, the table of routes and the little that an unverified body shows; gives the
//! route, or why there is none. Pure. Believes nothing: what it was found by is checked again by [`is_own`]
//! once the body is verified.

use std::borrow::Cow;
use std::sync::Arc;

use kanarie_crds::route::Route;

use tokio::time::Instant;

use crate::callback::status_url;
use crate::inbound::message::Parsed;
use crate::inbound::signature::Addressed;
use crate::labels::Endpoint;
use crate::routes::table::{Entry, RouteTable};

/// The channel that a body names. A message comes to our sender and a status callback from it; the
/// latter may also arrive where messages do.
///
/// # Errors
/// Whether it is surely none of ours.
pub fn find(
    endpoint: Endpoint,
    addressed: &Addressed<'_>,
    routes: &RouteTable,
    now: Instant,
) -> Result<Arc<Entry>, Absent> {
    let senders = match endpoint {
        Endpoint::Message => [addressed.to, addressed.from],
        Endpoint::Status => [None, addressed.from],
    };
    let account = addressed.account.ok_or(Absent::NotOurs)?;
    let mut senders = senders.into_iter().flatten();
    if let Some(entry) = senders.clone().find_map(|sender| routes.find(account, sender)) {
        return Ok(entry);
    }
    let may_be_ours = senders.any(|sender| routes.may_have(account, sender, now));
    Err(if may_be_ours { Absent::NotRead } else { Absent::NotOurs })
}

/// Why no channel was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// No channel has this account and sender.
    NotOurs,
    /// One may have them, and its route cannot be read at present.
    NotRead,
}

/// The URLs of a channel that Twilio may have signed for this endpoint.
pub fn signed_urls(endpoint: Endpoint, route: &Route) -> Cow<'_, [String]> {
    match endpoint {
        Endpoint::Message => Cow::Borrowed(&route.webhook_urls),
        Endpoint::Status => route.webhook_urls.iter().map(|url| status_url(url)).collect(),
    }
}

/// Whether a verified body is for, or of, the sender of this route and no other.
pub fn is_own(route: &Route, parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Message(message) => {
            route.account_sid == message.account && route.sender == message.sender
        }
        Parsed::StatusCallback(callback) => route.sender == callback.sender,
        Parsed::Ignored(ignored) => route.sender == ignored.sender,
    }
}
