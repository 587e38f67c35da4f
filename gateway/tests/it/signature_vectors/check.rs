//! Signs and checks a request the way each test wants it, for one channel with a token and a key.

use kanarie_crds::route::{Credentials, SecretText, SharedKey};
use kanarie_fakes::signer;
use kanarie_gateway::inbound::signature::{NotVerified, Presented, UnverifiedBody, VerifiedBody};

use crate::signature_vectors::vectors::{CALL, Form, TOKEN};

pub(crate) fn credentials() -> Credentials {
    let shared = SharedKey { key_id: "key-1".to_owned(), secret: SecretText::new(TOKEN) };
    Credentials {
        auth_token: SecretText::new(TOKEN),
        auth_token_secondary: None,
        api_key: None,
        signing_keys: vec![shared],
    }
}

/// The body of [`CALL`].
pub(crate) fn call() -> UnverifiedBody {
    UnverifiedBody::form(encode(CALL).as_bytes())
}

/// The configured URL of [`PAGE`].
pub(crate) fn page() -> [String; 1] {
    ["https://mycompany.com/myapp.php".to_owned()]
}

/// What comes with a request to [`PAGE`].
pub(crate) fn presented(signature: &str) -> Presented<'_> {
    Presented { query: Some("foo=1&bar=2"), signature: Some(signature), settings: None }
}

/// Checks a form at a URL that is configured as it is requested.
pub(crate) fn verify(
    url: &str,
    form: Form<'_>,
    signature: &str,
) -> Result<VerifiedBody, NotVerified> {
    check(url, UnverifiedBody::form(encode(form).as_bytes()), signature, None)
}

pub(crate) fn refusal(url: &str, form: Form<'_>, signature: &str) -> Option<NotVerified> {
    verify(url, form, signature).err()
}

pub(crate) fn verify_shared(
    url: &str,
    form: Form<'_>,
    signature: &str,
    settings: &str,
) -> Result<VerifiedBody, NotVerified> {
    check(url, UnverifiedBody::form(encode(form).as_bytes()), signature, Some(settings))
}

pub(crate) fn verify_json(
    url: &str,
    body: &str,
    signature: &str,
) -> Result<VerifiedBody, NotVerified> {
    let query = url.split_once('?').map(|(_, query)| query);
    check(url, UnverifiedBody::opaque(query, body.as_bytes())?, signature, None)
}

pub(crate) fn check(
    url: &str,
    body: UnverifiedBody,
    signature: &str,
    settings: Option<&str>,
) -> Result<VerifiedBody, NotVerified> {
    let target = url.split('#').next().unwrap();
    let query = target.split_once('?').map(|(_, query)| query);
    let presented = Presented { query, signature: Some(signature), settings };
    body.verify(&presented, &[url.to_owned()], &credentials())
}

pub(crate) fn encode(form: Form<'_>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// Signs a form whose names are in order, each once.
pub(crate) fn sign(url: &str, form: Form<'_>) -> String {
    sign_text(&form.iter().fold(url.to_owned(), |text, (name, value)| text + name + value))
}

pub(crate) fn sign_text(text: &str) -> String {
    signer::mac(TOKEN.as_bytes(), text.as_bytes())
}
