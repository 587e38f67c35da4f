//! Routes from the Secrets of one namespace, as the operator writes them.
//!
//! Takes a client and the namespace, gives the table every route and the control token, and keeps
//! doing so. Needs `list` and `watch` of Secrets in that namespace and nothing else. A Secret that
//! cannot be read leaves the last good route of its name in force, and its name known without one.
//! Never writes.
//!
//! One list and watch of all Secrets of the namespace, which holds routes and the control token and
//! nothing else; labels and names are looked at afterwards. One stream has one moment at which
//! everything is known. Two (routes by label, the token by name) have two, and an order between
//! them that somebody would have to think about. A route is taken only under the name that its own
//! account and sender give, so no mistake in an object takes another's traffic. The operator's key
//! `state` is decoded as bytes and dropped: once a list, not once a message.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::route::{
    COMPONENT_LABEL, COMPONENT_ROUTE, CONTROL_SECRET, CONTROL_TOKEN_KEY, ROUTE_KEY, Route,
    SecretText, route_hash, route_name,
};
use kanarie_process::pace::{WatchPace, watch_config};
use kanarie_words::ids::RouteHash;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::events::emit;
use crate::events::routes::RoutesEvent;
use crate::labels::RoutesTrouble;
use crate::routes::table::{RouteTable, Sighting};

/// Changes that are taken into the table at once.
const BATCH: usize = 256;
/// Secrets of one page of the list. Each brings the operator's memory along, which is let go at once,
/// and what the largest page took is hardly given back.
const PAGE: u32 = 100;
/// Time between two looks for routes that are gone long enough.
const FORGET_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Follows the Secrets of `namespace` until `shutdown` says true.
pub async fn follow(
    client: Client,
    namespace: &str,
    table: Arc<RouteTable>,
    mut shutdown: watch::Receiver<bool>,
) {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    // The namespace holds routes and the control token only, so one watch sees everything that
    // belongs together and the first list is complete by itself.
    let config = watch_config().page_size(PAGE);
    let mut events =
        watcher(secrets, config).backoff(WatchPace::default()).ready_chunks(BATCH).boxed();
    let mut listing = Listing::default();
    let mut forget = tokio::time::interval(FORGET_EVERY);
    while !*shutdown.borrow() {
        tokio::select! {
            batch = events.next() => match batch {
                Some(batch) => listing.take(batch, &table, Instant::now()),
                None => return,
            },
            _ = forget.tick() => table.forget_gone(Instant::now()),
            _ = shutdown.changed() => {}
        }
    }
}

/// The list that is being received.
#[derive(Default)]
struct Listing {
    routes: Vec<(String, Sighting)>,
    token: Option<SecretText>,
}

impl Listing {
    fn take(
        &mut self,
        batch: Vec<watcher::Result<watcher::Event<Secret>>>,
        table: &RouteTable,
        now: Instant,
    ) {
        let mut changes = Vec::new();
        for event in batch {
            match event {
                Ok(watcher::Event::Init) => *self = Self::default(),
                Ok(watcher::Event::InitApply(secret)) if is_control(&secret) => {
                    self.token = control_token(&secret);
                }
                Ok(watcher::Event::InitApply(secret)) => self.routes.push(seen(&secret)),
                Ok(watcher::Event::InitDone) => {
                    // The list is newer than every change before it.
                    changes.clear();
                    let listing = std::mem::take(self);
                    table.set_control_token(listing.token);
                    table.replace(listing.routes, now);
                    table.trust();
                }
                Ok(watcher::Event::Apply(secret)) if is_control(&secret) => {
                    table.set_control_token(control_token(&secret));
                }
                Ok(watcher::Event::Delete(secret)) if is_control(&secret) => {
                    table.set_control_token(None);
                }
                Ok(watcher::Event::Apply(secret)) => changes.push(seen(&secret)),
                Ok(watcher::Event::Delete(secret)) => {
                    changes.push((secret.name_any(), Sighting::Gone));
                }
                Err(error) => {
                    table.doubt(now);
                    trouble(RoutesTrouble::Unavailable, error.to_string());
                }
            }
        }
        table.update(changes, now);
    }
}

fn is_control(secret: &Secret) -> bool {
    secret.name_any() == CONTROL_SECRET
}

