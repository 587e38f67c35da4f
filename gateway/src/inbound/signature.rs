//! Whether Twilio sent a request: the only place that turns received bytes into a body one may
//! believe.
//!
//! Takes the raw body, the query and the signature headers as they came, the URLs and the secrets
//! of a channel; gives a [`VerifiedBody`] or the reason there is none. Pure: no clock, no store, no
//! log. Never shows more of an unverified body than `{account, to, from}`, never re-encodes what it
//! received, never trusts a forwarded header, and has no switch that turns it off.
//!
//! The rules are those of Twilio's security documentation and of its own libraries, without the
//! libraries' quirks; `tests/signature_vectors/refused.rs` names each of those.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kanarie_crds::route::{Credentials, SecretText, SharedKey};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Most parameters of a request. Twilio sends about 25, and three more for each of ten pictures.
const MAX_PARAMETERS: usize = 128;

/// A body that has been decoded, once, and that nobody may believe yet.
#[derive(Clone)]
pub struct UnverifiedBody {
    /// Every name and value, decoded, one after the other.
    decoded: Vec<u8>,
    fields: Vec<Field>,
}

/// A body that carries a valid signature of the channel it is for.
pub struct VerifiedBody(UnverifiedBody);

/// All that an unverified body shows: enough to find the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressed<'a> {
    /// `AccountSid`.
    pub account: Option<&'a str>,
    /// `To`.
    pub to: Option<&'a str>,
    /// `From`.
    pub from: Option<&'a str>,
}

/// What came with the body and says how it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The query exactly as received, without its `?`; none when the target has no `?`.
    pub query: Option<&'a str>,
    /// `X-Twilio-Signature`.
    pub signature: Option<&'a str>,
    /// `X-Twilio-Webhooks-Signature-Settings`.
    pub settings: Option<&'a str>,
}

/// One comparison that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The URL that was hashed.
    pub url: String,
    /// Name of the secret.
    pub secret: SecretName,
    /// Whether the signature is the one of this URL and secret.
    pub matches: bool,
}

/// A secret by its name, for people; never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretName {
    /// `authToken`.
    AuthToken,
    /// `authTokenSecondary`.
    AuthTokenSecondary,
    /// A shared key, by its id.
    SharedKey(String),
}

/// Why a body is not verified. All of them are the same answer to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// There is no signature header, or an empty one.
    #[error("there is no X-Twilio-Signature header")]
    Absent,
    /// The header is no base64 of the algorithm's length.
    #[error("X-Twilio-Signature is no signature of its algorithm")]
    Unreadable,
    /// The settings header names an algorithm or holds a part that is not known.
    #[error("X-Twilio-Webhooks-Signature-Settings is not understood")]
    UnknownSettings,
    /// The settings header names a shared key that the channel does not have.
    #[error("the channel has no shared key of that id: add it to twilio.signingKeys")]
    UnknownKey,
    /// A body that is no form does not have the hash that the query announces.
    #[error("a body that is no form needs its own hash as bodySHA256 in the query")]
    BodyHash,
    /// No secret of the channel made this signature for any of its URLs.
    #[error("no secret of the channel made this signature")]
    Mismatch,
}

impl UnverifiedBody {
    /// The form of a request; none when it has more parameters than any webhook, which would only cost
    /// the time to sort and to hash them.
    pub fn received(body: &[u8]) -> Option<Self> {
        let parameters = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        (parameters.count() <= MAX_PARAMETERS).then(|| Self::form(body))
    }

