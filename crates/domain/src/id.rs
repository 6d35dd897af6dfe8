//! Identifiers: one type per table. UUIDv7 inside (RFC 9562), so that keys grow with time and partitions can be cut by
//! them; outside a prefix that names the noun and 26 characters of Crockford's base 32, the text form of a ULID.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, Output, ToSql},
    sql_types,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{noun}` ids look like `{example}`")]
pub struct IdError {
    noun: &'static str,
    example: &'static str,
}

/// What all ids have, however they are written.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow, Serialize, Deserialize)]
        #[diesel(sql_type = sql_types::Uuid)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: 48 bits of `now` in milliseconds, 10 of its microseconds, the rest random (UUIDv7, RFC 9562 §6.2 method 3):
            /// ids of the same clock rise, but for those of the same microsecond.
            #[must_use]
            pub fn new(now: DateTime<Utc>) -> Self {
                Self(uuid_at(now))
            }

            /// The id that a stored or transmitted UUID stands for.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl ToSql<sql_types::Uuid, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                ToSql::<sql_types::Uuid, Pg>::to_sql(&self.0, out)
            }
        }

        impl FromSql<sql_types::Uuid, Pg> for $name {
            fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
                FromSql::<sql_types::Uuid, Pg>::from_sql(bytes).map(Self)
            }
        }
    };
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $noun:literal;)+) => {$(
        id_type!($(#[$doc])* $name);

        /// The text form that leaves over HTTP.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(ascii(&encode(self.0)))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix).and_then(|text| decode(text.as_bytes())).map(Self).ok_or(IdError {
                    noun: $noun,
                    example: concat!($prefix, "01hzy3v9k2s8d4f6g8h0j2k4m6"),
                })
            }
        }
    )+};
}

/// Ids whose text is a plain UUID with hyphens, as source 1 writes those of tasks and runs.
macro_rules! plain_ids {
    ($($(#[$doc:meta])* $name:ident $noun:literal;)+) => {$(
        id_type!($(#[$doc])* $name);

        /// The text form that leaves over HTTP.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                // `uuid` takes braces, `urn:` and digits without hyphens, too: an id has one spelling but for its case.
                let uuid = (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten();
                uuid.map(Self).ok_or(IdError { noun: $noun, example: "550e8400-e29b-41d4-a716-446655440000" })
            }
        }
    )+};
}

plain_ids! {
    /// What somebody asked for.
    TaskId "task";
    /// One try of a whole task.
    RunId "run";
    /// The lease under which an executor or a worker holds a run.
    LeaseId "lease";
    /// A question of a run: the `request_id` of its answer.
    InputId "request";
    /// An external worker.
    WorkerId "worker";
    /// What makes tasks by the clock.
    ScheduleId "schedule";
    /// A tenant's key at a provider of language models. Not the key itself.
    LlmKeyId "provider key";
}

ids! {
    /// A customer of the installation: the owner of everything else.
    TenantId "ten_" "tenant";
    /// A credential, such as an API key. Not the secret itself.
    CredentialId "key_" "key";
    /// An event that was accepted.
    EventId "evt_" "event";
    /// Events that were accepted in one commit and wait for their fan-out.
    EventGroupId "grp_" "event group";
    /// A hook: who wants which events where.
    SubscriptionId "hook_" "hook";
    /// The lease under which a deliverer holds deliveries.
    ClaimId "clm_" "claim";
    /// Outcomes of deliveries that wait to be applied to the health of their subscriptions.
    SettlementId "stl_" "settlement";
    /// A person who logs in.
    UserId "usr_" "user";
    /// A person who is logged in. Not the cookie itself.
    SessionId "ses_" "session";
    /// A link by which somebody becomes a user. Not the link itself.
    InvitationId "inv_" "invitation";
    /// A mail that is to be sent.
    EmailId "eml_" "email";
    /// A program that people may let in with OAuth.
    ClientId "oac_" "OAuth client";
    /// What a person allowed an OAuth client.
    GrantId "grt_" "grant";
    /// Who a tenant's actions are elsewhere. Not the credentials.
    ConnectionId "auth_" "authentication";
    /// A run of an action.
    ActionRunId "arun_" "action run";
    /// A key that callbacks are signed with. Receivers know it by its `kid`.
    SigningKeyId "sgk_" "signing key";
    /// A job that sends again what did not arrive.
    RecoveryId "rec_" "recovery";
}

/// A delivery: one event on its way to one subscription. There is at most one for each pair (invariant 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// What is delivered.
    pub event: EventId,
    /// To whom.
    pub subscription: SubscriptionId,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dlv_{}{}", ascii(&encode(self.event.0)), ascii(&encode(self.subscription.0)))
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong =
            IdError { noun: "delivery", example: "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7" };
        let digits = text.strip_prefix("dlv_").map(str::as_bytes).ok_or(wrong)?;
        let (event, subscription) = digits.split_at_checked(26).ok_or(wrong)?;
        match (decode(event), decode(subscription)) {
            (Some(event), Some(subscription)) => {
                Ok(Self { event: EventId(event), subscription: SubscriptionId(subscription) })
            }
            (None, _) | (_, None) => Err(wrong),
        }
    }
}

impl Serialize for DeliveryId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl EventId {
    /// When the event was accepted, to the millisecond.
    #[must_use]
    pub fn accepted_at(self) -> DateTime<Utc> {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(0);
        DateTime::from_timestamp_millis(millis).unwrap_or_default()
    }
}

/// A UUIDv7 of the given time.
fn uuid_at(now: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    let mut rest: [u8; 10] = rand::random();
    // The twelve bits behind the version: microseconds, and two bits of chance.
    let [high, low] =
        (((now.timestamp_subsec_micros() % 1_000) << 2) as u16 | u16::from(rest[1] & 3)).to_be_bytes();
    (rest[0], rest[1]) = (high, low);
    uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
}

/// The smallest UUIDv7-ordered value of an instant: where a partition or a time range of keys begins.
#[must_use]
pub fn first_uuid_at(at: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(uuid: Uuid) -> [u8; 26] {
    let mut rest = uuid.as_u128();
    let mut text = [b'0'; 26];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(rest & 31) as usize];
        rest >>= 5;
    }
    text
}

/// The encoder writes ASCII only, so the conversion cannot fail; an empty text would be visible at once.
fn ascii(digits: &[u8; 26]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

/// Case is ignored, as Crockford's base 32 asks; `i`, `l`, `o`, `u` are refused, so that an id has one spelling.
fn decode(text: &[u8]) -> Option<Uuid> {
    let digits: &[u8; 26] = text.try_into().ok()?;
    if digits[0] > b'7' {
        return None;
    }
    let mut value: u128 = 0;
    for digit in digits {
        let at = DIGITS.iter().position(|d| *d == digit.to_ascii_lowercase())?;
        value = (value << 5) | at as u128;
    }
    Some(Uuid::from_u128(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_with_the_microseconds() {
        let start = DateTime::from_timestamp_micros(1_800_000_000_123_000).unwrap();
        let ids: Vec<EventId> =
            (0..2_500).map(|micros| EventId::new(start + chrono::TimeDelta::microseconds(micros))).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| id.uuid().get_version_num() == 7));
    }

    #[test]
    fn an_id_survives_its_text_form() {
        for value in [0, 1, u128::MAX, 0x0190_163d_8694_739b_aea5_966c_26f8_ad91] {
            let id = EventId(Uuid::from_u128(value));
            let text = id.to_string();
            assert_eq!(text.len(), 4 + 26);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_uppercase().replace("EVT_", "evt_").parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        let good = EventId(Uuid::from_u128(5)).to_string();
        for bad in [
            "",
            "evt_",
            "hook_00000000000000000000000005",
            &good[..good.len() - 1],
            &format!("{good}0"),
            "evt_80000000000000000000000000",
            "evt_0000000000000000000000000u",
            "evt_0000000000000000000000000é",
            "evt_ééééééééééééé",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
            assert!(bad.replace("evt_", "dlv_").parse::<DeliveryId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_task_id_is_a_plain_uuid() {
        let text = "550e8400-e29b-41d4-a716-446655440000";
        let id: TaskId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        for bad in
            ["", "550e8400e29b41d4a716446655440000", "{550e8400-e29b-41d4-a716-446655440000}", &text[1..]]
        {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_delivery_id_names_its_event_and_its_subscription() {
        let id = DeliveryId {
            event: EventId(Uuid::from_u128(7)),
            subscription: SubscriptionId(Uuid::from_u128(u128::MAX)),
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 4 + 52);
    }

    #[test]
    fn ids_grow_with_time_and_start_at_the_first_of_their_instant() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let id = EventId::new(at);
        assert!(first_uuid_at(at) <= id.uuid());
        assert!(id.uuid() < first_uuid_at(at + chrono::TimeDelta::milliseconds(1)));
        assert_eq!(id.uuid().get_version_num(), 7);
    }
}