fn control_token(secret: &Secret) -> Option<SecretText> {
    let bytes = &secret.data.as_ref()?.get(CONTROL_TOKEN_KEY)?.0;
    let token = std::str::from_utf8(bytes).ok()?.trim();
    (!token.is_empty()).then(|| SecretText::new(token))
}

/// What a Secret says under its name.
fn seen(secret: &Secret) -> (String, Sighting) {
    let name = secret.name_any();
    if secret.labels().get(COMPONENT_LABEL).map(String::as_str) != Some(COMPONENT_ROUTE) {
        return (name, Sighting::Gone);
    }
    match decode(secret, &name) {
        Ok((route, hash)) => (name, Sighting::Route(Box::new(route), hash)),
        Err(error) => {
            trouble(RoutesTrouble::Unreadable, format!("Secret {name}: {error}"));
            (name, Sighting::Unreadable)
        }
    }
}

fn trouble(kind: RoutesTrouble, error: String) {
    emit(RoutesEvent::Trouble { kind, error });
}

/// Why a Secret is no route. Shows where, never what: the bytes are secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum DecodeError {
    #[error("the Secret has no key `route`; the operator writes it again at its next reconcile")]
    NoRoute,
    #[error(
        "the key `route` is not a route that this version reads (line {line}, column {column}); \
         update the gateway before the operator"
    )]
    NotARoute { line: usize, column: usize },
    #[error("the Secret is not named after its account and sender; delete it")]
    WrongName,
}

