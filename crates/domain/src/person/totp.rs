//! The second factor: codes of an authenticator (RFC 6238: SHA-1, 30 s, 6 digits), and recovery codes for when it is lost.
//!
//! A code counts within a step to either side, and each step once: whoever looks over a shoulder comes too late.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Nullable, Uuid},
};
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use subtle::ConstantTimeEq as _;

use crate::{
    Error, Result,
    id::UserId,
    vault::{
        Vault,
        columns::{TOTP_KEY, TOTP_PENDING},
    },
};

/// How long a code is shown, in seconds.
const STEP_S: i64 = 30;

/// Bytes of a key: as many as SHA-1 gives (RFC 4226 §4).
const KEY_BYTES: usize = 20;

/// How many recovery codes there are.
pub const RECOVERY_CODES: usize = 10;

/// The key of an authenticator. Shown once, while it is set up.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(•••)")
    }
}

impl Key {
    /// A new key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key as authenticators take it when it is typed: base32 (RFC 4648 §6) without padding.
    #[must_use]
    pub fn base32(&self) -> String {
        const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        // 20 bytes are 32 digits without a rest.
        let digit = |at: usize| {
            let bits = (0..5).map(|bit| at * 5 + bit).map(|bit| (self.0[bit / 8] >> (7 - bit % 8)) & 1);
            usize::from(bits.fold(0, |digit, bit| digit << 1 | bit))
        };
        (0..KEY_BYTES * 8 / 5).map(|at| char::from(DIGITS[digit(at)])).collect()
    }

    /// The key as authenticators read it from a link or a picture.
    #[must_use]
    pub fn url(&self, email: &str) -> String {
        let label: String = url::form_urlencoded::byte_serialize(email.as_bytes()).collect();
        format!(
            "otpauth://totp/Hookyard:{label}?secret={}&issuer=Hookyard&algorithm=SHA1&digits=6&period=30",
            self.base32()
        )
    }

    /// The code of a step (RFC 4226 §5.3).
    #[must_use]
    pub fn code(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let bytes = tag.as_ref();
        let offset = usize::from(bytes[19] & 0x0f);
        let word = [bytes[offset] & 0x7f, bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]];
        format!("{:06}", u32::from_be_bytes(word) % 1_000_000)
    }

    /// The step of a code that may be taken now: one within a step of now, after `last`.
    fn step_of(&self, code: &str, last: i64, now: DateTime<Utc>) -> Option<i64> {
        let at = step(now);
        let fits = |step: &i64| bool::from(self.code(*step).as_bytes().ct_eq(code.as_bytes()));
        [at, at - 1, at + 1].into_iter().filter(|step| *step > last).find(fits)
    }
}

/// The step of a time.
#[must_use]
pub fn step(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(STEP_S)
}

/// New recovery codes, `xxxx-xxxx-xxxx-xxxx` with 80 random bits each.
#[must_use]
pub fn new_recovery_codes() -> Vec<String> {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let code = || {
        let bytes: [u8; 16] = rand::random();
        let digits = bytes.map(|byte| char::from(DIGITS[usize::from(byte % 32)]));
        digits.chunks(4).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join("-")
    };
    (0..RECOVERY_CODES).map(|_| code()).collect()
}

/// What is kept of a recovery code: capitals, spaces and dashes do not count.
fn recovery_hash(code: &str) -> Vec<u8> {
    let plain: String = code.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    digest(&SHA256, plain.to_ascii_lowercase().as_bytes()).as_ref().to_vec()
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Binary>)]
    totp_key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    totp_pending: Option<Vec<u8>>,
    #[diesel(sql_type = BigInt)]
    totp_step: i64,
}

fn locked(conn: &mut PgConnection, user: UserId) -> Result<Row> {
    sql_query("SELECT totp_key, totp_pending, totp_step FROM users WHERE id = $1 FOR UPDATE")
        .bind::<Uuid, _>(user)
        .get_result(conn)
        .optional()?
        .ok_or(Error::NotFound { what: "user" })
}

fn opened(bytes: Vec<u8>) -> Result<Key> {
    let bytes =
        bytes.try_into().map_err(|_length| Error::Database("a TOTP key has another length".into()))?;
    Ok(Key(bytes))
}

/// Keeps a key that is shown now and not yet confirmed. What is in use stays in use.
///
/// # Errors
/// When the database is away.
pub fn begin(conn: &mut PgConnection, vault: &Vault, user: UserId, key: &Key) -> Result<()> {
    sql_query("UPDATE users SET totp_pending = $2 WHERE id = $1")
        .bind::<Uuid, _>(user)
        .bind::<Binary, _>(vault.seal(&TOTP_PENDING.at(user.uuid()), &key.0))
        .execute(conn)?;
    Ok(())
}

