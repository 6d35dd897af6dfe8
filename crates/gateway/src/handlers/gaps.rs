//! `/v1/subscriptions/{id}/gaps`: the numbers of a hook, consumer or inbox that did not arrive, with what belongs to them. Sending the hole
//! again is `deliver`. What a number is, and why none is given twice, is `domain::delivery::sequence`.

pub(crate) mod deliver;

use std::collections::HashMap;

use actix_web::{HttpResponse, http::header::CONTENT_TYPE, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    db::Conn,
    delivery::{
        DeliveryState,
        gaps::{self, Counted, Hole, MAX_NUMBERS, Missed},
    },
    event::wire_time,
    id::{DeliveryId, SubscriptionId, TenantId},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::samples::EventBody;
use crate::{
    access::Caller,
    context::Context,
    paging::{Id, Query, invalid_parameter},
    problem,
};

/// What a receiver asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    from: i64,
    to: i64,
    after: i64,
    all: bool,
    payload: bool,
    limit: usize,
}

impl Asked {
    fn parse(mut query: Query) -> Result<Self, ApiError> {
        let from = query.number("from", (1, i64::MAX))?.unwrap_or(1);
        let to = query.number("to", (1, i64::MAX))?;
        let to = range(from, to).map_err(|reason| invalid_parameter("to", reason))?;
        let all = query.flag("all")?;
        let payload = match query.text("include").as_deref() {
            None => false,
            Some("payload") => true,
            Some(_) => return Err(invalid_parameter("include", "must be payload")),
        };
        let after = query.cursor::<i64>()?.unwrap_or(0);
        let limit = usize::try_from(query.limit()?).unwrap_or(1);
        query.finish()?;
        Ok(Self { from, to, after, all, payload, limit })
    }
}

/// The last number of a range, or what is wrong with it. As many numbers as there may be when it is not given.
fn range(from: i64, to: Option<i64>) -> Result<i64, String> {
    let last = from.saturating_add(MAX_NUMBERS - 1);
    match to {
        None => Ok(last),
        Some(to) if to < from => Err("must not be below `from`".to_owned()),
        Some(to) if last < to => Err(format!("must be at most {} above `from`", MAX_NUMBERS - 1)),
        Some(to) => Ok(to),
    }
}

/// A page of what did not arrive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gaps {
    /// What did not arrive, by number.
    data: Vec<Gap>,
    /// Send this as `cursor` with the same parameters to go on; `null` when there is no more.
    #[schema(example = "2")]
    next_cursor: Option<String>,
    /// Whether there is more.
    has_more: bool,
    /// The first number that was looked at.
    #[schema(minimum = 1, example = 1)]
    from: i64,
    /// The last number that was looked at; never above `last`.
    #[schema(minimum = 0, example = 3)]
    to: i64,
    /// The newest number that was given to this hook, consumer or inbox; 0 before the first.
    #[schema(minimum = 0, example = 3)]
    last: i64,
}

/// A number that did not arrive, or some in a row that nothing is known of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gap {
    /// The number.
    #[schema(minimum = 1, example = 2)]
    sequence: i64,
    /// The last number that this is about; above `sequence` only where it is `void` or `dropped`.
    #[schema(minimum = 1, example = 2)]
    through: i64,
    /// `pending`, `dead`, `cancelled` or `discarded`, as of a delivery, and `delivered` with `all`. `void`: no delivery has this number,
    /// and none will. `dropped`: the delivery is past the retention, and whether it arrived is not known any more.
    #[schema(example = "dead")]
    state: &'static str,
    /// What came of the last try, or why it was cancelled, as a word.
    #[schema(example = "http_500")]
    reason: Option<String>,
    /// The delivery; `null` where it is `void` or `dropped`, as are all that follow.
    #[schema(example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")]
    delivery_id: Option<String>,
    /// The event.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    event_id: Option<String>,
    /// Its type.
    #[schema(example = "order.created")]
    event_type: Option<String>,
    /// Tries so far.
    #[schema(example = 4)]
    attempts: Option<i16>,
    /// When the next try is due; only while it is pending, and `null` while it waits for the delivery before it.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    /// With `include=payload`, the event as it is stored; `null` when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EventBody>)]
    event: Option<Option<Box<RawValue>>>,
}

impl Gap {
    fn of(missed: Missed, subscription: SubscriptionId, payload: bool) -> Self {
        let pending = missed.state == DeliveryState::Pending;
        let raw = |body| String::from_utf8(body).ok().and_then(|text| RawValue::from_string(text).ok());
        Self {
            sequence: missed.sequence,
            through: missed.sequence,
            state: missed.state.as_str(),
            reason: missed.last_reason,
            delivery_id: Some(DeliveryId { event: missed.event_id, subscription }.to_string()),
            event_id: Some(missed.event_id.to_string()),
            event_type: missed.event_type,
            attempts: Some(missed.attempts),
            next_attempt_at: missed.next_attempt_at.filter(|_| pending).map(wire_time),
            event: payload.then(|| missed.body.and_then(raw)),
        }
    }

