//! `/zapier/event-types`: the catalogue as the editor of Zaps needs it: choices for a dropdown, and the fields of a type's
//! events by which they are mapped, before there is one.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Result as DomainResult,
    catalogue::{
        self, CatalogueEntry,
        fields::{self, Field, FieldKind, MAX_FIELDS},
    },
    db::Conn,
    id::TenantId,
    wire::{Json, parse_stored, to_canonical},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Wanted;
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent},
    },
    context::Context,
    handlers::samples,
    problem,
};

/// Events that are looked at for fields, at most.
const EVENTS: i64 = 3;

/// A choice of a dropdown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTypeChoice)]
pub(crate) struct Choice {
    /// The type, which Zapier wants under this name, too.
    #[schema(example = "order.created")]
    id: String,
    /// The type: what is subscribed.
    #[schema(example = "order.created")]
    key: String,
    /// The type for people.
    #[schema(example = "Order Created")]
    label: String,
    /// What has happened.
    #[schema(example = "An order was placed.")]
    description: String,
    /// The part of the product that it belongs to.
    feature_group: Option<String>,
    /// Still sent, but subscribers should move on.
    deprecated: bool,
}

impl From<CatalogueEntry> for Choice {
    fn from(entry: CatalogueEntry) -> Self {
        let label = fields::title(entry.name.as_str());
        Self {
            id: entry.name.to_string(),
            key: entry.name.to_string(),
            label: if entry.deprecated { format!("{label} (deprecated)") } else { label },
            description: entry.description,
            feature_group: entry.feature_group,
            deprecated: entry.deprecated,
        }
    }
}

/// List event types for a dropdown
///
/// Every type that takes hooks, in order of names, on one page: for a hidden trigger behind a dynamic dropdown
/// (`event_types.key.label`).
#[utoipa::path(
    get,
    path = "/zapier/event-types",
    operation_id = "list_event_type_choices",
    tag = "REST hooks",
    responses((status = 200, description = "Always a list.", body = [Choice], example = json!([{"id": "order.created", "key": "order.created", "label": "Order Created", "description": "An order was placed.", "feature_group": "Orders", "deprecated": false}])))
)]
pub(crate) async fn choices(context: Data<Context>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let tenant = caller.tenant();
    let entries =
        context.db.once(move |conn| catalogue::of_tenant(conn, tenant)).await.map_err(problem::of)?;
    let choices = entries.into_iter().filter(|entry| !entry.archived).map(Choice::from);
    Ok(HttpResponse::Ok().json(choices.collect::<Vec<_>>()))
}

/// A field of a trigger's output.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutputField)]
pub(crate) struct FieldView {
    /// What it is mapped by: members of objects are joined with `__`, those of lists of objects with `[]`.
    #[schema(example = "payload__customer__name")]
    key: String,
    /// What people read.
    #[schema(example = "Customer Name")]
    label: String,
    /// `string`, `number`, `integer`, `boolean` or `datetime`; not there when that is not known.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "string")]
    kind: Option<&'static str>,
    /// Whether the value is a list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    list: bool,
    /// A value to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    sample: Option<Box<RawValue>>,
}

