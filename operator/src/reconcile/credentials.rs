//! Credentials: what the Secrets give now, and for the rest what was compiled before.
//!
//! Takes the Secrets as read and the route that is in force; gives the route's live part and its
//! revisions, and what is wrong with the Secrets. Only the value that fails falls back: whatever
//! else the spec says is in force. Pure; never tells a value.
//!
//! A route takes at most 24 KiB of the object's 64; the memory beside it at most 40 at the maximum
//! of every bound, which a test adds up. With one limit for both, a channel with long Secrets and a
//! long history could reach it in the very write that takes a canary back. So what a person enters
//! is refused at the door (`CredentialsReady=False/ValueUnusable`, the last values stay), and what
//! the operator remembers always fits. Ten values of 4 KiB do not fit together: Twilio's are 32
//! bytes, signing keys 64, agents' keys rarely over 2 KiB.

use kanarie_crds::channel::{RevisionContent, WhatsAppChannelSpec};
use kanarie_crds::compile::{CompileError, Secrets, compile_channel, compile_revision};
use kanarie_crds::route::{ChannelRef, Route};
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;

use crate::cluster::secrets::Read;
use crate::reconcile::blocked::SecretProblem;
use crate::reconcile::stand_ins::{Missed, compiled, stand_ins};
use crate::reconcile::validate::ValidSpec;

/// Most bytes of a route. The memory beside it takes at most 40 KiB, so that it always fits and no
/// Secret can stand in the way of a rollback.
pub const MAX_ROUTE_BYTES: usize = 24 * 1024;

/// What is in force when a route with new values would be too long.
const LAST_VALUES: &str = "the last values of its Secrets stay in force";

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
    let attempt = |spec: &WhatsAppChannelSpec, secrets: &Secrets| {
        let namespace = &channel.namespace;
        let revision =
            |(name, content): Named<'_>| compile_revision(namespace, name, content, secrets);
        let mut route = compile_channel(channel.clone(), spec, revision(stable)?, secrets)?;
        route.canary = canary.map(revision).transpose()?;
        Ok::<Route, CompileError>(route)
    };
    let mut too_long = match (attempt(&spec.spec, &read.found), before) {
        (Ok(route), _) if size(&route) <= MAX_ROUTE_BYTES => return Ok((route, None)),
        (Ok(route), _) => Some(size(&route)),
        (Err(error), None) => return Err(problem(&error, read)),
        (Err(_), Some(_)) => None,
    };
    let Some(before) = before else {
        return Err(told(too_long, "nobody is served", &[], read));
    };
    let revisions: Vec<_> = std::iter::once(stable).chain(canary).collect();
    for all in [false, true] {
        if too_long.is_some() != all {
            continue;
        }
        let stand_ins = stand_ins(&spec.spec, &revisions, &read.found, before, all);
        let problem = told(too_long, LAST_VALUES, &stand_ins.failures, read);
        let Ok(mut route) = attempt(&stand_ins.spec, &stand_ins.secrets) else {
            return Err(problem);
        };
        stand_ins.complete(&mut route.credentials);
        match size(&route) {
            size if size <= MAX_ROUTE_BYTES => return Ok((route, Some(problem))),
            size => too_long = too_long.or(Some(size)),
        }
    }
    let problem = told(too_long, "the whole route stays as it was", &[], read);
    as_before(before, stable.0, canary.map(|(name, _)| name))
        .map(|route| (route, Some(problem.clone())))
        .ok_or(problem)
}

