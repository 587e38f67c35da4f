//! Credentials: what the Secrets give now, and for the rest what was compiled before.
//!
//! Takes the Secrets as read and the route that is in force; gives the route's live part and its
//! revisions, and what is wrong with the Secrets. A Secret that vanished or became unusable leaves
//! its last compiled value in force. Pure; never tells a value.
//!
//! A route takes at most 24 KiB of the object's 64; the memory beside it at most 40 at the maximum
//! of every bound, which a test adds up. With one limit for both, a channel with long Secrets and a
//! long history could reach it in the very write that takes a canary back. So what a person enters
//! is refused at the door (`CredentialsReady=False/ValueUnusable`, the last values stay), and what
//! the operator remembers always fits. Ten values of 4 KiB do not fit together: Twilio's are 32
//! bytes, signing keys 64, agents' keys rarely over 2 KiB.

use std::collections::BTreeMap;

use kanarie_crds::channel::{RevisionContent, SecretRef};
use kanarie_crds::compile::{CompileError, Secrets, compile_channel, compile_revision, is_usable};
use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute, Route, SecretText};
use kanarie_crds::secrets::{
    AGENT_API_KEY, AGENT_TOKEN, API_KEY_SECRET, API_KEY_SID, AUTH_TOKEN, AUTH_TOKEN_SECONDARY,
    SIGNING_KEY,
};
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;

use crate::cluster::secrets::Read;
use crate::reconcile::blocked::SecretProblem;
use crate::reconcile::validate::ValidSpec;

/// Most bytes of a route. The memory beside it takes at most 40 KiB, so that it always fits and no
/// Secret can stand in the way of a rollback.
pub const MAX_ROUTE_BYTES: usize = 24 * 1024;

/// A revision and its name.
pub type Named<'a> = (&'a RevisionName, &'a RevisionContent);

/// Compiles a route around `stable`, with `canary` set aside for whoever knows the weight.
pub fn compile(
    channel: &ChannelRef,
    spec: &ValidSpec,
    stable: Named<'_>,
    canary: Option<Named<'_>>,
    read: &Read,
    before: Option<&Route>,
) -> Result<(Route, Option<SecretProblem>), SecretProblem> {
    let attempt = |secrets: &Secrets| {
        let namespace = &channel.namespace;
        let revision =
            |(name, content): Named<'_>| compile_revision(namespace, name, content, secrets);
        let served = revision(stable)?;
        let mut route = compile_channel(channel.clone(), &spec.spec, served, secrets)?;
        route.canary = canary.map(revision).transpose()?;
        Ok::<Route, CompileError>(route)
    };
    let (problem, fits) = match attempt(&read.found) {
        Ok(route) if size(&route) <= MAX_ROUTE_BYTES => return Ok((route, None)),
        Ok(route) => (too_long(size(&route)), false),
        Err(error) => (problem(&error, read), true),
    };
    let Some(before) = before else {
        return Err(problem);
    };
    let mut secrets = read.found.clone();
    let revisions = std::iter::once(stable).chain(canary).collect::<Vec<_>>();
    for (reference, key, value) in last_compiled(spec, &revisions, before) {
        if !fits || !stands(&secrets, reference, key) {
            let data = secrets.entry(reference.name.clone()).or_default();
            data.insert(key.to_owned(), value.as_bytes().to_vec());
        }
    }
    match attempt(&secrets) {
        Ok(route) if size(&route) <= MAX_ROUTE_BYTES => Ok((route, Some(problem))),
        Ok(_) | Err(_) => as_before(before, stable.0, canary.map(|(name, _)| name))
            .map(|route| (route, Some(problem.clone())))
            .ok_or(problem),
    }
}

/// The route in force around revisions that it has already: of a spec that is not carried out, and
/// of one whose Secrets are not there. What names a Secret that was never
/// there is not in force before that comes, and keeps no canary from being taken back.
pub fn as_before(
    before: &Route,
    stable: &RevisionName,
    canary: Option<&RevisionName>,
) -> Option<Route> {
    let stable = compiled(before, stable)?.clone();
    let canary = match canary {
        None => None,
        Some(canary) => Some(compiled(before, canary)?.clone()),
    };
    Some(Route { stable, canary, ..before.clone() })
}

fn compiled<'a>(before: &'a Route, revision: &RevisionName) -> Option<&'a RevisionRoute> {
    std::iter::once(&before.stable).chain(&before.canary).find(|held| held.revision == *revision)
}

fn size(route: &Route) -> usize {
    serde_json::to_vec(route).map_or(usize::MAX, |bytes| bytes.len())
}

fn too_long(size: usize) -> SecretProblem {
    let message = format!(
        "the route would take {size} bytes of {MAX_ROUTE_BYTES}; shorten the values of the \
         channel's Secrets, or its texts"
    );
    SecretProblem { reason: Reason::ValueUnusable, message }
}

