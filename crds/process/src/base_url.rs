//! The base URL of somebody's API, as a flag names it.
//!
//! Takes a text, gives a URL to which paths can be added. Never takes one that holds a credential, or a query or
//! fragment that no request would have.

use url::Url;

/// Reads a base URL; none if it is no http or https URL with a host, or has a user, a query or a fragment.
pub fn base_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_host_and_nothing_that_is_secret_or_lost() {
        for good in ["https://api.twilio.com", "http://127.0.0.1:8090/twilio"] {
            assert!(base_url(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "api.twilio.com",
            "ftp://api.twilio.com",
            "https://user@api.twilio.com",
            "https://:secret@api.twilio.com",
            "https://api.twilio.com?a=1",
            "https://api.twilio.com#a",
        ] {
            assert_eq!(base_url(bad), None, "{bad}");
        }
    }
}
