//! Queries on tenants. Named system paths: tenants are made and listed by the operator.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, RunQueryDsl, sql_query,
    sql_types::{Binary, Nullable, Text, Timestamptz, Uuid},
};

use super::Tenant;
use crate::{
    Result,
    id::TenantId,
    vault::{Vault, columns::TENANT_WEBHOOK_SECRET},
    wire::WebhookSecret,
};

const VIEW: &str = "SELECT id, name, webhook_secret IS NOT NULL AS signs, created_at FROM tenants";

/// Makes a tenant.
///
/// # Errors
/// When the database is away.
pub fn insert(
    conn: &mut PgConnection,
    id: TenantId,
    name: &str,
    webhook_secret: Option<(&Vault, &WebhookSecret)>,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query("INSERT INTO tenants (id, name, webhook_secret, created_at) VALUES ($1, $2, $3, $4)")
        .bind::<Uuid, _>(id)
        .bind::<Text, _>(name)
        .bind::<Nullable<Binary>, _>(webhook_secret.map(|secret| sealed(id, secret)))
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(())
}

/// All tenants, oldest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection) -> Result<Vec<Tenant>> {
    Ok(sql_query(format!("{VIEW} ORDER BY id")).load(conn)?)
}

/// One tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, id: TenantId) -> Result<Option<Tenant>> {
    Ok(sql_query(format!("{VIEW} WHERE id = $1")).bind::<Uuid, _>(id).get_result(conn).optional()?)
}

/// Sets or removes the secret of `X-TriggersAPI-Signature`. Returns whether the tenant exists.
///
/// # Errors
/// When the database is away.
pub fn set_webhook_secret(
    conn: &mut PgConnection,
    id: TenantId,
    secret: Option<(&Vault, &WebhookSecret)>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let changed = sql_query("UPDATE tenants SET webhook_secret = $2 WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Nullable<Binary>, _>(secret.map(|secret| sealed(id, secret)))
        .execute(conn)?;
    // Snapshots of hooks hold the tenant's secret: touching the hooks makes them be read again.
    sql_query("UPDATE subscriptions SET updated_at = $2 WHERE tenant_id = $1 AND state <> 4")
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(changed == 1)
}

fn sealed(id: TenantId, (vault, secret): (&Vault, &WebhookSecret)) -> Vec<u8> {
    vault.seal(&TENANT_WEBHOOK_SECRET.at(id.uuid()), secret.expose().as_bytes())
}
