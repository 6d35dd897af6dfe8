//! `GET /zapier/hook/sample`: what deliveries of a type look like, as whole delivered events.
//!
//! The latest real events, else examples of the catalogue, else a made-up one. Those that are not real have the same ids
//! and times on every call, so that Zapier, which asks again and again, does not take each answer for new events.

use std::cmp::Reverse;

use actix_web::{http::StatusCode, web::Data};
use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Result as DomainResult,
    catalogue::{self, CatalogueEntry},
    db::Conn,
    event::{self, EventType, wire_time},
    id::{EventId, TenantId},
    subscription::{EventPattern, store},
    wire::{Json, Object, parse_stored, to_canonical},
};
use ring::digest::{SHA256, digest};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::zapier::Wanted;
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent},
    },
    context::Context,
    paging::{Query, invalid_parameter},
};

/// Samples at most (contract §3).
const MAX: i64 = 3;

/// Types that are looked at for a pattern.
const TYPES: i64 = 200;

/// The type of the sample when there is nothing else, as source 4 has it.
const GENERIC_TYPE: &str = "test_event";

/// The pattern of whoever wants everything, which says as much as no pattern.
const EVERYTHING: &str = "*";

/// Made-up events happened on this day: Wed, 1 Jan 2025.
const DAY_S: i64 = 1_735_689_600;

/// A type and a payload to show what a delivery looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) event_type: String,
    pub(super) payload: Json,
}

impl Example {
    /// The whole event, as it would be stored.
    pub(super) fn body(&self) -> Vec<u8> {
        self.render().1
    }

    /// The whole event, with an id and a time that depend on the type only.
    fn render(&self) -> (DateTime<Utc>, Vec<u8>) {
        let hash = digest(&SHA256, self.event_type.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.as_ref()[..10]);
        let second = i64::from(u16::from_be_bytes([random[0], random[1]]));
        let at = DateTime::from_timestamp(DAY_S, 0).unwrap_or_default() + TimeDelta::seconds(second);
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        let id = EventId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid());
        let metadata = [("correlation_id", "sample"), ("source_ip", "192.0.2.1"), ("user_agent", "Hookyard")];
        let (id, time) = (id.to_string(), wire_time(at));
        let event = Object::from_iter([
            ("id", Json::from(id.as_str())),
            ("event_id", Json::from(id.as_str())),
            ("event_type", Json::from(self.event_type.as_str())),
            ("timestamp", Json::from(time.as_str())),
            ("payload", self.payload.clone()),
            ("metadata", Json::from(Object::from_iter(metadata))),
            ("created_at", Json::from(time.as_str())),
        ]);
        (at, to_canonical(&event.into()))
    }
}

/// The latest real events that match, newest first, as they were delivered.
///
/// # Errors
/// When the database is away.
fn real(
    conn: &mut Conn,
    tenant: TenantId,
    pattern: Option<&EventPattern>,
    limit: i64,
) -> DomainResult<Vec<Vec<u8>>> {
    let mut events = match pattern.map(EventPattern::is_exact) {
        None => event::store::latest(conn, tenant, None, limit)?,
        Some(Some(exact)) => event::store::latest(conn, tenant, Some(exact.as_str()), limit)?,
        Some(None) => {
            let mut events = Vec::new();
            for posted in event::types::posted(conn, tenant, TYPES)? {
                if pattern.is_some_and(|pattern| pattern.matches(&posted)) {
                    events.extend(event::store::latest(conn, tenant, Some(posted.as_str()), limit)?);
                    events.sort_unstable_by_key(|event| Reverse(event.id));
                    events.truncate(usize::try_from(limit).unwrap_or(0));
                }
            }
            events
        }
    };
    events.sort_unstable_by_key(|event| Reverse(event.id));
    Ok(events.into_iter().map(|event| event.body).collect())
}

/// Examples of the catalogue, the tenant's own first; without a pattern only those. At least one: a made-up one if the
/// catalogue has none.
fn made_up(
    pattern: Option<&EventPattern>,
    written: Option<&str>,
    entries: &[CatalogueEntry],
) -> Vec<Example> {
    let fits = |entry: &&CatalogueEntry| {
        !entry.archived && pattern.map_or(entry.own, |pattern| pattern.matches(&entry.name))
    };
    let mut entries: Vec<&CatalogueEntry> = entries.iter().filter(fits).collect();
    entries.sort_by_key(|entry| !entry.own);
    let examples: Vec<Example> = entries
        .into_iter()
        .filter_map(|entry| {
            let payload = match (&entry.example, &entry.schema) {
                (Some(example), _) => parse_stored(example).ok()?,
                (None, Some(schema)) => Json::Object(catalogue::example::of(&parse_stored(schema).ok()?)),
                (None, None) => return None,
            };
            Some(Example { event_type: entry.name.as_str().to_owned(), payload })
        })
        .collect();
    if examples.is_empty() { vec![generic(pattern, written)] } else { examples }
}

