//! The section `[llm]`, as it is written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A key for a provider. Shown by nothing but [`ApiKey::expose`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key itself, for the request that shows it. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl Serialize for ApiKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("•••")
    }
}

/// Section `[llm]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The model of tasks that name none: one of `aliases`. Default: `claude-sonnet`.
    pub default_model: String,
    /// What names of models stand for, as `name=provider:model`. Default: see [`Settings::default`].
    pub aliases: Vec<String>,
    /// What models cost, as `provider:model=input/output` in US dollars for a million tokens; others cost nothing.
    pub prices: Vec<String>,
    /// Where models are, as `name=kind@base URL`; kind `anthropic` (Messages API) or `openai` (chat completions, also of Ollama
    /// and vLLM).
    pub providers: Vec<String>,
    /// Key for the provider `anthropic` of tenants that have none of their own. Default: none.
    pub anthropic_api_key: Option<ApiKey>,
    /// Key for the provider `openai` of tenants that have none of their own. Default: none.
    pub openai_api_key: Option<ApiKey>,
    /// Keys for other providers, as `name=key`. Default: none.
    pub api_keys: Vec<ApiKey>,
}

impl Default for Settings {
    fn default() -> Self {
        let list = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Self {
            default_model: "claude-sonnet".to_owned(),
            aliases: list(&[
                "claude-sonnet=anthropic:claude-sonnet-4-5",
                "claude-haiku=anthropic:claude-haiku-4-5",
                "claude-opus=anthropic:claude-opus-4-5",
                "gpt-4o=openai:gpt-4o",
                "gpt-4o-mini=openai:gpt-4o-mini",
                "offline=offline:text",
            ]),
            prices: list(&[
                "anthropic:claude-sonnet-4-5=3/15",
                "anthropic:claude-haiku-4-5=1/5",
                "anthropic:claude-opus-4-5=5/25",
                "openai:gpt-4o=2.5/10",
                "openai:gpt-4o-mini=0.15/0.6",
            ]),
            providers: list(&[
                "anthropic=anthropic@https://api.anthropic.com",
                "openai=openai@https://api.openai.com/v1",
            ]),
            anthropic_api_key: None,
            openai_api_key: None,
            api_keys: Vec::new(),
        }
    }
}
