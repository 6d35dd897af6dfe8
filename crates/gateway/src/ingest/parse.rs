//! From the bytes of a request to an event that is ready to be stored. The rules are the domain's.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, USER_AGENT},
};
use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    catalogue::{rules::TenantRules, schema::Violation},
    credential::Credential,
    event::{Draft, NewEvent, Origin, Provenance},
    id::TenantId,
    trace::TraceContext,
    wire,
};

use crate::{
    access::{Caller, Principal},
    context::Context,
    problem,
    settings::LargeIntegers,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Characters that are kept of a `User-Agent`.
const MAX_USER_AGENT_CHARS: usize = 512;

/// Bodies above this many bytes are parsed beside the worker, whose other requests would have to wait: 64 KiB take
/// about half a millisecond.
const LARGE: usize = 64 << 10;

/// How long a large body waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// The caller's trace, when there is a `traceparent` that is valid.
pub(crate) fn trace_of(request: &HttpRequest) -> Option<TraceContext> {
    request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Where a request's events come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    tenant: TenantId,
    now: DateTime<Utc>,
    source_ip: Option<String>,
    user_agent: Option<String>,
    request_id: RequestId,
    trace: TraceContext,
    large_integers: LargeIntegers,
    /// The credential, if it may publish some types only.
    limited: Option<Arc<Credential>>,
    /// What the tenant takes of some types, if it has said so.
    rules: Option<Arc<TenantRules>>,
}

/// An event that is taken, and what its payload breaks although it is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) event: NewEvent,
    pub(crate) warnings: Vec<Violation>,
}

impl Source {
    /// What is known of whoever posts. A `traceparent` that is valid is continued, else a new trace begins.
    ///
    /// # Errors
    /// 503 when it is not known what the tenant takes, as the database has been away for too long.
    pub(crate) async fn of(
        context: &Context,
        request: &HttpRequest,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let rules = context.rules.known(&context.db, caller.tenant()).await.map_err(problem::of)?;
        let headers = request.headers();
        let trace = trace_of(request);
        let user_agent = headers.get(USER_AGENT).map(|value| {
            String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_USER_AGENT_CHARS).collect()
        });
        Ok(Self {
            tenant: caller.tenant(),
            now: context.clock.now(),
            source_ip: caller.peer.as_ref().map(IpAddr::to_string),
            user_agent,
            request_id,
            trace: trace.unwrap_or_else(TraceContext::fresh),
            large_integers: context.settings.gateway.large_integers,
            limited: match &caller.principal {
                Principal::Credential(credential) if credential.event_types.is_some() => {
                    Some(Arc::clone(credential))
                }
                Principal::Credential(_) | Principal::Person(_) => None,
            },
            rules,
        })
    }

    /// The same for the next event of a batch: it happened a microsecond later, so that ids rise in the order of the batch.
    pub(crate) fn next(&mut self) {
        self.now += TimeDelta::microseconds(1);
    }

    fn provenance(&self) -> Provenance<'_> {
        Provenance {
            tenant: self.tenant,
            now: self.now,
            source_ip: self.source_ip.as_deref(),
            user_agent: self.user_agent.as_deref(),
            request_id: self.request_id.as_str(),
            trace: self.trace,
        }
    }
}

/// One posted event.
///
/// # Errors
/// 400 `INVALID_JSON`; 403 `EVENT_TYPE_NOT_ALLOWED`; 422 `INVALID_EVENT`, `EVENT_TYPE_ARCHIVED` or `SCHEMA_MISMATCH`.
pub(crate) fn event(text: &[u8], source: &Source) -> Result<Taken, ApiError> {
    if text.trim_ascii().is_empty() {
        return Err(ApiError::bad_request("INVALID_JSON", "the body is empty, a JSON object is expected"));
    }
    let json = match source.large_integers {
        LargeIntegers::AsJavascript => wire::parse_as_javascript(text),
        LargeIntegers::Refuse => wire::parse(text),
    };
    let json = json.map_err(|error| problem::of_json(&error))?;
    let draft = Draft::parse(json, source.now).map_err(|error| problem::of_draft(&error))?;
    if let Some(credential) = &source.limited
        && !credential.may_publish(draft.event_type())
    {
        return Err(not_allowed(&draft));
    }
    let warnings = match &source.rules {
        None => Vec::new(),
        Some(rules) => {
            draft.judged_by(rules).map_err(|refused| problem::of_refused(&refused, draft.event_type()))?
        }
    };
    Ok(Taken { event: draft.accept(Origin::Posted, &source.provenance()), warnings })
}

fn not_allowed(draft: &Draft) -> ApiError {
    let reason = format!("`{}` is not among the types that this key may publish", draft.event_type());
    ApiError::forbidden("EVENT_TYPE_NOT_ALLOWED", &reason).field("event_type").reason(reason)
}

/// Runs `work` on a text of this length: here when it is short, else on a thread of its own and one per worker at a
/// time, as a parsed value takes many times the memory of its text.
///
/// # Errors
/// 503 `OVERLOADED` when its turn does not come.
pub(crate) async fn on_thread<T: Send + 'static>(
    context: &Context,
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if length <= LARGE {
        return Ok(work());
    }
    let turn = tokio::time::timeout(PATIENCE, context.parsers.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(problem::overloaded("too many large bodies are being read"));
    };
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}