    /// Decodes a form, on bytes: `+` is a space, `%XX` a byte, a broken escape stands for itself.
    /// Every sequence of bytes is a form.
    pub fn form(body: &[u8]) -> Self {
        let mut decoded = Vec::with_capacity(body.len());
        let mut fields = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            let start = decoded.len();
            percent_decode(name, &mut decoded);
            let middle = decoded.len();
            percent_decode(value, &mut decoded);
            fields.push(Field { start, middle, end: decoded.len() });
        }
        Self { decoded, fields }
    }

    /// A body that is no form, JSON for one: it has no parameters, and the signed query carries its
    /// hash. The server takes forms only; this is for people who check a signature by hand.
    ///
    /// # Errors
    /// [`NotVerified::BodyHash`] when the query has no `bodySHA256` or another body's.
    pub fn opaque(query: Option<&str>, body: &[u8]) -> Result<Self, NotVerified> {
        let announced = query
            .unwrap_or_default()
            .split('&')
            .find_map(|pair| pair.strip_prefix("bodySHA256="))
            .ok_or(NotVerified::BodyHash)?;
        let same = announced.as_bytes().ct_eq(hex(&Sha256::digest(body)).as_bytes());
        let empty = Self { decoded: Vec::new(), fields: Vec::new() };
        if bool::from(same) { Ok(empty) } else { Err(NotVerified::BodyHash) }
    }

    /// What is needed to find the channel, and nothing else.
    pub fn addressed(&self) -> Addressed<'_> {
        let text = |name| std::str::from_utf8(self.single(name)?).ok();
        Addressed { account: text("AccountSid"), to: text("To"), from: text("From") }
    }

    /// Believes the body if one of the channel's secrets signed it for one of its URLs.
    ///
    /// # Errors
    /// Why not, for the log's counter; the sender is told none of it.
    pub fn verify(
        self,
        presented: &Presented<'_>,
        urls: &[String],
        credentials: &Credentials,
    ) -> Result<VerifiedBody, NotVerified> {
        // No early end: how long it takes must not tell which secret or URL was right.
        let compared = self.comparisons(presented, urls, credentials)?;
        let verified = compared.iter().fold(false, |any, one| any | one.matches);
        if verified { Ok(VerifiedBody(self)) } else { Err(NotVerified::Mismatch) }
    }

    /// Makes every comparison that [`Self::verify`] makes, and shows them.
    ///
    /// # Errors
    /// When the headers alone refuse the request.
    pub fn comparisons(
        &self,
        presented: &Presented<'_>,
        urls: &[String],
        credentials: &Credentials,
    ) -> Result<Vec<Comparison>, NotVerified> {
        let scheme = Scheme::chosen(presented.settings)?;
        let secrets = scheme.secrets(credentials);
        if secrets.is_empty() {
            return Err(NotVerified::UnknownKey);
        }
        let signature = presented.signature.filter(|text| !text.is_empty());
        let signature = STANDARD.decode(signature.ok_or(NotVerified::Absent)?);
        let signature = signature.map_err(|_| NotVerified::Unreadable)?;
        if signature.len() != scheme.signature_bytes() {
            return Err(NotVerified::Unreadable);
        }
        let parameters = self.signed_parameters();
        let candidates = urls.iter().flat_map(|url| candidates(url, presented.query));
        let compared = candidates.flat_map(|url| {
            let by_secret = secrets.iter().map(|(name, secret)| {
                let matches = scheme.matches(secret, &url, &parameters, &signature);
                Comparison { url: url.clone(), secret: name.clone(), matches }
            });
            by_secret.collect::<Vec<_>>()
        });
        Ok(compared.collect())
    }

    /// Spends on a body for nobody what a body for one of our channels costs, so that time does not
    /// tell which senders are ours.
    pub fn refuse(self, presented: &Presented<'_>) -> NotVerified {
        match self.verify(presented, &DECOY.0, &DECOY.1) {
            // Not even the right answer to a secret that nobody has opens anything.
            Ok(_) => NotVerified::Mismatch,
            Err(rejection) => rejection,
        }
    }

    /// Each name with each of its different values, in byte order, nothing between them.
    fn signed_parameters(&self) -> Vec<u8> {
        let mut pairs: Vec<(&[u8], &[u8])> =
            self.fields.iter().map(|field| (self.name(field), self.value(field))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut signed = Vec::with_capacity(self.decoded.len());
        for (name, value) in pairs {
            signed.extend_from_slice(name);
            signed.extend_from_slice(value);
        }
        signed
    }

    /// The value of a name that has exactly one: order is not signed, so of two different values
    /// neither is the first.
    fn single(&self, name: &str) -> Option<&[u8]> {
        let mut values = self
            .fields
            .iter()
            .filter(|field| self.name(field) == name.as_bytes())
            .map(|field| self.value(field));
        let first = values.next()?;
        values.all(|other| other == first).then_some(first)
    }

    fn name(&self, field: &Field) -> &[u8] {
        &self.decoded[field.start..field.middle]
    }

    fn value(&self, field: &Field) -> &[u8] {
        &self.decoded[field.middle..field.end]
    }
}

impl VerifiedBody {
    /// The text of a parameter; none when it is absent or has several different values. Bytes that
    /// are no UTF-8 are replaced, after the signature was checked over the bytes.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.single(name).map(String::from_utf8_lossy)
    }
}

/// A parameter's place in the decoded bytes: the name, then the value.
#[derive(Clone)]
struct Field {
    start: usize,
    middle: usize,
    end: usize,
}

