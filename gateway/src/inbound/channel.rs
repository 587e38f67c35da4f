//! Finds the channel that an unverified body is for, and what its signature is checked against.
//!
//! Takes the endpoint, the table of routes and the little that an unverified body shows; gives the
//! route, or nothing. Pure. Believes nothing: what it was found by is checked again by [`is_own`]
//! once the body is verified.

use std::borrow::Cow;
use std::sync::Arc;

use kanarie_crds::route::Route;

use crate::callback::status_url;
use crate::inbound::message::Parsed;
use crate::inbound::signature::Addressed;
use crate::labels::Endpoint;
use crate::routes::table::{Entry, RouteTable};

/// The channel that a body names. A message comes to our sender and a status callback from it; the
/// latter may also arrive where messages do.
pub fn find(
    endpoint: Endpoint,
    addressed: &Addressed<'_>,
    routes: &RouteTable,
) -> Option<Arc<Entry>> {
    let senders = match endpoint {
        Endpoint::Message => [addressed.to, addressed.from],
        Endpoint::Status => [None, addressed.from],
    };
    let account = addressed.account?;
    senders.into_iter().flatten().find_map(|sender| routes.find(account, sender))
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
            message.account == route.account_sid && message.sender == route.sender
        }
        Parsed::StatusCallback(callback) => callback.sender == route.sender,
        Parsed::Ignored(ignored) => ignored.sender == route.sender,
    }
}
