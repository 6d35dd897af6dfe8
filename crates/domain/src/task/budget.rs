//! What tenants use and may use in a month.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Date, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{AgentType, ledger::month_of, run::Left};
use crate::{Error, Result, db::prepared::prepared, id::TenantId};

/// What a tenant may use in a month; `None` = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, QueryableByName)]
pub struct Budget {
    /// Tokens, read and written.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub monthly_tokens: Option<i64>,
    /// Micro-dollars.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub monthly_cost_micros: Option<i64>,
}

/// What a tenant may use.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId) -> Result<Budget> {
    let found =
        prepared("SELECT monthly_tokens, monthly_cost_micros FROM tenant_budgets WHERE tenant_id = $1")
            .bind::<Uuid, _>(tenant)
            .get_result(conn)
            .optional()?;
    Ok(found.unwrap_or_default())
}

/// Sets what a tenant may use.
///
/// # Errors
/// When the database is away.
pub fn set(conn: &mut PgConnection, tenant: TenantId, budget: Budget, now: DateTime<Utc>) -> Result<()> {
    prepared(
        "INSERT INTO tenant_budgets (tenant_id, monthly_tokens, monthly_cost_micros, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id) DO UPDATE SET monthly_tokens = $2, monthly_cost_micros = $3, updated_at = $4",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Nullable<BigInt>, _>(budget.monthly_tokens)
    .bind::<Nullable<BigInt>, _>(budget.monthly_cost_micros)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

#[derive(QueryableByName)]
struct LeftRow {
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Nullable<BigInt>)]
    tokens: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    cost_micros: Option<i64>,
}

/// What tenants may still use this month; those without a budget are not among them.
pub(super) fn left(
    conn: &mut PgConnection,
    tenants: &[TenantId],
    now: DateTime<Utc>,
) -> Result<HashMap<TenantId, Left>> {
    let rows: Vec<LeftRow> = prepared(
        "SELECT b.tenant_id, b.monthly_tokens - used.tokens AS tokens, b.monthly_cost_micros - used.cost AS cost_micros \
         FROM tenant_budgets b CROSS JOIN LATERAL ( \
            SELECT COALESCE(sum(u.input_tokens + u.output_tokens), 0)::bigint AS tokens, \
                   COALESCE(sum(u.cost_micros), 0)::bigint AS cost \
            FROM task_usage u WHERE u.tenant_id = b.tenant_id AND u.month = $2) used \
         WHERE b.tenant_id = ANY($1)",
    )
    .bind::<Array<Uuid>, _>(tenants)
    .bind::<Date, _>(month_of(now))
    .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.tenant_id, Left { tokens: row.tokens, cost_micros: row.cost_micros }))
        .collect())
}

/// Refuses those who have used up what they may use this month.
///
/// # Errors
/// [`Error::BudgetExceeded`] when it is; or the database is away: then nothing is made, either (fail closed).
pub fn check(conn: &mut PgConnection, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    spent(conn, &[tenant], now)?
        .remove(&tenant)
        .map_or(Ok(()), |reason| Err(Error::BudgetExceeded { reason }))
}

/// Of these tenants, those who have used up what they may use this month, with the reason for people.
///
/// # Errors
/// When the database is away.
pub fn spent(
    conn: &mut PgConnection,
    tenants: &[TenantId],
    now: DateTime<Utc>,
) -> Result<HashMap<TenantId, String>> {
    let spent = |left: &Left| {
        let over = |left: Option<i64>| left.is_some_and(|left| left <= 0);
        match (over(left.tokens), over(left.cost_micros)) {
            (true, _) => Some("the tokens that may be used this month are used up"),
            (false, true) => Some("the money that may be spent this month is spent"),
            (false, false) => None,
        }
    };
    let left = left(conn, tenants, now)?;
    Ok(left
        .into_iter()
        .filter_map(|(tenant, left)| {
            let reason = spent(&left)?;
            Some((tenant, format!("{reason}; raise the budget or wait for the next month")))
        })
        .collect())
}

/// What was used in a month, of a model and a type of agent.
#[derive(Clone, Debug, QueryableByName)]
pub struct Used {
    /// The first day of the month.
    #[diesel(sql_type = Date)]
    pub month: NaiveDate,
    /// The model, by the name that tasks call it.
    #[diesel(sql_type = Text)]
    pub model: String,
    /// The type of agent.
    #[diesel(sql_type = SmallInt)]
    pub agent_type: AgentType,
    /// Runs that ended.
    #[diesel(sql_type = BigInt)]
    pub runs: i64,
    /// Tokens read.
    #[diesel(sql_type = BigInt)]
    pub input_tokens: i64,
    /// Tokens written.
    #[diesel(sql_type = BigInt)]
    pub output_tokens: i64,
    /// Micro-dollars.
    #[diesel(sql_type = BigInt)]
    pub cost_micros: i64,
}

/// What a tenant used, from month to month, the latest first; both ends are among them.
///
/// # Errors
/// When the database is away.
pub fn used(
    conn: &mut PgConnection,
    tenant: TenantId,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<Vec<Used>> {
    Ok(prepared(
        "SELECT month, model, agent_type, runs, input_tokens, output_tokens, cost_micros FROM task_usage \
         WHERE tenant_id = $1 AND month BETWEEN $2 AND $3 ORDER BY month DESC, model, agent_type LIMIT 10000",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Date, _>(from)
    .bind::<Date, _>(to)
    .load(conn)?)
}

/// The first day of the month in which this is.
#[must_use]
pub fn month(at: DateTime<Utc>) -> NaiveDate {
    month_of(at)
}
