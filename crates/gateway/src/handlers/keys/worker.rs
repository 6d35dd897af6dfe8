//! `/v1/automation/worker-tokens`: tokens of external workers, which take tasks and do nothing else (contract §1, §5).

use actix_web::{HttpRequest, HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{
        Kind, Limits, MAX_MODELS, Scope, Scopes, Work,
        directory::known_everywhere,
        store::{self, CredentialView, NewCredential},
    },
    event::wire_time,
    id::CredentialId,
    task::AgentType,
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

/// The longest name of a model, in characters.
const MAX_MODEL: usize = 200;

/// A worker token, without the token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerToken)]
pub(crate) struct View {
    /// What it is called here.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Name, for people.
    name: String,
    /// The first characters of the token, to recognise it by.
    #[schema(example = "wk_Zm9vYmFy")]
    prefix: String,
    /// The types of tasks that it may take; `null` is all.
    #[schema(example = json!(["build"]))]
    agent_types: Option<Vec<&'static str>>,
    /// The models of tasks that it may take; `null` is all.
    models: Option<Vec<String>>,
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
            agent_types: key.agent_type_words(),
            name: key.name,
            prefix: key.prefix,
            models: key.models,
            rate_limit: key.rate_limit,
            created_at: wire_time(key.created_at),
            expires_at: key.expires_at.map(wire_time),
            revoked_at: key.revoked_at.map(wire_time),
            last_used_at: key.last_used_at.map(wire_time),
        }
    }
}

/// A worker token that was made just now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewWorkerToken)]
pub(crate) struct Made {
    /// The token itself, this once; `null` when the request was repeated with its Idempotency-Key.
    token: Option<String>,
    #[serde(flatten)]
    view: View,
}

/// List worker tokens
///
/// Newest first, with those that have ended. Never the tokens themselves.
#[utoipa::path(
    get,
    path = "/v1/automation/worker-tokens",
    operation_id = "list_worker_tokens",
    tag = "Workers",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of worker tokens.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    Ok(page(&context, &caller, query, Kind::Worker).await?.map(View::from).respond())
}

/// A worker token to make.
#[derive(Debug)]
struct Wish {
    name: String,
    work: Work,
    requests: Option<u32>,
    expires_at: Option<DateTime<Utc>>,
}

impl Wish {
    fn parse(body: &[u8], now: DateTime<Utc>) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        Ok(Self {
            name: name_of(&fields)?.ok_or_else(|| invalid("name", "is missing"))?,
            work: Work { agent_types: types(&fields)?, models: models(&fields)? },
            // Output comes in many pieces, and a worker that is slowed down loses its lease.
            requests: Some(limit(&fields, "rate_limit")?.unwrap_or(0)),
            expires_at: end_of(&fields, now)?,
        })
    }
}

fn types(fields: &Fields) -> Result<Option<Vec<AgentType>>, ApiError> {
    let Some(texts) = fields.texts("agent_types", AgentType::ALL.len())? else { return Ok(None) };
    let parse = |text: &str| {
        let error = |error| invalid("agent_types", &format!("has one that is none: it {error}"));
        text.parse::<AgentType>().map_err(error)
    };
    let mut types = texts.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    types.sort_unstable();
    types.dedup();
    if types.is_empty() { Err(invalid("agent_types", "must name at least one")) } else { Ok(Some(types)) }
}

fn models(fields: &Fields) -> Result<Option<Vec<String>>, ApiError> {
    let Some(texts) = fields.texts("models", MAX_MODELS)? else { return Ok(None) };
    let good = |text: &&str| !text.is_empty() && text.chars().nth(MAX_MODEL).is_none();
    if texts.is_empty() || !texts.iter().all(good) {
        return Err(invalid(
            "models",
            &format!("must be names of 1 to {MAX_MODEL} characters, at least one"),
        ));
    }
    Ok(Some(texts.into_iter().map(str::to_owned).collect()))
}

/// Make a worker token
///
/// For external workers: the token takes tasks of the named types and models, reports on them, and opens nothing else. It is
/// in this answer and nowhere afterwards; a repetition with the same Idempotency-Key is answered with `"token": null`. A
/// tenant has at most 50 live ones.
#[utoipa::path(
    post,
    path = "/v1/automation/worker-tokens",
    operation_id = "create_worker_token",
    tag = "Workers",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request make no second token, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::WorkerTokenRequest, example = json!({"name": "builders", "agent_types": ["build", "explore"]})),
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
    // A worker reads tasks and says what comes of them.
    let used = [Scope::TasksRead, Scope::TasksWrite].into_iter().collect();
    check_given(used, caller.principal.scopes())?;
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let token = token(Kind::Worker);
        let new = NewCredential {
            work: wish.work,
            limits: Limits { requests: wish.requests, ..Limits::default() },
            expires_at: wish.expires_at,
            created_by: caller.user(),
            ..NewCredential::new(Kind::Worker, &token, caller.tenant(), &wish.name, Scopes::default(), now)
        };
        let made = stored(conn, &caller, &new, store::insert)?;
        shown_once(|token| Made { token, view: View::from(made.clone()) }, &token)
    })
    .await
}

/// Revoke a worker token
///
/// The token is refused everywhere from the answer on; what its workers hold is given to others when their leases end.
/// Revoking it again is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/v1/automation/worker-tokens/{id}",
    operation_id = "revoke_worker_token",
    tag = "Workers",
    params(("id" = String, Path, description = "The token's id.", example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The token as it was, with the time of its end.", body = View))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<CredentialId>,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let ended = context.db.run(move |conn| end(conn, &caller, (Kind::Worker, id), true, now)).await;
    let key = ended.map_err(problem::of)?;
    known_everywhere().await;
    Ok(HttpResponse::Ok().json(View::from(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_models_are_named_or_left_out() {
        let told = |text: &str| {
            let fields = Fields::parse(text.as_bytes()).unwrap();
            types(&fields).and_then(|types| Ok((types, models(&fields)?))).map_err(|error| error.code())
        };
        assert_eq!(told("{}"), Ok((None, None)));
        let both = told(r#"{"agent_types":["build","plan","build"],"models":["m"]}"#);
        assert_eq!(both, Ok((Some(vec![AgentType::Plan, AgentType::Build]), Some(vec!["m".to_owned()]))));
        let many = |n: usize| format!(r#"{{"models":[{}]}}"#, vec![r#""m""#; n].join(","));
        assert!(told(&many(MAX_MODELS)).is_ok());
        for bad in [
            r#"{"agent_types":[]}"#,
            r#"{"agent_types":["cook"]}"#,
            r#"{"models":[]}"#,
            r#"{"models":[""]}"#,
            r#"{"models":"m"}"#,
            &many(MAX_MODELS + 1),
        ] {
            assert_eq!(told(bad), Err("INVALID_FIELD"), "{bad}");
        }
    }
}
