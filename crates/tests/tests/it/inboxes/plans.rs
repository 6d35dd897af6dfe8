//! A hundred thousand messages, most of which are done, are not read to lease some: each statement goes by an index, as Postgres plans it
//! for any values, which is what prepared statements get.

use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Text, Timestamptz, Uuid},
};
use hookyard_domain::{
    db::Conn,
    id::{SubscriptionId, TenantId},
    subscription::inbox::{
        lease::FIND,
        log::{Which, statement},
    },
};
use hookyard_tests::system::System;
use serde_json::json;

use super::{counts, inbox, lease};
use crate::pipeline::stage::text;

/// Rows that no step of a plan touches more than.
const MOST: u64 = 300;

const MESSAGES: i64 = 101_000;

/// Messages 1 to 101,000 of an inbox: of each fifty one waits and one is leased, the others are done; 101 are quarantined. Each
/// has its event.
async fn fill(system: &System, tenant: TenantId, inbox: SubscriptionId) {
    let now = system.clock.now();
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    let fill = move |conn: &mut Conn| {
        sql_query(
            "WITH new AS MATERIALIZED (SELECT n, (lpad(to_hex($4 + n), 12, '0') || '7000' || '8' || substr(md5(n::text), 1, 15))::uuid AS id \
                FROM generate_series(1, $3) n), \
             happened AS (INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
                SELECT $1, id, 'n.a', 0, $5, $5, '{}', gen_random_uuid(), false, '{}' FROM new) \
             INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim, leased_until, sequence) \
             SELECT id, $2, $1, 5, CASE WHEN n % 50 IN (0, 1) THEN 0 WHEN n % 1000 = 7 THEN 2 ELSE 1 END, 0, 0, 0, $5, 'infinity', \
                CASE WHEN n % 50 = 1 THEN gen_random_uuid() ELSE '00000000-0000-0000-0000-000000000000' END, \
                CASE WHEN n % 50 = 1 THEN $5 + interval '1 hour' END, n FROM new",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(inbox)
        .bind::<BigInt, _>(MESSAGES)
        .bind::<BigInt, _>(day)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
        Ok(())
    };
    system.db.run(fill).await.unwrap();
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// How a statement is carried out with these values, planned for any, and taken back.
async fn plan(system: &System, statement: &str, types: &str, values: String, analyze: bool) -> String {
    let prepare = format!("PREPARE planned ({types}) AS {statement}");
    let lines = move |conn: &mut Conn| {
        if analyze {
            sql_query("ANALYZE deliveries, events").execute(conn)?;
        }
        sql_query("SET LOCAL plan_cache_mode = force_generic_plan").execute(conn)?;
        sql_query(prepare).execute(conn)?;
        sql_query("SAVEPOINT before").execute(conn)?;
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE planned ({values})");
        let lines: Vec<Line> = sql_query(explain).load(conn)?;
        sql_query("ROLLBACK TO before").execute(conn)?;
        sql_query("DEALLOCATE planned").execute(conn)?;
        Ok(lines)
    };
    let lines = system.db.run(lines).await.unwrap();
    lines.into_iter().map(|line| line.line).collect::<Vec<_>>().join("\n")
}

/// It touches little, and reads no table from its beginning.
fn is_cheap(plan: &str, index: &str) {
    assert!(plan.contains(index) && !plan.contains("Seq Scan on"), "{index}: {plan}");
    let rows = plan.lines().filter_map(|line| {
        let rows = line.split("actual rows=").nth(1)?;
        rows.split([' ', '.', ')']).next()?.parse::<u64>().ok()
    });
    let filtered = plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "));
    let touched = rows.chain(filtered.filter_map(|rows| rows.parse().ok())).max();
    assert!(touched.unwrap() <= MOST, "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_and_a_page_go_by_an_index() {
    let system = System::start().await;
    let client = system.client().await;
    let id = inbox(&client, json!({})).await;
    let (tenant, inbox) = (system.tenant, id.parse::<SubscriptionId>().unwrap());
    fill(&system, tenant, inbox).await;
    let (uuid, now) = (inbox.uuid(), system.clock.now().to_rfc3339());
    let owner = tenant.uuid();
    // Before Postgres knows anything of the partition, and after.
    for analyze in [false, true] {
        let values = format!("'{owner}', '{uuid}', '{now}', 100, 8388608, false");
        let types = "uuid, uuid, timestamptz, bigint, bigint, boolean";
        let plan_of_lease = plan(&system, FIND, types, values, analyze).await;
        is_cheap(&plan_of_lease, "subscription_id_state_sequence");
        is_cheap(&plan_of_lease, "subscription_id_leased_until");
        for which in [Which::All, Which::Quarantined] {
            let values = format!("'{owner}', '{uuid}', 50000, 51, 8388608");
            let types = "uuid, uuid, bigint, bigint, bigint";
            let plan = plan(&system, &statement(which), types, values, analyze).await;
            is_cheap(&plan, "sequence_idx");
        }
    }
    let held = lease(&client, &id, 100).await;
    assert_eq!(held.len(), 100);
    assert_eq!(held[0]["sequence"], 50);
    let now = counts(&client, &id).await;
    let told = (&now["waiting"], &now["leased"], &now["quarantined"], &now["last_sequence"]);
    assert_eq!(told, (&json!(1_920), &json!(2_120), &json!(101), &json!(MESSAGES)));
    assert!(text(&held[0]["lease_token"]).starts_with("clm_"));
    // More wait than are counted: the quarantined are counted all the same.
    let waits = "UPDATE deliveries SET state = 0, leased_until = NULL WHERE state <> 2";
    let waits = move |conn: &mut Conn| Ok(sql_query(waits).execute(conn)?);
    assert_eq!(system.db.run(waits).await.unwrap(), 100_899);
    let now = counts(&client, &id).await;
    let told = (&now["waiting"], &now["leased"], &now["quarantined"]);
    assert_eq!(told, (&json!(100_000), &json!(0), &json!(101)));
}