fn decode(secret: &Secret, name: &str) -> Result<(Route, RouteHash), DecodeError> {
    let bytes =
        secret.data.as_ref().and_then(|data| data.get(ROUTE_KEY)).ok_or(DecodeError::NoRoute)?;
    let route: Route = serde_json::from_slice(&bytes.0)
        .map_err(|error| DecodeError::NotARoute { line: error.line(), column: error.column() })?;
    if route_name(&route.account_sid, &route.sender) != name {
        return Err(DecodeError::WrongName);
    }
    let hash = route_hash(&bytes.0);
    Ok((route, hash))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use kanarie_crds::route::STATE_KEY;
    use kanarie_fakes::customer::Account;
    use kanarie_fakes::samples;
    use kube::runtime::watcher::Event;

    use super::*;

    const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
    const SENDER: &str = "whatsapp:+31201234567";

    fn bytes(serving: u64) -> Vec<u8> {
        let mut route = samples::route(&Account {
            sid: ACCOUNT.to_owned(),
            token: "very-secret".to_owned(),
            sender: SENDER.to_owned(),
            webhook_url: "https://hooks.example.com/".to_owned(),
        });
        route["serving"] = serving.into();
        route.to_string().into_bytes()
    }

    fn secret(name: &str, component: &str, data: &[(&str, &[u8])]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        let label = (COMPONENT_LABEL.to_owned(), component.to_owned());
        secret.metadata.labels = Some(BTreeMap::from([label]));
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        secret.data = Some(data.collect());
        secret
    }

    fn route_secret(serving: u64) -> Secret {
        let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
        secret(&name, COMPONENT_ROUTE, &[(ROUTE_KEY, &bytes(serving)), (STATE_KEY, b"not ours")])
    }

    fn after(batches: Vec<Vec<Event<Secret>>>) -> RouteTable {
        let table = RouteTable::default();
        let mut listing = Listing::default();
        for batch in batches {
            listing.take(batch.into_iter().map(Ok).collect(), &table, Instant::now());
        }
        table
    }

    fn listed(secrets: Vec<Secret>) -> Vec<Event<Secret>> {
        let items = secrets.into_iter().map(Event::InitApply);
        std::iter::once(Event::Init).chain(items).chain([Event::InitDone]).collect()
    }

    fn serving(table: &RouteTable) -> u64 {
        table.find(ACCOUNT, SENDER).unwrap().route.serving
    }

    /// Scenario 50: a gateway that comes in the middle of a rollout is ready when it has every route, with
    /// the split that they have now, and not before.
    #[test]
    fn scenario_50_a_table_is_ready_only_when_the_list_is_complete() {
        let begun = vec![Event::Init, Event::InitApply(route_secret(7))];
        let table = after(vec![begun.clone()]);
        assert!(!table.ready() && table.find(ACCOUNT, SENDER).is_none());
        let table = after(vec![begun, vec![Event::InitDone]]);
        assert!(table.ready());
        assert_eq!(serving(&table), 7);
    }

    #[test]
    fn the_hash_is_over_the_bytes_that_the_operator_wrote() {
        let table = after(vec![listed(vec![route_secret(3)])]);
        assert_eq!(table.find(ACCOUNT, SENDER).unwrap().hash, route_hash(&bytes(3)));
    }

    #[test]
    fn a_secret_that_cannot_be_read_leaves_the_last_good_route_in_force() {
        let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
        let broken =
            secret(&name, COMPONENT_ROUTE, &[(ROUTE_KEY, b"{\"serving\": \"very-secret\"}")]);
        let table = after(vec![listed(vec![route_secret(1)]), vec![Event::Apply(broken.clone())]]);
        assert_eq!(serving(&table), 1);
        let table = after(vec![listed(vec![route_secret(1)]), listed(vec![broken])]);
        assert_eq!(table.find(ACCOUNT, SENDER).unwrap().gone_since, None);
    }

    #[test]
    fn a_secret_that_could_never_be_read_keeps_its_name() {
        let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
        let broken = secret(&name, COMPONENT_ROUTE, &[(ROUTE_KEY, b"{}")]);
        let table = after(vec![listed(vec![broken])]);
        assert!(table.find(ACCOUNT, SENDER).is_none());
        assert!(table.may_have(ACCOUNT, SENDER, Instant::now()));
        assert!(!table.may_have(ACCOUNT, "whatsapp:+1", Instant::now()));
    }

    #[test]
    fn a_watch_that_fails_makes_every_stranger_doubtful_until_the_next_list() {
        let table = after(vec![listed(vec![route_secret(1)])]);
        let mut listing = Listing::default();
        listing.take(vec![Err(watcher::Error::NoResourceVersion)], &table, Instant::now());
        assert!(table.may_have(ACCOUNT, "whatsapp:+1", Instant::now()));
        let again = listed(vec![route_secret(1)]).into_iter().map(Ok).collect();
        listing.take(again, &table, Instant::now());
        assert!(!table.may_have(ACCOUNT, "whatsapp:+1", Instant::now()));
    }

    #[test]
    fn why_a_secret_cannot_be_read_shows_nothing_of_it() {
        let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
        let broken =
            secret(&name, COMPONENT_ROUTE, &[(ROUTE_KEY, b"{\"serving\": \"very-secret\"}")]);
        let error = decode(&broken, &name).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("very-secret"), "{error}");
    }

    #[test]
    fn a_route_under_another_name_is_not_obeyed() {
        let wrong = secret("route-0", COMPONENT_ROUTE, &[(ROUTE_KEY, &bytes(1))]);
        assert_eq!(decode(&wrong, "route-0"), Err(DecodeError::WrongName));
    }

    #[test]
    fn a_secret_without_the_label_is_no_route() {
        let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
        let other = secret(&name, "something", &[(ROUTE_KEY, &bytes(1))]);
        assert!(after(vec![listed(vec![other])]).find(ACCOUNT, SENDER).is_none());
    }

    #[test]
    fn a_deleted_secret_is_a_route_that_is_gone() {
        let table =
            after(vec![listed(vec![route_secret(1)]), vec![Event::Delete(route_secret(1))]]);
        assert!(table.find(ACCOUNT, SENDER).unwrap().gone_since.is_some());
    }

    #[test]
    fn a_change_from_before_a_new_list_does_not_undo_it() {
        let mut batch = vec![Event::Apply(route_secret(1))];
        batch.extend(listed(vec![route_secret(2)]));
        assert_eq!(serving(&after(vec![batch])), 2);
    }

    #[test]
    fn the_control_token_is_read_without_its_line_end_and_forgotten_with_its_secret() {
        let control = secret(CONTROL_SECRET, "control", &[(CONTROL_TOKEN_KEY, b"token\n")]);
        let table = after(vec![listed(vec![control.clone()])]);
        assert_eq!(table.control_token().unwrap().expose(), "token");
        let table = after(vec![listed(vec![control.clone()]), vec![Event::Delete(control)]]);
        assert!(table.control_token().is_none());
    }
}
