//! Keys of tenants at providers of language models. Sealed; told to nobody but the provider.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Binary, Text, Timestamptz, Uuid},
};

use super::model::ApiKey;
use crate::{
    Error, Result,
    db::prepared::prepared,
    id::{LlmKeyId, TenantId},
    vault::{Vault, VaultError, columns::LLM_API_KEY},
};

#[derive(QueryableByName)]
struct Sealed {
    #[diesel(sql_type = Uuid)]
    id: LlmKeyId,
    #[diesel(sql_type = Binary)]
    api_key: Vec<u8>,
}

/// The tenant's key for a provider, if it has one.
///
/// # Errors
/// When it cannot be opened, or the database is away.
pub fn find(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: TenantId,
    provider: &str,
) -> Result<Option<ApiKey>> {
    let sealed: Option<Sealed> =
        prepared("SELECT id, api_key FROM llm_keys WHERE tenant_id = $1 AND provider = $2")
            .bind::<Uuid, _>(tenant)
            .bind::<Text, _>(provider)
            .get_result(conn)
            .optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let bytes = vault.open(&LLM_API_KEY.at(sealed.id.uuid()), &sealed.api_key).map_err(Error::Sealed)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Sealed(VaultError::Damaged))?;
    Ok(Some(ApiKey::new(text)))
}

/// Sets the tenant's key for a provider. Returns whether there was one before.
///
/// # Errors
/// When the database is away.
pub fn put(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, provider): (TenantId, &str),
    key: &ApiKey,
    now: DateTime<Utc>,
) -> Result<bool> {
    // A new row: a value is sealed for its row.
    let before = delete(conn, tenant, provider)?;
    let id = LlmKeyId::new(now);
    prepared(
        "INSERT INTO llm_keys (id, tenant_id, provider, api_key, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)",
    )
    .bind::<Uuid, _>(id)
    .bind::<Uuid, _>(tenant)
    .bind::<Text, _>(provider)
    .bind::<Binary, _>(vault.seal(&LLM_API_KEY.at(id.uuid()), key.expose().as_bytes()))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(before)
}

/// Removes the tenant's key for a provider. Returns whether there was one.
///
/// # Errors
/// When the database is away.
pub fn delete(conn: &mut PgConnection, tenant: TenantId, provider: &str) -> Result<bool> {
    let gone = prepared("DELETE FROM llm_keys WHERE tenant_id = $1 AND provider = $2")
        .bind::<Uuid, _>(tenant)
        .bind::<Text, _>(provider)
        .execute(conn)?;
    Ok(gone > 0)
}

/// That a tenant has a key, not the key.
#[derive(Clone, Debug, QueryableByName)]
pub struct KeyRow {
    /// Where.
    #[diesel(sql_type = Text)]
    pub provider: String,
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// The providers for which a tenant has keys.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<KeyRow>> {
    Ok(prepared("SELECT provider, created_at FROM llm_keys WHERE tenant_id = $1 ORDER BY provider")
        .bind::<Uuid, _>(tenant)
        .load(conn)?)
}
