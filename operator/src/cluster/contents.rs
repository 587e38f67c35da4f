//! What a stored revision fixes, as it is read back.
//!
//! Takes the data of a ControllerRevision, which whoever may write into the channel's namespace may have
//! written; gives the content, or why it serves nobody: what no spec could ask for is never served. Pure.

use kanarie_crds::channel::RevisionContent;
use kanarie_crds::validate::validate_content;
use thiserror::Error;

/// Longest content that is looked at, as JSON; the bounds of the schema allow about half of it.
const MAX_CONTENT_BYTES: usize = 16 * 1024;

/// Reads the data of a revision, as they stand there.
pub fn stored_content(data: &str) -> Result<RevisionContent, ContentFault> {
    if data.len() > MAX_CONTENT_BYTES {
        return Err(ContentFault::TooLong);
    }
    let content = serde_json::from_str(data).map_err(|_| ContentFault::Unreadable)?;
    match validate_content(&content).as_slice() {
        [] => Ok(content),
        problems => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(ContentFault::Broken(problems.join("; ")))
        }
    }
}

/// Why the content of a stored revision is not used. Whoever may write into the namespace may write one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContentFault {
    /// It is longer than any of ours.
    #[error("its data are longer than {MAX_CONTENT_BYTES} bytes")]
    TooLong,
    /// It is no content, or one that a newer operator wrote.
    #[error("its data cannot be read by this version")]
    Unreadable,
    /// A spec with it would be refused.
    #[error("its data break the rules of a spec: {0}")]
    Broken(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_content_over_every_bound_is_no_content() {
        let data = |text: usize| {
            let agent = json!({"http": {"url": "http://a"}});
            json!({"agent": agent, "reply": {"failureText": "x".repeat(text)}})
        };
        assert!(stored_content(&data(100).to_string()).is_ok());
        assert_eq!(stored_content(&data(1_000_000).to_string()), Err(ContentFault::TooLong));
    }

    /// Whoever may write into the namespace of a channel may write a revision of it.
    #[test]
    fn a_content_that_no_spec_could_have_is_no_content() {
        let data = |agent: serde_json::Value| stored_content(&json!({"agent": agent}).to_string());
        let service = |name: &str, port: u16| json!({"serviceRef": {"name": name, "port": port}});
        assert!(data(json!({"http": service("agent", 80)})).is_ok());
        for agent in [
            json!({"http": service("agent.other.svc:80/?", 80)}),
            json!({"http": service("agent", 0)}),
            json!({"http": service("agent", 80), "timeoutSeconds": 4_000_000_000_u32}),
            json!({"http": {"url": "file:///etc/passwd"}}),
            json!({}),
        ] {
            let fault = data(agent.clone()).unwrap_err().to_string();
            assert!(fault.contains("spec.agent"), "{agent}: {fault}");
        }
        let text = json!({"agent": {"http": {"url": "http://a"}}, "messagingServiceSid": "MG1"});
        assert!(matches!(stored_content(&text.to_string()), Err(ContentFault::Broken(_))));
    }

    #[test]
    fn a_content_without_a_later_default_equals_the_one_that_spells_it_out() {
        let spelled: RevisionContent = serde_json::from_str(
            r#"{"agent": {"http": {"url": "http://a"}, "timeoutSeconds": 60},
                "reply": {"validitySeconds": 600, "failureText": ""}}"#,
        )
        .unwrap();
        let short = json!({"agent": {"http": {"url": "http://a"}}});
        assert_eq!(stored_content(&short.to_string()), Ok(spelled));
    }
}
