//! The rows of signing keys. They belong to the installation, not to a tenant.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, Text, Timestamptz, Uuid},
};

use super::{Fresh, KEPT_AFTER, KeyRing, PUBLISHED_BEFORE, Signer, SigningKey, Stage, generate};
use crate::{
    Error, Result,
    db::Db,
    event::wire_time,
    id::SigningKeyId,
    vault::{Vault, VaultError, columns::SIGNING_PRIVATE_KEY},
};

/// Held by whoever makes the first key, in this process.
static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Every key that is there, the oldest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection) -> Result<Vec<SigningKey>> {
    Ok(sql_query(
        "SELECT id, kid, modulus, exponent, created_at, use_from, used_until, kept_until FROM signing_keys \
         ORDER BY use_from",
    )
    .load(conn)?)
}

/// Every key that is published. The first is made here when there is none: from then on it is used, and nobody can have a
/// set without it.
///
/// # Errors
/// When the database is away.
pub async fn published(db: &Db, vault: &Vault, now: DateTime<Utc>) -> Result<Vec<SigningKey>> {
    let keys = db.once(list).await?;
    if !keys.is_empty() {
        return Ok(keys);
    }
    // Making a key takes a processor for a while: of many who find none, one makes it.
    let _alone = MAKING.lock().await;
    let keys = db.once(list).await?;
    if !keys.is_empty() {
        return Ok(keys);
    }
    let fresh = fresh().await?;
    let vault = vault.clone();
    db.run(move |conn| {
        lock(conn)?;
        if list(conn)?.is_empty() {
            insert(conn, &vault, &fresh, now, now)?;
        }
        list(conn)
    })
    .await
}

/// A new key, made on a blocking thread and without a connection.
///
/// # Errors
/// As [`generate`].
pub async fn fresh() -> Result<Fresh> {
    tokio::task::spawn_blocking(generate)
        .await
        .unwrap_or_else(|panicked| Err(Error::Database(Box::new(panicked))))
}

/// The keys with their private halves, to sign with.
///
/// # Errors
/// When the database is away, or a key cannot be opened.
pub async fn ring(db: &Db, vault: &Vault, now: DateTime<Utc>) -> Result<KeyRing> {
    #[derive(QueryableByName)]
    struct Sealed {
        #[diesel(sql_type = Uuid)]
        id: SigningKeyId,
        #[diesel(sql_type = Binary)]
        private_key: Vec<u8>,
    }
    let keys = published(db, vault, now).await?;
    let vault = vault.clone();
    db.once(move |conn| {
        let sealed: Vec<Sealed> = sql_query("SELECT id, private_key FROM signing_keys").load(conn)?;
        let mut ring = Vec::with_capacity(keys.len());
        for key in keys.into_iter().filter(|key| key.stage(now) != Stage::Over) {
            let Some(row) = sealed.iter().find(|row| row.id == key.id) else { continue };
            let private = vault
                .open(&SIGNING_PRIVATE_KEY.at(key.id.uuid()), &row.private_key)
                .map_err(Error::Sealed)?;
            let signer = Signer::new(&key.kid, &private).ok_or(Error::Sealed(VaultError::Damaged))?;
            ring.push((key, Arc::new(signer)));
        }
        Ok(KeyRing::new(ring))
    })
    .await
}

/// Publishes a key that is used after `lead`, at least [`PUBLISHED_BEFORE`]; the key in use stays published for
/// [`KEPT_AFTER`] when it is used no more. The first key is used at once. Keys that are over are deleted. Belongs into a
/// transaction. Returns the new key.
///
/// # Errors
/// [`Error::Conflict`] when the next key is published already; when the database is away.
pub fn rotate(
    conn: &mut PgConnection,
    vault: &Vault,
    fresh: &Fresh,
    lead: TimeDelta,
    now: DateTime<Utc>,
) -> Result<SigningKey> {
    lock(conn)?;
    let keys = list(conn)?;
    let last = keys.iter().find(|key| key.used_until.is_none());
    let use_from = match last {
        None => now,
        Some(last) if last.stage(now) == Stage::Next => {
            let from = wire_time(last.use_from);
            let reason = format!("the next signing key is published already and is used from {from} on");
            return Err(Error::Conflict { reason });
        }
        Some(_) => now + lead.max(PUBLISHED_BEFORE),
    };
    if let Some(last) = last {
        sql_query("UPDATE signing_keys SET used_until = $2, kept_until = $3 WHERE id = $1")
            .bind::<Uuid, _>(last.id)
            .bind::<Timestamptz, _>(use_from)
            .bind::<Timestamptz, _>(use_from + KEPT_AFTER)
            .execute(conn)?;
    }
    sql_query("DELETE FROM signing_keys WHERE kept_until <= $1").bind::<Timestamptz, _>(now).execute(conn)?;
    insert(conn, vault, fresh, use_from, now)
}

/// Whoever makes a key is alone.
fn lock(conn: &mut PgConnection) -> Result<()> {
    sql_query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE").execute(conn)?;
    Ok(())
}

fn insert(
    conn: &mut PgConnection,
    vault: &Vault,
    fresh: &Fresh,
    use_from: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<SigningKey> {
    let id = SigningKeyId::new(now);
    sql_query(
        "INSERT INTO signing_keys (id, kid, private_key, modulus, exponent, created_at, use_from) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind::<Uuid, _>(id)
    .bind::<Text, _>(&fresh.kid)
    .bind::<Binary, _>(vault.seal(&SIGNING_PRIVATE_KEY.at(id.uuid()), &fresh.private))
    .bind::<Binary, _>(&fresh.modulus)
    .bind::<Binary, _>(&fresh.exponent)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(use_from)
    .execute(conn)?;
    Ok(SigningKey {
        id,
        kid: fresh.kid.clone(),
        modulus: fresh.modulus.clone(),
        exponent: fresh.exponent.clone(),
        created_at: now,
        use_from,
        used_until: None,
        kept_until: None,
    })
}
