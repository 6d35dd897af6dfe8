//! The settings of every process, in one tree: a section per crate, read from a file and then from the environment.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use hookyard_chassis::{
    ops::OpsSettings,
    settings::{SettingsError, Sources},
    telemetry::LogSettings,
};
use hookyard_domain::{
    db, email, subscription,
    task::{self, Ledger, model::Models, respond::RespondLinks},
    vault::Vault,
};
use hookyard_gateway::{GatewaySettings, HttpSettings, OidcSettings};
use hookyard_messaging::AmqpSettings;
use serde::{Deserialize, Serialize};

use crate::{embedded, secrets};

/// Everything that can be set. Each section is documented where it is defined, and in docs/operations.md.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) http: HttpSettings,
    pub(crate) ops: OpsSettings,
    pub(crate) log: LogSettings,
    pub(crate) database: db::Settings,
    pub(crate) amqp: AmqpSettings,
    pub(crate) gateway: GatewaySettings,
    pub(crate) oidc: OidcSettings,
    pub(crate) mail: email::Settings,
    pub(crate) tasks: task::Settings,
    pub(crate) llm: task::model::Settings,
    pub(crate) runner: hookyard_runner::Settings,
    pub(crate) registry: hookyard_registry::Settings,
    pub(crate) delivery: hookyard_delivery::Settings,
    pub(crate) egress: hookyard_egress::Settings,
    pub(crate) hooks: subscription::Settings,
    pub(crate) secrets: secrets::Settings,
    pub(crate) embedded: embedded::Settings,
}

impl Settings {
    /// What the types cannot say: ranges and what does not go together.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.amqp.check().map_err(anyhow::Error::msg)?;
        self.database.check().map_err(anyhow::Error::msg)?;
        self.of_gateway().check()?;
        anyhow::ensure!(
            Duration::from_millis(self.http.shutdown_timeout_ms) < self.ops.shutdown_grace(),
            "http.shutdown_timeout_ms must be below ops.shutdown_grace_ms"
        );
        self.secrets.check()?;
        self.mail.check().map_err(anyhow::Error::msg)?;
        self.tasks.check().map_err(anyhow::Error::msg)?;
        self.models()?;
        self.runner.check().map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            self.runner.grace() < self.ops.shutdown_grace(),
            "runner.grace_ms must be below ops.shutdown_grace_ms"
        );
        self.registry.check().map_err(anyhow::Error::msg)?;
        self.delivery.check().map_err(anyhow::Error::msg)?;
        subscription::UrlRules::new(&self.hooks.extra_url_prefixes)
            .context("hooks.extra_url_prefixes is not acceptable")?;
        hookyard_egress::Egress::new(&self.egress)?;
        Ok(())
    }

    /// Which language models there are.
    pub(crate) fn models(&self) -> anyhow::Result<Models> {
        Models::new(&self.llm).map_err(anyhow::Error::msg)
    }

    /// The way to where they are.
    pub(crate) fn services(&self) -> anyhow::Result<hookyard_egress::Services> {
        let models = self.models()?;
        let urls: Vec<_> = models.providers().filter_map(|provider| provider.base_url.clone()).collect();
        Ok(hookyard_egress::Services::new(&self.egress, &urls)?)
    }

    /// The writer of what happens to runs.
    pub(crate) fn ledger(&self, vault: &Vault) -> Ledger {
        let links = RespondLinks::new(vault, &self.http.link(""));
        Ledger::new(self.tasks.clone(), links, self.mail.is_on().then(|| vault.clone()))
    }

    /// What the gateway is told.
    pub(crate) fn of_gateway(&self) -> hookyard_gateway::Settings {
        hookyard_gateway::Settings {
            http: self.http.clone(),
            gateway: self.gateway.clone(),
            oidc: self.oidc.clone(),
            mail: self.mail.clone(),
            tasks: self.tasks.clone(),
            llm: self.llm.clone(),
        }
    }
}

/// Reads the settings.
pub(crate) fn load(file: Option<PathBuf>) -> Result<Settings, SettingsError> {
    let sources = Sources::process(file)
        .alias("DATABASE_URL", "database.url")
        .alias("AMQP_URL", "amqp.url")
        .alias("ANTHROPIC_API_KEY", "llm.anthropic_api_key")
        .alias("OPENAI_API_KEY", "llm.openai_api_key")
        .alias("CODETETHER_WEBHOOK_SECRET", "delivery.task_webhook_secret");
    hookyard_chassis::settings::load(sources)
}
