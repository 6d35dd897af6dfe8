//! An entry as JSON: what lists, exports and the command line show. A wire format: it may grow and never changes.
//!
//! Everything that the hash is over is in it, exactly: whoever has an export can follow the chain without us.

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ActorKind, Chain, Recorded};
use crate::id::{CredentialId, UserId};

#[derive(Serialize)]
struct Line<'a> {
    seq: i64,
    tenant_id: Option<String>,
    at: String,
    actor: ActorLine<'a>,
    action: &'a str,
    object: ObjectLine<'a>,
    before: Option<Box<RawValue>>,
    after: Option<Box<RawValue>>,
    hash: String,
}

#[derive(Serialize)]
struct ActorLine<'a> {
    kind: &'a str,
    id: Option<String>,
    name: &'a str,
    address: Option<&'a str>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct ObjectLine<'a> {
    kind: &'a str,
    id: &'a str,
}

/// The JSON of an entry, without a line break in it.
///
/// # Errors
/// Never for what was read from the database; the type of the writer allows for it.
pub fn line(entry: &Recorded) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Line {
        seq: entry.seq,
        tenant_id: match entry.chain() {
            Chain::Installation => None,
            Chain::Tenant(tenant) => Some(tenant.to_string()),
        },
        // Microseconds, where other times have milliseconds: the hash is over them.
        at: entry.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        actor: ActorLine {
            kind: ActorKind::of_code(entry.actor_kind).map_or("unknown", ActorKind::as_str),
            id: actor_id(entry),
            name: &entry.actor_name,
            address: entry.address.as_deref(),
            request_id: entry.request_id.as_deref(),
        },
        action: &entry.action,
        object: ObjectLine { kind: &entry.object_kind, id: &entry.object_id },
        before: entry.before.as_deref().map(raw).transpose()?,
        after: entry.after.as_deref().map(raw).transpose()?,
        hash: entry.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn actor_id(entry: &Recorded) -> Option<String> {
    entry.actor_id.map(|id| match ActorKind::of_code(entry.actor_kind) {
        Some(ActorKind::Credential) => CredentialId::from_uuid(id).to_string(),
        Some(ActorKind::Person) => UserId::from_uuid(id).to_string(),
        Some(ActorKind::System | ActorKind::Operator | ActorKind::Nobody) | None => id.to_string(),
    })
}

/// A side byte for byte. One that somebody has made something else of is shown as a text, on one line.
fn raw(side: &str) -> Result<Box<RawValue>, serde_json::Error> {
    match RawValue::from_string(side.to_owned()) {
        Ok(raw) if !side.contains(['\n', '\r']) => Ok(raw),
        Ok(_) | Err(_) => RawValue::from_string(serde_json::to_string(side)?),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn told(before: Option<&str>, actor_kind: i16, tenant: u128) -> String {
        let entry = Recorded {
            tenant_id: Uuid::from_u128(tenant),
            seq: 7,
            at: DateTime::from_timestamp_micros(1_795_230_647_000_120).unwrap(),
            actor_kind,
            actor_id: Some(Uuid::from_u128(2)),
            actor_name: "zapier".to_owned(),
            address: Some("192.0.2.1".to_owned()),
            request_id: Some("r-1".to_owned()),
            action: "hook.enabled".to_owned(),
            object_kind: "hook".to_owned(),
            object_id: "hook_1".to_owned(),
            before: before.map(str::to_owned),
            after: None,
            hash: vec![0, 255],
        };
        String::from_utf8(line(&entry).unwrap()).unwrap()
    }

    #[test]
    fn the_wire_format() {
        assert_eq!(
            told(Some(r#"{"b": 1.0,"a":2}"#), 2, 1),
            concat!(
                r#"{"seq":7,"tenant_id":"ten_00000000000000000000000001","at":"2026-11-21T03:10:47.000120Z","#,
                r#""actor":{"kind":"credential","id":"key_00000000000000000000000002","name":"zapier","#,
                r#""address":"192.0.2.1","request_id":"r-1"},"action":"hook.enabled","#,
                r#""object":{"kind":"hook","id":"hook_1"},"before":{"b": 1.0,"a":2},"after":null,"hash":"00ff"}"#
            )
        );
        assert!(told(None, 3, 0).contains(r#""tenant_id":null"#));
        assert!(told(None, 3, 0).contains(r#""id":"usr_0"#));
    }

    #[test]
    fn a_forged_entry_is_shown_on_one_line_all_the_same() {
        for (side, shown) in [("{", r#""{""#), ("{\n}", r#""{\n}""#), ("", r#""""#)] {
            assert!(told(Some(side), 9, 1).contains(&format!(r#""before":{shown},"#)), "{side}");
        }
        assert!(told(None, 9, 1).contains(r#""kind":"unknown""#));
    }
}
