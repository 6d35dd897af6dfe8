//! `/v1/event-types`: the catalogue. The starting catalogue is everybody's; what a tenant makes or changes is its own.

pub(crate) mod import;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::Action,
    catalogue::{
        self, CatalogueEntry, MAX_ALIASES, MAX_DESCRIPTION_CHARS, MAX_EXAMPLE_BYTES, NameError, Validation,
        check_group, check_names,
        schema::{self, Compiled},
        store,
    },
    credential::directory::known_everywhere,
    db::Conn,
    event::{EventType, wire_time},
    id::TenantId,
    subscription::EventPattern,
    wire::{parse_stored, to_canonical},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    audited,
    fields::{Fields, invalid},
};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::JsonBody,
    context::Context,
    paging::{Page, Query},
    problem,
};

/// The largest body that makes or changes a type: a schema and an example of the largest size, however they are written.
const MAX_TYPE_BYTES: usize = 256 << 10;

/// A type of event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventType)]
pub(crate) struct View {
    /// The type.
    #[schema(example = "order.created")]
    name: String,
    /// What has happened, for people.
    #[schema(example = "An order was placed.")]
    description: String,
    /// A JSON Schema (2020-12) of the payload; `null` when there is none.
    #[schema(value_type = Option<Object>)]
    schema: Option<Box<RawValue>>,
    /// What happens to a posted payload that breaks the schema: `off`, `warn` or `reject`.
    #[schema(example = "off")]
    validation: &'static str,
    /// A payload to show; `null` when there is none.
    #[schema(value_type = Option<Object>)]
    example: Option<Box<RawValue>>,
    /// Other names under which one can subscribe.
    #[schema(value_type = Vec<String>)]
    aliases: Vec<String>,
    /// The part of the product that it belongs to.
    feature_group: Option<String>,
    /// Still sent, but subscribers should move on.
    deprecated: bool,
    /// Takes neither new hooks nor events.
    archived: bool,
    /// Whether the tenant made or changed it; `false` for the starting catalogue.
    own: bool,
    /// When the tenant made it; `null` for the starting catalogue.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// When the tenant changed it last.
    #[schema(format = DateTime)]
    updated_at: Option<String>,
}

impl From<CatalogueEntry> for View {
    fn from(entry: CatalogueEntry) -> Self {
        let raw = |bytes: Option<Vec<u8>>| {
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.and_then(|text| RawValue::from_string(text).ok())
        };
        Self {
            name: entry.name.to_string(),
            description: entry.description,
            schema: raw(entry.schema),
            validation: entry.validation.as_str(),
            example: raw(entry.example),
            aliases: entry.aliases.iter().map(ToString::to_string).collect(),
            feature_group: entry.feature_group,
            deprecated: entry.deprecated,
            archived: entry.archived,
            own: entry.own,
            created_at: entry.created_at.map(wire_time),
            updated_at: entry.updated_at.map(wire_time),
        }
    }
}

/// List event types
///
/// The whole catalogue by name: the starting catalogue and the tenant's own types.
#[utoipa::path(
    get,
    path = "/v1/event-types",
    operation_id = "list_event_types",
    tag = "Event types",
    params(
        ("own" = Option<bool>, Query, description = "`true`: only types that the tenant made or changed."),
        ("archived" = Option<bool>, Query, description = "`true`: also archived types."),
        ("feature_group" = Option<String>, Query, description = "Only types of this group.", example = "Orders"),
        ("pattern" = Option<String>, Query, description = "Only types that this pattern matches.", example = "order.*"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of types.", body = inline(crate::openapi::PageOf<View>), example = json!({"data": [{"name": "order.created", "description": "An order was placed.", "schema": {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}, "validation": "warn", "example": {"order": 1042}, "aliases": ["OrderCreated"], "feature_group": "Orders", "deprecated": false, "archived": false, "own": true, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T14:30:00.000Z"}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (own, archived) = (query.flag("own")?, query.flag("archived")?);
    let group = query.text("feature_group");
    let pattern = query.value::<EventPattern>("pattern", "a type or a pattern, such as order.*")?;
    let (after, limit) = (query.cursor::<EventType>()?, query.limit()?);
    query.finish()?;
    let tenant = caller.tenant();
    let mut entries =
        context.db.once(move |conn| catalogue::of_tenant(conn, tenant)).await.map_err(problem::of)?;
    entries.retain(|entry| {
        (entry.own || !own)
            && (!entry.archived || archived)
            && group.as_ref().is_none_or(|group| entry.feature_group.as_ref() == Some(group))
            && pattern.as_ref().is_none_or(|pattern| pattern.matches(&entry.name))
            && after.as_ref().is_none_or(|after| after.as_str() < entry.name.as_str())
    });
    Ok(Page::new(entries, limit, |entry| entry.name.clone()).map(View::from).respond())
}

