//! Language models: the section `[llm]`, and what it means. Names that people write stand for models of providers; what
//! they cost is data. Calling them is the runner's business.

mod settings;

use std::{collections::BTreeMap, sync::Arc};

use url::Url;

pub use settings::{ApiKey, Settings};

/// The provider that is always there and needs no key: deterministic text work without a model.
pub const OFFLINE: &str = "offline";

/// How a provider is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// Anthropic's Messages API.
    Anthropic,
    /// Chat completions as OpenAI has them, and many others.
    OpenAi,
    /// Not at all: the work is done here.
    Offline,
}

/// Where models are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What it is called in `provider:model`.
    pub name: String,
    /// How it is talked to.
    pub kind: ProviderKind,
    /// Where; `None` for the offline provider.
    pub base_url: Option<Url>,
    /// The installation's key, for tenants that have none of their own.
    pub api_key: Option<ApiKey>,
}

impl Provider {
    /// Whether it may be asked without a key: it is neither Anthropic nor OpenAI themselves.
    #[must_use]
    pub fn keyless(&self) -> bool {
        let host = self.base_url.as_ref().and_then(Url::host_str);
        !matches!(host, Some("api.anthropic.com" | "api.openai.com"))
    }
}

/// A model that a task can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name that the caller wrote or would have written: what it is answered.
    pub alias: String,
    /// Whose model.
    pub provider: String,
    /// What its provider calls it.
    pub model: String,
}

impl Resolved {
    /// From what a run keeps: its name and `provider:model`.
    #[must_use]
    pub fn of_stored(alias: &str, resolved: &str) -> Self {
        let (provider, model) = resolved.split_once(':').unwrap_or((OFFLINE, resolved));
        Self { alias: alias.to_owned(), provider: provider.to_owned(), model: model.to_owned() }
    }

    /// As a run keeps it: `provider:model`.
    #[must_use]
    pub fn stored(&self) -> String {
        format!("{}:{}", self.provider, self.model)
    }
}

/// A model that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", choices.join(", "))]
pub struct UnknownModel {
    /// The names that are known.
    pub choices: Vec<String>,
}

/// Dollars for a million tokens, that is micro-dollars for one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Price {
    input: f64,
    output: f64,
}

/// The longest name of a model, in characters.
pub const MAX_MODEL_CHARS: usize = 100;

/// What the section means. Clones share it.
#[derive(Clone, Debug)]
pub struct Models(Arc<Table>);

#[derive(Debug)]
struct Table {
    default: String,
    aliases: BTreeMap<String, (String, String)>,
    prices: BTreeMap<String, Price>,
    providers: BTreeMap<String, Provider>,
}

impl Models {
    /// Reads the section.
    ///
    /// # Errors
    /// Names the first line that cannot be read, or names something that is not there.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let mut providers = BTreeMap::new();
        let offline =
            Provider { name: OFFLINE.to_owned(), kind: ProviderKind::Offline, base_url: None, api_key: None };
        providers.insert(OFFLINE.to_owned(), offline);
        for line in &settings.providers {
            let provider = provider(line).ok_or_else(|| {
                format!("llm.providers: `{line}` must read name=anthropic@URL or name=openai@URL")
            })?;
            providers.insert(provider.name.clone(), provider);
        }
        let named = [("anthropic", &settings.anthropic_api_key), ("openai", &settings.openai_api_key)];
        for (name, key) in named {
            if let (Some(key), Some(provider)) = (key, providers.get_mut(name)) {
                provider.api_key = Some(key.clone());
            }
        }
        for line in &settings.api_keys {
            let (name, key) =
                line.expose().split_once('=').ok_or("llm.api_keys: a line must read provider=key")?;
            let provider = providers.get_mut(name).ok_or_else(|| {
                "llm.api_keys: a line names a provider that is not in llm.providers".to_owned()
            })?;
            provider.api_key = Some(ApiKey::new(key));
        }
        let mut aliases = BTreeMap::new();
        for line in &settings.aliases {
            let read = || -> Option<(String, (String, String))> {
                let (alias, target) = line.split_once('=')?;
                let (provider, model) = target.split_once(':')?;
                let plain = !alias.is_empty() && alias.len() <= MAX_MODEL_CHARS && !model.is_empty();
                plain.then(|| (alias.to_owned(), (provider.to_owned(), model.to_owned())))
            };
            let (alias, target) =
                read().ok_or_else(|| format!("llm.aliases: `{line}` must read name=provider:model"))?;
            if !providers.contains_key(&target.0) {
                return Err(format!("llm.aliases: `{line}` names a provider that is not in llm.providers"));
            }
            aliases.insert(alias, target);
        }
        let mut prices = BTreeMap::new();
        for line in &settings.prices {
            let (model, price) = price(line).ok_or_else(|| {
                format!("llm.prices: `{line}` must read provider:model=input/output in dollars")
            })?;
            prices.insert(model, price);
        }
        if !aliases.contains_key(&settings.default_model) {
            return Err(format!("llm.default_model: `{}` is not in llm.aliases", settings.default_model));
        }
        Ok(Self(Arc::new(Table { default: settings.default_model.clone(), aliases, prices, providers })))
    }

    /// What a caller means: a name, `provider:model` of a provider that is configured, or nothing, which is the default.
    ///
    /// # Errors
    /// Nobody knows it; the error names the choices.
    pub fn resolve(&self, asked: Option<&str>) -> Result<Resolved, UnknownModel> {
        let table = &*self.0;
        let name = asked.unwrap_or(&table.default);
        if let Some((provider, model)) = table.aliases.get(name) {
            return Ok(Resolved { alias: name.to_owned(), provider: provider.clone(), model: model.clone() });
        }
        if let Some((provider, model)) = name.split_once(':')
            && table.providers.contains_key(provider)
            && !model.is_empty()
            && name.chars().count() <= MAX_MODEL_CHARS
            && !name.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Ok(Resolved {
                alias: name.to_owned(),
                provider: provider.to_owned(),
                model: model.to_owned(),
            });
        }
        Err(UnknownModel { choices: table.aliases.keys().cloned().collect() })
    }

    /// A provider by its name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.0.providers.get(name)
    }

    /// Every provider.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.0.providers.values()
    }

    /// The names of models, each with the `provider:model` it stands for.
    pub fn choices(&self) -> impl Iterator<Item = (&str, String)> {
        self.0
            .aliases
            .iter()
            .map(|(alias, (provider, model))| (alias.as_str(), format!("{provider}:{model}")))
    }

    /// The name of tasks that name none.
    #[must_use]
    pub fn default_model(&self) -> &str {
        &self.0.default
    }

    /// What tokens of a `provider:model` cost, in micro-dollars, rounded up. Without a price: nothing.
    #[must_use]
    pub fn cost_micros(&self, resolved: &str, input_tokens: u64, output_tokens: u64) -> u64 {
        let Some(price) = self.0.prices.get(resolved) else { return 0 };
        // A price is finite and not negative; `as` saturates.
        (price.input * input_tokens as f64 + price.output * output_tokens as f64).ceil() as u64
    }
}