fn generic(pattern: Option<&EventPattern>, written: Option<&str>) -> Example {
    // Of a pattern some type that it matches; if that is none after all, the name does not matter to a sample.
    let example = written.map(|pattern| pattern.replace('*', "example")).filter(|name| {
        name.parse::<EventType>().is_ok_and(|name| pattern.is_none_or(|pattern| pattern.matches(&name)))
    });
    let payload = Object::from_iter([
        ("message", Json::from("Sample event from Hookyard")),
        ("source", Json::from("sample")),
        ("test", Json::from(true)),
    ]);
    Example { event_type: example.unwrap_or_else(|| GENERIC_TYPE.to_owned()), payload: payload.into() }
}

/// What a test of a hook sends: type and payload of the latest real event that matches, else of an example.
///
/// # Errors
/// When the database is away.
pub(super) fn example(conn: &mut Conn, tenant: TenantId, pattern: Option<&str>) -> DomainResult<Example> {
    let pattern = pattern.filter(|text| *text != EVERYTHING);
    let parsed: Option<EventPattern> = pattern.and_then(|text| text.parse().ok());
    let latest = real(conn, tenant, parsed.as_ref(), 1)?.pop().and_then(|body| parse_stored(&body).ok());
    if let Some(mut event) = latest
        && let (Some(event_type), Some(payload)) = (event.take("event_type"), event.take("payload"))
        && let Some(event_type) = event_type.as_str()
    {
        return Ok(Example { event_type: event_type.to_owned(), payload });
    }
    let catalogue = catalogue::of_tenant(conn, tenant)?;
    let mut examples = made_up(parsed.as_ref(), pattern, &catalogue);
    examples.truncate(1);
    Ok(examples.pop().unwrap_or_else(|| generic(parsed.as_ref(), pattern)))
}

/// A delivered event: exactly these members, in this order.
#[derive(Debug, ToSchema)]
#[schema(as = Event)]
#[expect(dead_code, reason = "the type describes events in the OpenAPI document")]
pub(crate) struct EventBody {
    /// The event's id.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// The same again.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    event_id: String,
    /// What kind of thing happened.
    #[schema(example = "order.created")]
    event_type: String,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    /// What happened.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    /// `correlation_id`, `source_ip` and `user_agent` (a text or `null` each), and what the caller added.
    #[schema(value_type = Object)]
    metadata: Box<RawValue>,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
}

