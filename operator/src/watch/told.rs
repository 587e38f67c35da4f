//! What the watches have told of each channel: whether it is another one than before, and who claims which sender.
//!
//! Takes channels as a watch delivers them; keeps digests of them, so that neither question needs a look at all the
//! others. A digest that two share costs a look too many, never one too few. Never keeps a channel.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kanarie_crds::channel::WhatsAppChannelSpec;
use kube::Resource as _;

use crate::cluster::key::ChannelKey;
use crate::watch::guarded::Guarded;

/// What was told, and who claims which sender.
#[derive(Default)]
pub struct ToldChannels {
    by_key: BTreeMap<ChannelKey, Told>,
    by_claim: BTreeSet<(u64, ChannelKey)>,
}

/// As much of a channel as tells whether it is another one than before.
#[derive(Clone, Copy)]
struct Told {
    print: u64,
    whose: Whose,
    /// Digest of its account and sender.
    claim: Option<u64>,
}

/// The installation that its status names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Nobodys,
    Own,
    Anothers,
}

impl ToldChannels {
    /// Takes a channel in; says whether more than status was changed since the last time: that is our own word,
    /// mostly. Whose a channel is says somebody else, but for the first word on it; `own` is our name.
    pub fn is_news(&mut self, key: ChannelKey, object: &Guarded, own: &str) -> bool {
        let claim = object.0.as_ref().ok().map(|channel| claim(&channel.spec));
        let now = Told { print: print(object), whose: whose(object, own), claim };
        self.take(key, now).is_none_or(|before| {
            let is_first_word = (before.whose, now.whose) == (Whose::Nobodys, Whose::Own);
            before.print != now.print || (before.whose != now.whose && !is_first_word)
        })
    }

    /// One is gone.
    pub fn forget(&mut self, key: &ChannelKey) {
        let claim = self.by_key.remove(key).and_then(|told| told.claim);
        claim.map(|claim| self.by_claim.remove(&(claim, key.clone())));
    }

    /// Others may have gone while nobody watched.
    pub fn forget_all_but(&mut self, is_there: impl Fn(&ChannelKey) -> bool) {
        let gone: Vec<_> = self.by_key.keys().filter(|key| !is_there(key)).cloned().collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    /// The channels that claim the account and the sender of this one, by a glance.
    pub fn claiming(&self, spec: &WhatsAppChannelSpec) -> Vec<ChannelKey> {
        let claim = claim(spec);
        let first = ChannelKey { namespace: String::new(), name: String::new() };
        let all = self.by_claim.range((claim, first)..);
        all.take_while(|(of, _)| *of == claim).map(|(_, key)| key.clone()).collect()
    }

    fn take(&mut self, key: ChannelKey, now: Told) -> Option<Told> {
        let before = self.by_key.insert(key.clone(), now);
        let former = before.and_then(|before| before.claim);
        if former != now.claim {
            self.by_claim.extend(now.claim.map(|claim| (claim, key.clone())));
            former.map(|claim| self.by_claim.remove(&(claim, key)));
        }
        before
    }
}

fn claim(spec: &WhatsAppChannelSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&spec.twilio.account_sid, &spec.sender.address).hash(&mut hasher);
    hasher.finish()
}

/// All of a channel that somebody else may have changed on purpose, but for its status; of one that cannot be
/// decoded its version.
fn print(object: &Guarded) -> u64 {
    let metadata = object.meta();
    let mut hasher = DefaultHasher::new();
    (&metadata.uid, metadata.generation, &metadata.annotations).hash(&mut hasher);
    metadata.deletion_timestamp.is_some().hash(&mut hasher);
    if object.0.is_err() {
        metadata.resource_version.hash(&mut hasher);
    }
    hasher.finish()
}

fn whose(object: &Guarded, own: &str) -> Whose {
    let status = object.0.as_ref().ok().and_then(|channel| channel.status.as_ref());
    match status.and_then(|status| status.installation.as_deref()) {
        None => Whose::Nobodys,
        Some(named) if named == own => Whose::Own,
        Some(_) => Whose::Anothers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(sender: u32, generation: u64, status: &str) -> Guarded {
        let text = format!(
            "
apiVersion: kanarie.dev/v1alpha1
kind: WhatsAppChannel
metadata: {{name: care, namespace: shop, uid: u, generation: {generation}}}
spec:
  twilio:
    accountSid: AC0123456789abcdef0123456789abcdef
    authTokenSecretRef: {{name: twilio}}
  sender: {{address: 'whatsapp:+31201{sender:06}'}}
  webhook: {{url: 'https://hooks.example.com/wa'}}
  agent: {{http: {{url: 'https://agent.example.com/'}}}}
status: {status}
"
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    fn key(name: &str) -> ChannelKey {
        ChannelKey { namespace: "shop".into(), name: name.into() }
    }

    #[test]
    fn our_own_word_on_a_channel_wakes_nobody_and_whatever_a_person_does_wakes_us() {
        let mut told = ToldChannels::default();
        for (generation, status, is_news) in [
            (1, "{}", true),
            (1, "{installation: ours}", false),
            (1, "{installation: ours, transition: 2}", false),
            (2, "{installation: ours, transition: 2}", true),
            (2, "{}", true),
            (2, "{installation: theirs}", true),
            (2, "{installation: theirs, transition: 3}", false),
            (2, "{installation: ours, transition: 3}", true),
        ] {
            let object = channel(7, generation, status);
            assert!(object.0.is_ok());
            assert_eq!(
                told.is_news(key("care"), &object, "ours"),
                is_news,
                "{generation} {status}"
            );
        }
    }

    #[test]
    fn of_many_channels_only_those_of_one_sender_are_looked_at_for_it() {
        let mut told = ToldChannels::default();
        let specs: Vec<_> = (0..500).map(|sender| channel(sender / 2, 1, "{}")).collect();
        for (number, object) in specs.iter().enumerate() {
            told.is_news(key(&format!("care-{number}")), object, "ours");
        }
        let spec = |number: usize| &specs[number].0.as_ref().unwrap().spec;
        let both = [key("care-40"), key("care-41")];
        assert_eq!(told.claiming(spec(40)), both);
        told.is_news(key("care-41"), &specs[7], "ours");
        assert_eq!(told.claiming(spec(40)), both[..1]);
        assert_eq!(told.claiming(spec(7)), [key("care-41"), key("care-6"), key("care-7")]);
        told.forget_all_but(|there| *there != key("care-6"));
        assert_eq!(told.claiming(spec(7)), [key("care-41"), key("care-7")]);
        assert_eq!(told.by_key.len(), told.by_claim.len());
    }
}