/// Signs a form like Twilio does with an auth token, for `send-test`.
pub(crate) fn sign(auth_token: &SecretText, url: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(auth_token.expose().as_bytes())
        .expect("an HMAC takes a key of any length");
    mac.update(url.as_bytes());
    mac.update(&UnverifiedBody::form(body).signed_parameters());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// How a request says that it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme<'a> {
    /// HMAC-SHA1 with an auth token of the account.
    AuthToken,
    /// HMAC-SHA256 with the shared key of this id.
    SharedKey(&'a str),
}

impl<'a> Scheme<'a> {
    /// Reads the settings header. It is not covered by the signature, so it only ever selects
    /// among what the channel has: each kind of secret goes with one algorithm.
    fn chosen(settings: Option<&'a str>) -> Result<Self, NotVerified> {
        let (mut key, mut algorithm) = (None, None);
        for part in settings.into_iter().flat_map(|text| text.split(',')) {
            let slot = match part.trim().split_once('=') {
                Some(("key", value)) => (&mut key, value),
                Some(("algorithm", value)) => (&mut algorithm, value),
                _ => return Err(NotVerified::UnknownSettings),
            };
            if slot.0.replace(slot.1.trim()).is_some() {
                return Err(NotVerified::UnknownSettings);
            }
        }
        match (algorithm, key) {
            (None | Some("HMAC_SHA1"), _) => Ok(Self::AuthToken),
            (Some("HMAC_SHA256"), Some(key)) => Ok(Self::SharedKey(key)),
            _ => Err(NotVerified::UnknownSettings),
        }
    }

    /// Every live secret of the channel that goes with this scheme. A blank one signs nothing.
    fn secrets<'c>(&self, credentials: &'c Credentials) -> Vec<(SecretName, &'c SecretText)> {
        let mut secrets = Vec::with_capacity(2);
        match self {
            Self::AuthToken => {
                secrets.push((SecretName::AuthToken, &credentials.auth_token));
                if let Some(secondary) = &credentials.auth_token_secondary {
                    secrets.push((SecretName::AuthTokenSecondary, secondary));
                }
            }
            Self::SharedKey(id) => {
                let named = credentials
                    .signing_keys
                    .iter()
                    .filter(|key| key.key_id == *id || key.key_id == SharedKey::ANY_ID);
                let name = || SecretName::SharedKey((*id).to_owned());
                secrets.extend(named.map(|key| (name(), &key.secret)));
            }
        }
        secrets.retain(|(_, secret)| !secret.expose().is_empty());
        secrets
    }

    fn signature_bytes(&self) -> usize {
        match self {
            Self::AuthToken => 20,
            Self::SharedKey(_) => 32,
        }
    }

    /// Compares in constant time.
    fn matches(&self, secret: &SecretText, url: &str, parameters: &[u8], signature: &[u8]) -> bool {
        const ANY_LENGTH: &str = "an HMAC takes a key of any length";
        let secret = secret.expose().as_bytes();
        match self {
            Self::AuthToken => {
                let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect(ANY_LENGTH);
                mac.update(url.as_bytes());
                mac.update(parameters);
                mac.verify_slice(signature).is_ok()
            }
            Self::SharedKey(_) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect(ANY_LENGTH);
                mac.update(url.as_bytes());
                mac.update(parameters);
                mac.verify_slice(signature).is_ok()
            }
        }
    }
}

/// What a body for nobody is checked against.
static DECOY: LazyLock<([String; 1], Credentials)> = LazyLock::new(|| {
    let credentials = Credentials {
        auth_token: SecretText::new("0".repeat(32)),
        auth_token_secondary: None,
        api_key: None,
        signing_keys: Vec::new(),
    };
    (["https://gateway.invalid/webhooks/twilio/whatsapp".to_owned()], credentials)
});

/// The two strings that Twilio may have signed for a configured URL: without a port, and with the
/// one it has or the one its scheme implies. Twilio's libraries call its own rule inconsistent.
///
/// Scheme, user info, host, port and path are taken from the configuration byte by byte, the query
/// from the request; a fragment is never signed.
fn candidates(url: &str, query: Option<&str>) -> [String; 2] {
    let url = url.split(['#', '?']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    // A colon inside the brackets of an IPv6 address starts no port.
    let colon = host.rfind(':').filter(|at| host[*at..].find(']').is_none());
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    let implied = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    let port = if port.is_empty() { implied } else { port };
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    [
        format!("{scheme}://{user}{name}{path}{mark}{query}"),
        format!("{scheme}://{user}{name}{port}{path}{mark}{query}"),
    ]
}

fn percent_decode(encoded: &[u8], decoded: &mut Vec<u8>) {
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
pub(crate) mod testing {
    //! Bodies that count as verified in unit tests of the hops behind this one.

    use super::{UnverifiedBody, VerifiedBody};

    /// A verified form.
    pub(crate) fn verified(form: &str) -> VerifiedBody {
        VerifiedBody(UnverifiedBody::form(form.as_bytes()))
    }
}
