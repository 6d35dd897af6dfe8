//! The keys of a tenant: API keys (`api`), the one that Zapier is given (`integration`), those of services that publish
//! (`source`), and those of external workers (`worker`). A key is in the answer that makes it and nowhere afterwards; what is kept is its hash.
//!
//! Who changes or ends a key is answered when every gateway knows: see [`known_everywhere`].

pub(crate) mod api;
pub(crate) mod integration;
pub(crate) mod source;
pub(crate) mod worker;

use std::ops::RangeInclusive;

use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, audit,
    credential::{
        Kind, Scope, Scopes, Token,
        store::{self, CredentialView, NewCredential},
    },
    db::Conn,
    id::CredentialId,
    tenant::check_name,
};
use serde::Serialize;

use super::fields::{Fields, invalid};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply},
    },
    context::Context,
    paging::{Page, Query},
    problem,
};

/// What a limit may be; 0 is unlimited.
const LIMITS: RangeInclusive<i32> = 0..=i32::MAX;

/// A new token of a kind.
fn token(kind: Kind) -> Token {
    Token::with_prefix(kind.prefix(), rand::random())
}

/// A page of the tenant's keys of a kind, newest first.
///
/// # Errors
/// 400 `INVALID_PARAMETER`; 503 when the database is away.
async fn page(
    context: &Context,
    caller: &Caller,
    mut query: Query,
    kind: Kind,
) -> Result<Page<CredentialView>, ApiError> {
    let (before, limit) = (query.cursor::<CredentialId>()?, query.limit()?);
    query.finish()?;
    let tenant = caller.tenant();
    let keys = context.db.once(move |conn| store::page(conn, tenant, kind, before, limit + 1)).await;
    Ok(Page::new(keys.map_err(problem::of)?, limit, |key| key.id))
}

