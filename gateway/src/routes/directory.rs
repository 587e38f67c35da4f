//! Routes from the manifests of a directory: the very WhatsAppChannel and Secret objects that a
//! cluster would hold.
//!
//! Takes a directory of YAML and JSON files, gives the table one route a channel, with all traffic
//! to the spec as written, and reads the files again when they change. What cannot be read at the
//! start is an error; later the last good state stays. Errors name file, object and field, never
//! a value of a Secret. Never writes a file, and rolls nothing out: that needs the operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::compile::{Secrets, compile_channel, compile_revision};
use kanarie_crds::route::{ChannelRef, Route, route_hash, route_name};
use kanarie_crds::validate::validate;
use kanarie_words::ids::ChannelUid;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::events::emit;
use crate::events::routes::RoutesEvent;
use crate::labels::RoutesTrouble;
use crate::routes::manifest::{self, Object};
use crate::routes::table::{RouteTable, Sighting};

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest: looks at files that take long to read take a five-hundredth of the time, up to this.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// Largest directory that is read, in bytes: more is a wrong directory.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Reads the directory once. Every problem is reported at once.
pub fn load(directory: &Path) -> Result<Loaded, DirectoryError> {
    let files = read(directory)?;
    let routes = routes(&files).map_err(|problems| DirectoryError::Manifests {
        directory: directory.to_owned(),
        problems,
    })?;
    Ok(Loaded { directory: directory.to_owned(), files, routes })
}

/// Puts the loaded routes in force and follows the directory until `shutdown` says true.
pub async fn follow(
    mut loaded: Loaded,
    table: Arc<RouteTable>,
    mut shutdown: watch::Receiver<bool>,
) {
    emit(RoutesEvent::Alone { channels: loaded.routes.len() });
    table.replace(loaded.seen(), Instant::now());
    let mut refused = None;
    let mut pause = LOOK_EVERY;
    while !*shutdown.borrow() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = shutdown.changed() => continue,
        }
        let began = Instant::now();
        table.forget_gone(began);
        let look = look_again(&loaded).await;
        pause = pause_after(began.elapsed());
        match look {
            Ok(None) => {
                refused = None;
                table.trust();
            }
            Ok(Some(changed)) => {
                refused = None;
                loaded = changed;
                table.replace(loaded.seen(), Instant::now());
                table.trust();
                emit(RoutesEvent::ReadAgain { channels: loaded.routes.len() });
            }
            Err(error) => {
                // What cannot be read may be a new channel.
                table.doubt(Instant::now());
                // Said once, not every second.
                let error = error.to_string();
                if refused.as_ref() != Some(&error) {
                    refused = Some(error.clone());
                    emit(RoutesEvent::Trouble { kind: RoutesTrouble::Refused, error });
                }
            }
        }
    }
}

/// What a directory held.
#[derive(Debug)]
pub struct Loaded {
    directory: PathBuf,
    files: Files,
    routes: Vec<Route>,
}

/// File name → content.
type Files = BTreeMap<String, Vec<u8>>;

/// Why a directory gives no routes.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file or the directory cannot be read.
    #[error("cannot read {path}; check --channels and the permissions")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds too much to be a directory of manifests.
    #[error("{directory} holds more than 64 MiB of manifests; check --channels")]
    TooLarge {
        /// The directory.
        directory: PathBuf,
    },
    /// Manifests are wrong, or there is none.
    #[error("{directory}: {}", problems.join("; "))]
    Manifests {
        /// The directory.
        directory: PathBuf,
        /// Every problem: file, object, field and what must be instead.
        problems: Vec<String>,
    },
}

impl Loaded {
    /// The routes, one a channel.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn seen(&self) -> Vec<(String, Sighting)> {
        self.routes.iter().map(seen).collect()
    }
}

/// A route as the table takes it.
pub fn seen(route: &Route) -> (String, Sighting) {
    let bytes = serde_json::to_vec(route).expect("a route has string keys only");
    let name = route_name(&route.account_sid, &route.sender);
    (name, Sighting::Route(Box::new(route.clone()), route_hash(&bytes)))
}

/// The pause after a look that took so long.
fn pause_after(look: Duration) -> Duration {
    look.saturating_mul(500).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)
}

