//! Revisions: the `ControllerRevision`s of a channel.
//!
//! Takes a client and the channel's owner reference, gives names for contents and back. A name
//! carries a hash, but whether two revisions are the same is decided by equality of their typed
//! content, so a field that is new and has a default never makes a new revision. Promotion and
//! rejection stand in annotations, from which a lost route is made again. Never deletes the
//! revisions it is told to keep, nor one that it cannot read.
//!
//! For the first revision of a channel the route is written first and the `ControllerRevision`
//! after it, by `report`; for every later one the `ControllerRevision` comes first. Revisions
//! without any promotion mark mean that a route was lost and nothing says what was stable; made
//! before the first route, a crash between the two would look the same, and the channel would wait
//! for a person for ever. The other order leaves a route whose content is in its own memory. A name
//! also carries the channel's uid: one that was deleted and made again meets its old revisions
//! until the garbage collector has come by.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kanarie_crds::channel::RevisionContent;
use kanarie_crds::route::CHANNEL_UID_LABEL;
use kanarie_rollout::rebuild::{Promotion, newest};
use kanarie_words::ids::{InvalidId, RevisionName};
use kanarie_words::timestamp::Timestamp;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::cluster::contents::{ContentFault, stored_content};
use crate::process::clock::millis_of;

/// When a revision last became stable, for people.
pub const PROMOTED_AT: &str = "kanarie.dev/promoted-at";
/// The transition at which that was known: what marks are compared by, since clocks differ.
pub const PROMOTED_TRANSITION: &str = "kanarie.dev/promoted-transition";
/// When a revision was rejected; absent unless it still is.
pub const REJECTED_AT: &str = "kanarie.dev/rejected-at";
/// Revisions that are asked for at once.
const PAGE: u32 = 50;
/// Most revisions of a channel: more than any limit of a spec and all that can be rejected.
const MAX_REVISIONS: usize = 1_000;
/// No channel gets there; a number from here on is no mark of ours.
const MAX_TRANSITION: u64 = 1 << 53;
/// Different contents with the same hash that are tried before giving up.
const MAX_COLLISIONS: u32 = 8;

/// The revisions of one channel.
pub struct Revisions {
    api: Api<ControllerRevision>,
    owner: OwnerReference,
    known: Vec<StoredRevision>,
}

/// One of them, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRevision {
    /// Its name.
    pub name: RevisionName,
    /// Its content, or why that serves nobody.
    pub content: Result<RevisionContent, ContentFault>,
    /// Its number, growing with each new one.
    pub number: i64,
    /// When it last became stable.
    pub promoted: Option<Promotion>,
    /// When it was rejected, if it still is.
    pub rejected_at: Option<jiff::Timestamp>,
}