/// Refuses whoever may do everything only for a time: a key would outlive what a person allowed.
///
/// # Errors
/// 403 `INSUFFICIENT_PERMISSIONS`.
fn may_issue(caller: &Caller) -> Result<(), ApiError> {
    match caller.credential() {
        Some(credential) if credential.kind == Kind::OAuthAccess => {
            Err(insufficient("an OAuth client cannot make keys: they would outlive what its person allowed"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses to give a key what its maker does not have.
///
/// # Errors
/// 403 `INSUFFICIENT_PERMISSIONS` that names the scope.
fn check_given(given: Scopes, own: Scopes) -> Result<(), ApiError> {
    match given.iter().find(|scope| !own.permit(*scope)) {
        None => Ok(()),
        Some(scope) => {
            let message = format!("a key cannot be given the scope `{scope}` by somebody who lacks it");
            Err(insufficient(&message).field("scopes").reason(scope.as_str()))
        }
    }
}

fn insufficient(message: &str) -> ApiError {
    ApiError::forbidden("INSUFFICIENT_PERMISSIONS", message)
}

/// `name`: 1 to 50 characters.
fn name_of(fields: &Fields) -> Result<Option<String>, ApiError> {
    let Some(name) = fields.text("name")? else { return Ok(None) };
    check_name(name).map_err(|reason| invalid("name", &reason))?;
    Ok(Some(name.to_owned()))
}

/// `scopes`: at least one, all of them known.
fn scopes_of(fields: &Fields) -> Result<Option<Scopes>, ApiError> {
    let Some(texts) = fields.texts("scopes", Scope::ALL.len())? else { return Ok(None) };
    let parse = |text: &str| {
        text.parse::<Scope>().map_err(|error| invalid("scopes", &format!("has an unknown one: {error}")))
    };
    let scopes = texts.into_iter().map(parse).collect::<Result<Scopes, _>>()?;
    if scopes.is_empty() { Err(invalid("scopes", "must name at least one")) } else { Ok(Some(scopes)) }
}

/// `expires_at`, which lies ahead.
fn end_of(fields: &Fields, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, ApiError> {
    match fields.time("expires_at")? {
        Some(end) if end <= now => Err(invalid("expires_at", "must lie in the future")),
        end => Ok(end),
    }
}

/// Puts the limits that are given into a key; `null` is the default of the settings.
fn set_limits(key: &mut CredentialView, fields: &Fields) -> Result<(), ApiError> {
    for (name, limit) in [
        ("rate_limit", &mut key.rate_limit),
        ("hook_write_limit", &mut key.hook_write_limit),
        ("hook_write_burst", &mut key.hook_write_burst),
        ("sample_limit", &mut key.sample_limit),
    ] {
        if fields.mentions(name) {
            *limit = fields.integer(name, LIMITS)?;
        }
    }
    Ok(())
}

/// A limit as a new key has it.
fn limit(fields: &Fields, name: &'static str) -> Result<Option<u32>, ApiError> {
    Ok(fields.integer(name, LIMITS)?.map(i32::unsigned_abs))
}

/// A key of the tenant that was stored just now, by `insert`, and is told to the audit log.
fn stored(
    conn: &mut Conn,
    caller: &Caller,
    new: &NewCredential,
    insert: impl FnOnce(&mut Conn, &NewCredential) -> Result<(), Error>,
) -> Result<CredentialView, Error> {
    insert(conn, new)?;
    let key = store::of_kind(conn, new.tenant, new.kind, new.id)?;
    audit::record(conn, &caller.actor(), &key.made(), new.now)?;
    Ok(key)
}

/// 201 with the key, and without it for whoever repeats the request.
fn shown_once<V: Serialize>(answer: impl Fn(Option<String>) -> V, token: &Token) -> Result<Reply, Refusal> {
    let reply = Reply::json(StatusCode::CREATED, &answer(Some(token.expose().to_owned())))?;
    Ok(reply.once(&answer(None))?)
}

/// Ends a key of a kind, and returns it as it is then. To end it again changes nothing.
fn end(
    conn: &mut Conn,
    caller: &Caller,
    (kind, id): (Kind, CredentialId),
    force: bool,
    now: DateTime<Utc>,
) -> Result<CredentialView, Error> {
    let tenant = caller.tenant();
    store::of_kind(conn, tenant, kind, id)?;
    let ended_now = store::revoke(conn, tenant, id, force, now)?;
    let key = store::of_kind(conn, tenant, kind, id)?;
    if ended_now {
        audit::record(conn, &caller.actor(), &key.revoked(), now)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gives_what_they_do_not_have() {
        let set = |scopes: &[Scope]| scopes.iter().copied().collect::<Scopes>();
        let developer = set(&[Scope::HooksRead, Scope::HooksWrite]);
        assert!(check_given(set(&[Scope::HooksRead]), developer).is_ok());
        assert!(check_given(Scopes::all(), set(&[Scope::Admin])).is_ok());
        for refused in [Scope::Admin, Scope::EventsRead] {
            let error = check_given(set(&[Scope::HooksRead, refused]), developer).unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (403, "INSUFFICIENT_PERMISSIONS"));
        }
    }

    #[test]
    fn members_are_checked() {
        let fields = |text: &str| Fields::parse(text.as_bytes()).unwrap();
        let scopes = |text: &str| scopes_of(&fields(text)).map_err(|error| error.code());
        assert_eq!(scopes("{}"), Ok(None));
        assert_eq!(scopes(r#"{"scopes":["admin"]}"#), Ok(Some([Scope::Admin].into_iter().collect())));
        for bad in
            [r#"{"scopes":[]}"#, r#"{"scopes":["root"]}"#, r#"{"scopes":"admin"}"#, r#"{"scopes":[5]}"#]
        {
            assert_eq!(scopes(bad), Err("INVALID_FIELD"), "{bad}");
        }
        let limit = |text: &str| limit(&fields(text), "rate_limit").map_err(|error| error.code());
        assert_eq!(limit(r#"{"rate_limit":0}"#), Ok(Some(0)));
        assert_eq!(limit(r#"{"rate_limit":2147483647}"#), Ok(Some(2_147_483_647)));
        assert_eq!(limit(r#"{"rate_limit":null}"#), Ok(None));
        for bad in ["-1", "2147483648", "1.5", "\"60\"", "1e300"] {
            assert_eq!(limit(&format!(r#"{{"rate_limit":{bad}}}"#)), Err("INVALID_FIELD"), "{bad}");
        }
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let end = |text: &str| end_of(&fields(text), now).map_err(|error| error.code());
        assert!(end(r#"{"expires_at":"2027-01-15T08:00:00.001Z"}"#).is_ok());
        assert_eq!(end(r#"{"expires_at":"2027-01-15T08:00:00.000Z"}"#), Err("INVALID_FIELD"));
        let name = |length: usize| {
            name_of(&fields(&format!(r#"{{"name":"{}"}}"#, "é".repeat(length)))).map_err(|error| error.code())
        };
        assert!(name(50).is_ok());
        assert_eq!((name(0), name(51)), (Err("INVALID_FIELD"), Err("INVALID_FIELD")));
    }
}
