//! `POST /v1/subscriptions/{id}/gaps/deliver`: what did not arrive goes again, under its old numbers.

use actix_web::{HttpRequest, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{Action, Entry, ObjectRef},
    delivery::{
        gaps::{self, MAX_AT_ONCE},
        replay::{self, Again},
    },
    id::SubscriptionId,
    subscription,
    wire::Json,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::range;
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        endpoints::{self, SUBSCRIBERS},
        fields::{Fields, invalid},
    },
    paging::Id,
};

/// Which numbers are sent again.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct GapDelivery {
    /// The first number.
    #[schema(minimum = 1, example = 17)]
    from: i64,
    /// The last number, at most 9,999 above `from`; by default as many as there are up to that.
    #[schema(minimum = 1, example = 21)]
    to: Option<i64>,
    /// Also what arrived.
    all: Option<bool>,
}

/// What was put on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GapsOnTheirWay {
    /// Deliveries that are on their way now.
    #[schema(minimum = 0, example = 4)]
    queued: usize,
    /// Whether there are more in the range: 1,000 go at a time.
    has_more: bool,
    /// Send this as `from` to go on; `null` when there is no more.
    #[schema(example = 1017)]
    resume_from: Option<i64>,
}

/// Send what did not arrive again
///
/// The deliveries of the range that are dead, cancelled or discarded, with `all` also those that arrived, are due at once, under their
/// old numbers, with all their tries before them. What is under way is left alone. 1,000 at a time; `has_more` and `resume_from` tell
/// how to go on.
#[utoipa::path(
    post,
    path = "/v1/subscriptions/{id}/gaps/deliver",
    operation_id = "deliver_gaps",
    tag = "Deliveries",
    params(
        ("id" = String, Path, description = "The id of the hook, consumer or inbox.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(content = GapDelivery, example = json!({"from": 17, "to": 21})),
    responses((status = 202, description = "On their way.", body = GapsOnTheirWay, example = json!({"queued": 4, "has_more": false, "resume_from": null}))),
    extensions(("x-errors" = json!(["MISSING_SELECTION", "INVALID_FIELD", "INVALID_BODY", "HOOK_DISABLED", "HOOK_DELETED", "CONSUMER_DISABLED", "CONSUMER_DELETED"])))
)]
pub(crate) async fn deliver(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let (from, to, all) = selection(&body)?;
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        subscription::store::keep_state(conn, tenant, id)?;
        let endpoint = endpoints::found(conn, tenant, id, (SUBSCRIBERS, "endpoint"))?.subscription;
        endpoints::takes_events(endpoint.kind, endpoint.state)?;
        let mut chosen = gaps::to_send(conn, id, (from, to), all, MAX_AT_ONCE + 1)?;
        let resume_from = usize::try_from(MAX_AT_ONCE).ok().and_then(|most| {
            let next = chosen.get(most).map(|(number, _)| *number);
            chosen.truncate(most);
            next
        });
        let events: Vec<Again> = chosen.into_iter().map(|(_, again)| again).collect();
        let queued = replay::schedule(conn, tenant, id, endpoint.kind.profile(), &events, now)?.len();
        if queued > 0 {
            let object = endpoints::object(endpoint.kind);
            let told = json!({"from": from, "to": to, "all": all, "queued": queued});
            let entry = Entry::new(tenant, Action::GapsDelivered, ObjectRef::new(object, id)).after(told);
            audited::record(conn, &caller, &entry, now)?;
        }
        let answer = GapsOnTheirWay { queued, has_more: resume_from.is_some(), resume_from };
        Ok(Reply::json(StatusCode::ACCEPTED, &answer)?)
    })
    .await
}

fn selection(body: &[u8]) -> Result<(i64, i64, bool), ApiError> {
    let fields = Fields::parse(body)?;
    let number = |name: &'static str| {
        let read = |value: &Json| {
            let number = value.as_integer().filter(|number| 1 <= *number);
            number.ok_or_else(|| invalid(name, "must be a whole number from 1"))
        };
        fields.get(name).map(read).transpose()
    };
    let Some(from) = number("from")? else {
        let message = "`from` is not given: nothing is sent by accident";
        return Err(ApiError::bad_request("MISSING_SELECTION", message).field("from").reason("is not there"));
    };
    let to = range(from, number("to")?).map_err(|reason| invalid("to", &reason))?;
    Ok((from, to, fields.flag("all")?.unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_by_accident() {
        let chosen = |text: &str| selection(text.as_bytes()).map_err(|error| error.code());
        assert_eq!(chosen(r#"{"from":1}"#), Ok((1, 10_000, false)));
        assert_eq!(chosen(r#"{"from":7,"to":7,"all":true}"#), Ok((7, 7, true)));
        assert_eq!(chosen(r#"{"from":1,"to":10000}"#), Ok((1, 10_000, false)));
        for (text, code) in [
            ("", "MISSING_SELECTION"),
            (r#"{"to":5}"#, "MISSING_SELECTION"),
            (r#"{"from":0}"#, "INVALID_FIELD"),
            (r#"{"from":1.5}"#, "INVALID_FIELD"),
            (r#"{"from":"1"}"#, "INVALID_FIELD"),
            (r#"{"from":1e300}"#, "INVALID_FIELD"),
            (r#"{"from":2,"to":1}"#, "INVALID_FIELD"),
            (r#"{"from":1,"to":10001}"#, "INVALID_FIELD"),
            (r#"{"from":1,"all":1}"#, "INVALID_FIELD"),
            ("[1]", "INVALID_BODY"),
        ] {
            assert_eq!(chosen(text), Err(code), "{text}");
        }
    }
}
