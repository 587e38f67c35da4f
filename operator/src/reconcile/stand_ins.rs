//! Stand-ins: what is in force in the place of a Secret that cannot be used.
//!
//! Takes what the spec names, the Secrets as read and the route in force; gives a spec and Secrets that
//! compile, each value looked at by itself, and a sentence about each that failed. The last compiled
//! value stands in; an API key, a signing key or a secondary token that never was is left out. Only
//! the secret of a revision that never served has no stand-in. Pure; never tells a value.

use std::collections::BTreeMap;

use kanarie_crds::channel::{RevisionContent, SecretRef, WhatsAppChannelSpec};
use kanarie_crds::compile::{CompileError, Secrets, value_of};
use kanarie_crds::route::{
    AgentRoute, ApiKey, Credentials, RevisionRoute, Route, SecretText, SharedKey,
};
use kanarie_crds::secrets::{
    AGENT_API_KEY, AGENT_TOKEN, API_KEY_SECRET, API_KEY_SID, AUTH_TOKEN, AUTH_TOKEN_SECONDARY,
    SIGNING_KEY,
};
use kanarie_words::ids::RevisionName;

/// Why a value cannot be used, and what is in force instead.
pub struct Missed {
    /// Why.
    pub error: CompileError,
    /// Instead.
    pub instead: String,
    /// Whether nothing can be: the revision cannot serve.
    pub is_fatal: bool,
}

/// What compiles in the place of what does not.
pub struct StandIns {
    /// The spec without what cannot be used.
    pub spec: WhatsAppChannelSpec,
    /// The Secrets with the last compiled values.
    pub secrets: Secrets,
    /// What failed.
    pub failures: Vec<Missed>,
    api_key: Option<ApiKey>,
    signing_keys: Vec<SharedKey>,
    /// Ids of signing keys as the spec orders them.
    order: Vec<String>,
}

/// What stands in for what cannot be used; with `all`, for everything that has a last value.
pub fn stand_ins(
    spec: &WhatsAppChannelSpec,
    revisions: &[(&RevisionName, &RevisionContent)],
    found: &Secrets,
    before: &Route,
    all: bool,
) -> StandIns {
    let order = spec.twilio.signing_keys.iter().map(|key| key.key_id.clone()).collect();
    let mut stand_ins = StandIns {
        spec: spec.clone(),
        secrets: found.clone(),
        failures: Vec::new(),
        api_key: None,
        signing_keys: Vec::new(),
        order,
    };
    stand_ins.auth_tokens(found, &before.credentials, all);
    stand_ins.api_key(found, &before.credentials, all);
    stand_ins.signing_keys(found, &before.credentials, all);
    for (name, content) in revisions {
        stand_ins.agent(name, content, found, before, all);
    }
    stand_ins
}

/// The revision as it was compiled last.
pub fn compiled<'a>(before: &'a Route, revision: &RevisionName) -> Option<&'a RevisionRoute> {
    std::iter::once(&before.stable).chain(&before.canary).find(|held| held.revision == *revision)
}

impl StandIns {
    /// Puts the last compiled keys into the route that was compiled without them.
    pub fn complete(&self, credentials: &mut Credentials) {
        if let Some(key) = &self.api_key {
            credentials.api_key = Some(key.clone());
        }
        credentials.signing_keys.extend(self.signing_keys.iter().cloned());
        let place = |key: &SharedKey| self.order.iter().position(|id| *id == key.key_id);
        credentials.signing_keys.sort_by_key(place);
    }

    /// A secondary token that was taken out of a Secret which still has the first is the end of a
    /// rotation, not a loss.
    fn auth_tokens(&mut self, found: &Secrets, last: &Credentials, all: bool) {
        let reference = self.spec.twilio.auth_token_secret_ref.clone();
        let error = value_of(&reference, AUTH_TOKEN, found).err();
        let has_first = error.is_none();
        if all || error.is_some() {
            self.put(&reference, AUTH_TOKEN, last.auth_token.expose());
        }
        self.failed(error, || "the last auth token stays in force".to_owned());
        let error = match value_of(&reference, AUTH_TOKEN_SECONDARY, found) {
            Err(CompileError::KeyMissing { .. }) if has_first && !all => return,
            Err(error) => Some(error),
            Ok(_) => None,
        };
        match &last.auth_token_secondary {
            Some(secondary) if all || error.is_some() => {
                self.put(&reference, AUTH_TOKEN_SECONDARY, secondary.expose());
            }
            None if error.is_some() => self.take(&reference, AUTH_TOKEN_SECONDARY),
            Some(_) | None => {}
        }
        if has_first && !matches!(error, Some(CompileError::KeyMissing { .. })) {
            let there = last.auth_token_secondary.is_some();
            self.failed(error, || instead(there, "secondary auth token", "a secondary auth token"));
        }
    }