    fn nobodys(state: &'static str, (sequence, through): (i64, i64), payload: bool) -> Self {
        Self {
            sequence,
            through,
            state,
            reason: None,
            delivery_id: None,
            event_id: None,
            event_type: None,
            attempts: None,
            next_attempt_at: None,
            event: payload.then_some(None),
        }
    }
}

/// Show what did not arrive
///
/// Every number of the range whose delivery was not answered with a 2xx, with what became of it: for a receiver that has seen a hole
/// in `x-hookyard-sequence`, or wants to know what it has missed at the end, which `last` tells. With `all` those that did arrive, too:
/// for a receiver that has lost what it got. At most 10,000 numbers at a time.
#[utoipa::path(
    get,
    path = "/v1/subscriptions/{id}/gaps",
    operation_id = "show_gaps",
    tag = "Deliveries",
    params(
        ("id" = String, Path, description = "The id of the hook, consumer or inbox.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("from" = Option<i64>, Query, minimum = 1, description = "The first number that is asked for; 1 by default.", example = 1),
        ("to" = Option<i64>, Query, minimum = 1, description = "The last number that is asked for, at most 9,999 above `from`; by default as many as there are up to that."),
        ("all" = Option<bool>, Query, description = "Also what arrived."),
        ("include" = Option<String>, Query, description = "`payload`: each entry has its event, too. A page then has about 4 MiB at most."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of what did not arrive, by number.", body = Gaps))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let asked = Asked::parse(query)?;
    let tenant = caller.tenant();
    let work = move |conn: &mut Conn| {
        let counted = counted(conn, tenant, id)?;
        page(conn, id, &counted, &asked)
    };
    let gaps = context.db.run(work).await.map_err(problem::of)?;
    let body = serde_json::to_vec(&gaps).map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body))
}

/// What a subscription of the tenant has counted.
fn counted(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> DomainResult<Counted> {
    gaps::counted(conn, tenant, id)?.ok_or(Error::NotFound { what: "hook, consumer or inbox" })
}

fn page(conn: &mut Conn, id: SubscriptionId, counted: &Counted, asked: &Asked) -> DomainResult<Gaps> {
    let to = asked.to.min(counted.last);
    let rest = (asked.from.max(asked.after.saturating_add(1)), to);
    let mut holes = gaps::holes(&gaps::numbered(conn, id, rest)?, &counted.void, rest, asked.all);
    let mut has_more = holes.len() > asked.limit;
    holes.truncate(asked.limit);
    let numbers: Vec<i64> = holes
        .iter()
        .filter_map(|hole| match *hole {
            Hole::Delivery(number) => Some(number),
            Hole::Void(..) | Hole::Dropped(..) => None,
        })
        .collect();
    let mut missed: HashMap<i64, Missed> = gaps::missed(conn, id, &numbers, asked.payload)?
        .into_iter()
        .map(|missed| (missed.sequence, missed))
        .collect();
    let fit = missed.keys().copied().max();
    let mut data = Vec::with_capacity(holes.len());
    for hole in holes {
        data.push(match hole {
            Hole::Delivery(number) => match missed.remove(&number) {
                Some(missed) => Gap::of(missed, id, asked.payload),
                // The page is full of bodies.
                None if asked.payload && fit.is_some_and(|fit| fit < number) => {
                    has_more = true;
                    break;
                }
                // Dropped at this moment.
                None => Gap::nobodys("dropped", (number, number), asked.payload),
            },
            Hole::Void(first, last) => Gap::nobodys("void", (first, last), asked.payload),
            Hole::Dropped(first, last) => Gap::nobodys("dropped", (first, last), asked.payload),
        });
    }
    let next_cursor = data.last().filter(|_| has_more).map(|gap| gap.through.to_string());
    Ok(Gaps { data, next_cursor, has_more, from: asked.from, to, last: counted.last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_at_most_ten_thousand_numbers() {
        for (from, to, expected) in [
            (1, None, Some(10_000)),
            (1, Some(1), Some(1)),
            (5, Some(4), None),
            (1, Some(10_000), Some(10_000)),
            (1, Some(10_001), None),
            (i64::MAX, None, Some(i64::MAX)),
            (1, Some(i64::MAX), None),
        ] {
            assert_eq!(range(from, to).ok(), expected, "{from} {to:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_checked_by_name() {
        let asked = |text: &str| Asked::parse(Query::parse(text).unwrap());
        let plain = Asked { from: 1, to: 10_000, after: 0, all: false, payload: false, limit: 50 };
        assert_eq!(asked("").unwrap(), plain);
        assert_eq!(
            asked("from=3&to=9&all=true&include=payload&cursor=5&limit=7").unwrap(),
            Asked { from: 3, to: 9, after: 5, all: true, payload: true, limit: 7 }
        );
        for bad in [
            "from=0",
            "from=-1",
            "from=x",
            "to=0",
            "from=2&to=1",
            "from=1&to=10001",
            "all=yes",
            "include=x",
            "cursor=x",
            "limit=0",
            "limit=101",
            "form=1",
        ] {
            assert_eq!(asked(bad).unwrap_err().code(), "INVALID_PARAMETER", "{bad}");
        }
    }
}
