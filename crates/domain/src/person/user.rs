//! People and queries on them. A person belongs to no tenant, hence these are system paths; what a person may do at a tenant
//! is a [`super::membership`].

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Bool, Nullable, Text, Timestamptz, Uuid},
};

use super::{Locale, membership, session};
use crate::{Error, Result, id::UserId};

/// The longest name of a person, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// The longest e-mail address (RFC 5321 §4.5.3.1.3).
pub const MAX_EMAIL_BYTES: usize = 254;

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct User {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: UserId,
    /// E-mail address, in lower case.
    #[diesel(sql_type = Text)]
    pub email: String,
    /// Name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Language.
    #[diesel(sql_type = Text)]
    pub locale: String,
    /// PHC string; `None` = logs in by OpenID Connect only.
    #[diesel(sql_type = Nullable<Text>)]
    pub password_hash: Option<String>,
    /// Whether there is a second factor.
    #[diesel(sql_type = Bool)]
    pub has_totp: bool,
    /// When the person was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When the person was disabled.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub disabled_at: Option<DateTime<Utc>>,
    /// When the person logged in last.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_login_at: Option<DateTime<Utc>>,
}

const VIEW: &str = "SELECT id, email, name, locale, password_hash, totp_key IS NOT NULL AS has_totp, created_at, \
     disabled_at, last_login_at FROM users";

/// Reads an e-mail address: in lower case, with one `@` between a name and a host, without spaces.
///
/// # Errors
/// Says what is wrong, continuing "email".
pub fn parse_email(text: &str) -> Result<String, String> {
    let text = text.trim().to_lowercase();
    let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    match text.split_once('@') {
        Some((name, host)) if plain(name) && plain(host) && !host.contains('@') => {
            if text.len() > MAX_EMAIL_BYTES {
                Err(format!("must have at most {MAX_EMAIL_BYTES} bytes, not {}", text.len()))
            } else {
                Ok(text)
            }
        }
        _ => Err("must be an e-mail address, such as ada@example.com".to_owned()),
    }
}

/// Reads a person's name: 1 to 100 characters, no control characters.
///
/// # Errors
/// Says what is wrong, continuing "name".
pub fn parse_name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let length = text.chars().count();
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else if length > MAX_NAME_CHARS {
        Err(format!("must have at most {MAX_NAME_CHARS} characters, not {length}"))
    } else if text.chars().any(char::is_control) {
        Err("must not contain control characters".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// A person to be stored.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Identity.
    pub id: UserId,
    /// From [`parse_email`].
    pub email: String,
    /// From [`parse_name`].
    pub name: String,
    /// Language.
    pub locale: Locale,
    /// From [`super::password::Hasher::hash`].
    pub password_hash: Option<String>,
}

/// Stores a person.
///
/// # Errors
/// [`Error::Conflict`] when somebody has that e-mail address.
pub fn insert(conn: &mut PgConnection, new: &NewUser, now: DateTime<Utc>) -> Result<()> {
    let stored = sql_query(
        "INSERT INTO users (id, email, name, locale, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (email) DO NOTHING",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Text, _>(&new.email)
    .bind::<Text, _>(&new.name)
    .bind::<Text, _>(new.locale.as_str())
    .bind::<Nullable<Text>, _>(&new.password_hash)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    if stored == 0 {
        return Err(Error::Conflict {
            reason: "there is a user with this e-mail address already".to_owned(),
        });
    }
    Ok(())
}

/// One person.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, id: UserId) -> Result<Option<User>> {
    Ok(sql_query(format!("{VIEW} WHERE id = $1")).bind::<Uuid, _>(id).get_result(conn).optional()?)
}

/// The person with this e-mail address, from [`parse_email`].
///
/// # Errors
/// When the database is away.
pub fn find_by_email(conn: &mut PgConnection, email: &str) -> Result<Option<User>> {
    Ok(sql_query(format!("{VIEW} WHERE email = $1")).bind::<Text, _>(email).get_result(conn).optional()?)
}

/// All people, oldest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection) -> Result<Vec<User>> {
    Ok(sql_query(format!("{VIEW} ORDER BY id")).load(conn)?)
}

/// Whether there is anybody.
///
/// # Errors
/// When the database is away.
pub fn is_anybody(conn: &mut PgConnection) -> Result<bool> {
    Ok(sql_query("SELECT FROM users LIMIT 1").execute(conn)? > 0)
}

/// Sets a person's password.
///
/// # Errors
/// When the database is away.
pub fn set_password(conn: &mut PgConnection, id: UserId, hash: &str) -> Result<()> {
    sql_query("UPDATE users SET password_hash = $2 WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Text, _>(hash)
        .execute(conn)?;
    Ok(())
}

/// Sets a person's language.
///
/// # Errors
/// When the database is away.
pub fn set_locale(conn: &mut PgConnection, id: UserId, locale: Locale) -> Result<()> {
    sql_query("UPDATE users SET locale = $2 WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Text, _>(locale.as_str())
        .execute(conn)?;
    Ok(())
}

/// Disables a person: sessions end, and what the person allowed OAuth clients at any tenant. Belongs into a transaction;
/// afterwards see [`crate::credential::directory::known_everywhere`]. Returns whether the person was not disabled before.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::Conflict`] when the person is the last admin of a tenant.
pub fn disable(conn: &mut PgConnection, id: UserId, now: DateTime<Utc>) -> Result<bool> {
    for seat in membership::of_user(conn, id)? {
        membership::keep_an_admin(conn, seat.tenant_id, id)?;
        membership::revoke_grants(conn, seat.tenant_id, id, now)?;
    }
    session::close_all(conn, id, None)?;
    let changed = sql_query("UPDATE users SET disabled_at = $2 WHERE id = $1 AND disabled_at IS NULL")
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(changed == 1)
}

/// Takes the disabling back. Returns whether the person was disabled.
///
/// # Errors
/// When the database is away.
pub fn enable(conn: &mut PgConnection, id: UserId) -> Result<bool> {
    let changed = sql_query("UPDATE users SET disabled_at = NULL WHERE id = $1 AND disabled_at IS NOT NULL")
        .bind::<Uuid, _>(id)
        .execute(conn)?;
    Ok(changed == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_address_is_read_in_lower_case() {
        assert_eq!(parse_email(" Ada@Example.COM ").unwrap(), "ada@example.com");
        for text in ["", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n.example", "ada"] {
            assert!(parse_email(text).is_err(), "{text}");
        }
        let long = |length: usize| format!("{}@b.example", "a".repeat(length - 10));
        assert!(
            parse_email(&long(MAX_EMAIL_BYTES)).is_ok() && parse_email(&long(MAX_EMAIL_BYTES + 1)).is_err()
        );
    }

    #[test]
    fn a_name_is_bounded() {
        assert_eq!(parse_name("  Ada \u{202f}").unwrap(), "Ada");
        assert!(parse_name(&"é".repeat(MAX_NAME_CHARS)).is_ok());
        assert!(parse_name(&"é".repeat(MAX_NAME_CHARS + 1)).is_err());
        assert!(parse_name(" ").is_err() && parse_name("a\nb").is_err());
    }
}