/// Show an event type
///
/// By its name or by one of its aliases.
#[utoipa::path(
    get,
    path = "/v1/event-types/{name}",
    operation_id = "show_event_type",
    tag = "Event types",
    params(("name" = String, Path, description = "The type, or an alias of it.", example = "read.completed.initial")),
    responses((status = 200, description = "The type.", body = View, example = json!({"name": "task.started", "description": "A worker took a task.", "schema": {"type": "object", "properties": {"event": {"type": "string", "enum": ["task_started"]}}, "required": ["event"]}, "validation": "off", "example": {"event": "task_started"}, "aliases": ["task_started"], "feature_group": "Tasks", "deprecated": false, "archived": false, "own": false, "created_at": null, "updated_at": null})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    name: Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let entries =
        context.db.once(move |conn| catalogue::of_tenant(conn, tenant)).await.map_err(problem::of)?;
    let entry = catalogue::resolve(&entries, &name).cloned().ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(View::from(entry)))
}

fn not_found() -> ApiError {
    problem::of(Error::NotFound { what: "event type" })
}

/// Add an event type
///
/// A type of the same name in the starting catalogue is replaced for this tenant. Events can be posted without an entry
/// here, too; an entry gives a type its description, its schema, its samples and its aliases.
#[utoipa::path(
    post,
    path = "/v1/event-types",
    operation_id = "create_event_type",
    tag = "Event types",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::EventTypeRequest, example = json!({"name": "order.created", "description": "An order was placed.", "schema": {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}, "validation": "reject", "example": {"order": 1042}, "aliases": ["OrderCreated"], "feature_group": "Orders"})),
    responses((status = 201, description = "Added.", body = View, example = json!({"name": "order.created", "description": "An order was placed.", "schema": {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}, "validation": "reject", "example": {"order": 1042}, "aliases": ["OrderCreated"], "feature_group": "Orders", "deprecated": false, "archived": false, "own": true, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T14:30:00.000Z"}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "INVALID_SCHEMA", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<MAX_TYPE_BYTES>,
) -> Result<Reply, ApiError> {
    let fields = Fields::parse(&body)?;
    let name = fields.text("name")?.ok_or_else(|| invalid("name", "is missing"))?;
    let name: EventType =
        name.parse().map_err(|error| invalid("name", &format!("is no event type: {error}")))?;
    let mut entry = CatalogueEntry::new(name);
    let unruled = entry.clone();
    change(&mut entry, &fields)?;
    let key = key(&request, &caller, &body)?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let ruled = entry.rules_otherwise_than(&unruled);
    let reply = idempotent(&context, key, move |conn| {
        store::insert(conn, tenant, &entry, now)?;
        let entry = stored(conn, tenant, &entry.name)?;
        let told = entry.audited(tenant, Action::EventTypeCreated).after(entry.properties());
        audited::record(conn, &caller, &told, now)?;
        Ok(Reply::json(StatusCode::CREATED, &View::from(entry))?)
    })
    .await?;
    if ruled {
        known_everywhere().await;
    }
    Ok(reply)
}

/// Change an event type
///
/// Members that are not given stay as they are. A type of the starting catalogue becomes the tenant's own. A type cannot
/// be renamed; make another and give it the old name as an alias. When this is answered, events are checked by the new rules
/// wherever they come in.
#[utoipa::path(
    patch,
    path = "/v1/event-types/{name}",
    operation_id = "change_event_type",
    tag = "Event types",
    params(("name" = String, Path, description = "The type, not an alias.", example = "order.created")),
    request_body(content = crate::openapi::EventTypePatch, example = json!({"deprecated": true, "validation": "off"})),
    responses((status = 200, description = "The type as it is now.", body = View, example = json!({"name": "order.created", "description": "An order was placed.", "schema": {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}, "validation": "off", "example": {"order": 1042}, "aliases": ["OrderCreated"], "feature_group": "Orders", "deprecated": true, "archived": false, "own": true, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T15:30:00.000Z"}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "INVALID_SCHEMA", "CONFLICT"])))
)]
pub(crate) async fn update(
    context: Data<Context>,
    caller: Caller,
    name: Path<String>,
    body: JsonBody<MAX_TYPE_BYTES>,
) -> Result<Reply, ApiError> {
    let fields = Fields::parse(&body)?;
    if fields.text("name")?.is_some_and(|given| given != name.as_str()) {
        return Err(invalid(
            "name",
            "cannot be changed; make another type and give it this name as an alias",
        ));
    }
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let ruled = Arc::new(AtomicBool::new(false));
    let otherwise = Arc::clone(&ruled);
    let reply = idempotent(&context, None, move |conn| {
        store::lock(conn, tenant)?;
        let entries = catalogue::of_tenant(conn, tenant)?;
        let before =
            entries.into_iter().find(|entry| entry.name.as_str() == name.as_str()).ok_or_else(not_found)?;
        let mut entry = before.clone();
        change(&mut entry, &fields)?;
        // From here on a type of the starting catalogue is the tenant's own.
        let changed = entry != before || !before.own;
        store::replace(conn, tenant, &entry, now)?;
        let entry = stored(conn, tenant, &entry.name)?;
        if changed {
            let told = entry.audited(tenant, Action::EventTypeUpdated);
            let told = told.before(before.properties()).after(entry.properties());
            audited::record(conn, &caller, &told, now)?;
        }
        otherwise.store(entry.rules_otherwise_than(&before), Ordering::Relaxed);
        Ok(Reply::json(StatusCode::OK, &View::from(entry))?)
    })
    .await?;
    if ruled.load(Ordering::Relaxed) {
        known_everywhere().await;
    }
    Ok(reply)
}

/// Puts the members that are given into an entry, and looks whether what comes of it goes together.
fn change(entry: &mut CatalogueEntry, fields: &Fields) -> Result<(), ApiError> {
    if let Some(description) = fields.text("description")? {
        let length = description.chars().count();
        if length > MAX_DESCRIPTION_CHARS {
            let reason = format!("must have at most {MAX_DESCRIPTION_CHARS} characters, not {length}");
            return Err(invalid("description", &reason));
        }
        description.clone_into(&mut entry.description);
    }
    if fields.mentions("schema") {
        entry.schema = match fields.get("schema") {
            None => None,
            Some(schema) => Some(schema::check(schema).map_err(|wrong| {
                problem::invalid("INVALID_SCHEMA", "schema", &wrong.to_string()).path(wrong.path)
            })?),
        };
    }
    if let Some(word) = fields.text("validation")? {
        entry.validation = word.parse().map_err(|error| invalid("validation", &format!("{error}")))?;
    }
    if fields.mentions("example") {
        entry.example = match fields.get("example") {
            None => None,
            Some(example) if example.as_object().is_some() => Some(to_canonical(example)),
            Some(_) => return Err(invalid("example", "must be a JSON object")),
        };
        let length = entry.example.as_ref().map_or(0, Vec::len);
        if length > MAX_EXAMPLE_BYTES {
            let reason = format!("must have at most {MAX_EXAMPLE_BYTES} bytes, not {length}");
            return Err(invalid("example", &reason));
        }
    }
    if let Some(aliases) = fields.texts("aliases", MAX_ALIASES)? {
        let parse = |text: &str| {
            text.parse()
                .map_err(|error| invalid("aliases", &format!("has a name that is no event type: {error}")))
        };
        entry.aliases = aliases.into_iter().map(parse).collect::<Result<_, _>>()?;
    }
    if fields.mentions("feature_group") {
        let group = fields.text("feature_group")?;
        group.map(check_group).transpose().map_err(|reason| invalid("feature_group", &reason))?;
        entry.feature_group = group.map(str::to_owned);
    }
    entry.deprecated = fields.flag("deprecated")?.unwrap_or(entry.deprecated);
    entry.archived = fields.flag("archived")?.unwrap_or(entry.archived);
    check_whole(entry)
}

fn check_whole(entry: &CatalogueEntry) -> Result<(), ApiError> {
    let Some(schema) = &entry.schema else {
        return match entry.validation {
            Validation::Off => Ok(()),
            Validation::Warn | Validation::Reject => {
                Err(invalid("validation", "must be off, as there is no schema"))
            }
        };
    };
    let Some(example) = &entry.example else { return Ok(()) };
    let compiled = Compiled::stored(schema)
        .map_err(|wrong| problem::invalid("INVALID_SCHEMA", "schema", &wrong.to_string()).path(wrong.path))?;
    let example = parse_stored(example).map_err(ApiError::internal)?;
    let violations = compiled.violations(&example);
    let Some(first) = violations.first() else { return Ok(()) };
    Err(invalid("example", &format!("does not match the schema: {first}"))
        .path(first.path.as_str())
        .problems(violations.iter().map(problem::told)))
}

/// The entry as it is stored now. Whoever changes the catalogue holds its lock, so that what is checked here stays true.
fn stored(conn: &mut Conn, tenant: TenantId, name: &EventType) -> Result<CatalogueEntry, Refusal> {
    let entries = catalogue::of_tenant(conn, tenant)?;
    let entry = entries.iter().find(|entry| entry.name == *name).ok_or_else(not_found)?;
    check_names(&entries, entry).map_err(|error| clash(&error))?;
    Ok(entry.clone())
}

fn clash(error: &NameError) -> ApiError {
    let reason = error.to_string();
    match error {
        NameError::Repeated => invalid("aliases", &reason),
        NameError::Taken { .. } => ApiError::conflict("CONFLICT", &reason).field("aliases").reason(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let changed = |text: &str| {
            let mut entry = CatalogueEntry {
                example: Some(b"{}".to_vec()),
                aliases: vec!["b".parse().unwrap()],
                deprecated: true,
                feature_group: Some("Orders".to_owned()),
                ..CatalogueEntry::new("a".parse().unwrap())
            };
            change(&mut entry, &Fields::parse(text.as_bytes()).unwrap())
                .map(|()| entry)
                .map_err(|error| error.code())
        };
        let before = changed("{}").unwrap();
        assert_eq!(changed(r#"{"x":1}"#).unwrap(), before);
        assert_eq!(
            changed(r#"{"example":null,"aliases":[],"feature_group":null}"#).unwrap(),
            CatalogueEntry { example: None, aliases: vec![], feature_group: None, ..before.clone() }
        );
        assert_eq!(changed(r#"{"example":{"b":1.0,"a":2}}"#).unwrap().example.unwrap(), br#"{"b":1,"a":2}"#);
        let with = changed(r#"{"schema":{"type":"object"},"validation":"reject"}"#).unwrap();
        assert_eq!(
            (with.schema.unwrap(), with.validation),
            (br#"{"type":"object"}"#.to_vec(), Validation::Reject)
        );
        for (text, code) in [
            (r#"{"schema":{"type":"objekt"}}"#, "INVALID_SCHEMA"),
            (r#"{"schema":[]}"#, "INVALID_SCHEMA"),
            (r#"{"schema":{"required":["id"]}}"#, "INVALID_FIELD"),
            (r#"{"validation":"warn"}"#, "INVALID_FIELD"),
            (r#"{"schema":{},"validation":"strict"}"#, "INVALID_FIELD"),
            (r#"{"feature_group":" "}"#, "INVALID_FIELD"),
            (r#"{"example":[]}"#, "INVALID_FIELD"),
            (r#"{"aliases":["not a type"]}"#, "INVALID_FIELD"),
            (r#"{"archived":1}"#, "INVALID_FIELD"),
        ] {
            assert_eq!(changed(text), Err(code), "{text}");
        }
        let long = |length: usize| changed(&format!(r#"{{"description":"{}"}}"#, "é".repeat(length)));
        assert!(long(MAX_DESCRIPTION_CHARS).is_ok() && long(MAX_DESCRIPTION_CHARS + 1).is_err());
        let large = |bytes: usize| changed(&format!(r#"{{"example":{{"a":"{}"}}}}"#, "x".repeat(bytes - 8)));
        assert!(large(MAX_EXAMPLE_BYTES).is_ok() && large(MAX_EXAMPLE_BYTES + 1).is_err());
    }
}
