//! Names of the keys in the Secrets that a channel refers to. No other key is ever read.

/// Auth token of the account: signs webhooks and, without an API key, authenticates calls.
pub const AUTH_TOKEN: &str = "authToken";
/// The other auth token while a rotation lasts.
pub const AUTH_TOKEN_SECONDARY: &str = "authTokenSecondary";
/// SID of an API key.
pub const API_KEY_SID: &str = "apiKeySid";
/// Secret of an API key.
pub const API_KEY_SECRET: &str = "apiKeySecret";
/// Shared key of HMAC-SHA256 webhooks.
pub const SIGNING_KEY: &str = "signingKey";
/// Key of a LangGraph server.
pub const AGENT_API_KEY: &str = "apiKey";
/// Bearer token of an HTTP agent.
pub const AGENT_TOKEN: &str = "token";
/// Longest value that is compiled into a route, in bytes.
pub const MAX_VALUE_BYTES: usize = 4096;