/// One problem out of all: what is wrong, and what is in force until it is mended. A revision that cannot
/// serve comes first.
fn told(too_long: Option<usize>, instead: &str, failures: &[Missed], read: &Read) -> SecretProblem {
    let size = too_long.map(|size| (too_long_problem(size), instead));
    let (fatal, other): (Vec<_>, Vec<_>) = failures.iter().partition(|failure| failure.is_fatal);
    let failures = fatal.into_iter().chain(other);
    let failures =
        failures.map(|failure| (problem(&failure.error, read), failure.instead.as_str()));
    let all: Vec<_> = size.into_iter().chain(failures).collect();
    let reason = all.first().map_or(Reason::ValueUnusable, |(problem, _)| problem.reason);
    let sentence = |(problem, instead): &(SecretProblem, &str)| {
        format!("{}; until then {instead}", problem.message)
    };
    SecretProblem { reason, message: all.iter().map(sentence).collect::<Vec<_>>().join(". ") }
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

fn size(route: &Route) -> usize {
    serde_json::to_vec(route).map_or(usize::MAX, |bytes| bytes.len())
}

fn too_long_problem(size: usize) -> SecretProblem {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kanarie_crds::channel::{SecretRef, SigningKey};
    use kanarie_crds::secrets::{MAX_VALUE_BYTES, SIGNING_KEY};

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
        let key = |number: usize| SigningKey {
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
        spec.spec.webhook.url = "https://hooks.example.com/new".into();
        let (after, problem) =
            compile(&channel, &spec, a, None, &read(BOTH), Some(&before)).unwrap();
        let webhook_urls = vec![spec.spec.webhook.url.clone()];
        assert_eq!(after, Route { canary: None, webhook_urls, ..before.clone() });
        let problem = problem.unwrap();
        assert_eq!(problem.reason, Reason::SecretNotFound);
        assert!(problem.message.contains("without an API key"), "{}", problem.message);
        let unknown = compile(&channel, &spec, a, Some((&three, &content)), &read(BOTH), None);
        assert!(unknown.is_err());
        let never = read(&BOTH[..1]);
        let unknown = compile(&channel, &spec, (&three, &content), None, &never, Some(&before));
        let told = unknown.unwrap_err().message;
        assert!(told.contains("`agent`") && told.contains("nobody-made-it"), "{told}");
    }

    #[test]
    fn only_the_secret_that_fails_falls_back_and_every_other_field_is_in_force() {
        let (channel, mut spec) = channel();
        let a = named("a");
        let content = spec.content.clone();
        let key = |id: &str, secret: &str| SigningKey {
            key_id: id.into(),
            secret_ref: SecretRef { name: secret.into() },
        };
        let all = |first: &str| {
            let mut read = read(BOTH);
            for (name, value) in [("key-1", first), ("key-2", "two")] {
                let data = BTreeMap::from([(SIGNING_KEY.to_owned(), value.into())]);
                read.found.insert(name.to_owned(), data);
            }
            read
        };
        spec.spec.twilio.signing_keys = vec![key("k1", "key-1"), key("k2", "key-2")];
        let (before, _) =
            compile(&channel, &spec, (&a, &content), None, &all("one"), None).unwrap();
        spec.spec.twilio.signing_keys =
            vec![key("k1", "key-1"), key("k2", "key-2-typo"), key("k3", "key-3-typo")];
        spec.spec.limits.outbound_per_second = 7;
        let (after, problem) =
            compile(&channel, &spec, (&a, &content), None, &all("new"), Some(&before)).unwrap();
        let keys = after.credentials.signing_keys.iter();
        let keys: Vec<_> = keys.map(|key| (key.key_id.as_str(), key.secret.expose())).collect();
        assert_eq!(keys, [("k1", "new"), ("k2", "two")]);
        assert_eq!(after.limits.outbound_per_second, 7);
        let told = problem.unwrap().message;
        for part in
            ["`key-2-typo`", "last signing key `k2`", "`key-3-typo`", "without signing key `k3`"]
        {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn halves_of_two_api_keys_are_never_put_together() {
        let (channel, mut spec) = channel();
        let a = named("a");
        let content = spec.content.clone();
        spec.spec.twilio.api_key_secret_ref = Some(SecretRef { name: "twilio".into() });
        let with = |sid: &str, secret: &str| {
            let token = [("authToken", "one"), ("apiKeySid", sid), ("apiKeySecret", secret)];
            read(&[("twilio", &token), BOTH[1]])
        };
        let (before, _) =
            compile(&channel, &spec, (&a, &content), None, &with("SK1", "s1"), None).unwrap();
        let (after, problem) =
            compile(&channel, &spec, (&a, &content), None, &with("SK2", ""), Some(&before))
                .unwrap();
        let key = after.credentials.api_key.unwrap();
        assert_eq!((key.sid.as_str(), key.secret.expose()), ("SK1", "s1"));
        assert_eq!(problem.unwrap().reason, Reason::KeyMissing);
    }

    #[test]
    fn an_unusable_secondary_token_is_left_out_when_there_was_none() {
        let primary: &[(&str, &str)] = &[("authToken", "one")];
        let (before, _) = served(&read(&[("twilio", primary), BOTH[1]]), None).unwrap();
        let keys: &[(&str, &str)] = &[("authToken", "new"), ("authTokenSecondary", "a\u{7}")];
        let (after, problem) = served(&read(&[("twilio", keys), BOTH[1]]), Some(&before)).unwrap();
        assert_eq!(after.credentials.auth_token.expose(), "new");
        assert_eq!(after.credentials.auth_token_secondary, None);
        assert_eq!(problem.unwrap().reason, Reason::ValueUnusable);
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
