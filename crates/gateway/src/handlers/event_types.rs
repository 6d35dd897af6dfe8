//! `/v1/event-types`: the catalogue. The starting catalogue is everybody's; what a tenant makes or changes is its own.
//!
//! JSON Schema of payloads comes later. Until then a `schema` is refused: taking it without using it would let a tenant
//! believe that its events are checked.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    catalogue::{self, CatalogueEntry, MAX_ALIASES, MAX_DESCRIPTION_CHARS, former_pattern, store},
    db::Conn,
    event::{EventType, wire_time},
    id::TenantId,
    wire::to_canonical,
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
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Page, Query},
    problem,
};

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
    /// A payload to show; `null` when there is none.
    #[schema(value_type = Option<Object>)]
    example: Option<Box<RawValue>>,
    /// Other names under which one can subscribe.
    #[schema(value_type = Vec<String>)]
    aliases: Vec<String>,
    /// Still sent, but subscribers should move on.
    deprecated: bool,
    /// Takes no new hooks.
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
        let example = entry.example.and_then(|bytes| String::from_utf8(bytes).ok());
        Self {
            name: entry.name.to_string(),
            description: entry.description,
            example: example.and_then(|text| RawValue::from_string(text).ok()),
            aliases: entry.aliases.iter().map(ToString::to_string).collect(),
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
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of types.", body = inline(crate::openapi::PageOf<View>), example = json!({"data": [{"name": "order.created", "description": "An order was placed.", "example": {"order": 1042}, "aliases": ["OrderCreated"], "deprecated": false, "archived": false, "own": true, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T14:30:00.000Z"}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (own, archived) = (query.flag("own")?, query.flag("archived")?);
    let (after, limit) = (query.cursor::<EventType>()?, query.limit()?);
    query.finish()?;
    let tenant = caller.tenant();
    let mut entries =
        context.db.once(move |conn| catalogue::of_tenant(conn, tenant)).await.map_err(problem::of)?;
    entries.retain(|entry| {
        (entry.own || !own)
            && (!entry.archived || archived)
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
    responses((status = 200, description = "The type.", body = View, example = json!({"name": "task.started", "description": "A worker took a task.", "example": {"event": "task_started"}, "aliases": ["task_started"], "deprecated": false, "archived": false, "own": false, "created_at": null, "updated_at": null})))
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
/// here, too; an entry gives a type its description, its samples and its aliases.
#[utoipa::path(
    post,
    path = "/v1/event-types",
    operation_id = "create_event_type",
    tag = "Event types",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::EventTypeRequest, example = json!({"name": "order.created", "description": "An order was placed.", "example": {"order": 1042}, "aliases": ["OrderCreated"]})),
    responses((status = 201, description = "Added.", body = View, example = json!({"name": "order.created", "description": "An order was placed.", "example": {"order": 1042}, "aliases": ["OrderCreated"], "deprecated": false, "archived": false, "own": true, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T14:30:00.000Z"}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "SCHEMA_NOT_SUPPORTED", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let fields = Fields::parse(&body)?;
    let name = fields.text("name")?.ok_or_else(|| invalid("name", "is missing"))?;
    let name: EventType =
        name.parse().map_err(|error| invalid("name", &format!("is no event type: {error}")))?;
    let mut entry = CatalogueEntry {
        name,
        description: String::new(),
        example: None,
        aliases: Vec::new(),
        deprecated: false,
        archived: false,
        own: true,
        created_at: None,
        updated_at: None,
    };
    change(&mut entry, &fields)?;
    let key = key(&request, &caller, &body)?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    idempotent(&context, key, move |conn| {
        store::insert(conn, tenant, &entry, now)?;
        let entry = stored(conn, tenant, &entry.name)?;
        let told = of_type(&caller, Action::EventTypeCreated, &entry).after(audited::event_type(&entry));
        audited::record(conn, &caller, &told, now)?;
        Ok(Reply::json(StatusCode::CREATED, &View::from(entry))?)
    })
    .await
}

/// Change an event type
///
/// Members that are not given stay as they are. A type of the starting catalogue becomes the tenant's own. A type cannot
/// be renamed; make another and give it the old name as an alias.
#[utoipa::path(
    patch,
    path = "/v1/event-types/{name}",
    operation_id = "change_event_type",
    tag = "Event types",
    params(("name" = String, Path, description = "The type, not an alias.", example = "order.created")),
    request_body(content = crate::openapi::EventTypePatch, example = json!({"deprecated": true})),
    responses((status = 200, description = "The type as it is now.", body = View, example = json!({"name": "order.created", "description": "An order was placed.", "example": {"order": 1042}, "aliases": ["OrderCreated"], "deprecated": true, "archived": false, "own": true, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T15:30:00.000Z"}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "SCHEMA_NOT_SUPPORTED", "CONFLICT"])))
)]
pub(crate) async fn update(
    context: Data<Context>,
    caller: Caller,
    name: Path<String>,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let fields = Fields::parse(&body)?;
    if fields.text("name")?.is_some_and(|given| given != name.as_str()) {
        return Err(invalid(
            "name",
            "cannot be changed; make another type and give it this name as an alias",
        ));
    }
    let (tenant, now) = (caller.tenant(), context.clock.now());
    idempotent(&context, None, move |conn| {
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
            let told = of_type(&caller, Action::EventTypeUpdated, &entry)
                .before(audited::event_type(&before))
                .after(audited::event_type(&entry));
            audited::record(conn, &caller, &told, now)?;
        }
        Ok(Reply::json(StatusCode::OK, &View::from(entry))?)
    })
    .await
}

/// Puts the members that are given into an entry.
fn change(entry: &mut CatalogueEntry, fields: &Fields) -> Result<(), ApiError> {
    for name in ["schema", "json_schema"] {
        if fields.get(name).is_some() {
            let reason = "is not supported yet: payloads are not checked against a JSON Schema";
            return Err(problem::invalid("SCHEMA_NOT_SUPPORTED", name, reason));
        }
    }
    if let Some(description) = fields.text("description")? {
        let length = description.chars().count();
        if length > MAX_DESCRIPTION_CHARS {
            let reason = format!("must have at most {MAX_DESCRIPTION_CHARS} characters, not {length}");
            return Err(invalid("description", &reason));
        }
        description.clone_into(&mut entry.description);
    }
    if fields.mentions("example") {
        entry.example = match fields.get("example") {
            None => None,
            Some(example) if example.as_object().is_some() => Some(to_canonical(example)),
            Some(_) => return Err(invalid("example", "must be a JSON object")),
        };
    }
    if let Some(aliases) = fields.texts("aliases", MAX_ALIASES)? {
        let parse = |text: &str| {
            text.parse()
                .map_err(|error| invalid("aliases", &format!("has a name that is no event type: {error}")))
        };
        entry.aliases = aliases.into_iter().map(parse).collect::<Result<_, _>>()?;
    }
    entry.deprecated = fields.flag("deprecated")?.unwrap_or(entry.deprecated);
    entry.archived = fields.flag("archived")?.unwrap_or(entry.archived);
    Ok(())
}

/// The entry as it is stored now. Whoever changes the catalogue holds its lock, so that what is checked here stays true.
fn stored(conn: &mut Conn, tenant: TenantId, name: &EventType) -> Result<CatalogueEntry, Refusal> {
    let entries = catalogue::of_tenant(conn, tenant)?;
    check_names(&entries, name)?;
    Ok(entries.into_iter().find(|entry| entry.name == *name).ok_or_else(not_found)?)
}

/// What the audit log is told of a type.
fn of_type(caller: &Caller, action: Action, entry: &CatalogueEntry) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::EventType, &entry.name))
}

/// Each name of an entry means that entry and no other.
fn check_names(entries: &[CatalogueEntry], name: &EventType) -> Result<(), ApiError> {
    let Some(entry) = entries.iter().find(|entry| entry.name == *name) else { return Err(not_found()) };
    let taken = |text: &str, whose: &str| {
        let reason = format!("`{text}` is {whose} already");
        ApiError::conflict("CONFLICT", &reason).field("aliases").reason(reason)
    };
    for (at, alias) in entry.aliases.iter().enumerate() {
        if *alias == entry.name || entry.aliases[..at].contains(alias) {
            return Err(invalid("aliases", "must differ from the name and from each other"));
        }
        if former_pattern(alias.as_str()).is_some() {
            return Err(taken(alias.as_str(), "a former name of several types"));
        }
    }
    for other in entries.iter().filter(|other| other.name != entry.name) {
        if other.aliases.contains(&entry.name) {
            return Err(taken(entry.name.as_str(), &format!("an alias of `{}`", other.name)));
        }
        if let Some(alias) =
            entry.aliases.iter().find(|alias| **alias == other.name || other.aliases.contains(alias))
        {
            return Err(taken(alias.as_str(), &format!("a name of `{}`", other.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, aliases: &[&str]) -> CatalogueEntry {
        CatalogueEntry {
            name: name.parse().unwrap(),
            description: String::new(),
            example: None,
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
            deprecated: false,
            archived: false,
            own: true,
            created_at: None,
            updated_at: None,
        }
    }

    #[test]
    fn each_name_means_one_type() {
        for (ours, others, expected) in [
            (entry("a", &["b"]), vec![entry("c", &["d"])], None),
            (entry("a", &["a"]), vec![], Some("INVALID_FIELD")),
            (entry("a", &["b", "b"]), vec![], Some("INVALID_FIELD")),
            (entry("a", &["c"]), vec![entry("c", &[])], Some("CONFLICT")),
            (entry("a", &["d"]), vec![entry("c", &["d"])], Some("CONFLICT")),
            (entry("a", &[]), vec![entry("c", &["a"])], Some("CONFLICT")),
            (entry("a", &["DataConnectionStatusChanged"]), vec![], Some("CONFLICT")),
        ] {
            let name = ours.name.clone();
            let entries: Vec<CatalogueEntry> = others.into_iter().chain([ours]).collect();
            assert_eq!(check_names(&entries, &name).err().map(|error| error.code()), expected);
        }
    }

    #[test]
    fn only_what_is_given_changes() {
        let changed = |text: &str| {
            let mut entry =
                CatalogueEntry { example: Some(b"{}".to_vec()), deprecated: true, ..entry("a", &["b"]) };
            change(&mut entry, &Fields::parse(text.as_bytes()).unwrap())
                .map(|()| entry)
                .map_err(|error| error.code())
        };
        let before = changed("{}").unwrap();
        assert_eq!(changed(r#"{"x":1}"#).unwrap(), before);
        assert_eq!(
            changed(r#"{"example":null,"aliases":[]}"#).unwrap(),
            CatalogueEntry { example: None, aliases: vec![], ..before.clone() }
        );
        assert_eq!(changed(r#"{"example":{"b":1.0,"a":2}}"#).unwrap().example.unwrap(), br#"{"b":1,"a":2}"#);
        for (text, code) in [
            (r#"{"schema":{}}"#, "SCHEMA_NOT_SUPPORTED"),
            (r#"{"example":[]}"#, "INVALID_FIELD"),
            (r#"{"aliases":["not a type"]}"#, "INVALID_FIELD"),
            (r#"{"archived":1}"#, "INVALID_FIELD"),
        ] {
            assert_eq!(changed(text), Err(code), "{text}");
        }
        let long = |length: usize| changed(&format!(r#"{{"description":"{}"}}"#, "é".repeat(length)));
        assert!(long(MAX_DESCRIPTION_CHARS).is_ok() && long(MAX_DESCRIPTION_CHARS + 1).is_err());
    }
}
