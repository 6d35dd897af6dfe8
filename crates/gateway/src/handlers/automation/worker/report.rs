//! A report of a worker: what it says, of which run, and under which lease.

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header::HeaderName, web::Data};
use futures_util::future::LocalBoxFuture;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    id::{LeaseId, RunId},
    task::{
        Step, Usage,
        ledger::{By, Move},
        model::Models,
        worker::{self, Reported},
    },
    wire::{Json, to_canonical},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{not_found, of_refused, stale};
use crate::{
    access::Caller,
    body::JsonBody,
    context::Context,
    handlers::fields::{Fields, invalid},
    paging::Id,
    problem, tasks,
};

const X_LEASE_TOKEN: HeaderName = HeaderName::from_static("x-lease-token");

/// Tokens that a report may name at most.
const MAX_TOKENS: f64 = 1e12;
/// US dollars that a report may name at most.
const MAX_COST: f64 = 1e6;

/// What whoever reports is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerReport)]
pub(crate) struct Taken {
    /// The run.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    run_id: String,
    /// Its task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// Where the run stands now.
    #[schema(example = "running")]
    status: &'static str,
}

/// The argument of handlers that take a report of at most `LIMIT` bytes.
///
/// Errors: those of [`JsonBody`], 400 when the body is no object, 422 without a lease token, 409 when it is none at all.
#[derive(Debug)]
pub(crate) struct Report<const LIMIT: usize> {
    pub(super) context: Data<Context>,
    pub(super) caller: Caller,
    pub(super) run: RunId,
    pub(super) lease: LeaseId,
    pub(super) fields: Fields,
    /// Its share of memory.
    _body: JsonBody<LIMIT>,
}

impl<const LIMIT: usize> FromRequest for Report<LIMIT> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let context = request.app_data::<Data<Context>>().cloned();
        let caller = Caller::from_request(request, payload);
        let run = Id::<RunId>::from_request(request, payload);
        let body = JsonBody::<LIMIT>::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let Some(context) = context else {
                return Err(ApiError::internal(anyhow::anyhow!("a route without its context")));
            };
            let (caller, Id(run), body) = (caller.await?, run.await?, body.await?);
            let fields = Fields::parse(&body)?;
            let lease = lease_of(&request, &fields)?;
            Ok(Self { context, caller, run, lease, fields, _body: body })
        })
    }
}

impl<const LIMIT: usize> Report<LIMIT> {
    /// Makes it: the step, made of what the run is.
    pub(super) async fn make(
        self,
        step: impl FnOnce(&Reported) -> Step + Send + 'static,
    ) -> Result<HttpResponse, ApiError> {
        let Self { ref context, run, lease, .. } = self;
        let (tenant, now, ledger) = (self.caller.tenant(), context.clock.now(), context.ledger.clone());
        let work = move |conn: &mut Conn| {
            let Some(reported) = worker::reported(conn, tenant, run, now)? else { return Ok(None) };
            let moves = [Move { run, by: By::Holder(lease), step: step(&reported) }];
            ledger.apply(conn, &moves, now).map(Some)
        };
        let written = context.db.run(work).await.map_err(problem::of)?.ok_or_else(not_found)?;
        tasks::follow(context, &written);
        match written.results.first() {
            Some(Ok(applied)) => Ok(HttpResponse::Ok().json(Taken {
                run_id: run.to_string(),
                task_id: applied.task.to_string(),
                status: applied.state.as_str(),
            })),
            Some(Err(refused)) => Err(of_refused(refused)),
            None => Err(not_found()),
        }
    }
}

/// The lease token of a report: the header `X-Lease-Token`, or `lease_token` in the body.
fn lease_of(request: &HttpRequest, fields: &Fields) -> Result<LeaseId, ApiError> {
    let header = request.headers().get(&X_LEASE_TOKEN).map(|value| value.to_str().unwrap_or_default().trim());
    let member = fields.text("lease_token")?;
    let text = match (header, member) {
        (Some(header), Some(member)) if header != member => {
            return Err(invalid("lease_token", "is another one than in the header X-Lease-Token"));
        }
        (header, member) => header.or(member),
    };
    let text =
        text.ok_or_else(|| invalid("lease_token", "is missing, and so is the header X-Lease-Token"))?;
    // What is no token at all is not the run's, either.
    text.parse().map_err(|_| stale())
}

/// What a worker says that it used, in this attempt so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    input_tokens: u64,
    output_tokens: u64,
    /// Micro-dollars; `None` = as the price of the model says.
    cost_micros: Option<u64>,
}

