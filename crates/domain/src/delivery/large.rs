//! Large events: what is left of the fan-out of an event that very many hooks want, made part by part by whoever claims it
//! (docs/decisions/0056).
//!
//! How far it is stands in the row alone and moves in the statement that makes the deliveries. What a crash of Postgres takes back, it
//! takes back of both.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    result::{DatabaseErrorKind, Error::DatabaseError},
    sql_types::{Array, Bool, Integer, SmallInt, Timestamptz, Uuid},
};

use super::{NewDelivery, Profile, fan_out::Hold, sequence};
use crate::{
    Result,
    db::prepared::prepared,
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SubscriptionId, TenantId},
};

/// What is left of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Large {
    /// The group.
    #[diesel(sql_type = Uuid)]
    pub group: EventGroupId,
    /// Owner.
    #[diesel(sql_type = Uuid)]
    pub tenant: TenantId,
    /// Since when the event waits.
    #[diesel(sql_type = Timestamptz)]
    pub since: DateTime<Utc>,
}

/// Claims what is left of an event that nobody holds, until `hold.until`: the oldest, of a tenant that is not `busy` if there is one,
/// and of none that has `enough`.
///
/// # Errors
/// When the database is away.
pub fn claim(
    conn: &mut PgConnection,
    busy: &[TenantId],
    enough: &[TenantId],
    hold: Hold,
) -> Result<Option<Large>> {
    let claimed: Vec<Large> = prepared(
        "UPDATE event_groups SET claim = $1, claimed_until = $2 WHERE id = \
            (SELECT id FROM event_groups WHERE wanted IS NOT NULL AND claimed_until <= $3 AND tenant_ids[1] <> ALL($5) \
             ORDER BY tenant_ids[1] = ANY($4), id LIMIT 1 FOR UPDATE SKIP LOCKED) \
         RETURNING id AS group, tenant_ids[1] AS tenant, created_at AS since",
    )
    .bind::<Uuid, _>(hold.claim)
    .bind::<Timestamptz, _>(hold.until)
    .bind::<Timestamptz, _>(hold.now)
    .bind::<Array<Uuid>, _>(busy)
    .bind::<Array<Uuid>, _>(enough)
    .load(conn)?;
    Ok(claimed.into_iter().next())
}

/// Further looks of a step when others make the same deliveries at the same time; then it fails, and is tried anew.
const LOOKS: u8 = 3;

/// A step of a large event.
#[derive(Clone, Debug)]
pub struct Step {
    /// The deliveries that were made.
    pub made: Vec<NewDelivery>,
    /// Whether those were the last.
    pub is_last: bool,
}

/// Makes the next deliveries of a claimed event, so many at the most, and moves the end of its claim. They are held under `hold`. One
/// that exists already stays as it is, and no number is spent on it. `None` when the event is not held under the claim any more.
///
/// # Errors
/// When the database is away; nothing is made then.
pub fn go_on(
    conn: &mut PgConnection,
    group: EventGroupId,
    claim: ClaimId,
    most: i32,
    hold: Hold,
) -> Result<Option<Step>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        event: EventId,
        #[diesel(sql_type = Uuid)]
        tenant: TenantId,
        #[diesel(sql_type = Array<Uuid>)]
        hooks: Vec<SubscriptionId>,
        #[diesel(sql_type = Bool)]
        is_last: bool,
    }
    // For the full join see `fan_out`.
    let statement = format!(
        "WITH taken AS (UPDATE event_groups SET made = made + $3, claimed_until = $5 WHERE id = $1 AND claim = $2 \
            RETURNING tenant_ids[1] AS t, event_ids[1] AS e, wanted[made - $3 + 1 : made] AS part, \
               made >= cardinality(wanted) AS is_last), \
         new AS MATERIALIZED (SELECT taken.e, taken.t, s FROM taken CROSS JOIN LATERAL unnest(taken.part) AS s \
            WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = taken.e AND d.subscription_id = s)), \
         numbers AS ({}), \
         made AS (INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, \
               deferrals, due_at, next_attempt_at, claim, sequence) \
            SELECT e, s, t, $7, 0, 0, 0, 0, $4, $5, $6, numbers.last FROM new FULL JOIN numbers ON numbers.subscription_id = new.s) \
         SELECT e AS event, t AS tenant, is_last, ARRAY(SELECT s FROM new) AS hooks FROM taken",
        sequence::give("SELECT s, 1 FROM new ORDER BY s")
    );
    let mut looks = LOOKS;
    loop {
        let rows: diesel::QueryResult<Vec<Row>> = prepared(statement.clone())
            .bind::<Uuid, _>(group)
            .bind::<Uuid, _>(claim)
            .bind::<Integer, _>(most)
            .bind::<Timestamptz, _>(hold.now)
            .bind::<Timestamptz, _>(hold.until)
            .bind::<Uuid, _>(hold.claim)
            .bind::<SmallInt, _>(Profile::Hook)
            .load(conn);
        let rows = match rows {
            // Somebody sends it to one of them at this moment; the next look sees that.
            Err(DatabaseError(DatabaseErrorKind::UniqueViolation, _)) if looks > 0 => {
                looks -= 1;
                continue;
            }
            rows => rows?,
        };
        return Ok(rows.into_iter().next().map(|Row { event, tenant, hooks, is_last }| Step {
            made: hooks
                .into_iter()
                .map(|hook| {
                    NewDelivery::plain(DeliveryId { event, subscription: hook }, tenant, Profile::Hook)
                })
                .collect(),
            is_last,
        }));
    }
}

/// Removes an event all of whose deliveries are made. One that is left by whoever should have is claimed again, and then removed.
///
/// # Errors
/// When the database is away.
pub fn finish(conn: &mut PgConnection, group: EventGroupId, claim: ClaimId) -> Result<()> {
    prepared("DELETE FROM event_groups WHERE id = $1 AND claim = $2 AND made >= cardinality(wanted)")
        .bind::<Uuid, _>(group)
        .bind::<Uuid, _>(claim)
        .execute(conn)?;
    Ok(())
}

/// Makes no more deliveries of an event; those that are made stay as they are. Waits for a step that is under way.
///
/// # Errors
/// When the database is away.
pub fn cancel(conn: &mut PgConnection, event: EventId) -> Result<bool> {
    let gone = prepared("DELETE FROM event_groups WHERE id = $1 AND wanted IS NOT NULL")
        .bind::<Uuid, _>(event)
        .execute(conn)?;
    Ok(gone > 0)
}

/// Gives claimed events back, so that somebody else goes on at once.
///
/// # Errors
/// When the database is away; the claims then end by themselves.
pub fn give_back(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    claim: ClaimId,
    now: DateTime<Utc>,
) -> Result<()> {
    prepared("UPDATE event_groups SET claimed_until = $3 WHERE id = ANY($1) AND claim = $2")
        .bind::<Array<Uuid>, _>(groups)
        .bind::<Uuid, _>(claim)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(())
}
