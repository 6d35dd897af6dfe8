//! A command that repeats a failed try, as far as its owner may know it: with the method, the headers and the body that were sent,
//! and masks for what signs and authenticates.

use std::fmt::Write as _;

use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text, Uuid},
};

use super::{
    condition::Failure,
    consumer::{self, Method},
};
use crate::{
    Result,
    delivery::{Outcome, Profile, body},
    event,
    id::TenantId,
};

/// The largest body that stands in the command; a larger one is to be fetched.
const MAX_SHOWN_BYTES: usize = 4 << 10;

/// What stands for what only we, or the owner, may know.
const MASK: &str = "***";

/// What a failed try has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How.
    pub method: Method,
    /// The names of further headers.
    pub header_names: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a failed try has sent, with the method and the headers that the next try would have. `None` when nothing was sent because a
/// transformation made nothing of the event, and when the event, or its payload, is not kept any more.
///
/// # Errors
/// When the database is away.
pub fn sent(conn: &mut PgConnection, tenant: TenantId, failure: &Failure) -> Result<Option<Sent>> {
    if failure.reason == Outcome::Untransformable.word() {
        return Ok(None);
    }
    let event = event::store::find(conn, tenant, failure.event_id)?;
    let Some(event) = event.filter(|event| !event.is_purged()) else { return Ok(None) };
    let sent = match failure.profile {
        Profile::Task | Profile::Callback => {
            let payload = event::payload(&event.body).map(<[u8]>::to_vec);
            Sent { body: payload.unwrap_or(event.body), ..Sent::default() }
        }
        Profile::Hook | Profile::Farewell | Profile::Inbox => Sent { body: event.body, ..Sent::default() },
        Profile::Consumer => {
            let (method, header_names) = manner(conn, tenant, failure)?.unwrap_or_default();
            let made = body::find(conn, failure.delivery())?;
            let body = made.or_else(|| consumer::envelope(&event.body)).unwrap_or(event.body);
            Sent { method, header_names, body }
        }
    };
    Ok(Some(sent))
}

/// The method and the names of the headers of a consumer.
fn manner(
    conn: &mut PgConnection,
    tenant: TenantId,
    failure: &Failure,
) -> Result<Option<(Method, Vec<String>)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        method: String,
        #[diesel(sql_type = Array<Text>)]
        header_names: Vec<String>,
    }
    let row: Option<Row> = sql_query(
        "SELECT c.method, c.header_names FROM subscriptions s JOIN consumers c ON c.id = s.id \
         WHERE s.tenant_id = $1 AND s.id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(failure.subscription_id)
    .get_result(conn)
    .optional()?;
    Ok(row.map(|row| (row.method.parse().unwrap_or_default(), row.header_names)))
}

