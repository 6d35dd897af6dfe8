//! `/v1/hooks/{id}/health` and `/webhooks/{id}/health`: how a subscription fares, what is wrong in words, and how to see it
//! oneself.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_LANGUAGE, VARY},
    web::Data,
};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    event::wire_time,
    id::SubscriptionId,
    person::Locale,
    subscription::{
        HookState, Kind, REFUSALS_TO_DISABLE,
        breaker::{self, Breaker},
        command,
        condition::{self, Condition, Failure, Pace},
        diagnosis::Problem,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::{Caller, visitor::accepted_locale},
    context::Context,
    paging::{Id, Query},
    problem,
};

/// How a hook fares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct View {
    /// Whose health.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Where deliveries go.
    url: String,
    /// `pending`, `active`, `failing`, `disabled` or `deleted`.
    #[schema(example = "failing")]
    state: &'static str,
    /// Why it is in that state, if that is not obvious.
    state_reason: Option<String>,
    /// Whether deliveries arrive, as far as is known.
    healthy: bool,
    /// All of it in words.
    summary: String,
    /// What is wrong; `null` when nothing is.
    #[schema(inline)]
    problem: Option<ProblemView>,
    /// Tries that failed since the last that arrived.
    #[schema(minimum = 0)]
    consecutive_failures: i32,
    /// 401 and 403 in a row.
    #[schema(minimum = 0)]
    consecutive_refusals: i32,
    /// Whether deliveries are held back after failures in a row.
    #[schema(inline)]
    breaker: BreakerView,
    /// When the first of those failures happened.
    #[schema(format = DateTime)]
    first_failure_at: Option<String>,
    /// When the last delivery arrived.
    #[schema(format = DateTime)]
    last_delivered_at: Option<String>,
    /// When the last try ended.
    #[schema(format = DateTime)]
    last_attempt_at: Option<String>,
    /// HTTP status of the last try, if it had one.
    last_status: Option<i16>,
    /// What came of the last try, as a word.
    last_reason: Option<String>,
    /// How far it is on its way to being disabled.
    #[schema(inline)]
    disabling: Disabling,
    /// Half of the latest answers took so many milliseconds, or longer; `null` while too few are known.
    median_latency_ms: Option<u64>,
    /// How long an answer may take, in milliseconds; `null` as above.
    timeout_ms: Option<u64>,
    /// The last try that failed, among those of the newest 200 events.
    #[schema(inline)]
    last_failure: Option<FailureView>,
    /// A command that repeats that try, with signatures and the values of a consumer's headers masked; `null` when nothing was sent
    /// because the transformation made nothing of the event. When it ends with `@body.json`, the body is large: it is the event of
    /// `GET /v1/events/{id}`, of a consumer what is made of that.
    curl: Option<String>,
}

/// What is wrong, for people.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthProblem)]
pub(crate) struct ProblemView {
    /// What kind of problem, for programs: `dns`, `connection_refused`, `tls_chain`, `tls_name`, `tls_expired`, `client_certificate`,
    /// `tls`, `timeout`, `connection_reset`, `not_http`, `forbidden_address`, `redirect`, `unauthorized`, `not_found`, `gone`,
    /// `throttled`, `rejected`, `server_error`, `untransformable` or `slow`.
    #[schema(example = "tls_chain")]
    kind: &'static str,
    /// What is wrong, in one sentence.
    explanation: &'static str,
    /// What to do about it.
    advice: &'static str,
}

/// The way to being disabled.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthDisabling)]
pub(crate) struct Disabling {
    /// 0 to 100; 100 when it is disabled or deleted.
    #[schema(minimum = 0, maximum = 100)]
    percent: u8,
    /// The last stage (50, 70 or 90) of which its owner was warned in this run of failures; 0 for none.
    warned: i16,
    /// 401 or 403 so many times more in a row disable it; `null` while there are none.
    refusals_left: Option<i64>,
    /// When it is disabled if nothing arrives until then; `null` where no time disables.
    #[schema(format = DateTime)]
    disables_at: Option<String>,
}