/// The key that was shown and is not yet confirmed, if there is one.
///
/// # Errors
/// [`Error::Sealed`], or when the database is away.
pub fn pending(conn: &mut PgConnection, vault: &Vault, user: UserId) -> Result<Option<Key>> {
    let sealed = locked(conn, user)?.totp_pending;
    let open = |sealed: Vec<u8>| vault.open(&TOTP_PENDING.at(user.uuid()), &sealed).map_err(Error::Sealed);
    sealed.map(open).transpose()?.map(opened).transpose()
}

/// Takes the key into use that was shown, when the code is one of its codes, and keeps new recovery codes. Belongs into a
/// transaction. Returns whether it was.
///
/// # Errors
/// [`Error::Conflict`] when no key was shown.
pub fn confirm(
    conn: &mut PgConnection,
    vault: &Vault,
    user: UserId,
    code: &str,
    recovery: &[String],
    now: DateTime<Utc>,
) -> Result<bool> {
    let Some(key) = pending(conn, vault, user)? else {
        return Err(Error::Conflict { reason: "no second factor is being set up; begin first".to_owned() });
    };
    let Some(step) = key.step_of(&digits(code), 0, now) else { return Ok(false) };
    sql_query(
        "UPDATE users SET totp_key = $2, totp_pending = NULL, totp_step = $3, recovery_codes = $4 WHERE id = $1",
    )
    .bind::<Uuid, _>(user)
    .bind::<Binary, _>(vault.seal(&TOTP_KEY.at(user.uuid()), &key.0))
    .bind::<BigInt, _>(step)
    .bind::<Array<Binary>, _>(recovery.iter().map(|code| recovery_hash(code)).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(true)
}

/// What a person showed as second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A code of the authenticator.
    Code,
    /// A recovery code, which is used up.
    Recovery,
}

/// Takes a code: of the authenticator, or one for recovery. Each is taken once. Belongs into a transaction.
///
/// # Errors
/// [`Error::Sealed`], or when the database is away.
pub fn take(
    conn: &mut PgConnection,
    vault: &Vault,
    user: UserId,
    code: &str,
    now: DateTime<Utc>,
) -> Result<Option<Taken>> {
    let row = locked(conn, user)?;
    let Some(sealed) = row.totp_key else { return Ok(None) };
    let key = opened(vault.open(&TOTP_KEY.at(user.uuid()), &sealed).map_err(Error::Sealed)?)?;
    if let Some(step) = key.step_of(&digits(code), row.totp_step, now) {
        sql_query("UPDATE users SET totp_step = $2 WHERE id = $1")
            .bind::<Uuid, _>(user)
            .bind::<BigInt, _>(step)
            .execute(conn)?;
        return Ok(Some(Taken::Code));
    }
    let used = sql_query(
        "UPDATE users SET recovery_codes = array_remove(recovery_codes, $2) \
         WHERE id = $1 AND $2 = ANY (recovery_codes)",
    )
    .bind::<Uuid, _>(user)
    .bind::<Binary, _>(recovery_hash(code))
    .execute(conn)?;
    Ok((used == 1).then_some(Taken::Recovery))
}

/// Takes the second factor away. Returns whether there was one.
///
/// # Errors
/// When the database is away.
pub fn remove(conn: &mut PgConnection, user: UserId) -> Result<bool> {
    let had = locked(conn, user)?.totp_key.is_some();
    sql_query("UPDATE users SET totp_key = NULL, totp_pending = NULL, recovery_codes = '{}' WHERE id = $1")
        .bind::<Uuid, _>(user)
        .execute(conn)?;
    Ok(had)
}

/// `123 456` is typed as it is shown.
fn digits(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc() -> Key {
        Key::from_bytes(*b"12345678901234567890")
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the last six of eight digits.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            assert_eq!(rfc().code(step(now)), code, "{seconds}");
        }
        assert_eq!(rfc().base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(rfc().url("a b@c.example").starts_with("otpauth://totp/Hookyard:a+b%40c.example?secret=GEZ"));
        assert!(!format!("{:?}", rfc()).contains("49"));
    }

    #[test]
    fn a_code_counts_a_step_to_either_side_and_once() {
        let now = DateTime::from_timestamp(1_111_111_109, 0).unwrap();
        let at = step(now);
        for (offset, counts) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = rfc().code(at + offset);
            assert_eq!(rfc().step_of(&code, 0, now), counts.then_some(at + offset), "{offset}");
            assert_eq!(rfc().step_of(&code, at + offset, now), None, "it was taken");
        }
        assert_eq!(rfc().step_of("", 0, now), None);
        assert_eq!(rfc().step_of("08180", 0, now), None);
    }

    #[test]
    fn recovery_codes_differ_and_are_read_as_people_write_them() {
        let codes = new_recovery_codes();
        assert_eq!(codes.len(), RECOVERY_CODES);
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), RECOVERY_CODES);
        let written = codes[0].to_uppercase().replace('-', " ");
        assert_eq!(recovery_hash(&written), recovery_hash(&codes[0]));
        assert_ne!(recovery_hash(&codes[1]), recovery_hash(&codes[0]));
    }
}
