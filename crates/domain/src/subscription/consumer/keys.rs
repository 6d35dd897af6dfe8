//! What signs and authenticates the deliveries of a consumer, as it is kept: sealed, each for its own column.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Binary, Nullable, Text, Timestamptz, Uuid},
};

use super::{ClientCertificate, Headers, OVERLAP};
use crate::{
    Error, Result,
    id::{SubscriptionId, TenantId},
    subscription::{Kind, store::signing_secret_of},
    vault::{
        Vault,
        columns::{
            CONSUMER_CERTIFICATE_KEY, CONSUMER_HEADERS, CONSUMER_PREVIOUS_KEY, CONSUMER_PREVIOUS_SECRET,
            CONSUMER_SIGNING_KEY, SIGNING_SECRET,
        },
    },
    wire::{SigningKey, SigningSecret},
};

/// Replaces the further headers. Belongs into the transaction of [`insert`](super::store::insert) or
/// [`update`](super::store::update), which tells snapshots.
///
/// # Errors
/// When the database is away.
pub fn set_headers(
    conn: &mut PgConnection,
    vault: &Vault,
    id: SubscriptionId,
    headers: &Headers,
) -> Result<()> {
    let sealed =
        (!headers.is_empty()).then(|| vault.seal(&CONSUMER_HEADERS.at(id.uuid()), &headers.expose()));
    sql_query("UPDATE consumers SET header_names = $2, headers = $3 WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Array<Text>, _>(headers.names())
        .bind::<Nullable<Binary>, _>(sealed)
        .execute(conn)?;
    Ok(())
}

/// Replaces the client certificate, or takes it away. As [`set_headers`].
///
/// # Errors
/// When the database is away.
pub fn set_certificate(
    conn: &mut PgConnection,
    vault: &Vault,
    id: SubscriptionId,
    certificate: Option<&ClientCertificate>,
) -> Result<()> {
    let sealed = |certificate: &ClientCertificate| {
        vault.seal(&CONSUMER_CERTIFICATE_KEY.at(id.uuid()), certificate.key.as_bytes())
    };
    sql_query(
        "UPDATE consumers SET certificate = $2, certificate_until = $3, certificate_key = $4 WHERE id = $1",
    )
    .bind::<Uuid, _>(id)
    .bind::<Nullable<Text>, _>(certificate.map(|certificate| certificate.chain.as_str()))
    .bind::<Nullable<Timestamptz>, _>(certificate.map(|certificate| certificate.until))
    .bind::<Nullable<Binary>, _>(certificate.map(sealed))
    .execute(conn)?;
    Ok(())
}

/// The secret with which `v1` of a consumer is signed.
///
/// # Errors
/// When the database is away, or the secret cannot be opened.
pub fn signing_secret(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: TenantId,
    id: SubscriptionId,
) -> Result<Option<SigningSecret>> {
    signing_secret_of(conn, vault, Kind::Consumer, tenant, id)
}

/// Gives a consumer a new secret and a new key; those that it has sign beside them for [`OVERLAP`], and those from before them no
/// more. Belongs into a transaction that has the consumer from [`lock`](super::store::lock).
///
/// # Errors
/// When the database is away, or what it has cannot be opened.
pub fn rotate(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, id): (TenantId, SubscriptionId),
    (secret, key): (&SigningSecret, &SigningKey),
    now: DateTime<Utc>,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Binary)]
        signing_secret: Vec<u8>,
        #[diesel(sql_type = Binary)]
        signing_key: Vec<u8>,
    }
    let row: Row = sql_query(
        "SELECT s.signing_secret, c.signing_key FROM subscriptions s JOIN consumers c ON c.id = s.id \
         WHERE s.tenant_id = $1 AND s.id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)?;
    // Sealed for one column they do not open in another.
    let old_secret = vault.open(&SIGNING_SECRET.at(id.uuid()), &row.signing_secret).map_err(Error::Sealed)?;
    let old_key = vault.open(&CONSUMER_SIGNING_KEY.at(id.uuid()), &row.signing_key).map_err(Error::Sealed)?;
    sql_query(
        "UPDATE consumers SET previous_secret = $2, previous_key = $3, previous_public_key = public_key, previous_until = $4, \
            signing_key = $5, public_key = $6 WHERE id = $1",
    )
    .bind::<Uuid, _>(id)
    .bind::<Binary, _>(vault.seal(&CONSUMER_PREVIOUS_SECRET.at(id.uuid()), &old_secret))
    .bind::<Binary, _>(vault.seal(&CONSUMER_PREVIOUS_KEY.at(id.uuid()), &old_key))
    .bind::<Timestamptz, _>(now + OVERLAP)
    .bind::<Binary, _>(vault.seal(&CONSUMER_SIGNING_KEY.at(id.uuid()), key.expose()))
    .bind::<Text, _>(key.public_key())
    .execute(conn)?;
    sql_query(
        "UPDATE subscriptions SET signing_secret = $3, updated_at = $4 WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Binary, _>(vault.seal(&SIGNING_SECRET.at(id.uuid()), secret.expose().as_bytes()))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}