/// What protects an endpoint that fails: after failures in a row it is left alone for a while, then one try is made as a probe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthBreaker)]
pub(crate) struct BreakerView {
    /// `closed`: everything goes. `open`: nothing goes before `next_probe_at`. `half_open`: the next try is the probe.
    #[schema(example = "open")]
    state: &'static str,
    /// Since when it is not closed.
    #[schema(format = DateTime)]
    opened_at: Option<String>,
    /// When the next probe may be made.
    #[schema(format = DateTime)]
    next_probe_at: Option<String>,
    /// Failures in a row, as whoever delivers has counted them.
    failures: Option<i32>,
}

impl From<Breaker> for BreakerView {
    fn from(breaker: Breaker) -> Self {
        let told = breaker.told();
        Self {
            state: breaker.as_str(),
            opened_at: told.map(|told| wire_time(told.opened_at)),
            next_probe_at: told.map(|told| wire_time(told.next_probe_at)),
            failures: told.map(|told| told.failures),
        }
    }
}

/// A try that failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthFailure)]
pub(crate) struct FailureView {
    /// The delivery.
    delivery_id: String,
    /// Its event.
    event_id: String,
    /// Which try.
    attempt: i16,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: String,
    /// How long it took, in milliseconds.
    latency_ms: i32,
    /// HTTP status, if there was one.
    status: Option<i16>,
    /// What came of it, as a word.
    reason: String,
    /// How the reply begins; without a reply what went wrong.
    reply: String,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        Self {
            delivery_id: failure.delivery().to_string(),
            event_id: failure.event_id.to_string(),
            attempt: failure.number,
            started_at: wire_time(failure.started_at),
            latency_ms: failure.latency_ms,
            status: failure.status,
            reason: failure.reason.clone(),
            reply: failure.detail(),
        }
    }
}

/// Show the health of a hook
///
/// What is wrong in words, English or French by `Accept-Language`, how far the hook is on its way to being disabled, and a
/// command that repeats the last failed try.
#[utoipa::path(
    get,
    path = "/v1/hooks/{id}/health",
    operation_id = "show_hook_health",
    tag = "Hooks",
    params(
        ("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "How it fares.", body = View, example = json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "state": "failing", "state_reason": "http_401", "healthy": false, "summary": "3 tries in a row have failed. The receiver refuses us: it wants a credential, or does not accept ours. After 2 more refusals in a row it is disabled.", "problem": {"kind": "unauthorized", "explanation": "The receiver refuses us: it wants a credential, or does not accept ours.", "advice": "Let the receiver verify the signature instead of a log-in, or check its key."}, "consecutive_failures": 3, "consecutive_refusals": 3, "breaker": {"state": "closed", "opened_at": null, "next_probe_at": null, "failures": null}, "first_failure_at": "2025-11-12T15:45:00.731Z", "last_delivered_at": "2025-11-12T15:40:00.731Z", "last_attempt_at": "2025-11-12T15:51:12.004Z", "last_status": 401, "last_reason": "http_401", "disabling": {"percent": 60, "warned": 50, "refusals_left": 2, "disables_at": null}, "median_latency_ms": 84, "timeout_ms": 5000, "last_failure": {"delivery_id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m6", "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "attempt": 1, "started_at": "2025-11-12T15:51:11.920Z", "latency_ms": 84, "status": 401, "reason": "http_401", "reply": "{\"error\":\"unauthorized\"}"}, "curl": "curl -i -X POST 'https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/' --max-time 5 \\\n  -H 'content-type: application/json' \\\n  -H 'webhook-signature: v1,***' \\\n  --data-raw '{}'"})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    answer(&context, &caller, (id, &[Kind::Hook], "hook"), &request).await
}

