//! Queries on master keys and on what is sealed with them: is this the right key, and going over from one to another.
//! Named system paths: they see the rows of every tenant, and nothing but sealed values in them.
//!
//! The database holds every sealed value against `master_keys` with a foreign key, so that a key is known as long as
//! anything is sealed with it, and nothing can be sealed with a key that was rotated away.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    result::{DatabaseErrorKind, Error as Diesel},
    sql_query,
    sql_types::{Array, BigInt, Binary, Nullable, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Column, KeyId, Vault, VaultError,
    columns::{CANARY, ROTATED},
};
use crate::{Error, Result, db::Db};

/// Two processes never register their first key at the same time: "hookkeys" in ASCII.
const LOCK: i64 = 0x686f_6f6b_6b65_7973;

/// What a canary says.
const WORD: &[u8] = b"hookyard";

/// Values sealed in one transaction.
const BATCH: i64 = 500;

/// Between two looks at rows that somebody else has locked.
const WAIT: Duration = Duration::from_millis(100);

/// Looks without success, after which they are left to the next rotation.
const PATIENCE: usize = 100;

/// A master key that this database knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Its name.
    pub id: KeyId,
    /// When it was used first.
    pub created_at: DateTime<Utc>,
}

/// How many values of a column are sealed with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The column.
    pub column: Column,
    /// The key; `None` = not sealed.
    pub key: Option<KeyId>,
    /// How many.
    pub values: u64,
}

/// What became of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// The column.
    pub column: Column,
    /// Values that are sealed with the current key now and were not before.
    pub sealed: u64,
    /// Values that cannot be opened, and were left as they are.
    pub unreadable: u64,
    /// Values that others held locked all the time; the next rotation finds them.
    pub locked: u64,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Column by column.
    pub columns: Vec<Resealed>,
    /// Keys that nothing is sealed with any more.
    pub dropped: Vec<KeyId>,
}

/// Makes sure that this vault opens whatever the database holds: each of its master keys is here, and is the right one.
/// Returns whether the vault's current key is one of them.
///
/// # Errors
/// [`Error::Sealed`] when a key is missing or is not the right one; or the database is away.
pub fn verify(conn: &mut PgConnection, vault: &Vault) -> Result<bool> {
    let mut registered = false;
    for row in rows(conn)? {
        let id = row.id()?;
        if vault.ids().all(|held| held != id) {
            return Err(Error::Sealed(VaultError::UnknownKey(id)));
        }
        let word = vault.open(&CANARY.at(id), &row.canary).map_err(Error::Sealed)?;
        if word != WORD {
            return Err(Error::Sealed(VaultError::Damaged));
        }
        registered |= id == vault.current();
    }
    Ok(registered)
}

/// As [`verify`], and makes the current key known to the database if it is not. Returns whether it is new. Belongs into a
/// transaction: of two processes that bring different keys to an empty database, the second is refused.
///
/// # Errors
/// As [`verify`].
pub fn verify_or_register(conn: &mut PgConnection, vault: &Vault, now: DateTime<Utc>) -> Result<bool> {
    sql_query(format!("SELECT pg_advisory_xact_lock({LOCK})")).execute(conn)?;
    if verify(conn, vault)? {
        return Ok(false);
    }
    let id = vault.current();
    sql_query("INSERT INTO master_keys (id, canary, created_at) VALUES ($1, $2, $3)")
        .bind::<Binary, _>(id.as_ref())
        .bind::<Binary, _>(vault.seal(&CANARY.at(id), WORD))
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(true)
}

/// The keys that this database knows, oldest first.
///
/// # Errors
/// When the database is away.
pub fn keys(conn: &mut PgConnection) -> Result<Vec<KnownKey>> {
    rows(conn)?.iter().map(|row| Ok(KnownKey { id: row.id()?, created_at: row.created_at })).collect()
}

/// How many values are sealed with which key.
///
/// # Errors
/// When the database is away.
pub fn counts(conn: &mut PgConnection) -> Result<Vec<Count>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Binary>)]
        key: Option<Vec<u8>>,
        #[diesel(sql_type = BigInt)]
        values: i64,
    }
    let mut counts = Vec::new();
    for column in ROTATED {
        let (table, name) = (column.table(), column.name());
        let rows: Vec<Row> = sql_query(format!(
            "SELECT {name}_sealed_by AS key, count(*) AS values FROM {table} WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 1"
        ))
        .load(conn)?;
        for row in rows {
            let key = row.key.as_deref().map(key_id).transpose()?;
            counts.push(Count { column, key, values: u64::try_from(row.values).unwrap_or(0) });
        }
    }
    Ok(counts)
}

/// Seals what was stored before there was a vault. Safe when several do it at once. Returns how many values.
///
/// The vault's current key has to be known to the database ([`verify_or_register`]).
///
/// # Errors
/// When the database is away; what is sealed stays so.
pub async fn seal_legacy(db: &Db, vault: &Vault) -> Result<u64> {
    let mut sealed = 0;
    for column in ROTATED {
        sealed += reseal(db, vault, column, Which::Plain, &mut |_, _| {}).await?.sealed;
    }
    Ok(sealed)
}

/// Seals everything with the vault's current key that is not, then forgets the keys that nothing is sealed with any more.
/// `progress` is told of each column how many values were sealed so far.
///
/// Rows are locked while they are sealed anew, some hundred at a time, so a change that somebody makes meanwhile is neither
/// lost nor undone. Several may rotate at once, and a rotation that was cut off goes on when it is started again.
///
/// The vault has to be one that [`verify`] accepts, with its current key known to the database.
///
/// # Errors
/// When the database is away; what is sealed stays so.
pub async fn rotate(
    db: &Db,
    vault: &Vault,
    progress: &mut (dyn FnMut(Column, u64) + Send),
) -> Result<Rotation> {
    let mut columns = Vec::with_capacity(ROTATED.len());
    for column in ROTATED {
        columns.push(reseal(db, vault, column, Which::Stale, progress).await?);
    }
    let current = vault.current();
    let mut dropped = Vec::new();
    for key in db.once(keys).await? {
        if key.id != current && db.once(move |conn| forget(conn, key.id)).await? {
            dropped.push(key.id);
        }
    }
    Ok(Rotation { columns, dropped })
}