/// Show samples of deliveries
///
/// 1 to 3 events as deliveries would bring them, newest first: the latest real ones of the type, else examples of the
/// catalogue, else a made-up one. Those that are not real are the same on every call.
///
/// Pending hooks of the tenant that want such events become active: their owner has seen what they bring.
#[utoipa::path(
    get,
    path = "/zapier/hook/sample",
    operation_id = "show_samples",
    tag = "REST hooks",
    params(
        ("event_type" = Option<String>, Query, description = "A type, an alias or a pattern, as in the subscribe. Without it, any.", example = "order.created"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 3, description = "How many at most, 1 to 3; 3 by default.")
    ),
    responses((status = 200, description = "Always a list of 1 to 3 events.", body = [EventBody], example = json!([{"id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "timestamp": "2025-11-12T14:30:00.000Z", "payload": {"order": 1042, "total": 99.5}, "metadata": {"correlation_id": "corr_xyz789", "source_ip": "203.0.113.45", "user_agent": "shop/2.1"}, "created_at": "2025-11-12T14:30:00.500Z"}]))),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE"])))
)]
pub(crate) async fn sample(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<Reply, ApiError> {
    let written = query.text("event_type").filter(|text| !text.is_empty());
    let limit = query.value::<i64>("limit", "a whole number from 1 to 3")?.unwrap_or(MAX);
    if !(1..=MAX).contains(&limit) {
        return Err(invalid_parameter("limit", "must be a whole number from 1 to 3"));
    }
    let (tenant, now) = (caller.tenant(), context.clock.now());
    idempotent(&context, None, move |conn| {
        let catalogue = catalogue::of_tenant(conn, tenant)?;
        let wanted = written.map(|written| Wanted::of(&written, &catalogue)).transpose()?;
        let bodies = bodies(conn, tenant, wanted.as_ref(), &catalogue, limit)?;
        store::activate_pending(conn, tenant, wanted.as_ref().map(|wanted| wanted.written.as_str()), now)?;
        Ok(Reply::bytes(StatusCode::OK, list_of(&bodies)))
    })
    .await
}

/// 1 to `limit` events, newest first.
///
/// # Errors
/// When the database is away.
pub(super) fn bodies(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: Option<&Wanted>,
    catalogue: &[CatalogueEntry],
    limit: i64,
) -> DomainResult<Vec<Vec<u8>>> {
    let wanted = wanted.filter(|wanted| wanted.pattern_text != EVERYTHING);
    let pattern = wanted.map(|wanted| &wanted.pattern);
    let real = real(conn, tenant, pattern, limit)?;
    if !real.is_empty() {
        return Ok(real);
    }
    let examples = made_up(pattern, wanted.map(|wanted| wanted.pattern_text.as_str()), catalogue);
    let mut events: Vec<_> =
        examples.iter().take(usize::try_from(limit).unwrap_or(1)).map(Example::render).collect();
    events.sort_unstable_by_key(|(at, _)| Reverse(*at));
    Ok(events.into_iter().map(|(_, body)| body).collect())
}

/// The bodies as a JSON list: copied, so that a sample has the bytes of the delivery.
fn list_of(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut list = vec![b'['];
    list.extend(bodies.join(&b','));
    list.push(b']');
    list
}

#[cfg(test)]
mod tests {
    use hookyard_domain::{
        catalogue::{SeedType, seed},
        event::{Draft, Origin, Provenance},
        trace::TraceContext,
    };

    use super::*;

    fn names(body: &[u8]) -> Vec<String> {
        let event = parse_stored(body).unwrap().into_object().unwrap();
        event.iter().map(|(name, _)| name.to_str_lossy().into_owned()).collect()
    }

    #[test]
    fn a_made_up_event_has_the_members_of_a_real_one() {
        let now = DateTime::UNIX_EPOCH;
        let provenance = Provenance {
            tenant: TenantId::new(now),
            now,
            source_ip: None,
            user_agent: None,
            request_id: "r",
            trace: TraceContext::fresh(),
        };
        let event = Draft::of("a".parse().unwrap(), Object::new()).accept(Origin::Posted, &provenance);
        let (_, made_up) = generic(None, None).render();
        assert_eq!(names(&made_up), names(&event.body));
        let metadata = |body: &[u8]| to_canonical(parse_stored(body).unwrap().get("metadata").unwrap());
        let keys = |body: &[u8]| names(&metadata(body));
        assert_eq!(keys(&made_up), keys(&event.body));
    }

    #[test]
    fn a_made_up_event_is_the_same_on_every_call_and_another_for_each_type() {
        let catalogue: Vec<CatalogueEntry> = seed().iter().map(SeedType::entry).collect();
        let pattern: EventPattern = "task.*".parse().unwrap();
        let bodies = || -> Vec<Vec<u8>> {
            made_up(Some(&pattern), Some("task.*"), &catalogue)
                .iter()
                .map(|example| example.render().1)
                .collect()
        };
        assert_eq!(bodies(), bodies());
        let ids: std::collections::HashSet<Vec<u8>> =
            bodies().iter().map(|body| body[..40].to_vec()).collect();
        assert!(ids.len() >= 6, "{}", ids.len());
    }

    #[test]
    fn without_an_example_there_is_a_generic_event_of_a_type_that_matches() {
        for (written, expected) in [
            (Some("order.created"), "order.created"),
            (Some("order.*"), "order.example"),
            (None, "test_event"),
        ] {
            let pattern: Option<EventPattern> = written.map(|text| text.parse().unwrap());
            let examples = made_up(pattern.as_ref(), written, &[]);
            assert_eq!(
                examples.iter().map(|example| example.event_type.as_str()).collect::<Vec<_>>(),
                [expected]
            );
        }
    }

    #[test]
    fn lists_are_spliced() {
        assert_eq!(list_of(&[b"{}".to_vec(), b"{\"a\":1}".to_vec()]), b"[{},{\"a\":1}]");
        assert_eq!(list_of(&[]), b"[]");
    }
}
