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
use kube::core::{ObjectList, Request};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::cluster::stored::{
    PROMOTED_AT, PROMOTED_TRANSITION, REJECTED_AT, StoredRevision, UnreadRevision,
};
use crate::process::clock::millis_of;

/// Revisions that are asked for at once: each may have a megabyte and a half.
const PAGE: u32 = 10;
/// Lists that are under way at once, of all channels.
static LISTS: Semaphore = Semaphore::const_new(2);
/// Most revisions of a channel: more than any limit of a spec and all that can be rejected.
const MAX_REVISIONS: usize = 1_000;
/// Most bytes of their data: four thousand in each of so many, and most have a few hundred.
const MAX_BYTES: usize = 4 << 20;
/// Different contents with the same hash that are tried before giving up.
const MAX_COLLISIONS: u32 = 8;

/// The revisions of one channel.
pub struct Revisions {
    api: Api<ControllerRevision>,
    owner: OwnerReference,
    known: Vec<StoredRevision>,
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
        "the channel has over {MAX_REVISIONS} ControllerRevisions, or {MAX_BYTES} bytes of them; delete those that \
         are not its own"
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
        let request = Request::new(ControllerRevision::url_path(&(), Some(namespace)));
        let labelled = ListParams::default().labels(&format!("{CHANNEL_UID_LABEL}={}", owner.uid));
        let mut page = labelled.limit(PAGE);
        let (mut known, mut count, mut bytes) = (Vec::new(), 0, 0);
        loop {
            let list: ObjectList<UnreadRevision> = {
                // Never closed.
                let _alone = LISTS.acquire().await;
                let asked = request.list(&page).map_err(kube::Error::BuildRequest);
                client.request(asked.map_err(failed("listed"))?).await.map_err(failed("listed"))?
            };
            count += list.items.len();
            bytes += list.items.iter().map(UnreadRevision::data_bytes).sum::<usize>();
            let owned = list.items.iter().filter(|item| item.is_owned_by(&owner.uid));
            known.extend(owned.filter_map(UnreadRevision::read));
            if count > MAX_REVISIONS || bytes > MAX_BYTES {
                return Err(RevisionError::TooMany);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
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

/// Makes the first revision of a channel, marked as stable; says no when it is there already, whose marks
/// nobody knows then.
pub async fn create_stable(
    client: &Client,
    namespace: &str,
    owner: &OwnerReference,
    new: &NewRevision,
    transition: u64,
    now: jiff::Timestamp,
) -> Result<bool, RevisionError> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    let mut first = object(owner, new)?;
    let marks = [(PROMOTED_AT, now.to_string()), (PROMOTED_TRANSITION, transition.to_string())];
    first.metadata.annotations = Some(marks.map(|(name, mark)| (name.to_owned(), mark)).into());
    match api.create(&PostParams::default(), &first).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(failed("created")(error)),
    }
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
        Ok(created) => UnreadRevision::of(&created)?.read().ok_or(RevisionError::NamesTaken),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = api.get_opt(new.name.as_str()).await.map_err(failed("read"))?;
            let there = there.map(|there| UnreadRevision::of(&there)).transpose()?;
            let ours = there.filter(|there| there.is_owned_by(&owner.uid));
            ours.and_then(|ours| ours.read())
                .filter(|ours| ours.content.as_ref() == Ok(&new.content))
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

fn failed(did: &'static str) -> impl FnOnce(kube::Error) -> RevisionError {
    move |source| RevisionError::Api { did, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::contents::ContentFault;

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
        let read = UnreadRevision::of(&written).unwrap().read();
        assert_eq!(read.unwrap().content, Ok(content("http://a")));
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
