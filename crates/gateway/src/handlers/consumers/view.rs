//! How a consumer looks wherever one is shown.

use std::collections::BTreeMap;

use hookyard_domain::{
    event::wire_time,
    subscription::{
        HookState,
        consumer::{headers::MASK, store::ConsumerView},
    },
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use utoipa::ToSchema;

use crate::handlers::{hook_view::HookStateWord, record_view::RecordView};

/// A consumer: who wants which events where and how, and how it fared.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Consumer)]
pub(crate) struct View {
    /// Identity.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Where deliveries go.
    #[schema(example = "https://example.com/webhooks")]
    url: String,
    /// What it is for; of one that was made without, and whose URL is Zapier's, its types.
    description: String,
    /// Which types, as they were written.
    #[serde(rename = "eventTypes")]
    #[schema(example = json!(["order.*"]))]
    event_types: Vec<String>,
    /// The types or patterns that these stand for.
    #[schema(example = json!(["order.*"]))]
    patterns: Vec<String>,
    /// Only events of companies with one of these tags; empty = all.
    #[serde(rename = "companyTags")]
    #[schema(example = json!(["region:uk"]))]
    company_tags: Vec<String>,
    /// Which of those events; `null` = all.
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// Whether nothing is delivered until it is enabled.
    disabled: bool,
    /// `pending`, `active` and `failing` consumers are delivered to.
    #[schema(value_type = HookStateWord)]
    state: &'static str,
    /// Why it is in that state, if that is not obvious.
    state_reason: Option<String>,
    /// `POST` or `PUT`.
    #[schema(example = "POST")]
    method: String,
    /// Further headers; their values are masked.
    #[schema(example = json!({"authorization": "********"}))]
    headers: BTreeMap<String, &'static str>,
    /// Deliveries per second; `null` = as fast as it takes them.
    #[schema(minimum = 1)]
    rate_limit: Option<i32>,
    /// Seconds after which an event that has not arrived is not sent any more; `null` = as long as there are tries.
    #[schema(minimum = 30)]
    ttl_seconds: Option<i32>,
    /// The place in an event by whose value it is ordered; `null` = in no order.
    #[schema(example = "payload.order.id")]
    ordering_key: Option<String>,
    /// What is made of events before they are sent; `null` = nothing.
    #[schema(value_type = Option<Object>)]
    transformation: Option<Box<RawValue>>,
    /// What is shown to the receiver if it asks for a client certificate; never the key.
    client_certificate: Option<CertificateView>,
    /// Verifies the `v1a` signatures: `whpk_` and base64 of an ed25519 key.
    #[schema(example = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: String,
    /// What signs besides, while a rotation overlaps.
    previous: Option<PreviousView>,
    #[serde(flatten)]
    record: RecordView,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A client certificate.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClientCertificate)]
pub(crate) struct CertificateView {
    /// The certificate and its chain, PEM.
    certificate: String,
    /// Until when it is valid.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// The key from before the last rotation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviousKey)]
pub(crate) struct PreviousView {
    /// Verifies the second of the `v1a` signatures.
    public_key: String,
    /// Until when the secret and the key from before the rotation sign, too.
    #[schema(format = DateTime)]
    until: String,
}

impl View {
    /// As it is at this moment.
    pub(super) fn of(consumer: ConsumerView, now: chrono::DateTime<chrono::Utc>) -> Self {
        let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
        let previous =
            consumer.previous_public_key.zip(consumer.previous_until).filter(|(_, until)| now < *until);
        Self {
            id: consumer.id.to_string(),
            url: consumer.url,
            description: consumer.description,
            event_types: consumer.event_types,
            patterns: consumer.patterns,
            company_tags: consumer.tags,
            filter: raw(consumer.filter),
            disabled: consumer.state == HookState::Disabled,
            state: consumer.state.as_str(),
            state_reason: consumer.state_reason,
            method: consumer.method,
            headers: consumer.header_names.into_iter().map(|name| (name, MASK)).collect(),
            rate_limit: consumer.rate_limit,
            ttl_seconds: consumer.ttl_s,
            ordering_key: consumer.ordering_key,
            transformation: raw(consumer.transformation),
            client_certificate: consumer
                .certificate
                .zip(consumer.certificate_until)
                .map(|(certificate, until)| CertificateView { certificate, expires_at: wire_time(until) }),
            public_key: consumer.public_key,
            previous: previous
                .map(|(public_key, until)| PreviousView { public_key, until: wire_time(until) }),
            record: consumer.record.into(),
            created_at: wire_time(consumer.created_at),
            updated_at: wire_time(consumer.updated_at),
        }
    }
}

/// What the audit log is told of a consumer: neither secrets nor the values of headers, which are not in the view.
pub(super) fn told(consumer: &ConsumerView) -> Value {
    let parsed =
        |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "url": consumer.url,
        "description": consumer.description,
        "event_types": consumer.event_types,
        "tags": consumer.tags,
        "filter": parsed(&consumer.filter),
        "state": consumer.state.as_str(),
        "state_reason": consumer.state_reason,
        "method": consumer.method,
        "headers": consumer.header_names,
        "rate_limit": consumer.rate_limit,
        "ttl_seconds": consumer.ttl_s,
        "ordered_by": consumer.ordering_key,
        "transformation": parsed(&consumer.transformation),
        "certificate_expires_at": consumer.certificate_until.map(wire_time),
        "verifies_with": consumer.public_key,
    })
}
