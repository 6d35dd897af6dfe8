//! Unsubscribing: `DELETE /zapier/hook` and its other spellings. Always 200 for the caller's own or unknown hooks: Zapier
//! turns a Zap off whatever we say, so an error would only leave an orphan.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Result as DomainResult,
    audit::{self, Action},
    db::Conn,
    delivery,
    id::{SubscriptionId, TenantId},
    subscription::{
        HookState,
        store::{self, HookView},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::event_type_of;
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        fields::{Fields, text_of},
    },
    paging::Query,
    problem,
};

/// Why deliveries of such a hook are cancelled, and why it is gone.
const REASON: &str = "unsubscribed";

/// Which hooks are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Target {
    url: Option<String>,
    id: Option<String>,
    event_type: Option<String>,
}

impl Target {
    /// From the path, the body and the query, in this order.
    fn parse(path: Option<String>, body: &[u8], mut query: Query) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let text = |name| fields.get(name).and_then(|value| text_of(value).ok()).map(str::to_owned);
        let filled = |text: &String| !text.is_empty();
        let event_type = match fields.get("event_type") {
            None => query.text("event_type"),
            Some(value) => event_type_of(value)?.map(str::to_owned),
        };
        let target = Self {
            url: text("url").or_else(|| query.text("url")).filter(filled),
            id: path.or_else(|| text("id")).or_else(|| query.text("id")).filter(filled),
            event_type: event_type.filter(filled),
        };
        if target.url.is_none() && target.id.is_none() {
            let message = "neither `url` nor `id` of the hook is given, in the body, the query or the path";
            return Err(ApiError::bad_request("MISSING_URL", message).field("url").reason("is not there"));
        }
        Ok(target)
    }

    /// The hooks of the tenant that are meant and live. An id that is no longer one falls back to the URL.
    fn find(&self, conn: &mut Conn, tenant: TenantId) -> DomainResult<Vec<HookView>> {
        if let Some(id) = self.id.as_ref().and_then(|text| text.parse::<SubscriptionId>().ok())
            && let Some(hook) = store::find(conn, tenant, id)?.filter(|hook| hook.state != HookState::Deleted)
        {
            return Ok(vec![hook]);
        }
        // A text that Postgres cannot hold is the URL of no hook.
        let Some(url) = self.url.as_ref().filter(|url| !url.contains('\0')) else { return Ok(Vec::new()) };
        let mut hooks = store::with_url(conn, tenant, url)?;
        if let Some(event_type) = &self.event_type {
            hooks.retain(|hook| [&hook.event_type, &hook.pattern].contains(&&Some(event_type.clone())));
        }
        Ok(hooks)
    }
}

/// What whoever unsubscribes is told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnsubscribeAnswer {
    /// Always `deleted`.
    #[schema(example = "deleted")]
    status: &'static str,
    /// The hook's URL, or the one that was given; `null` when only an unknown id was.
    #[schema(example = "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/")]
    url: Option<String>,
    /// Only when there was nothing to delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

/// Which hook to unsubscribe.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct UnsubscribeRequest {
    /// All hooks with this URL.
    #[schema(example = "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/")]
    url: Option<String>,
    /// This one hook.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: Option<String>,
    /// Together with `url`: only the hook with this event type.
    event_type: Option<String>,
}