/// Show the health of a consumer
///
/// As that of a hook: what is wrong in words, how far the consumer is on its way to being disabled, and a command that repeats the
/// last failed try.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/health",
    operation_id = "show_consumer_health",
    tag = "Consumers",
    params(
        ("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "How it fares.", body = View, example = json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://example.com/webhooks", "state": "active", "state_reason": null, "healthy": true, "summary": "Deliveries arrive.", "problem": null, "consecutive_failures": 0, "consecutive_refusals": 0, "breaker": {"state": "closed", "opened_at": null, "next_probe_at": null, "failures": null}, "first_failure_at": null, "last_delivered_at": "2025-11-12T15:51:12.004Z", "last_attempt_at": "2025-11-12T15:51:12.004Z", "last_status": 200, "last_reason": null, "disabling": {"percent": 0, "warned": 0, "refusals_left": null, "disables_at": null}, "median_latency_ms": 84, "timeout_ms": 15000, "last_failure": null, "curl": null})))
)]
pub(crate) async fn show_consumer(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    answer(&context, &caller, (id, &[Kind::Consumer], "consumer"), &request).await
}

/// The health of a subscription of one of these kinds, in the language that is asked for. `what` is what it is called when it is not
/// there.
///
/// # Errors
/// 404; 503 when the database is away.
async fn answer(
    context: &Context,
    caller: &Caller,
    (id, kinds, what): (SubscriptionId, &'static [Kind], &'static str),
    request: &HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let locale = accepted_locale(request.headers());
    let read = move |conn: &mut hookyard_domain::db::Conn| {
        let condition = condition::find(conn, tenant, id, kinds)?.ok_or(Error::NotFound { what })?;
        let failure = condition::last_failure(conn, tenant, id)?;
        let sent = match &failure {
            Some(failure) => command::sent(conn, tenant, failure)?,
            None => None,
        };
        let breaker = breaker::standing(breaker::find(conn, tenant, id)?, &condition, now);
        Ok((condition, failure, sent, condition::pace(conn, tenant, id)?, breaker))
    };
    let (condition, failure, sent, pace, breaker) = context.db.once(read).await.map_err(problem::of)?;
    let curl =
        failure.as_ref().zip(sent).map(|(failure, sent)| command::curl(&condition.url, failure, &sent));
    let view = view(&condition, failure.as_ref(), (pace, breaker), curl, locale, now);
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_LANGUAGE, locale.as_str()))
        .insert_header((VARY, "Accept-Language"))
        .json(view))
}

fn view(
    condition: &Condition,
    failure: Option<&Failure>,
    (pace, breaker): (Option<Pace>, Breaker),
    curl: Option<String>,
    locale: Locale,
    now: DateTime<Utc>,
) -> View {
    let problem = condition.problem(failure, pace);
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let refusals = i64::from(condition.consecutive_refusals);
    let live = condition.state.takes_events();
    View {
        id: condition.id.to_string(),
        url: condition.url.clone(),
        state: condition.state.as_str(),
        state_reason: condition.state_reason.clone(),
        healthy: live && condition.consecutive_failures == 0 && condition.state != HookState::Failing,
        summary: summary(condition, problem, breaker, locale),
        problem: problem.map(|problem| {
            let words = problem.words(locale);
            ProblemView { kind: problem.as_str(), explanation: words.explanation, advice: words.advice }
        }),
        consecutive_failures: condition.consecutive_failures,
        consecutive_refusals: condition.consecutive_refusals,
        breaker: breaker.into(),
        first_failure_at: condition.first_failure_at.map(wire_time),
        last_delivered_at: condition.last_delivered_at.map(wire_time),
        last_attempt_at: condition.last_attempt_at.map(wire_time),
        last_status: condition.last_status,
        last_reason: condition.last_reason.clone(),
        disabling: Disabling {
            percent: condition.progress(now),
            warned: condition.warned,
            refusals_left: (live && refusals > 0).then(|| (i64::from(REFUSALS_TO_DISABLE) - refusals).max(0)),
            disables_at: condition.disables_at().map(wire_time),
        },
        median_latency_ms: pace.map(|pace| millis(pace.median)),
        timeout_ms: pace.map(|pace| millis(pace.timeout)),
        last_failure: failure.map(FailureView::from),
        curl,
    }
}