fn problem(error: &CompileError, read: &Read) -> SecretProblem {
    let reason = match error {
        CompileError::SecretNotFound { secret, .. } if read.forbidden.contains(secret) => {
            let message = format!(
                "the operator may not read Secret `{secret}`; allow it to get Secrets in the \
                 channel's namespace"
            );
            return SecretProblem { reason: Reason::Forbidden, message };
        }
        CompileError::SecretNotFound { secret, .. } if read.unreadable.contains_key(secret) => {
            let said = read.unreadable.get(secret).map_or("", String::as_str);
            let message = format!("Secret `{secret}` cannot be read: {said}");
            return SecretProblem { reason: Reason::SecretUnreadable, message };
        }
        CompileError::SecretNotFound { .. } => Reason::SecretNotFound,
        CompileError::KeyMissing { .. } => Reason::KeyMissing,
        CompileError::ValueTooLong { .. }
        | CompileError::NotText { .. }
        | CompileError::NoAgent { .. }
        | CompileError::Id(_) => Reason::ValueUnusable,
    };
    SecretProblem { reason, message: error.to_string() }
}

/// Every value of the route in force, with the place that it came from.
fn last_compiled<'a>(
    spec: &'a ValidSpec,
    revisions: &[Named<'a>],
    before: &'a Route,
) -> Vec<(&'a SecretRef, &'static str, &'a str)> {
    let twilio = &spec.spec.twilio;
    let held = &before.credentials;
    let auth = &twilio.auth_token_secret_ref;
    let mut values = vec![(auth, AUTH_TOKEN, held.auth_token.expose())];
    if let Some(secondary) = &held.auth_token_secondary {
        values.push((auth, AUTH_TOKEN_SECONDARY, secondary.expose()));
    }
    if let (Some(reference), Some(key)) = (&twilio.api_key_secret_ref, &held.api_key) {
        values.push((reference, API_KEY_SID, &key.sid));
        values.push((reference, API_KEY_SECRET, key.secret.expose()));
    }
    for key in &twilio.signing_keys {
        if let Some(shared) = held.signing_keys.iter().find(|shared| shared.key_id == key.key_id) {
            values.push((&key.secret_ref, SIGNING_KEY, shared.secret.expose()));
        }
    }
    for (name, content) in revisions {
        values.extend(compiled(before, name).and_then(|route| agent_secret(content, route)));
    }
    values
}

fn agent_secret<'a>(
    content: &'a RevisionContent,
    route: &'a RevisionRoute,
) -> Option<(&'a SecretRef, &'static str, &'a str)> {
    let agent = &content.agent;
    match &route.agent {
        AgentRoute::LangGraph { api_key, .. } => {
            let reference = agent.lang_graph.as_ref()?.api_key_secret_ref.as_ref()?;
            Some((reference, AGENT_API_KEY, api_key.as_ref().map(SecretText::expose)?))
        }
        AgentRoute::Http { token, .. } => {
            let reference = agent.http.as_ref()?.token_secret_ref.as_ref()?;
            Some((reference, AGENT_TOKEN, token.as_ref().map(SecretText::expose)?))
        }
    }
}

/// Whether the Secrets settle this key by themselves. A secondary token that was taken out of a
/// Secret which is still there is the end of a rotation, not a loss.
fn stands(secrets: &Secrets, reference: &SecretRef, key: &'static str) -> bool {
    let ended = |data: &BTreeMap<String, Vec<u8>>| {
        key == AUTH_TOKEN_SECONDARY && !data.contains_key(key) && data.contains_key(AUTH_TOKEN)
    };
    secrets
        .get(&reference.name)
        .is_some_and(|data| ended(data) || data.get(key).is_some_and(|value| is_usable(value)))
}

#[cfg(test)]
mod tests {
    use kanarie_crds::secrets::MAX_VALUE_BYTES;

    use super::*;
    use crate::reconcile::validate::validate;

    fn channel() -> (ChannelRef, ValidSpec) {
        let text = r#"
apiVersion: kanarie.dev/v1alpha1
kind: WhatsAppChannel
metadata: {name: care, namespace: shop, uid: u}
spec:
  twilio:
    accountSid: AC0123456789abcdef0123456789abcdef
    authTokenSecretRef: {name: twilio}
  sender: {address: "whatsapp:+31201234567"}
  webhook: {url: "https://hooks.example.com/wa"}
  agent: {http: {url: "https://agent.example.com/", tokenSecretRef: {name: agent}}}
"#;
        let channel = validate(&serde_saphyr::from_str(text).unwrap()).unwrap();
        (channel.reference, channel.spec.unwrap())
    }

    fn named(revision: &str) -> RevisionName {
        revision.parse().unwrap()
    }

    fn read(secrets: &[(&str, &[(&str, &str)])]) -> Read {
        let data = |keys: &[(&str, &str)]| {
            keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
        };
        let found = secrets.iter().map(|(name, keys)| ((*name).to_owned(), data(keys))).collect();
        Read { found, ..Read::default() }
    }

    fn served(
        read: &Read,
        before: Option<&Route>,
    ) -> Result<(Route, Option<SecretProblem>), SecretProblem> {
        let (channel, spec) = channel();
        compile(&channel, &spec, (&named("a"), &spec.content), None, read, before)
    }

    const BOTH: &[(&str, &[(&str, &str)])] = &[
        ("twilio", &[("authToken", "one"), ("authTokenSecondary", "two")]),
        ("agent", &[("token", "t")]),
    ];

