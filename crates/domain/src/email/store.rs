//! Queries on the outbox of mail.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Email, next_try};
use crate::{
    Result,
    db::prepared::prepared,
    id::{ClaimId, EmailId, TenantId},
    vault::{Vault, columns::EMAIL_BODY},
};

/// The longest description of a failure that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 500;

/// Writes a mail. Due at once. Its text is sealed: there may be a link in it by which somebody gets in.
///
/// # Errors
/// When the database is away.
pub fn enqueue(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: Option<TenantId>,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<EmailId> {
    let id = EmailId::new(now);
    prepared(
        "INSERT INTO emails (id, tenant_id, recipient, subject, body, state, tries, next_try_at, claim, created_at) \
         VALUES ($1, $2, $3, $4, $5, 0, 0, $6, '00000000-0000-0000-0000-000000000000', $6)",
    )
    .bind::<Uuid, _>(id)
    .bind::<Nullable<Uuid>, _>(tenant)
    .bind::<Text, _>(email.to.replace('\0', ""))
    .bind::<Text, _>(&email.subject)
    .bind::<Binary, _>(vault.seal(&EMAIL_BODY.at(id.uuid()), email.text.as_bytes()))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(id)
}

/// A mail that a sender holds under a claim.
#[derive(Clone, Debug)]
pub struct HeldEmail {
    /// Identity: the same on every try, and good for a `Message-ID`.
    pub id: EmailId,
    /// Whom it concerns.
    pub tenant: Option<TenantId>,
    /// What is sent.
    pub email: Email,
    /// Tries that have failed.
    pub tries: u16,
    /// Under whose lease.
    pub claim: ClaimId,
}

/// Takes mail that is due, oldest first; what another sender is taking is passed over. One whose text cannot be opened with the
/// keys of this process stays until the lease ends.
///
/// # Errors
/// When the database is away.
pub fn claim_due(
    conn: &mut PgConnection,
    vault: &Vault,
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<HeldEmail>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EmailId,
        #[diesel(sql_type = Nullable<Uuid>)]
        tenant_id: Option<TenantId>,
        #[diesel(sql_type = Text)]
        recipient: String,
        #[diesel(sql_type = Text)]
        subject: String,
        #[diesel(sql_type = Binary)]
        body: Vec<u8>,
        #[diesel(sql_type = SmallInt)]
        tries: i16,
    }
    let rows: Vec<Row> = prepared(
        "WITH due AS MATERIALIZED (SELECT id FROM emails WHERE state = 0 AND next_try_at <= $1 AND body IS NOT NULL \
            ORDER BY next_try_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
         UPDATE emails e SET claim = $2, next_try_at = $3 FROM due WHERE e.id = due.id \
         RETURNING e.id, e.tenant_id, e.recipient, e.subject, e.body, e.tries",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Uuid, _>(claim)
    .bind::<Timestamptz, _>(lease_until)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    let mut held = Vec::with_capacity(rows.len());
    for row in rows {
        let text = match vault.open(&EMAIL_BODY.at(row.id.uuid()), &row.body) {
            Ok(text) => text,
            Err(reason) => {
                tracing::error!(email.id = %row.id, %reason, "the text of a mail cannot be opened; the mail waits");
                continue;
            }
        };
        held.push(HeldEmail {
            id: row.id,
            tenant: row.tenant_id,
            email: Email {
                to: row.recipient,
                subject: row.subject,
                text: String::from_utf8_lossy(&text).into_owned(),
            },
            tries: u16::try_from(row.tries).unwrap_or(0),
            claim,
        });
    }
    held.sort_unstable_by_key(|held| held.id);
    Ok(held)
}

/// The mail server has taken it: its text is not kept. Nothing happens to one that is no longer held.
///
/// # Errors
/// When the database is away; it may then be sent twice.
pub fn sent(conn: &mut PgConnection, held: &HeldEmail, now: DateTime<Utc>) -> Result<()> {
    sql_query(
        "UPDATE emails SET state = 1, tries = tries + 1, ended_at = $3, last_error = NULL, body = NULL \
         WHERE id = $1 AND claim = $2 AND state = 0",
    )
    .bind::<Uuid, _>(held.id)
    .bind::<Uuid, _>(held.claim)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// It was not taken: it is tried again later ([`next_try`]), or has failed for good. Returns when it is tried again.
///
/// # Errors
/// When the database is away; the lease then ends by itself.
pub fn failed(
    conn: &mut PgConnection,
    held: &HeldEmail,
    error: &str,
    refused: bool,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let next = next_try(held.tries.saturating_add(1), refused, now);
    let mut end = error.len().min(MAX_ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    sql_query(
        "UPDATE emails SET state = CASE WHEN $3 IS NULL THEN 2 ELSE 0 END, tries = tries + 1, \
            next_try_at = COALESCE($3, next_try_at), claim = '00000000-0000-0000-0000-000000000000', last_error = $4, \
            ended_at = CASE WHEN $3 IS NULL THEN $5 END, body = CASE WHEN $3 IS NULL THEN NULL ELSE body END \
         WHERE id = $1 AND claim = $2 AND state = 0",
    )
    .bind::<Uuid, _>(held.id)
    .bind::<Uuid, _>(held.claim)
    .bind::<Nullable<Timestamptz>, _>(next)
    .bind::<Text, _>(error[..end].replace('\0', ""))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(next)
}

/// Deletes mail that ended, or was written and never sent, before this time. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(sql_query("DELETE FROM emails WHERE created_at < $1").bind::<Timestamptz, _>(before).execute(conn)?)
}
