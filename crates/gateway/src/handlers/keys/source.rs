//! `/v1/source-keys`: keys of services that publish events of named types and do nothing else (contract §1).

use actix_web::{HttpRequest, HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{
        Kind, Limits, MAX_EVENT_TYPES, Scope,
        directory::known_everywhere,
        store::{self, CredentialView, NewCredential},
    },
    event::wire_time,
    id::CredentialId,
    subscription::EventPattern,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Fields, check_given, end, end_of, invalid, limit, may_issue, name_of, page, shown_once, stored, token,
};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Query},
    problem,
};

/// A source key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SourceKey)]
pub(crate) struct View {
    /// What it is called here.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Name, for people.
    name: String,
    /// The first characters of the key, to recognise it by.
    #[schema(example = "src_Zm9vYmF")]
    prefix: String,
    /// The types of events, or patterns of them, that it may publish.
    event_types: Vec<String>,
    /// Requests per minute; `null` is the default of the settings, 0 is unlimited.
    rate_limit: Option<i32>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it holds.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was revoked.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
    /// When it was last used, within a minute.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

impl From<CredentialView> for View {
    fn from(key: CredentialView) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            prefix: key.prefix,
            event_types: key.event_types.unwrap_or_default(),
            rate_limit: key.rate_limit,
            created_at: wire_time(key.created_at),
            expires_at: key.expires_at.map(wire_time),
            revoked_at: key.revoked_at.map(wire_time),
            last_used_at: key.last_used_at.map(wire_time),
        }
    }
}

/// A source key that was made just now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewSourceKey)]
pub(crate) struct Made {
    /// The key itself, this once; `null` when the request was repeated with its Idempotency-Key.
    key: Option<String>,
    #[serde(flatten)]
    view: View,
}

/// List source keys
///
/// Newest first, with those that have ended. Never the keys themselves.
#[utoipa::path(
    get,
    path = "/v1/source-keys",
    operation_id = "list_source_keys",
    tag = "Keys",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of source keys.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    Ok(page(&context, &caller, query, Kind::Source).await?.map(View::from).respond())
}

/// A source key to make.
#[derive(Debug)]
struct Wish {
    name: String,
    event_types: Vec<EventPattern>,
    requests: Option<u32>,
    expires_at: Option<DateTime<Utc>>,
}

impl Wish {
    fn parse(body: &[u8], now: DateTime<Utc>) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        Ok(Self {
            name: name_of(&fields)?.ok_or_else(|| invalid("name", "is missing"))?,
            event_types: patterns(&fields)?,
            requests: limit(&fields, "rate_limit")?,
            expires_at: end_of(&fields, now)?,
        })
    }
}

fn patterns(fields: &Fields) -> Result<Vec<EventPattern>, ApiError> {
    let texts = fields.texts("event_types", MAX_EVENT_TYPES)?;
    let texts = texts.ok_or_else(|| invalid("event_types", "is missing"))?;
    if texts.is_empty() {
        return Err(invalid("event_types", "must name at least one type"));
    }
    let parse = |text: &str| {
        text.parse().map_err(|error| invalid("event_types", &format!("has one that is none: it {error}")))
    };
    texts.into_iter().map(parse).collect()
}

/// Make a source key
///
/// For a service of yours that publishes: the key posts events of the named types, and opens nothing else. It is in this
/// answer and nowhere afterwards; a repetition with the same Idempotency-Key is answered with `"key": null`. A tenant has
/// at most 50 live ones.
#[utoipa::path(
    post,
    path = "/v1/source-keys",
    operation_id = "create_source_key",
    tag = "Keys",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request make no second key, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::SourceKeyRequest, example = json!({"name": "billing", "event_types": ["invoice.*", "order.paid"], "rate_limit": 0})),
    responses((status = 201, description = "Made. Not to be cached.", body = Made)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    may_issue(&caller)?;
    let now = context.clock.now();
    let wish = Wish::parse(&body, now)?;
    let scopes = [Scope::EventsWrite].into_iter().collect();
    check_given(scopes, caller.principal.scopes())?;
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let token = token(Kind::Source);
        let new = NewCredential {
            event_types: Some(wish.event_types),
            limits: Limits { requests: wish.requests, ..Limits::default() },
            expires_at: wish.expires_at,
            created_by: caller.user(),
            ..NewCredential::new(Kind::Source, &token, caller.tenant(), &wish.name, scopes, now)
        };
        let made = stored(conn, &caller, &new, store::insert)?;
        shown_once(|key| Made { key, view: View::from(made.clone()) }, &token)
    })
    .await
}

/// Revoke a source key
///
/// The key is refused everywhere from the answer on. Revoking it again is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/v1/source-keys/{id}",
    operation_id = "revoke_source_key",
    tag = "Keys",
    params(("id" = String, Path, description = "The key's id.", example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The key as it was, with the time of its end.", body = View))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<CredentialId>,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let ended = context.db.run(move |conn| end(conn, &caller, (Kind::Source, id), true, now)).await;
    let key = ended.map_err(problem::of)?;
    known_everywhere().await;
    Ok(HttpResponse::Ok().json(View::from(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_key_names_1_to_50_types() {
        let count = |types: &str| {
            patterns(&Fields::parse(format!(r#"{{"event_types":{types}}}"#).as_bytes()).unwrap())
                .map(|patterns| patterns.len())
                .map_err(|error| error.code())
        };
        let many = |n: usize| format!("[{}]", vec![r#""a.b""#; n].join(","));
        assert_eq!(count(r#"["*","order.*","order.created"]"#), Ok(3));
        assert_eq!(count(&many(MAX_EVENT_TYPES)), Ok(MAX_EVENT_TYPES));
        for bad in ["[]", "null", "\"*\"", "[5]", r#"["a b"]"#, r#"["a..b"]"#, &many(MAX_EVENT_TYPES + 1)] {
            assert_eq!(count(bad), Err("INVALID_FIELD"), "{bad}");
        }
    }
}