impl Used {
    /// `None`: it says nothing of it.
    pub(super) fn of(fields: &Fields) -> Result<Option<Self>, ApiError> {
        let Some(usage) = fields.get("usage") else { return Ok(None) };
        let Some(usage) = usage.as_object() else { return Err(invalid("usage", "must be an object")) };
        let number = |name: &str, most: f64| match usage.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => {
                value.as_f64().filter(|number| (0.0..=most).contains(number)).map(Some).ok_or_else(|| {
                    invalid("usage", &format!("has a {name} that is no number from 0 to {most}"))
                })
            }
        };
        let tokens = |name: &str| match number(name, MAX_TOKENS)? {
            Some(number) if number.fract() != 0.0 => {
                Err(invalid("usage", &format!("has a {name} that is no whole number")))
            }
            number => Ok(number.unwrap_or(0.0) as u64),
        };
        let cost = number("cost_usd", MAX_COST)?;
        Ok(Some(Self {
            input_tokens: tokens("input_tokens")?,
            output_tokens: tokens("output_tokens")?,
            cost_micros: cost.map(|dollars| (dollars * 1e6).round() as u64),
        }))
    }

    /// How that is counted for the run.
    pub(super) fn usage(self, models: &Models, resolved: &str) -> Usage {
        let Self { input_tokens, output_tokens, cost_micros } = self;
        let cost_micros =
            cost_micros.unwrap_or_else(|| models.cost_micros(resolved, input_tokens, output_tokens));
        Usage { input_tokens, output_tokens, cost_micros }
    }
}

/// A text as programs write them, with whatever bytes: what cannot be stored is replaced by U+FFFD.
pub(super) fn spoken(fields: &Fields, name: &'static str) -> Result<Option<String>, ApiError> {
    let text = |value: &Json| match value.as_string() {
        Some(text) => Ok(text.to_str_lossy().into_owned()),
        None => Err(invalid(name, "must be a string")),
    };
    fields.get(name).map(text).transpose()
}

/// Any JSON as canonical text.
pub(super) fn canonical(value: &Json) -> String {
    String::from_utf8_lossy(&to_canonical(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_lease_token_stands_in_the_header_or_in_the_body() {
        const TOKEN: &str = "880e8400-e29b-41d4-a716-446655440003";
        let told = |header: Option<&str>, body: &str| {
            let request = header.iter().fold(TestRequest::default(), |request, value| {
                request.insert_header((X_LEASE_TOKEN, *value))
            });
            lease_of(&request.to_http_request(), &fields(body))
                .map(|lease| lease.to_string())
                .map_err(|error| (error.status().as_u16(), error.code()))
        };
        let body = format!(r#"{{"lease_token":"{TOKEN}"}}"#);
        assert_eq!(told(Some(TOKEN), "{}"), Ok(TOKEN.to_owned()));
        assert_eq!(told(None, &body), Ok(TOKEN.to_owned()));
        assert_eq!(told(Some(TOKEN), &body), Ok(TOKEN.to_owned()));
        assert_eq!(told(Some("x"), &body), Err((422, "INVALID_FIELD")));
        assert_eq!(told(None, "{}"), Err((422, "INVALID_FIELD")));
        assert_eq!(told(None, r#"{"lease_token":5}"#), Err((422, "INVALID_FIELD")));
        assert_eq!(told(None, r#"{"lease_token":"x"}"#), Err((409, "STALE_LEASE")));
    }

    #[test]
    fn usage_is_read_within_its_bounds() {
        let used =
            |usage: &str| Used::of(&fields(&format!(r#"{{"usage":{usage}}}"#))).map_err(|error| error.code());
        assert_eq!(used("null"), Ok(None));
        assert_eq!(used("{}"), Ok(Some(Used::default())));
        let all = Used { input_tokens: 3, output_tokens: 4, cost_micros: Some(1_500_000) };
        assert_eq!(used(r#"{"input_tokens":3,"output_tokens":4,"cost_usd":1.5}"#), Ok(Some(all)));
        for bad in [
            "5",
            "[]",
            r#"{"input_tokens":-1}"#,
            r#"{"input_tokens":1.5}"#,
            r#"{"cost_usd":-0.1}"#,
            r#"{"cost_usd":1000001}"#,
            r#"{"output_tokens":"3"}"#,
            r#"{"output_tokens":1e13}"#,
        ] {
            assert_eq!(used(bad), Err("INVALID_FIELD"), "{bad}");
        }
    }
}