    #[test]
    fn a_vanished_secret_leaves_its_last_value_in_force_and_is_named() {
        let (before, _) = served(&read(BOTH), None).unwrap();
        let (after, problem) = served(&read(&BOTH[..1]), Some(&before)).unwrap();
        assert_eq!(after, before);
        let problem = problem.unwrap();
        assert_eq!(problem.reason, Reason::SecretNotFound);
        assert!(problem.message.contains("`agent`"), "{}", problem.message);
    }

    #[test]
    fn without_a_route_in_force_a_missing_secret_leaves_nothing_to_serve_with() {
        assert_eq!(served(&read(&[]), None).unwrap_err().reason, Reason::SecretNotFound);
    }

    #[test]
    fn a_secondary_token_taken_out_of_its_secret_is_taken_out_of_the_route() {
        let (before, _) = served(&read(BOTH), None).unwrap();
        let ended = read(&[("twilio", &[("authToken", "two")])]);
        let (after, problem) = served(&ended, Some(&before)).unwrap();
        assert_eq!(after.credentials.auth_token_secondary, None);
        assert_eq!(after.credentials.auth_token.expose(), "two");
        assert!(problem.is_some(), "the agent's Secret is still missing");
    }

    #[test]
    fn a_value_that_became_too_long_is_refused_and_the_last_one_stays() {
        let (before, _) = served(&read(BOTH), None).unwrap();
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        let keys: &[(&str, &str)] = &[("authToken", &long)];
        let (after, problem) = served(&read(&[("twilio", keys), BOTH[1]]), Some(&before)).unwrap();
        assert_eq!(after.credentials.auth_token.expose(), "one");
        assert_eq!(problem.unwrap().reason, Reason::ValueUnusable);
    }

    #[test]
    fn a_route_that_would_not_fit_is_refused_and_the_last_values_stay() {
        let (channel, mut spec) = channel();
        let key = |number: usize| kanarie_crds::channel::SigningKey {
            key_id: number.to_string(),
            secret_ref: SecretRef { name: format!("key-{number}") },
        };
        spec.spec.twilio.signing_keys = (0..4).map(key).collect();
        let sized = |length: usize| {
            let value = "x".repeat(length).into_bytes();
            let mut read = read(BOTH);
            for number in 0..4 {
                let data = BTreeMap::from([(SIGNING_KEY.to_owned(), value.clone())]);
                read.found.insert(format!("key-{number}"), data);
            }
            for data in read.found.values_mut() {
                data.values_mut().for_each(|held| held.resize(length, b'x'));
            }
            read
        };
        let compiled = |read: &Read, before: Option<&Route>| {
            compile(&channel, &spec, (&named("a"), &spec.content), None, read, before)
        };
        let (before, _) = compiled(&sized(100), None).unwrap();
        let (after, problem) = compiled(&sized(MAX_VALUE_BYTES), Some(&before)).unwrap();
        assert_eq!(after, before);
        assert_eq!(problem.unwrap().reason, Reason::ValueUnusable);
        assert!(compiled(&sized(MAX_VALUE_BYTES), None).is_err());
    }

    #[test]
    fn a_new_reference_to_a_missing_secret_keeps_no_canary_from_being_taken_back() {
        let (channel, mut spec) = channel();
        let (one, two, three) = (named("a"), named("b"), named("c"));
        let content = spec.content.clone();
        let (a, b) = ((&one, &content), (&two, &content));
        let (before, _) = compile(&channel, &spec, a, Some(b), &read(BOTH), None).unwrap();
        spec.spec.twilio.api_key_secret_ref = Some(SecretRef { name: "nobody-made-it".into() });
        let (after, problem) =
            compile(&channel, &spec, a, None, &read(BOTH), Some(&before)).unwrap();
        assert_eq!(after, Route { canary: None, ..before.clone() });
        assert_eq!(problem.unwrap().reason, Reason::SecretNotFound);
        let unknown = Some((&three, &content));
        assert!(compile(&channel, &spec, a, unknown, &read(BOTH), Some(&before)).is_err());
    }

    #[test]
    fn a_value_with_a_control_character_is_refused_and_the_last_one_stays() {
        let (before, _) = served(&read(BOTH), None).unwrap();
        let keys: &[(&str, &str)] = &[("authToken", "broken\u{7}"), ("authTokenSecondary", "new")];
        let (after, problem) = served(&read(&[("twilio", keys), BOTH[1]]), Some(&before)).unwrap();
        assert_eq!(after.credentials.auth_token.expose(), "one");
        let secondary = after.credentials.auth_token_secondary.unwrap();
        assert_eq!(secondary.expose(), "new", "what is usable is in force");
        assert_eq!(problem.unwrap().reason, Reason::ValueUnusable);
    }

    #[test]
    fn a_secret_that_may_not_be_read_says_so() {
        let forbidden = Read { forbidden: ["twilio".to_owned()].into(), ..read(&BOTH[1..]) };
        assert_eq!(served(&forbidden, None).unwrap_err().reason, Reason::Forbidden);
    }
}
