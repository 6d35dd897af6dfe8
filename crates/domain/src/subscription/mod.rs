//! Subscriptions: who wants which events where, and how it goes there.
//!
//! There are five kinds: the REST hook of contract §3, the consumer of contract §4 and the inbox of contract §2, which are matched with
//! events, and the endpoints of tasks (contract §5) and of callbacks (contract §6), which are not.

pub mod activity;
pub mod breaker;
pub mod command;
pub mod condition;
pub mod consumer;
pub mod diagnosis;
pub mod directory;
mod ending;
pub mod endpoint;
mod filter;
mod health;
pub mod inbox;
mod kind;
pub mod listeners;
mod pattern;
mod record;
mod report;
pub mod single;
mod state;
pub mod store;
mod url_rule;
pub mod warning;
pub mod zapier;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use consumer::Consumer;
pub use ending::{Ending, end};
pub use filter::{Filter, FilterError};
pub use health::{Ended, FAILING_TO_DISABLE, Health, HealthChange, REFUSALS_TO_DISABLE, apply};
pub use kind::Kind;
pub use pattern::{EventPattern, PatternError};
pub use record::{Record, add_to_health, lock_health};
pub use report::{MAX_DEAD_EVENTS, Report, Standing};
pub use state::HookState;
pub use url_rule::{HookUrl, UrlError, UrlRules};

use crate::{
    event::EventType,
    id::{SubscriptionId, TenantId},
    wire::{Json, SigningSecret, WebhookSecret},
};

/// The `[hooks]` section.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// URL prefixes that hooks may have besides Zapier's, for development and tests, such as `http://127.0.0.1:9000/`.
    /// Default: none. From the environment: separated by commas.
    #[serde(deserialize_with = "crate::subscription::comma_separated")]
    pub extra_url_prefixes: Vec<String>,
}

/// A list, or a text of items separated by commas, which is what an environment variable can hold.
pub(crate) fn comma_separated<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::Text(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
    })
}

/// A subscription as matching and delivering see it: parsed once, shared by reference.
#[derive(Debug)]
pub struct Subscription {
    /// Identity.
    pub id: SubscriptionId,
    /// Owner.
    pub tenant: TenantId,
    /// What it is.
    pub kind: Kind,
    /// Where deliveries go; of an inbox, its address.
    pub url: url::Url,
    /// Which types; none = all.
    pub patterns: Box<[EventPattern]>,
    /// Which events of those; `None` = all.
    pub filter: Option<Filter>,
    /// Where the hook stands.
    pub state: HookState,
    /// What signs its deliveries. `None` where nothing is signed, and while the master key that it is sealed with is not
    /// here: what cannot be signed waits.
    pub secrets: Option<Arc<Secrets>>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// What it has as a consumer, or as an inbox (tags, and after which time a message is not given out any more); `None` for the
    /// other kinds.
    pub consumer: Option<Box<Consumer>>,
}

/// What signs the deliveries of a subscription.
#[derive(Debug)]
pub struct Secrets {
    /// Signs the Standard Webhooks triple.
    pub signing: SigningSecret,
    /// Signs `X-TriggersAPI-Signature`, or `X-CodeTether-Signature` of tasks: the subscription's own, else the tenant's.
    pub webhook: Option<WebhookSecret>,
    /// What a consumer has besides.
    pub consumer: Option<Box<consumer::Keys>>,
}

impl Subscription {
    /// Whether an event of this type that is accepted now goes here, before the filter is asked.
    #[must_use]
    pub fn wants_type(&self, event_type: &EventType, now: DateTime<Utc>) -> bool {
        let named =
            self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(event_type));
        named && self.takes_events(now)
    }

    /// Whether new events go here at all.
    #[must_use]
    pub fn takes_events(&self, now: DateTime<Utc>) -> bool {
        self.state.takes_events() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether the filter, and the tags of a consumer, let the event through; without them, always.
    #[must_use]
    pub fn admits(&self, event: &Json) -> bool {
        let tags = self.consumer.as_ref().map_or(&[][..], |consumer| &consumer.tags);
        self.filter.as_ref().is_none_or(|filter| filter.matches(event))
            && (tags.is_empty() || consumer::tags::any_of(tags, event))
    }

    /// Whether the content of an event has to be read to know what becomes of it here.
    #[must_use]
    pub fn reads_content(&self) -> bool {
        self.filter.is_some() || self.consumer.as_ref().is_some_and(|consumer| consumer.reads_content())
    }
}

/// What an endpoint's partition is computed from: the same number for the same endpoint, evenly spread.
#[must_use]
pub fn spread(subscription: SubscriptionId) -> u16 {
    // The last bits of a UUIDv7 are random.
    (subscription.uuid().as_u128() & 0xffff) as u16
}
