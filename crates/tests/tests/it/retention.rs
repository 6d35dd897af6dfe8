//! What is kept and for how long: payloads that leave before their events, one by one or by their age, and what tells of it.

mod ages;
mod doctor;
mod other_plans;
mod partitions;
mod plans;
mod purge;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Integer, Text, Timestamptz, Uuid},
};
use hookyard_domain::{
    db::{Conn, Db, partition},
    id::{SubscriptionId, TenantId},
};

#[derive(QueryableByName)]
pub(crate) struct Number {
    #[diesel(sql_type = BigInt)]
    pub(crate) n: i64,
}

/// One number, asked for as `n`.
pub(crate) async fn number(db: &Db, statement: &str) -> i64 {
    let statement = statement.to_owned();
    db.once(move |conn| Ok(sql_query(statement).get_result::<Number>(conn)?.n)).await.unwrap()
}

pub(crate) async fn execute(db: &Db, statement: &str) -> usize {
    let statement = statement.to_owned();
    db.once(move |conn| Ok(sql_query(statement).execute(conn)?)).await.unwrap()
}

/// The name of a day's partition.
pub(crate) fn partition_of(table: &str, at: DateTime<Utc>) -> String {
    format!("{table}_{}", at.format("%Y%m%d"))
}

/// A hook of a tenant, as a row.
pub(crate) async fn hook(db: &Db, tenant: TenantId, at: DateTime<Utc>) -> SubscriptionId {
    let id = SubscriptionId::new(at);
    db.once(move |conn| {
        sql_query(
            "INSERT INTO subscriptions (id, tenant_id, kind, url, identity, state, signing_secret, created_at, updated_at) \
             VALUES ($1, $2, 0, 'https://hooks.zapier.com/hooks/catch/1/a/', gen_random_uuid()::text::bytea, 1, '', $3, $3)",
        )
        .bind::<Uuid, _>(id)
        .bind::<Uuid, _>(tenant)
        .bind::<Timestamptz, _>(at)
        .execute(conn)?;
        Ok(())
    })
    .await
    .unwrap();
    id
}

/// What is written into a database that has been in use for some days.
#[derive(Clone, Copy)]
pub(crate) struct Filling {
    pub(crate) tenant: TenantId,
    pub(crate) hook: SubscriptionId,
    pub(crate) events: i64,
    /// When the first of them was accepted; the others follow until `until`.
    pub(crate) since: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    /// Bytes of text in each payload.
    pub(crate) payload: i32,
}

/// Events with a delivery and a try each: of a hundred, one is dead, one is cancelled, and 98 arrived. Of ten, one has another type.
pub(crate) async fn fill(db: &Db, filling: Filling) {
    let Filling { tenant, hook, events, since, until, payload } = filling;
    db.once(move |conn| {
        let mut day = since;
        while day <= until + TimeDelta::days(1) {
            partition::ensure(conn, day)?;
            day += TimeDelta::days(7);
        }
        write(conn, tenant, hook, events, (since, until), payload)
    })
    .await
    .unwrap();
}

fn write(
    conn: &mut Conn,
    tenant: TenantId,
    hook: SubscriptionId,
    events: i64,
    (since, until): (DateTime<Utc>, DateTime<Utc>),
    payload: i32,
) -> hookyard_domain::Result<()> {
    sql_query("SELECT set_config('statement_timeout', '0', false)").execute(conn)?;
    sql_query(
        "CREATE TEMPORARY TABLE filling AS SELECT n, at, \
            (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id \
         FROM (SELECT n, md5(random()::text) AS h, date_trunc('milliseconds', $1 + ($2 - $1) * (n / $3::float8)) AS at \
               FROM generate_series(0, $3 - 1) n) made",
    )
    .bind::<Timestamptz, _>(since)
    .bind::<Timestamptz, _>(until)
    .bind::<BigInt, _>(events)
    .execute(conn)?;
    sql_query(
        "INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
         SELECT $1, id, CASE WHEN n % 10 = 0 THEN 'order.paid' ELSE 'order.created' END, 0, at, at, \
            jsonb_build_object('correlation_id', 'c' || n, 'source_ip', null, 'user_agent', 'test'), id, false, \
            convert_to('{\"id\":\"x\",\"payload\":{\"text\":\"' || \
                repeat(md5(n::text), GREATEST($2 / 32, 1)) || '\"}}', 'UTF8') FROM filling",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Integer, _>(payload)
    .execute(conn)?;
    sql_query(
        "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
            next_attempt_at, claim, settled_at, last_status, last_reason) \
         SELECT id, $2, $1, 0, CASE n % 100 WHEN 7 THEN 2 WHEN 8 THEN 3 ELSE 1 END, 1, 1, 0, at, at, \
            '00000000-0000-0000-0000-000000000000', at, 200, 'success' FROM filling",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(hook)
    .execute(conn)?;
    sql_query(
        "INSERT INTO attempts (event_id, subscription_id, number, started_at, latency_ms, status, reason, reply) \
         SELECT id, $1, 1, at, 12, 200, 'success', convert_to(repeat(md5(n::text), 8), 'UTF8') FROM filling",
    )
    .bind::<Uuid, _>(hook)
    .execute(conn)?;
    sql_query("DROP TABLE filling").execute(conn)?;
    sql_query("ANALYZE events, deliveries, attempts").execute(conn)?;
    Ok(())
}

/// The ids of events of a tenant, oldest first, as the API writes them.
pub(crate) async fn event_ids(db: &Db, tenant: TenantId, condition: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        id: String,
    }
    let statement =
        format!("SELECT id::text AS id FROM events WHERE tenant_id = $1 AND {condition} ORDER BY events.id");
    let rows: Vec<Row> =
        db.once(move |conn| Ok(sql_query(statement).bind::<Uuid, _>(tenant).load(conn)?)).await.unwrap();
    rows.iter()
        .map(|row| hookyard_domain::id::EventId::from_uuid(row.id.parse().unwrap()).to_string())
        .collect()
}