/// All of it in some sentences.
fn summary(condition: &Condition, problem: Option<Problem>, breaker: Breaker, locale: Locale) -> String {
    let failures = condition.consecutive_failures;
    let refusals_left = i64::from(REFUSALS_TO_DISABLE) - i64::from(condition.consecutive_refusals);
    let mut sentences: Vec<String> = Vec::new();
    sentences.push(match (condition.state, locale) {
        (HookState::Disabled, Locale::En) => {
            "It is disabled: nothing is delivered until it is enabled.".to_owned()
        }
        (HookState::Disabled, Locale::Fr) => {
            "Il est désactivé : rien n'est livré tant qu'il n'est pas réactivé.".to_owned()
        }
        (HookState::Deleted, Locale::En) => "It is deleted.".to_owned(),
        (HookState::Deleted, Locale::Fr) => "Il est supprimé.".to_owned(),
        (_, Locale::En) if condition.last_attempt_at.is_none() => {
            "Nothing has been delivered yet.".to_owned()
        }
        (_, Locale::Fr) if condition.last_attempt_at.is_none() => "Rien n'a encore été livré.".to_owned(),
        (_, Locale::En) if failures == 0 => "Deliveries arrive.".to_owned(),
        (_, Locale::Fr) if failures == 0 => "Les livraisons arrivent.".to_owned(),
        (_, Locale::En) if failures == 1 => "The last try has failed.".to_owned(),
        (_, Locale::Fr) if failures == 1 => "La dernière tentative a échoué.".to_owned(),
        (_, Locale::En) => format!("{failures} tries in a row have failed."),
        (_, Locale::Fr) => format!("{failures} tentatives de suite ont échoué."),
    });
    sentences.extend(problem.map(|problem| problem.words(locale).explanation.to_owned()));
    sentences.extend(match (breaker, locale) {
        (Breaker::Closed, _) => None,
        (Breaker::Open(told), Locale::En) => Some(format!(
            "It is left alone until {}; then one try is made as a probe.",
            wire_time(told.next_probe_at)
        )),
        (Breaker::Open(told), Locale::Fr) => Some(format!(
            "Il est laissé tranquille jusqu'au {} ; une tentative d'essai est faite ensuite.",
            wire_time(told.next_probe_at)
        )),
        (Breaker::HalfOpen(_), Locale::En) => {
            Some("The next try is a probe: when it is answered, deliveries go on.".to_owned())
        }
        (Breaker::HalfOpen(_), Locale::Fr) => Some(
            "La prochaine tentative est un essai : s'il reçoit une réponse, les livraisons reprennent."
                .to_owned(),
        ),
    });
    if condition.state.takes_events() && condition.consecutive_refusals > 0 && refusals_left > 0 {
        sentences.push(match (locale, refusals_left) {
            (Locale::En, 1) => "After one more refusal it is disabled.".to_owned(),
            (Locale::En, left) => format!("After {left} more refusals in a row it is disabled."),
            (Locale::Fr, 1) => "Après un refus de plus, il est désactivé.".to_owned(),
            (Locale::Fr, left) => format!("Après {left} refus de plus à la suite, il est désactivé."),
        });
    }
    if let Some(at) = condition.disables_at() {
        let at = wire_time(at);
        sentences.push(match locale {
            Locale::En => format!("If nothing arrives until {at}, it is disabled."),
            Locale::Fr => format!("Si rien n'arrive d'ici au {at}, il est désactivé."),
        });
    }
    sentences.join(" ")
}