/// Why revisions cannot be read or written.
#[derive(Debug, Error)]
pub enum RevisionError {
    /// The API server said no.
    #[error("the ControllerRevisions of the channel cannot be {did}")]
    Api {
        /// What was tried.
        did: &'static str,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// No free name.
    #[error("the name of the revision is taken by an object that is not this channel's; delete it")]
    NamesTaken,
    /// Somebody else has made them.
    #[error(
        "the channel has over {MAX_REVISIONS} ControllerRevisions; delete those that are not its own"
    )]
    TooMany,
    /// The content cannot be written as JSON.
    #[error("the revision cannot be serialised")]
    Json(#[from] serde_json::Error),
    /// The channel's name makes no name of a revision.
    #[error("the channel's name makes no name for its revisions")]
    Name(#[from] InvalidId),
}

impl Revisions {
    /// Lists the revisions that belong to the channel.
    pub async fn list(
        client: &Client,
        namespace: &str,
        owner: OwnerReference,
    ) -> Result<Self, RevisionError> {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        let labelled = ListParams::default().labels(&format!("{CHANNEL_UID_LABEL}={}", owner.uid));
        let mut page = labelled.limit(PAGE);
        let mut known = Vec::new();
        loop {
            // Whoever may write here may write a megabyte into each: no more than a page is held at once.
            let list = api.list(&page).await.map_err(failed("listed"))?;
            known.extend(list.items.iter().filter(|item| is_owned(item, &owner)).filter_map(read));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                _ if known.len() > MAX_REVISIONS => return Err(RevisionError::TooMany),
                Some(token) => page = page.continue_token(&token),
                None => return Ok(Self { api, owner, known }),
            }
        }
    }

    /// Every revision, in no order.
    pub fn known(&self) -> &[StoredRevision] {
        &self.known
    }

    /// Makes a revision under a name that is already in use elsewhere, if it is missing.
    pub async fn restore(
        &mut self,
        name: &RevisionName,
        content: &RevisionContent,
    ) -> Result<(), RevisionError> {
        if self.known.iter().any(|known| known.name == *name) {
            return Ok(());
        }
        let (name, content, number) = (name.clone(), content.clone(), next_number(&self.known));
        let made = make(&self.api, &self.owner, &NewRevision { name, content, number }).await?;
        self.known.push(made);
        Ok(())
    }

    /// Brings the annotations in line with the route: the newest promotion mark is stable's, and
    /// exactly the rejected ones carry a rejection mark.
    pub async fn mark(
        &mut self,
        (stable, transition): (&RevisionName, u64),
        rejected: &BTreeSet<RevisionName>,
        now: jiff::Timestamp,
    ) -> Result<(), RevisionError> {
        let newest = self.newest_promoted().filter(|(newest, _)| newest.name == *stable);
        // A mark of an earlier operator keeps its time, and is given a number.
        let at = newest.map(|(_, promotion)| promotion.at);
        let is_numbered = newest.is_some_and(|(_, promotion)| promotion.transition.is_some());
        for known in &mut self.known {
            let promote = known.name == *stable && !is_numbered;
            let is_rejected = rejected.contains(&known.name);
            if !promote && is_rejected == known.rejected_at.is_some() {
                continue;
            }
            let mut marks = json!({});
            if promote {
                if at.is_none() {
                    marks[PROMOTED_AT] = json!(now.to_string());
                }
                marks[PROMOTED_TRANSITION] = json!(transition.to_string());
                let at = at.unwrap_or(Timestamp(millis_of(now)));
                known.promoted = Some(Promotion { at, transition: Some(transition) });
            }
            known.rejected_at = is_rejected.then(|| known.rejected_at.unwrap_or(now));
            marks[REJECTED_AT] = json!(known.rejected_at.map(|at| at.to_string()));
            let patch = Patch::Merge(json!({"metadata": {"annotations": marks}}));
            let name = known.name.as_str();
            let patched = self.api.patch(name, &PatchParams::default(), &patch).await;
            patched.map_err(failed("annotated"))?;
        }
        Ok(())
    }

    /// The revision that became stable last.
    fn newest_promoted(&self) -> Option<(&StoredRevision, Promotion)> {
        newest(self.known.iter().filter_map(|known| Some((known, known.promoted?))))
    }

    /// Deletes the oldest revisions over `limit` that nothing needs.
    pub async fn prune(
        &mut self,
        needed: &BTreeSet<RevisionName>,
        limit: usize,
    ) -> Result<(), RevisionError> {
        for name in superfluous(&self.known, needed, limit) {
            match self.api.delete(name.as_str(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(failed("pruned")(error)),
            }
            self.known.retain(|known| known.name != name);
        }
        Ok(())
    }
}

/// A revision that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRevision {
    /// Its name.
    pub name: RevisionName,
    /// What it fixes.
    pub content: RevisionContent,
    /// Its number.
    pub number: i64,
}

/// Makes a revision in the namespace of its channel.
pub async fn create(
    client: &Client,
    namespace: &str,
    owner: &OwnerReference,
    new: &NewRevision,
) -> Result<(), RevisionError> {
    let api = Api::namespaced(client.clone(), namespace);
    make(&api, owner, new).await.map(drop)
}

/// What a content is called among these revisions, and what has to be made first, if it is new.
pub fn named(
    owner: &OwnerReference,
    content: &RevisionContent,
    known: &[StoredRevision],
) -> Result<(RevisionName, Option<NewRevision>), RevisionError> {
    if let Some(known) = known.iter().find(|known| known.content.as_ref() == Ok(content)) {
        return Ok((known.name.clone(), None));
    }
    for collisions in 0..MAX_COLLISIONS {
        let name = revision_name(owner, content, collisions)?;
        if known.iter().all(|known| known.name != name) {
            let (content, number) = (content.clone(), next_number(known));
            return Ok((name.clone(), Some(NewRevision { name, content, number })));
        }
    }
    Err(RevisionError::NamesTaken)
}

async fn make(
    api: &Api<ControllerRevision>,
    owner: &OwnerReference,
    new: &NewRevision,
) -> Result<StoredRevision, RevisionError> {
    match api.create(&PostParams::default(), &object(owner, new)?).await {
        Ok(created) => read(&created).ok_or(RevisionError::NamesTaken),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = api.get_opt(new.name.as_str()).await.map_err(failed("read"))?;
            let ours = there.filter(|there| is_owned(there, owner)).and_then(|there| read(&there));
            ours.filter(|ours| ours.content.as_ref() == Ok(&new.content))
                .ok_or(RevisionError::NamesTaken)
        }
        Err(error) => Err(failed("created")(error)),
    }
}