/// Which values are to be sealed.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// Those that are not sealed at all.
    Plain,
    /// Those that are not sealed with the current key.
    Stale,
}

/// What became of some rows.
#[derive(Debug, Default)]
struct Batch {
    sealed: u64,
    unreadable: u64,
    /// The last row that was looked at; `None` when there was none.
    last: Option<Uuid>,
}

/// Goes through a column until nothing is left but what cannot be opened.
async fn reseal(
    db: &Db,
    vault: &Vault,
    column: Column,
    which: Which,
    progress: &mut (dyn FnMut(Column, u64) + Send),
) -> Result<Resealed> {
    let mut result = Resealed { column, sealed: 0, unreadable: 0, locked: 0 };
    let mut fruitless = 0;
    loop {
        let before = result.sealed;
        result.unreadable = 0;
        let mut after = Uuid::nil();
        loop {
            let vault = vault.clone();
            let batch = db.run(move |conn| seal_batch(conn, &vault, column, which, after)).await?;
            result.sealed += batch.sealed;
            result.unreadable += batch.unreadable;
            let Some(last) = batch.last else { break };
            after = last;
            progress(column, result.sealed);
        }
        let current = vault.current();
        let left = db.once(move |conn| left(conn, column, which, current)).await?;
        result.locked = left.saturating_sub(result.unreadable);
        fruitless = if result.sealed > before { 0 } else { fruitless + 1 };
        if result.locked == 0 || fruitless > PATIENCE {
            return Ok(result);
        }
        tokio::time::sleep(WAIT).await;
    }
}

impl Which {
    /// The condition, with the current key as `$1`.
    fn condition(self, column: Column) -> String {
        let name = column.name();
        match self {
            Self::Plain => format!("{name} IS NOT NULL AND {name}_sealed_by IS NULL AND $1 IS NOT NULL"),
            Self::Stale => format!("{name} IS NOT NULL AND {name}_sealed_by IS DISTINCT FROM $1"),
        }
    }
}

/// Seals the next rows behind `after`. What others have locked is passed over: waiting for it while we hold rows ourselves
/// could be waiting for each other.
fn seal_batch(
    conn: &mut PgConnection,
    vault: &Vault,
    column: Column,
    which: Which,
    after: Uuid,
) -> Result<Batch> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Binary)]
        value: Vec<u8>,
    }
    let (table, name, condition) = (column.table(), column.name(), which.condition(column));
    let rows: Vec<Row> = sql_query(format!(
        "SELECT id, {name} AS value FROM {table} WHERE id > $2 AND {condition} \
         ORDER BY id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
    ))
    .bind::<Binary, _>(vault.current().as_ref())
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(BATCH)
    .load(conn)?;
    let mut batch = Batch { last: rows.last().map(|row| row.id), ..Batch::default() };
    let (mut ids, mut values) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for Row { id, value } in rows {
        let place = column.at(id);
        match vault.open(&place, &value) {
            Ok(plain) => values.push(vault.seal(&place, &plain)),
            Err(VaultError::NotSealed) => values.push(vault.seal(&place, &value)),
            Err(reason @ (VaultError::UnknownKey(_) | VaultError::Damaged)) => {
                tracing::error!(%column, row.id = %id, %reason, "a sealed value cannot be opened and is left as it is");
                batch.unreadable += 1;
                continue;
            }
        }
        ids.push(id);
    }
    batch.sealed = ids.len() as u64;
    if !ids.is_empty() {
        sql_query(format!(
            "UPDATE {table} AS old SET {name} = new.value FROM unnest($1, $2) AS new (id, value) WHERE old.id = new.id"
        ))
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Binary>, _>(values)
        .execute(conn)?;
    }
    Ok(batch)
}

/// How many values are still to be sealed.
fn left(conn: &mut PgConnection, column: Column, which: Which, current: KeyId) -> Result<u64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        left: i64,
    }
    let (table, condition) = (column.table(), which.condition(column));
    let row: Row = sql_query(format!("SELECT count(*) AS left FROM {table} WHERE {condition}"))
        .bind::<Binary, _>(current.as_ref())
        .get_result(conn)?;
    Ok(u64::try_from(row.left).unwrap_or(0))
}

/// Removes a key unless something is sealed with it: the foreign keys say so, also of what is being written at this moment.
fn forget(conn: &mut PgConnection, key: KeyId) -> Result<bool> {
    match sql_query("DELETE FROM master_keys WHERE id = $1").bind::<Binary, _>(key.as_ref()).execute(conn) {
        Ok(deleted) => Ok(deleted == 1),
        Err(Diesel::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
    #[diesel(sql_type = Binary)]
    canary: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl Row {
    fn id(&self) -> Result<KeyId> {
        key_id(&self.id)
    }
}

fn rows(conn: &mut PgConnection) -> Result<Vec<Row>> {
    Ok(sql_query("SELECT id, canary, created_at FROM master_keys ORDER BY created_at, id").load(conn)?)
}

/// The id in a row, whose length the schema checks.
fn key_id(bytes: &[u8]) -> Result<KeyId> {
    bytes.try_into().map(KeyId::from_bytes).map_err(|_| Error::Sealed(VaultError::Damaged))
}
