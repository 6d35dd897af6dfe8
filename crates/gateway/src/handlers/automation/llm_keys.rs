//! `/v1/automation/llm-keys`: the tenant's keys at providers of language models. They are sealed and never shown.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    event::wire_time,
    task::{
        keys,
        model::{ApiKey, OFFLINE},
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        fields::{Fields, invalid},
    },
    paging::Query,
    problem,
};

/// The longest key, in characters.
const MAX_KEY_CHARS: usize = 500;

/// Whether a provider can be asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlmKey)]
pub(crate) struct View {
    /// The provider.
    #[schema(example = "anthropic")]
    provider: String,
    /// Whether the tenant has a key of its own.
    #[schema(example = true)]
    has_own_key: bool,
    /// Since when.
    #[schema(format = DateTime)]
    set_at: Option<String>,
    /// Whether the installation has one for tenants without.
    #[schema(example = false)]
    has_key_of_installation: bool,
}

/// The providers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlmKeys)]
pub(crate) struct Listed {
    /// One for each provider.
    keys: Vec<View>,
}

/// List the keys for language models
///
/// Which providers can be asked; the keys themselves are shown to nobody. Tasks of a provider without a key are done by the
/// offline provider, which says so in the result.
#[utoipa::path(
    get,
    path = "/v1/automation/llm-keys",
    operation_id = "list_llm_keys",
    tag = "Automation",
    responses((status = 200, description = "The providers.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let own = context.db.once(move |conn| keys::list(conn, tenant)).await.map_err(problem::of)?;
    let providers = context.models.providers().filter(|provider| provider.name != OFFLINE);
    let keys = providers
        .map(|provider| {
            let row = own.iter().find(|row| row.provider == provider.name);
            View {
                provider: provider.name.clone(),
                has_own_key: row.is_some(),
                set_at: row.map(|row| wire_time(row.created_at)),
                has_key_of_installation: provider.api_key.is_some(),
            }
        })
        .collect();
    Ok(HttpResponse::Ok().json(Listed { keys }))
}

/// 404 for a provider that nobody knows.
fn known(context: &Context, provider: &str) -> Result<(), ApiError> {
    let known = provider != OFFLINE && context.models.provider(provider).is_some();
    if known { Ok(()) } else { Err(problem::of(Error::NotFound { what: "provider" })) }
}

fn entry(caller: &Caller, action: Action, provider: &str) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::LlmKey, provider))
}

/// Set the key for a provider
///
/// From the next task on. It is sealed at once and never shown again.
#[utoipa::path(
    put,
    path = "/v1/automation/llm-keys/{provider}",
    operation_id = "set_llm_key",
    tag = "Automation",
    params(("provider" = String, Path, description = "The provider.", example = "anthropic")),
    request_body(content = crate::openapi::LlmKeyRequest, example = json!({"api_key": "sk-ant-…"})),
    responses((status = 200, description = "It is set.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "NOT_FOUND"])))
)]
pub(crate) async fn set(
    context: Data<Context>,
    caller: Caller,
    provider: Path<String>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let provider = provider.into_inner();
    known(&context, &provider)?;
    let fields = Fields::parse(&body)?;
    let key = fields.text("api_key")?.ok_or_else(|| invalid("api_key", "is missing"))?.trim().to_owned();
    if key.is_empty() || key.len() > MAX_KEY_CHARS || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(
            "api_key",
            &format!("must have 1 to {MAX_KEY_CHARS} printable ASCII characters without blanks"),
        ));
    }
    let (now, vault, name) = (context.clock.now(), context.vault.clone(), provider.clone());
    let work = move |conn: &mut Conn| {
        let before = keys::put(conn, &vault, (caller.tenant(), &name), &ApiKey::new(key), now)?;
        let entry = entry(&caller, Action::LlmKeySet, &name).after(json!({"replaced": before}));
        audited::record(conn, &caller, &entry, now)
    };
    context.db.run(work).await.map_err(problem::of)?;
    let has_key_of_installation =
        context.models.provider(&provider).is_some_and(|provider| provider.api_key.is_some());
    Ok(HttpResponse::Ok().json(View {
        provider,
        has_own_key: true,
        set_at: Some(wire_time(now)),
        has_key_of_installation,
    }))
}

/// Remove the key for a provider
///
/// Also when there is none.
#[utoipa::path(
    delete,
    path = "/v1/automation/llm-keys/{provider}",
    operation_id = "remove_llm_key",
    tag = "Automation",
    params(("provider" = String, Path, description = "The provider.", example = "anthropic")),
    responses((status = 200, description = "There is none.", body = View)),
    extensions(("x-errors" = json!(["NOT_FOUND"])))
)]
pub(crate) async fn remove(
    context: Data<Context>,
    caller: Caller,
    provider: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let provider = provider.into_inner();
    known(&context, &provider)?;
    let (now, name) = (context.clock.now(), provider.clone());
    let work = move |conn: &mut Conn| {
        if keys::delete(conn, caller.tenant(), &name)? {
            audited::record(conn, &caller, &entry(&caller, Action::LlmKeyRemoved, &name), now)?;
        }
        Ok(())
    };
    context.db.run(work).await.map_err(problem::of)?;
    let has_key_of_installation =
        context.models.provider(&provider).is_some_and(|provider| provider.api_key.is_some());
    Ok(HttpResponse::Ok().json(View { provider, has_own_key: false, set_at: None, has_key_of_installation }))
}