/// A command that repeats a try, with signatures, tokens and the values of the owner's headers masked: to see what the receiver does,
/// not to make it believe that we were it.
#[must_use]
pub fn curl(url: &str, failure: &Failure, sent: &Sent) -> String {
    let message_id = failure.event_id.to_string().replacen("evt_", "msg_", 1);
    let signature = match failure.profile {
        Profile::Consumer => format!("v1,{MASK} v1a,{MASK}"),
        Profile::Hook | Profile::Task | Profile::Callback | Profile::Farewell | Profile::Inbox => {
            format!("v1,{MASK}")
        }
    };
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", message_id),
        ("webhook-timestamp", failure.started_at.timestamp().to_string()),
        ("webhook-signature", signature),
        ("x-event-id", failure.event_id.to_string()),
        ("x-delivery-id", failure.delivery().to_string()),
        ("x-attempt", failure.number.to_string()),
    ];
    match failure.profile {
        Profile::Callback => headers.push(("zapier-callback-signature", MASK.to_owned())),
        Profile::Task if failure.has_secret => {
            headers.push(("x-codetether-signature", format!("sha256={MASK}")))
        }
        Profile::Hook if failure.has_secret => headers.push(("x-triggersapi-signature", MASK.to_owned())),
        Profile::Task | Profile::Hook | Profile::Consumer | Profile::Farewell | Profile::Inbox => {}
    }
    headers.extend(sent.header_names.iter().map(|name| (name.as_str(), MASK.to_owned())));
    let seconds = failure.profile.timeout().as_secs();
    let method = sent.method.as_str();
    let mut command = format!("curl -i -X {method} {} --max-time {seconds}", quoted(url));
    for (name, value) in headers {
        // Writing to a text cannot fail.
        let _written = write!(command, " \\\n  -H {}", quoted(&format!("{name}: {value}")));
    }
    match std::str::from_utf8(&sent.body) {
        Ok(text) if text.len() <= MAX_SHOWN_BYTES => {
            let _written = write!(command, " \\\n  --data-raw {}", quoted(text));
        }
        // The body is made of that of GET /v1/events/{id}, which has the place for it.
        Ok(_) | Err(_) => command.push_str(" \\\n  --data-binary @body.json"),
    }
    command
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::id::{EventId, SubscriptionId};

    fn failure(profile: Profile, has_secret: bool) -> Failure {
        Failure {
            event_id: EventId::from_uuid(uuid::Uuid::from_u128(7)),
            subscription_id: SubscriptionId::from_uuid(uuid::Uuid::from_u128(8)),
            profile,
            number: 2,
            started_at: DateTime::from_timestamp(1_763_720_000, 0).unwrap_or_default(),
            latency_ms: 12,
            status: Some(500),
            reason: "http_500".to_owned(),
            reply: None,
            has_secret,
        }
    }

    fn posted(body: &[u8]) -> Sent {
        Sent { body: body.to_vec(), ..Sent::default() }
    }

    #[test]
    fn a_command_repeats_the_try_without_its_secrets() {
        let sent = posted(br#"{"payload":{"name":"O'Hara"}}"#);
        let command = curl("https://a.b/it's?x=1", &failure(Profile::Hook, true), &sent);
        for part in [
            r"curl -i -X POST 'https://a.b/it'\''s?x=1' --max-time 5",
            "-H 'webhook-id: msg_00000000000000000000000007'",
            "-H 'webhook-timestamp: 1763720000'",
            "-H 'webhook-signature: v1,***'",
            "-H 'x-triggersapi-signature: ***'",
            "-H 'x-attempt: 2'",
            r#"--data-raw '{"payload":{"name":"O'\''Hara"}}'"#,
        ] {
            assert!(command.contains(part), "{part} in {command}");
        }
        assert!(
            !curl("https://a.b/", &failure(Profile::Hook, false), &posted(b"{}")).contains("triggersapi")
        );
        assert!(curl("https://a.b/", &failure(Profile::Task, true), &sent).contains("signature: sha256=***"));
    }

    #[test]
    fn a_consumer_has_its_own_method_headers_and_signatures() {
        let header_names = vec!["authorization".to_owned(), "x-it's".to_owned()];
        let sent = Sent { method: Method::Put, header_names, body: b"{}".to_vec() };
        let command = curl("https://a.b/", &failure(Profile::Consumer, true), &sent);
        for part in [
            "curl -i -X PUT 'https://a.b/' --max-time 15",
            "-H 'webhook-signature: v1,*** v1a,***'",
            "-H 'authorization: ***'",
            r"-H 'x-it'\''s: ***'",
        ] {
            assert!(command.contains(part), "{part} in {command}");
        }
        assert!(!command.contains("triggersapi"), "{command}");
    }

    #[test]
    fn a_large_body_is_left_out() {
        let of_size = |bytes: usize| {
            curl("https://a.b/", &failure(Profile::Hook, false), &posted("x".repeat(bytes).as_bytes()))
        };
        assert!(of_size(MAX_SHOWN_BYTES).contains("--data-raw"));
        assert!(of_size(MAX_SHOWN_BYTES + 1).ends_with("--data-binary @body.json"));
    }
}