/// Unsubscribe a URL
///
/// Which hook is told by `url` or `id`, in the body or in the query. A URL stands for all its hooks, together with
/// `event_type` for one of them. Deliveries that are still under way are cancelled. Unknown hooks are answered with 200,
/// too, and a `message`.
#[utoipa::path(
    delete,
    path = "/zapier/hook",
    operation_id = "unsubscribe_hook",
    tag = "REST hooks",
    params(
        ("url" = Option<String>, Query, description = "All hooks with this URL, if the body names none."),
        ("id" = Option<String>, Query, description = "This one hook."),
        ("event_type" = Option<String>, Query, description = "Together with `url`: only the hook with this event type.")
    ),
    request_body(content = Option<UnsubscribeRequest>, description = "May be left out when the query names the hook.", example = json!({"url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"})),
    responses((
        status = 200,
        description = "It is gone.",
        body = UnsubscribeAnswer,
        examples(
            ("deleted" = (summary = "A hook was deleted", value = json!({"status": "deleted", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"}))),
            ("unknown" = (summary = "There was none", value = json!({"status": "deleted", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "message": "Webhook already deleted or not found"})))
        )
    )),
    extensions(("x-errors" = json!(["MISSING_URL", "INVALID_BODY", "INVALID_EVENT_TYPE"])))
)]
pub(crate) async fn unsubscribe(
    context: Data<Context>,
    caller: Caller,
    query: Query,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    delete(&context, caller, Target::parse(None, &body, query)?).await
}

/// Unsubscribe a URL, without DELETE
///
/// The same as `DELETE /zapier/hook`, for clients behind proxies that drop the bodies of DELETE.
#[utoipa::path(
    post,
    path = "/zapier/hook/unsubscribe",
    operation_id = "unsubscribe_hook_by_post",
    tag = "REST hooks",
    params(
        ("url" = Option<String>, Query, description = "All hooks with this URL, if the body names none."),
        ("id" = Option<String>, Query, description = "This one hook."),
        ("event_type" = Option<String>, Query, description = "Together with `url`: only the hook with this event type.")
    ),
    request_body(content = Option<UnsubscribeRequest>, description = "May be left out when the query names the hook.", example = json!({"url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"})),
    responses((status = 200, description = "It is gone.", body = UnsubscribeAnswer, example = json!({"status": "deleted", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"}))),
    extensions(("x-errors" = json!(["MISSING_URL", "INVALID_BODY", "INVALID_EVENT_TYPE"])))
)]
pub(crate) async fn unsubscribe_by_post(
    context: Data<Context>,
    caller: Caller,
    query: Query,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    delete(&context, caller, Target::parse(None, &body, query)?).await
}

/// Unsubscribe a hook by its id
///
/// An id that is unknown, or is none at all, is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/zapier/hook/{id}",
    operation_id = "unsubscribe_hook_by_id",
    tag = "REST hooks",
    params(("id" = String, Path, description = "The hook's id, from the subscribe.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "It is gone.", body = UnsubscribeAnswer, example = json!({"status": "deleted", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"}))),
    extensions(("x-errors" = json!(["-NOT_FOUND", "-INVALID_ID", "INVALID_JSON", "INVALID_BODY"])))
)]
pub(crate) async fn unsubscribe_by_id(
    context: Data<Context>,
    caller: Caller,
    id: Path<String>,
    query: Query,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    delete(&context, caller, Target::parse(Some(id.into_inner()), &body, query)?).await
}

async fn delete(context: &Context, caller: Caller, target: Target) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let given = target.url.clone();
    let deleted = context
        .db
        .run(move |conn| {
            let (mut deleted, mut told) = (Vec::new(), Vec::new());
            for hook in target.find(conn, tenant)? {
                // Somebody else may have deleted it between the two statements.
                if store::set_state(conn, tenant, hook.id, HookState::Deleted, Some(REASON), now)? {
                    delivery::cancelling::begin(conn, tenant, hook.id, now, REASON)?;
                    let entry = audited::of_hook(&caller, Action::HookUnsubscribed, hook.id);
                    told.push(entry.before(audited::hook(&hook)));
                    deleted.push(hook.url);
                }
            }
            audit::record_all(conn, &caller.actor(), &told, now)?;
            Ok(deleted)
        })
        .await
        .map_err(problem::of)?;
    let message = deleted.is_empty().then_some("Webhook already deleted or not found");
    let url = deleted.into_iter().next().or(given);
    Ok(HttpResponse::Ok().json(UnsubscribeAnswer { status: "deleted", url, message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: Option<&str>, body: &str, query: &str) -> Result<Target, &'static str> {
        Target::parse(path.map(str::to_owned), body.as_bytes(), Query::parse(query).unwrap())
            .map_err(|error| error.code())
    }

    #[test]
    fn a_hook_is_named_in_the_path_the_body_or_the_query() {
        let named = |url: Option<&str>, id: Option<&str>| {
            Ok(Target { url: url.map(str::to_owned), id: id.map(str::to_owned), event_type: None })
        };
        for (path, body, query, expected) in [
            (None, r#"{"url":"u"}"#, "", named(Some("u"), None)),
            (None, "", "url=u", named(Some("u"), None)),
            (None, r#"{"url":"u"}"#, "url=v", named(Some("u"), None)),
            (None, r#"{"id":"h","zap":1}"#, "x=1", named(None, Some("h"))),
            (Some("h"), "", "", named(None, Some("h"))),
            (Some("h"), r#"{"id":"i","url":"u"}"#, "", named(Some("u"), Some("h"))),
            (None, r#"{"url":5}"#, "", Err("MISSING_URL")),
            (None, r#"{"url":""}"#, "", Err("MISSING_URL")),
            (None, "", "", Err("MISSING_URL")),
            (None, "[]", "url=u", Err("INVALID_BODY")),
            (None, "{", "url=u", Err("INVALID_JSON")),
        ] {
            assert_eq!(target(path, body, query), expected, "{path:?} {body} {query}");
        }
    }
}