impl From<Field> for FieldView {
    fn from(field: Field) -> Self {
        let sample = field.sample.and_then(|value| String::from_utf8(to_canonical(&value)).ok());
        Self {
            key: field.key,
            label: field.label,
            kind: field.kind.map(FieldKind::as_str),
            list: field.list,
            sample: sample.and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}

/// List the fields of a type's events
///
/// What a delivery of this type (an alias or a pattern will do, too) can be mapped by, for the `outputFields` of a trigger: from
/// the schema of the type, with samples of its latest event or its example; without a schema from those events alone.
#[utoipa::path(
    get,
    path = "/zapier/event-types/{type}/fields",
    operation_id = "list_event_fields",
    tag = "REST hooks",
    params(("type" = String, Path, description = "A type, an alias or a pattern, as in the subscribe.", example = "task.completed")),
    responses((status = 200, description = "Always a list.", body = [FieldView], example = json!([{"key": "id", "label": "ID", "type": "string", "sample": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6"}, {"key": "payload__order", "label": "Order", "type": "integer", "sample": 1042}, {"key": "payload__lines[]sku", "label": "Lines Sku", "type": "string", "sample": "A-1"}]))),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE"])))
)]
pub(crate) async fn output_fields(
    context: Data<Context>,
    caller: Caller,
    name: Path<String>,
) -> Result<Reply, ApiError> {
    let tenant = caller.tenant();
    idempotent(&context, None, move |conn| {
        let catalogue = catalogue::of_tenant(conn, tenant)?;
        let wanted = Wanted::of(&name, &catalogue)?;
        let fields = fields_of(conn, tenant, &wanted, &catalogue)?;
        let views: Vec<FieldView> = fields.into_iter().map(FieldView::from).collect();
        Ok(Reply::json(actix_web::http::StatusCode::OK, &views)?)
    })
    .await
}

fn fields_of(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &Wanted,
    catalogue: &[CatalogueEntry],
) -> DomainResult<Vec<Field>> {
    let bodies = samples::bodies(conn, tenant, Some(wanted), catalogue, EVENTS)?;
    let events: Vec<Json> = bodies.iter().filter_map(|body| parse_stored(body).ok()).collect();
    let payload_of = |name: &str| {
        let of_type = |event: &&Json| event.get("event_type").and_then(Json::as_str) == Some(name);
        events.iter().find(of_type).and_then(|event| event.get("payload"))
    };
    let mut found = Vec::new();
    let described = |entry: &&CatalogueEntry| !entry.archived && wanted.pattern.matches(&entry.name);
    for entry in catalogue.iter().filter(described) {
        let Some(schema) = entry.schema.as_deref().and_then(|bytes| parse_stored(bytes).ok()) else {
            continue;
        };
        let example = entry.example.as_deref().and_then(|bytes| parse_stored(bytes).ok());
        let payload = payload_of(entry.name.as_str()).or(example.as_ref());
        found.extend(fields::of_schema(&schema, payload));
        if found.len() > MAX_FIELDS * 4 {
            break;
        }
    }
    let with_schema = |name: &str| {
        catalogue.iter().any(|entry| entry.name.as_str() == name && entry.schema.is_some() && !entry.archived)
    };
    let others: Vec<Json> = events
        .iter()
        .filter(|event| !event.get("event_type").and_then(Json::as_str).is_some_and(with_schema))
        .filter_map(|event| event.get("payload").cloned())
        .collect();
    found.extend(fields::of_payloads(&others));
    let mut payload: Vec<Field> = Vec::new();
    for field in found {
        if payload.len() < MAX_FIELDS && payload.iter().all(|there| there.key != field.key) {
            payload.push(field);
        }
    }
    Ok(enveloped(payload, events.first()))
}

/// The fields of the payload with those that every delivery has, in the order of a delivery.
fn enveloped(payload: Vec<Field>, event: Option<&Json>) -> Vec<Field> {
    let field = |key: &str, label: &str, kind: FieldKind| {
        let mut sample = event;
        for name in key.split("__") {
            sample = sample.and_then(|value| value.get(name));
        }
        let sample = sample.filter(|value| !value.is_null()).cloned();
        Field { key: key.to_owned(), label: label.to_owned(), kind: Some(kind), list: false, sample }
    };
    let mut fields = vec![
        field("id", "ID", FieldKind::Text),
        field("event_id", "Event ID", FieldKind::Text),
        field("event_type", "Event Type", FieldKind::Text),
        field("timestamp", "Timestamp", FieldKind::Time),
    ];
    fields.extend(payload);
    fields.extend([
        field("metadata__correlation_id", "Correlation ID", FieldKind::Text),
        field("metadata__source_ip", "Source IP", FieldKind::Text),
        field("metadata__user_agent", "User Agent", FieldKind::Text),
        field("created_at", "Created At", FieldKind::Time),
    ]);
    fields
}