fn next_number(known: &[StoredRevision]) -> i64 {
    known.iter().map(|known| known.number).max().unwrap_or(0).saturating_add(1)
}

/// Those that nothing needs, beyond `limit`: first what never was stable, then what was stable
/// longest ago, so that no number of edits pushes out what one goes back to.
fn superfluous(
    known: &[StoredRevision],
    needed: &BTreeSet<RevisionName>,
    limit: usize,
) -> Vec<RevisionName> {
    let mut spare: Vec<&StoredRevision> = known
        .iter()
        .filter(|known| known.content.is_ok() && known.rejected_at.is_none())
        .filter(|known| !needed.contains(&known.name))
        .collect();
    let promotion =
        |known: &StoredRevision| known.promoted.map(|promoted| (promoted.transition, promoted.at));
    spare.sort_by_key(|known| (promotion(known), known.number));
    let over = spare.len().saturating_sub(limit);
    spare.into_iter().take(over).map(|known| known.name.clone()).collect()
}

/// What tells one content of a channel from every other.
pub fn content_digest(
    owner: &OwnerReference,
    content: &RevisionContent,
) -> Result<[u8; 32], RevisionError> {
    let json = serde_json::to_vec(content)?;
    Ok(Sha256::new().chain_update(&owner.uid).chain_update(&json).finalize().into())
}

/// Name of a content: a hash of it and of the channel's uid, so that a channel that was deleted and
/// made again never meets the revisions of the one before.
pub fn revision_name(
    owner: &OwnerReference,
    content: &RevisionContent,
    collisions: u32,
) -> Result<RevisionName, RevisionError> {
    let digest = content_digest(owner, content)?;
    let hash = digest[..5].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let name = match collisions {
        0 => format!("{}-{hash}", owner.name),
        count => format!("{}-{hash}-{count}", owner.name),
    };
    Ok(RevisionName::parse(&name)?)
}

