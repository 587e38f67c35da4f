//! The CEL rules of `WhatsAppChannel` and what each one tells the user: one constant a rule.
//!
//! Takes nothing, gives rule and message for the schema; `validate` uses the same messages. A
//! message says what must be, in the words of the fields. Bounds of numbers, lengths and lists are
//! plain schema and stand at their fields. No rule can turn signatures off.

use serde_json::{Value, json};

/// One CEL rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The CEL expression, over the field that it stands at.
    pub rule: &'static str,
    /// What must be.
    pub message: &'static str,
}

/// The value of `x-kubernetes-validations`.
pub fn all(rules: &[Rule]) -> Value {
    rules.iter().map(|rule| json!({"rule": rule.rule, "message": rule.message})).collect()
}

/// At the object.
pub const NAME: Rule = Rule {
    rule: "self.metadata.name.size() <= 52",
    message: "`metadata.name` must be at most fifty-two characters long: revisions are named \
              after it",
};

/// At `spec`: rules on the field itself would be skipped where a parent is removed.
pub const ACCOUNT_SID_IMMUTABLE: Rule = Rule {
    rule: "self.twilio.accountSid == oldSelf.twilio.accountSid",
    message: "`twilio.accountSid` must stay as it is; create another channel for another account",
};

/// At `spec`.
pub const ADDRESS_IMMUTABLE: Rule = Rule {
    rule: "self.sender.address == oldSelf.sender.address",
    message: "`sender.address` must stay as it is; create another channel for another sender",
};

/// At `spec`.
pub const CLASS_NAME_IMMUTABLE: Rule = Rule {
    rule: "self.className == oldSelf.className",
    message: "`className` must stay as it is; create another channel for another installation",
};

/// At `className`.
pub const CLASS_NAME: Rule = Rule {
    rule: "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
    message: "must be the class of an installation: lower-case letters, digits and `-`, with a letter \
              or digit at both ends",
};

/// At every SID of an account.
pub const ACCOUNT_SID: Rule = Rule {
    rule: "self.matches('^AC[0-9a-fA-F]{32}$')",
    message: "must be AC and thirty-two hexadecimal digits, as Twilio's console shows the Account \
              SID",
};

/// At `sender.address`.
pub const ADDRESS: Rule = Rule {
    rule: "self.matches('^whatsapp:[+][1-9][0-9]{6,14}$')",
    message: "must be `whatsapp:+` and the number with its country code, digits only, such as \
              whatsapp:+31201234567",
};

/// At `sender.messagingServiceSid`.
pub const MESSAGING_SERVICE_SID: Rule = Rule {
    rule: "self.matches('^MG[0-9a-fA-F]{32}$')",
    message: "must be MG and thirty-two hexadecimal digits, as Twilio's console shows the \
              Messaging Service SID",
};

/// At `webhook.url` and each of `webhook.previousURLs`.
pub const WEBHOOK_URL: Rule = Rule {
    rule: "self.matches('^https://([a-zA-Z0-9.-]+|[[][0-9a-fA-F:.]+[]])(:[0-9]{1,5})?\
           ([/?#][!-~]*)?$')",
    message: "must be an https URL with a host, without user info and spaces, such as \
              https://hooks.example.com/webhooks/twilio/whatsapp",
};

/// At `webhook.url` and each of `webhook.previousURLs`.
pub const WEBHOOK_FRAGMENT: Rule = Rule {
    rule: "!self.contains('#')",
    message: "must not have a fragment, which Twilio does not sign; put \
              `#rc=2&rp=ct,rt,5xx&ct=2000&rt=4000` behind the URL in Twilio's console only",
};

/// At `webhook`.
pub const PREVIOUS_URLS: Rule = Rule {
    rule: "!has(self.previousURLs) || !self.previousURLs.exists(u, u == self.url)",
    message: "`previousURLs` must not repeat `url`; remove it from the list",
};

/// At `agent`.
pub const ONE_AGENT: Rule = Rule {
    rule: "has(self.langGraph) != has(self.http)",
    message: "exactly one of `langGraph` and `http` must be set",
};

/// At `agent.langGraph` and `agent.http`.
pub const ONE_ADDRESS: Rule = Rule {
    rule: "has(self.url) != has(self.serviceRef)",
    message: "exactly one of `url` and `serviceRef` must be set",
};

/// At the `url` of an agent.
pub const AGENT_URL: Rule = Rule {
    rule: "self.matches('^https?://([a-zA-Z0-9._-]+|[[][0-9a-fA-F:.]+[]])(:[0-9]{1,5})?\
           ([/?][!-\"$-~]*)?$')",
    message: "must be an http or https URL with a host, without user info, spaces and fragment; \
              credentials belong in the Secret",
};

/// At the `path` of a service.
pub const PATH: Rule = Rule {
    rule: "self.matches('^/[!-\"$-~]*$') && !self.contains('..')",
    message: "must start with `/` and must not have spaces, `..` or a fragment",
};

/// At the name of a Secret.
pub const SECRET_NAME: Rule = Rule {
    rule: "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
    message: "must be the name of a Secret: lower-case letters, digits, `-` and `.`, with a letter \
              or digit at both ends",
};

/// At the name of a Service.
pub const SERVICE_NAME: Rule = Rule {
    rule: "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
    message: "must be the name of a Service in the channel's namespace: lower-case letters, digits \
              and `-`, with a letter or digit at both ends",
};

/// At `twilio.signingKeys[].keyId` and `agent.langGraph.assistantId`.
pub const IDENTIFIER: Rule = Rule {
    rule: "self.matches('^[a-zA-Z0-9._-]+$')",
    message: "must be an id of letters, digits, `.`, `_` and `-`",
};

/// At `rollout`.
pub const WEIGHT_IFF_MANUAL: Rule = Rule {
    rule: "(self.mode == 'Manual') == has(self.weight)",
    message: "`weight` must be set when `mode` is Manual and removed when it is Automatic",
};

/// At `rollout`.
pub const STEPS_INCREASE: Rule = Rule {
    rule: "self.steps.map(s, s.weight).isSorted() && \
           self.steps.all(s, self.steps.exists_one(t, t.weight == s.weight))",
    message: "the weights of `steps` must increase from step to step",
};

/// At `rollout`.
pub const STEPS_END: Rule = Rule {
    rule: "self.steps.size() == 0 || self.steps[self.steps.size() - 1].weight == 100",
    message: "the last of `steps` must have weight one hundred; its hold is the bake",
};

/// At `rollout`.
pub const DEADLINE: Rule = Rule {
    rule: "self.steps.all(s, s.holdSeconds < self.progressDeadlineSeconds)",
    message: "`progressDeadlineSeconds` must be longer than every `holdSeconds`, or each rollout \
              would be overdue",
};

/// At `rollout.analysis`.
pub const CERTIFY_OVER_LIMIT: Rule = Rule {
    rule: "!has(self.certifyBasisPoints) || self.certifyBasisPoints > self.maxErrorBasisPoints",
    message: "`certifyBasisPoints` must be greater than `maxErrorBasisPoints`: a step excludes a \
              rate that is worse than the one it allows",
};