async fn look_again(loaded: &Loaded) -> Result<Option<Loaded>, DirectoryError> {
    let directory = loaded.directory.clone();
    let files =
        tokio::task::spawn_blocking(move || read(&directory)).await.map_err(|stopped| {
            DirectoryError::Read {
                path: loaded.directory.clone(),
                source: std::io::Error::other(stopped),
            }
        })??;
    if files == loaded.files {
        return Ok(None);
    }
    let directory = loaded.directory.clone();
    match routes(&files) {
        Ok(routes) => Ok(Some(Loaded { directory, files, routes })),
        Err(problems) => Err(DirectoryError::Manifests { directory, problems }),
    }
}

/// The manifests of a directory, not of those below it. Names that begin with a dot are left out:
/// a mounted volume keeps its former versions there.
fn read(directory: &Path) -> Result<Files, DirectoryError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DirectoryError::Read { path, source }
    };
    let mut files = Files::new();
    let mut bytes = 0;
    for item in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = item.map_err(failed(directory))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let extension = path.extension().and_then(|extension| extension.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else { continue };
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            let content = std::fs::read(&path).map_err(failed(&path))?;
            bytes += content.len();
            if bytes > MAX_BYTES {
                return Err(DirectoryError::TooLarge { directory: directory.to_owned() });
            }
            files.insert(name, content);
        }
    }
    Ok(files)
}

/// The routes of all manifests, or every problem with them.
fn routes(files: &Files) -> Result<Vec<Route>, Vec<String>> {
    let mut problems = Vec::new();
    let mut channels: Vec<(String, Box<WhatsAppChannel>)> = Vec::new();
    let mut secrets: BTreeMap<String, Secrets> = BTreeMap::new();
    for (file, content) in files {
        match manifest::objects(content) {
            Ok(objects) => {
                for object in objects {
                    match object {
                        Object::Channel(channel) => channels.push((file.clone(), channel)),
                        Object::Secret { namespace, name, data } => {
                            secrets.entry(namespace).or_default().insert(name, data);
                        }
                    }
                }
            }
            Err(found) => problems.extend(found.iter().map(|problem| format!("{file}: {problem}"))),
        }
    }
    if channels.is_empty() && problems.is_empty() {
        problems.push("no WhatsAppChannel in any .yaml, .yml or .json file".to_owned());
    }
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    for (file, channel) in &channels {
        match route(channel, &secrets) {
            Ok(route) => {
                let name = route_name(&route.account_sid, &route.sender);
                if let Some(other) = routes.insert(name, route) {
                    problems.push(format!(
                        "{file}: WhatsAppChannel {} has the account and sender of {}/{}; a sender \
                         belongs to one channel",
                        label(channel),
                        other.channel.namespace,
                        other.channel.name
                    ));
                }
            }
            Err(found) => {
                problems.extend(found.iter().map(|problem| {
                    format!("{file}: WhatsAppChannel {}: {problem}", label(channel))
                }))
            }
        }
    }
    if problems.is_empty() { Ok(routes.into_values().collect()) } else { Err(problems) }
}

/// The route of one channel: its own revision is stable, nothing is rolled out.
pub fn route(
    channel: &WhatsAppChannel,
    secrets: &BTreeMap<String, Secrets>,
) -> Result<Route, Vec<String>> {
    let problems = validate(channel);
    if !problems.is_empty() {
        return Err(problems.iter().map(ToString::to_string).collect());
    }
    let namespace = channel.namespace().unwrap_or_else(|| manifest::DEFAULT_NAMESPACE.to_owned());
    let none = Secrets::new();
    let secrets = secrets.get(&namespace).unwrap_or(&none);
    let content = channel.spec.revision_content();
    let path = format!("kanarie.dev/{}", label(channel));
    let uid = ChannelUid::parse(&Uuid::new_v5(&Uuid::NAMESPACE_URL, path.as_bytes()).to_string());
    let reference = ChannelRef {
        uid: uid.map_err(|error| vec![error.to_string()])?,
        name: channel.name_any(),
        namespace,
    };
    compile_revision(&reference.namespace, &content.name(), &content, secrets)
        .and_then(|stable| compile_channel(reference, &channel.spec, stable, secrets))
        .map_err(|error| vec![error.to_string()])
}

fn label(channel: &WhatsAppChannel) -> String {
    let namespace = channel.namespace();
    let namespace = namespace.as_deref().unwrap_or(manifest::DEFAULT_NAMESPACE);
    format!("{namespace}/{}", channel.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_take_long_to_read_are_looked_at_less_often() {
        assert_eq!(pause_after(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(pause_after(Duration::from_millis(4)), Duration::from_secs(2));
        assert_eq!(pause_after(Duration::from_secs(1)), Duration::from_secs(5));
    }
}