fn provider(line: &str) -> Option<Provider> {
    let (name, rest) = line.split_once('=')?;
    let (kind, url) = rest.split_once('@')?;
    let kind = match kind {
        "anthropic" => ProviderKind::Anthropic,
        "openai" => ProviderKind::OpenAi,
        _ => return None,
    };
    let url = Url::parse(url).ok()?;
    let plain = !name.is_empty()
        && name != OFFLINE
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let asked = matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty();
    (plain && asked).then(|| Provider { name: name.to_owned(), kind, base_url: Some(url), api_key: None })
}

fn price(line: &str) -> Option<(String, Price)> {
    let (model, price) = line.rsplit_once('=')?;
    let (input, output) = price.split_once('/')?;
    let dollars = |text: &str| text.parse::<f64>().ok().filter(|price| (0.0..=1e6).contains(price));
    model.contains(':').then_some(())?;
    Some((model.to_owned(), Price { input: dollars(input)?, output: dollars(output)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        Models::new(&Settings::default()).unwrap()
    }

    #[test]
    fn names_stand_for_models() {
        for (asked, alias, stored) in [
            (None, "claude-sonnet", "anthropic:claude-sonnet-4-5"),
            (Some("gpt-4o"), "gpt-4o", "openai:gpt-4o"),
            (Some("offline"), "offline", "offline:text"),
            (Some("openai:gpt-9"), "openai:gpt-9", "openai:gpt-9"),
        ] {
            let found = models().resolve(asked).unwrap();
            assert_eq!((found.alias.as_str(), found.stored().as_str()), (alias, stored));
            assert_eq!(Resolved::of_stored(alias, stored), found);
        }
    }

    #[test]
    fn an_unknown_model_names_the_choices() {
        for bad in ["claude", "", "nobody:model", "openai:", "openai:a b"] {
            let told = models().resolve(Some(bad)).unwrap_err().to_string();
            assert_eq!(
                told, "must be one of claude-haiku, claude-opus, claude-sonnet, gpt-4o, gpt-4o-mini, offline",
                "{bad}"
            );
        }
    }

    #[test]
    fn tokens_cost_what_the_table_says() {
        let models = models();
        assert_eq!(models.cost_micros("anthropic:claude-sonnet-4-5", 1_000_000, 1_000_000), 18_000_000);
        assert_eq!(models.cost_micros("openai:gpt-4o-mini", 1, 0), 1, "rounded up");
        assert_eq!(models.cost_micros("offline:text", 1_000, 1_000), 0);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Models::new(&settings).map(drop)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|s| s.providers.push("ollama=openai@http://127.0.0.1:11434/v1".into())), Ok(()));
        for (change, part) in [
            ((|s| s.default_model = "x".into()) as fn(&mut Settings), "llm.default_model"),
            (|s| s.aliases.push("x".into()), "llm.aliases"),
            (|s| s.aliases.push("x=nobody:y".into()), "llm.aliases"),
            (|s| s.prices.push("a:b=1".into()), "llm.prices"),
            (|s| s.prices.push("a:b=1/-1".into()), "llm.prices"),
            (|s| s.prices.push("a:b=1/NaN".into()), "llm.prices"),
            (|s| s.providers.push("x=y@https://z".into()), "llm.providers"),
            (|s| s.providers.push("offline=openai@https://z".into()), "llm.providers"),
            (|s| s.api_keys.push(ApiKey::new("secret")), "llm.api_keys"),
            (|s| s.api_keys.push(ApiKey::new("nobody=secret")), "llm.api_keys"),
        ] {
            let told = with(change).unwrap_err();
            assert!(told.starts_with(part) && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_key_is_not_shown_and_own_servers_need_none() {
        let mut settings =
            Settings { anthropic_api_key: Some(ApiKey::new("sk-ant-1")), ..Settings::default() };
        settings.providers.push("ollama=openai@http://127.0.0.1:11434/v1".into());
        let models = Models::new(&settings).unwrap();
        assert!(!format!("{settings:?} {models:?}").contains("sk-ant-1"));
        let keyless = |name| models.provider(name).unwrap().keyless();
        assert_eq!((keyless("anthropic"), keyless("openai"), keyless("ollama")), (false, false, true));
    }
}
