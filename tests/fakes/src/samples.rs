//! Sample objects: a route as the operator writes it, and the manifests that stand beside the definition.
//!
//! Takes an account, or a folder of `crds`; gives JSON and text. Knows no type of the product: whoever wants
//! one reads it from these, and changes what its test is about.

use std::path::Path;
use std::{fs, io};

use serde_json::{Value, json};

use crate::customer::Account;

/// The route of a channel `web/shop` with everybody on one revision, whose agent is nowhere.
pub fn route(account: &Account) -> Value {
    json!({
        "channel": {"namespace": "web", "name": "shop", "uid": "uid-1"},
        "accountSid": account.sid,
        "sender": account.sender,
        "serving": 1,
        "weight": 0,
        "stable": revision("r1", json!({"http": {"url": "http://agent.example.com/"}})),
        "retryOnStable": true,
        "webhookUrls": [account.webhook_url],
        "credentials": {"authToken": account.token},
        "limits": {
            "inboundMessages": 50,
            "inboundWindowMs": 60_000,
            "outboundPerSecond": 80,
            "dedupMs": 86_400_000,
            "patienceMs": 900_000,
        },
    })
}

/// A revision of such a route; `agent` as routes have it.
pub fn revision(name: &str, agent: Value) -> Value {
    json!({
        "revision": name,
        "agent": agent,
        "timeoutMs": 3_000,
        "validitySeconds": 600,
        "failureText": "",
    })
}

/// Name and text of every manifest in a folder of `crds`, `examples` or `tests/bad`.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn manifests(folder: &str) -> io::Result<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds").join(folder);
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        found.push((name, fs::read_to_string(file.path())?));
    }
    found.sort();
    Ok(found)
}
