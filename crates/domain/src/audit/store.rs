//! Queries on the audit log: writing in the transaction of the change, and reading.

use std::{cmp, collections::BTreeMap};

use chrono::{DateTime, SubsecRound, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Action, Actor, Chain, Digest, Entry, Mark, redact};
use crate::{Error, Result, db::prepared::planned_for_values};

/// The longest name of an actor or an object, in characters: some come from people who are not known.
const MAX_NAME_CHARS: usize = 200;

/// An entry as it stands in the log, column by column: what the hash is over, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Recorded {
    /// Whose chain, as [`Chain::uuid`].
    #[diesel(sql_type = Uuid)]
    pub tenant_id: uuid::Uuid,
    /// Which place in it, from 1.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// When; never before the entry before it.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    /// Code of [`super::ActorKind`].
    #[diesel(sql_type = SmallInt)]
    pub actor_kind: i16,
    /// The credential or the person.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub actor_id: Option<uuid::Uuid>,
    /// Name of the actor.
    #[diesel(sql_type = Text)]
    pub actor_name: String,
    /// From where.
    #[diesel(sql_type = Nullable<Text>)]
    pub address: Option<String>,
    /// In which request.
    #[diesel(sql_type = Nullable<Text>)]
    pub request_id: Option<String>,
    /// What was done: a word of [`Action`], or of a newer version's.
    #[diesel(sql_type = Text)]
    pub action: String,
    /// To what kind of thing.
    #[diesel(sql_type = Text)]
    pub object_kind: String,
    /// To which.
    #[diesel(sql_type = Text)]
    pub object_id: String,
    /// JSON text of what it was before.
    #[diesel(sql_type = Nullable<Text>)]
    pub before: Option<String>,
    /// JSON text of what it is since.
    #[diesel(sql_type = Nullable<Text>)]
    pub after: Option<String>,
    /// The hash, see [`Digest::of`].
    #[diesel(sql_type = Binary)]
    pub hash: Vec<u8>,
}

impl Recorded {
    /// Whose chain it is in.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::of_uuid(self.tenant_id)
    }
}

const COLUMNS: &str = "tenant_id, seq, at, actor_kind, actor_id, actor_name, address, request_id, action, object_kind, \
     object_id, before, after, hash";

/// The end of a chain as its head tells it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct Head {
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = Binary)]
    pub(super) hash: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    pub(super) at: DateTime<Utc>,
}

/// Writes an entry in the caller's transaction. From here to the end of the transaction nobody else writes to that
/// chain: do it last.
///
/// # Errors
/// When the database is away; the caller's change must not be committed then.
pub fn record(conn: &mut PgConnection, actor: &Actor, entry: &Entry, now: DateTime<Utc>) -> Result<()> {
    record_all(conn, actor, std::slice::from_ref(entry), now)
}

/// Writes entries of any chains, in the caller's transaction, in their order within each chain. Chains are locked in one
/// order, so that two transactions with entries of several do not wait for each other: all entries of a transaction
/// should be written with one call.
///
/// # Errors
/// As [`record`].
pub fn record_all(
    conn: &mut PgConnection,
    actor: &Actor,
    entries: &[Entry],
    now: DateTime<Utc>,
) -> Result<()> {
    let mut chains: BTreeMap<Chain, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        chains.entry(entry.tenant.into()).or_default().push(entry);
    }
    for (chain, entries) in chains {
        let head = lock(conn, chain, now)?;
        // The clocks of two processes differ, and an entry is never older than the one before.
        let at = cmp::max(now.trunc_subsecs(6), head.at);
        let mut last = Digest::from_bytes(&head.hash)
            .ok_or_else(|| Error::Database(format!("the head of audit chain {chain} has no hash").into()))?;
        let mut recorded = Vec::with_capacity(entries.len());
        for (seq, entry) in (head.seq + 1..).zip(entries) {
            let mut one = unhashed(actor, chain, seq, at, entry);
            last = Digest::of(&last, &one);
            one.hash = last.bytes().to_vec();
            recorded.push(one);
        }
        append(conn, chain, at, &recorded)?;
    }
    Ok(())
}

fn unhashed(actor: &Actor, chain: Chain, seq: i64, at: DateTime<Utc>, entry: &Entry) -> Recorded {
    Recorded {
        tenant_id: chain.uuid(),
        seq,
        at,
        actor_kind: actor.kind.code(),
        actor_id: actor.id,
        actor_name: name(&actor.name),
        address: actor.address.map(|address| address.to_string()),
        request_id: actor.request_id.as_deref().map(name),
        action: entry.action.as_str().to_owned(),
        object_kind: entry.object.kind.as_str().to_owned(),
        object_id: name(&entry.object.id),
        before: entry.before.as_ref().map(redact::side),
        after: entry.after.as_ref().map(redact::side),
        hash: Vec::new(),
    }
}

/// A name that fits: a stranger who tries to log in as somebody chooses it.
fn name(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}