    /// SID and secret belong together: halves of two keys are none.
    fn api_key(&mut self, found: &Secrets, last: &Credentials, all: bool) {
        let Some(reference) = self.spec.twilio.api_key_secret_ref.clone() else { return };
        let flaw = |key| value_of(&reference, key, found).err();
        let error = flaw(API_KEY_SID).or_else(|| flaw(API_KEY_SECRET));
        if error.is_some() || (all && last.api_key.is_some()) {
            self.spec.twilio.api_key_secret_ref = None;
            self.api_key.clone_from(&last.api_key);
        }
        self.failed(error, || instead(last.api_key.is_some(), "API key", "an API key"));
    }

    fn signing_keys(&mut self, found: &Secrets, last: &Credentials, all: bool) {
        for key in std::mem::take(&mut self.spec.twilio.signing_keys) {
            let error = value_of(&key.secret_ref, SIGNING_KEY, found).err();
            let held = last.signing_keys.iter().find(|held| held.key_id == key.key_id);
            let name = format!("signing key `{}`", key.key_id);
            if error.is_some() || (all && held.is_some()) {
                self.signing_keys.extend(held.cloned());
            } else {
                self.spec.twilio.signing_keys.push(key);
            }
            self.failed(error, || instead(held.is_some(), &name, &name));
        }
    }

    fn agent(
        &mut self,
        name: &RevisionName,
        content: &RevisionContent,
        found: &Secrets,
        before: &Route,
        all: bool,
    ) {
        let Some((reference, key)) = agent_secret(content) else { return };
        let error = value_of(reference, key, found).err();
        let last = compiled(before, name).and_then(last_agent_secret);
        if let Some(last) = last.filter(|_| all || error.is_some()) {
            self.put(reference, key, last.expose());
        }
        let Some(error) = error else { return };
        let instead = match last {
            Some(_) => format!("the last secret of revision `{name}` stays in force"),
            None => format!("revision `{name}` does not serve"),
        };
        self.failures.push(Missed { error, instead, is_fatal: last.is_none() });
    }

    fn failed(&mut self, error: Option<CompileError>, instead: impl FnOnce() -> String) {
        let failure = error.map(|error| Missed { error, instead: instead(), is_fatal: false });
        self.failures.extend(failure);
    }

    fn put(&mut self, reference: &SecretRef, key: &str, value: &str) {
        self.data(reference).insert(key.to_owned(), value.as_bytes().to_vec());
    }

    fn take(&mut self, reference: &SecretRef, key: &str) {
        self.data(reference).remove(key);
    }

    fn data(&mut self, reference: &SecretRef) -> &mut BTreeMap<String, Vec<u8>> {
        self.secrets.entry(reference.name.clone()).or_default()
    }
}

fn instead(there: bool, last: &str, none: &str) -> String {
    if there {
        format!("the last {last} stays in force")
    } else {
        format!("the channel does without {none}")
    }
}

fn agent_secret(content: &RevisionContent) -> Option<(&SecretRef, &'static str)> {
    let agent = &content.agent;
    let graph = agent.lang_graph.as_ref().and_then(|graph| graph.api_key_secret_ref.as_ref());
    let http = agent.http.as_ref().and_then(|http| http.token_secret_ref.as_ref());
    graph
        .map(|reference| (reference, AGENT_API_KEY))
        .or(http.map(|reference| (reference, AGENT_TOKEN)))
}

fn last_agent_secret(route: &RevisionRoute) -> Option<&SecretText> {
    match &route.agent {
        AgentRoute::LangGraph { api_key: secret, .. } | AgentRoute::Http { token: secret, .. } => {
            secret.as_ref()
        }
    }
}