fn object(owner: &OwnerReference, new: &NewRevision) -> Result<ControllerRevision, RevisionError> {
    Ok(ControllerRevision {
        data: RawExtension(serde_json::to_value(&new.content)?),
        metadata: ObjectMeta {
            name: Some(new.name.to_string()),
            labels: Some([(CHANNEL_UID_LABEL.to_owned(), owner.uid.clone())].into()),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        revision: Some(new.number),
    })
}

fn is_owned(item: &ControllerRevision, owner: &OwnerReference) -> bool {
    item.metadata.owner_references.iter().flatten().any(|reference| reference.uid == owner.uid)
}

fn read(item: &ControllerRevision) -> Option<StoredRevision> {
    let annotation = |key: &str| item.metadata.annotations.as_ref()?.get(key);
    let time = |key: &str| annotation(key)?.parse::<jiff::Timestamp>().ok();
    let number = annotation(PROMOTED_TRANSITION).and_then(|number| number.parse().ok());
    let transition = number.filter(|number| *number < MAX_TRANSITION);
    let promoted =
        time(PROMOTED_AT).map(|at| Promotion { at: Timestamp(millis_of(at)), transition });
    Some(StoredRevision {
        name: item.metadata.name.as_ref()?.parse().ok()?,
        content: stored_content(&item.data.0),
        number: item.revision.unwrap_or(0),
        promoted,
        rejected_at: time(REJECTED_AT),
    })
}

fn failed(did: &'static str) -> impl FnOnce(kube::Error) -> RevisionError {
    move |source| RevisionError::Api { did, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(url: &str) -> RevisionContent {
        let text = format!(r#"{{"agent": {{"http": {{"url": "{url}"}}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn revision(name: &str, number: i64) -> StoredRevision {
        StoredRevision {
            name: name.parse().unwrap(),
            content: Ok(content("http://a")),
            number,
            promoted: None,
            rejected_at: None,
        }
    }

    #[test]
    fn the_oldest_spare_revisions_go_first() {
        let known = [revision("c", 3), revision("a", 1), revision("b", 2)];
        assert_eq!(superfluous(&known, &BTreeSet::new(), 1), ["a", "b"]);
    }

    #[test]
    fn what_was_stable_is_pruned_after_every_edit_that_never_was() {
        let promoted = |name: &str, number: i64, at: u64, transition: Option<u64>| {
            let promoted = Some(Promotion { at: Timestamp(at), transition });
            StoredRevision { promoted, ..revision(name, number) }
        };
        let former = promoted("former", 1, 90, Some(7));
        let edits = ["e2", "e3", "e4", "e5", "e6"].into_iter().zip(2..);
        let mut known: Vec<_> = edits.map(|(name, number)| revision(name, number)).collect();
        known.push(former);
        assert_eq!(superfluous(&known, &BTreeSet::new(), 5), ["e2"]);
        let known = [
            promoted("earlier", 9, 99, Some(4)),
            promoted("later", 8, 10, Some(6)),
            promoted("old-mark", 10, 50, None),
        ];
        assert_eq!(superfluous(&known, &BTreeSet::new(), 1), ["old-mark", "earlier"]);
    }

    #[test]
    fn a_mark_reads_back_with_its_number_and_one_of_an_earlier_operator_without() {
        let marked = |annotations: serde_json::Value| {
            let object = json!({
                "metadata": {"name": "a", "annotations": annotations},
                "data": content("http://a"), "revision": 1,
            });
            read(&serde_json::from_value(object).unwrap()).unwrap().promoted
        };
        let at = Timestamp(1_000);
        let time = "1970-01-01T00:00:01Z";
        assert_eq!(
            marked(json!({PROMOTED_AT: time, PROMOTED_TRANSITION: "8"})),
            Some(Promotion { at, transition: Some(8) })
        );
        assert_eq!(marked(json!({PROMOTED_AT: time})), Some(Promotion { at, transition: None }));
        let absurd = json!({PROMOTED_AT: time, PROMOTED_TRANSITION: u64::MAX.to_string()});
        assert_eq!(marked(absurd), Some(Promotion { at, transition: None }));
        assert_eq!(marked(json!({})), None);
    }

    #[test]
    fn needed_rejected_and_unreadable_revisions_are_never_pruned() {
        let rejected =
            StoredRevision { rejected_at: Some(jiff::Timestamp::UNIX_EPOCH), ..revision("r", 1) };
        let unreadable =
            StoredRevision { content: Err(ContentFault::Unreadable), ..revision("u", 2) };
        let known = [rejected, unreadable, revision("stable", 3)];
        assert!(superfluous(&known, &BTreeSet::from(["stable".parse().unwrap()]), 0).is_empty());
    }

    #[test]
    fn a_written_revision_reads_back_as_the_same_content() {
        let owner =
            OwnerReference { name: "care".into(), uid: "u".into(), ..OwnerReference::default() };
        let (_, new) = named(&owner, &content("http://a"), &[]).unwrap();
        let written = object(&owner, &new.unwrap()).unwrap();
        assert_eq!(read(&written).unwrap().content, Ok(content("http://a")));
    }

    #[test]
    fn a_name_that_no_revision_can_have_is_none() {
        let object = |name: String| {
            let metadata = json!({"name": name});
            let data = content("http://a");
            serde_json::from_value(json!({"metadata": metadata, "data": data, "revision": 1}))
        };
        assert!(read(&object("n".repeat(65)).unwrap()).is_some());
        assert_eq!(read(&object("n".repeat(66)).unwrap()), None);
    }

    #[test]
    fn a_content_that_is_there_has_its_name_and_one_whose_name_is_taken_gets_the_next() {
        let owner =
            OwnerReference { name: "care".into(), uid: "u".into(), ..OwnerReference::default() };
        let (name, new) = named(&owner, &content("http://a"), &[]).unwrap();
        let stored = StoredRevision { name: name.clone(), ..revision("x", 7) };
        assert_eq!(new.unwrap().number, 1);
        let known = std::slice::from_ref(&stored);
        assert_eq!(named(&owner, &content("http://a"), known).unwrap(), (name.clone(), None));
        let other = StoredRevision { content: Ok(content("http://b")), ..stored };
        let (next, new) = named(&owner, &content("http://a"), &[other]).unwrap();
        assert_eq!(next.as_str(), format!("{name}-1"));
        assert_eq!(new.unwrap().number, 8);
    }

    #[test]
    fn names_differ_by_channel_by_content_and_by_collision() {
        let owner = |uid: &str| OwnerReference {
            name: "care".into(),
            uid: uid.into(),
            ..OwnerReference::default()
        };
        let name = |url, count| revision_name(&owner("u"), &content(url), count).unwrap();
        assert_ne!(
            name("http://a", 0),
            revision_name(&owner("v"), &content("http://a"), 0).unwrap()
        );
        assert_ne!(name("http://a", 0), name("http://b", 0));
        assert_ne!(name("http://a", 0), name("http://a", 1));
        assert!(name("http://a", 0).as_str().starts_with("care-"));
    }
}