/// The head of a chain, locked until the transaction ends; made when there is none yet.
fn lock(conn: &mut PgConnection, chain: Chain, now: DateTime<Utc>) -> Result<Head> {
    const HEAD: &str = "SELECT seq, hash, at FROM audit_heads WHERE tenant_id = $1 FOR UPDATE";
    let locked: Option<Head> = sql_query(HEAD).bind::<Uuid, _>(chain.uuid()).get_result(conn).optional()?;
    if let Some(head) = locked {
        return Ok(head);
    }
    sql_query(
        "INSERT INTO audit_heads (tenant_id, seq, hash, at) VALUES ($1, 0, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind::<Uuid, _>(chain.uuid())
    .bind::<Binary, _>(Digest::genesis(chain).bytes())
    .bind::<Timestamptz, _>(now.trunc_subsecs(6))
    .execute(conn)?;
    Ok(sql_query(HEAD).bind::<Uuid, _>(chain.uuid()).get_result(conn)?)
}

/// Adds entries behind the head, which is locked, and moves it.
fn append(conn: &mut PgConnection, chain: Chain, at: DateTime<Utc>, recorded: &[Recorded]) -> Result<()> {
    // All of them are one actor's.
    let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else { return Ok(()) };
    sql_query(
        "WITH moved AS (UPDATE audit_heads SET seq = $8, hash = $9, at = $2 WHERE tenant_id = $1) \
         INSERT INTO audit_log (tenant_id, at, actor_kind, actor_id, actor_name, address, request_id, \
            seq, action, object_kind, object_id, before, after, hash) \
         SELECT $1, $2, $3, $4, $5, $6, $7, k.* FROM unnest($10, $11, $12, $13, $14, $15, $16) AS k",
    )
    .bind::<Uuid, _>(chain.uuid())
    .bind::<Timestamptz, _>(at)
    .bind::<SmallInt, _>(first.actor_kind)
    .bind::<Nullable<Uuid>, _>(first.actor_id)
    .bind::<Text, _>(&first.actor_name)
    .bind::<Nullable<Text>, _>(&first.address)
    .bind::<Nullable<Text>, _>(&first.request_id)
    .bind::<BigInt, _>(last.seq)
    .bind::<Binary, _>(&last.hash)
    .bind::<Array<BigInt>, _>(recorded.iter().map(|one| one.seq).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(recorded.iter().map(|one| one.action.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(recorded.iter().map(|one| one.object_kind.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(recorded.iter().map(|one| one.object_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(recorded.iter().map(|one| one.before.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(recorded.iter().map(|one| one.after.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(recorded.iter().map(|one| one.hash.as_slice()).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(())
}

/// Which entries of a chain.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// That tell of this.
    pub action: Option<Action>,
    /// That are about the thing that is called so.
    pub object: Option<String>,
    /// By this credential or person.
    pub actor: Option<uuid::Uuid>,
    /// At or after.
    pub since: Option<DateTime<Utc>>,
    /// Before.
    pub until: Option<DateTime<Utc>>,
    /// Before this place in the chain: the cursor.
    pub before_seq: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// Entries of a chain, newest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, chain: Chain, query: &Query) -> Result<Vec<Recorded>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT {COLUMNS} FROM audit_log WHERE tenant_id = $1 AND ($2 IS NULL OR action = $2) \
           AND ($3 IS NULL OR object_id = $3) AND ($4 IS NULL OR actor_id = $4) AND ($5 IS NULL OR at >= $5) \
           AND ($6 IS NULL OR at < $6) AND ($7 IS NULL OR seq < $7) ORDER BY seq DESC LIMIT $8"
        ))
        .bind::<Uuid, _>(chain.uuid())
        .bind::<Nullable<Text>, _>(query.action.map(Action::as_str))
        .bind::<Nullable<Text>, _>(&query.object)
        .bind::<Nullable<Uuid>, _>(query.actor)
        .bind::<Nullable<Timestamptz>, _>(query.since)
        .bind::<Nullable<Timestamptz>, _>(query.until)
        .bind::<Nullable<BigInt>, _>(query.before_seq)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
    })
}

/// A page of an export: entries behind the place `after` and up to the place `until`, oldest first. The next page begins
/// behind the last of them; an empty one is the end.
///
/// # Errors
/// When the database is away.
pub fn export(
    conn: &mut PgConnection,
    chain: Chain,
    after: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<Recorded>> {
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM audit_log WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4"
    ))
    .bind::<Uuid, _>(chain.uuid())
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(until)
    .bind::<BigInt, _>(limit)
    .load(conn)?)
}

/// Where a chain ends now; the place before the first entry when there is none.
///
/// # Errors
/// When the database is away, or the head is none.
pub fn end(conn: &mut PgConnection, chain: Chain) -> Result<Mark> {
    let head: Option<Head> = sql_query("SELECT seq, hash, at FROM audit_heads WHERE tenant_id = $1")
        .bind::<Uuid, _>(chain.uuid())
        .get_result(conn)
        .optional()?;
    let Some(head) = head else { return Ok(Mark { chain, seq: 0, hash: Digest::genesis(chain) }) };
    let hash = Digest::from_bytes(&head.hash)
        .ok_or_else(|| Error::Database(format!("the head of audit chain {chain} has no hash").into()))?;
    Ok(Mark { chain, seq: head.seq, hash })
}
