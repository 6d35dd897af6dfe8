//! Events: what a product says has happened, accepted once and never changed.

pub mod claimed;
mod draft;
mod event_type;
pub mod list;
pub mod own;
pub mod scheduled;
pub mod store;
pub mod types;
pub mod waiting;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

pub use draft::{Draft, DraftError, MAX_BODY_BYTES, MAX_METADATA_BYTES, Provenance};
pub(crate) use draft::{parse_time, without_nul};
pub(crate) use event_type::check;
pub use event_type::{EventType, EventTypeError};

use crate::{
    id::{EventId, TenantId},
    trace::TraceContext,
};

/// Who made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
#[repr(i16)]
pub enum Origin {
    /// The tenant, through the API.
    Posted = 0,
    /// Hookyard itself: `hook.*`.
    System = 1,
    /// A test of one hook; such events are no samples and go nowhere else.
    Test = 2,
}

impl FromSql<SmallInt, Pg> for Origin {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        match <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)? {
            0 => Ok(Self::Posted),
            1 => Ok(Self::System),
            2 => Ok(Self::Test),
            other => Err(format!("no event origin {other}").into()),
        }
    }
}

/// An event that is ready to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its owner.
    pub tenant: TenantId,
    /// Its identity, which also tells when it was accepted.
    pub id: EventId,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// Who made it.
    pub origin: Origin,
    /// When it happened, as the caller says.
    pub occurred_at: DateTime<Utc>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it is fanned out; `None` = at once.
    pub due_at: Option<DateTime<Utc>>,
    /// The metadata, for filters. What the receiver gets is in `body`.
    pub metadata: serde_json::Value,
    /// The trace that the caller's request belongs to.
    pub trace: TraceContext,
    /// The canonical body: made here once, stored, signed and sent as it is (invariant 8).
    pub body: Vec<u8>,
}

/// The payload within a canonical body, byte for byte: what a task webhook sends (contract §5). `None` when it is no body of an
/// event.
#[must_use]
pub fn payload(body: &[u8]) -> Option<&[u8]> {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        payload: &'a serde_json::value::RawValue,
    }
    serde_json::from_slice::<Envelope<'_>>(body).ok().map(|envelope| envelope.payload.get().as_bytes())
}

/// A time as every wire of Hookyard prints it: RFC 3339, UTC, milliseconds, `Z`.
#[must_use]
pub fn wire_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MAX_DEPTH, parse, to_canonical};

    #[test]
    fn the_payload_is_a_slice_of_the_body_whatever_it_holds() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(MAX_DEPTH - 2), "]".repeat(MAX_DEPTH - 2));
        for payload in [
            "{}",
            r#"{"payload":{"payload":1},"1":"é ☕ \u0000 \ud800 \" \\ </script>","x":1e+21}"#,
            r#"{"result":"café ☕","error":null}"#,
            deep.as_str(),
        ] {
            let canonical = to_canonical(&parse(payload.as_bytes()).unwrap());
            let mut body =
                br#"{"id":"evt_1","event_id":"evt_1","metadata0":{"payload":[1]},"payload":"#.to_vec();
            body.extend_from_slice(&canonical);
            body.extend_from_slice(br#","metadata":{"payload":"no"},"created_at":"x"}"#);
            assert_eq!(super::payload(&body), Some(canonical.as_slice()), "{payload}");
        }
        assert_eq!(payload(b"{}"), None);
        assert_eq!(payload(b"["), None);
    }
}
