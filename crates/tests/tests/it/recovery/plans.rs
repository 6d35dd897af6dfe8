//! A hundred thousand messages are not read to show fifty: each condition of the message log goes by an index, and so do the looks of
//! a recovery.

use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Text, Uuid},
};
use hookyard_domain::{
    db::Conn,
    delivery::log::{self, Status},
    event::list::{EventQuery, StateFilter, list},
    id::{SubscriptionId, TenantId},
    recovery::{self, Which},
};
use hookyard_tests::system::System;
use serde_json::json;

use crate::pipeline::stage::text;

/// Rows that no step of a plan touches more than.
const MOST: u64 = 2_000;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// Events of a tenant with a delivery each: of every thousand ten have failed, and one is pending; five types and a rare one.
async fn fill(system: &System, tenant: TenantId, endpoint: SubscriptionId, rows: i64) {
    let fill = move |conn: &mut Conn| {
        sql_query(
            "WITH new AS MATERIALIZED (SELECT n, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint + n * 30), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id FROM generate_series(1, $3) n), \
             made AS (INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
                SELECT $1, id, CASE WHEN n % 5000 = 0 THEN 'order.rare' ELSE 'order.t' || n % 5 END, 0, now(), now(), '{}', id, false, \
                   '{}' FROM new) \
             INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim, settled_at) \
             SELECT id, $2, $1, 4, CASE WHEN n % 1000 < 5 THEN 2 WHEN n % 1000 < 10 THEN 3 WHEN n % 1000 = 10 THEN 0 ELSE 1 END, \
                1, 1, 0, now(), now(), '00000000-0000-0000-0000-000000000000', now() FROM new",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(endpoint)
        .bind::<BigInt, _>(rows)
        .execute(conn)?;
        Ok(())
    };
    system.db.run(fill).await.unwrap();
}

/// How a statement is carried out, planned for these values.
async fn plan(system: &System, statement: String, types: &str, values: String) -> String {
    let prepare = format!("PREPARE planned ({types}) AS {statement}");
    let lines = move |conn: &mut Conn| {
        sql_query("SET LOCAL plan_cache_mode = force_custom_plan").execute(conn)?;
        sql_query(prepare).execute(conn)?;
        let lines: Vec<Line> =
            sql_query(format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE planned ({values})"))
                .load(conn)?;
        sql_query("DEALLOCATE planned").execute(conn)?;
        Ok(lines)
    };
    let lines = system.db.run(lines).await.unwrap();
    lines.into_iter().map(|line| line.line).collect::<Vec<_>>().join("\n")
}

fn goes_by_index(what: &str, plan: &str, most: u64) {
    let rows = plan.lines().filter_map(|line| {
        let rows = line.split("actual rows=").nth(1)?;
        rows.split([' ', '.', ')']).next()?.parse::<u64>().ok()
    });
    let filtered = plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "));
    let touched = rows.chain(filtered.filter_map(|rows| rows.parse().ok())).max();
    assert!(touched.unwrap_or(0) <= most, "{what}:\n{plan}");
    for table in ["deliveries", "events"] {
        assert!(!plan.contains(&format!("Seq Scan on {table}")), "{what}:\n{plan}");
    }
}

#[tokio::test]
async fn every_condition_of_the_message_log_goes_by_an_index() {
    let system = System::start().await;
    let client = system.client().await;
    let made = json!({"url": "https://receiver.example/", "eventTypes": ["order.*"]});
    let endpoint: SubscriptionId =
        text(&client.post_json("/webhooks", &made).await.expect(201)["id"]).parse().unwrap();
    let other = system.tenant("Other").await;
    let quiet: SubscriptionId =
        text(&client.post_json("/webhooks", &made).await.expect(201)["id"]).parse().unwrap();
    fill(&system, system.tenant, endpoint, 100_000).await;
    fill(&system, other, quiet, 500).await;
    let analyze = |conn: &mut Conn| {
        sql_query("ANALYZE events, deliveries, subscriptions").execute(conn)?;
        Ok(())
    };
    system.db.once(analyze).await.unwrap();
    let types = "uuid, uuid, uuid, uuid, uuid, uuid, bigint";
    let (busy, own) = (system.tenant.uuid(), endpoint.uuid());
    for (what, status, tenant, endpoint, event_types) in [
        ("everything", None, busy, None, None),
        ("of a quiet tenant", None, other.uuid(), None, None),
        ("what arrived", Some(Status::Success), busy, None, None),
        ("what failed", Some(Status::Failure), busy, None, None),
        ("what is tried again", Some(Status::Attempting), busy, None, None),
        ("what waits", Some(Status::Sending), busy, None, None),
        ("to an endpoint", None, busy, Some(own), None),
        ("what failed at an endpoint", Some(Status::Failure), busy, Some(own), None),
        ("what is tried again at an endpoint", Some(Status::Attempting), busy, Some(own), None),
        ("of a type", None, busy, None, Some("order.t1")),
        ("of a rare type", None, busy, None, Some("order.rare")),
        ("of a type to an endpoint", None, busy, Some(own), Some("order.t1")),
        ("of a rare type to an endpoint", None, busy, Some(own), Some("order.rare")),
        ("of a type that is not there", None, busy, None, Some("nothing")),
    ] {
        let text = |value: Option<String>| value.map_or("NULL".to_owned(), |value| format!("'{value}'"));
        let of_an_endpoint = endpoint.is_some();
        let endpoint = text(endpoint.map(|id| id.to_string()));
        let values = format!("'{tenant}', {endpoint}, NULL, NULL, NULL, NULL, 51");
        let plan = match event_types {
            None => plan(&system, log::statement(status, of_an_endpoint), types, values).await,
            Some(event_types) => {
                let types = &format!("{types}, text[], text");
                let values = format!("{values}, '{{{event_types}}}', NULL");
                plan(&system, log::statement_of_types(status), types, values).await
            }
        };
        goes_by_index(what, &plan, MOST);
    }
    // Messages that were never leased are pending, and not tried.
    let wait = move |conn: &mut Conn| {
        let query = "UPDATE deliveries SET state = 0, attempts = 0, profile = 5, next_attempt_at = 'infinity' \
            WHERE subscription_id = $1 AND state = 1 AND event_id IN (SELECT event_id FROM deliveries ORDER BY event_id LIMIT 35000)";
        sql_query(query).bind::<Uuid, _>(endpoint).execute(conn)?;
        analyze(conn)
    };
    system.db.once(wait).await.unwrap();
    let values = format!("'{busy}', NULL, NULL, NULL, NULL, NULL, 51");
    let attempting = log::statement(Some(Status::Attempting), false);
    goes_by_index("beside inboxes", &plan(&system, attempting, types, values).await, MOST);
    // A rare type among what is pending is found page by page, of which each looks at a bounded number.
    let (mut found, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let query = EventQuery {
            event_type: Some("order.rare".to_owned()),
            state: Some(StateFilter::Undelivered),
            before,
            limit: 100,
            ..EventQuery::default()
        };
        let tenant = system.tenant;
        let listed = system.db.once(move |conn| list(conn, tenant, &query)).await.unwrap();
        found.extend(listed.events.iter().map(|listed| listed.event.id));
        pages += 1;
        before = listed.looked_up_to;
        if before.is_none() {
            break;
        }
    }
    assert!(found.len() == 20 && found.is_sorted_by(|newer, older| newer > older), "{found:?}");
    assert_eq!(pages, 4, "some thirty-five thousand are pending or dead");
    // The page behind a cursor in the middle, and a range of time.
    let middle = "(SELECT event_id FROM deliveries ORDER BY event_id OFFSET 50000 LIMIT 1)";
    let found: Vec<Line> = {
        let query = format!("SELECT ({middle})::text AS \"QUERY PLAN\"");
        system.db.once(move |conn| Ok(sql_query(query).load(conn)?)).await.unwrap()
    };
    let middle = &found[0].line;
    let values = format!("'{busy}', NULL, NULL, NULL, '{middle}', '{own}', 51");
    goes_by_index("behind a cursor", &plan(&system, log::statement(None, false), types, values).await, MOST);
    let values = format!("'{busy}', NULL, NULL, '{middle}', NULL, NULL, 51");
    goes_by_index("before a time", &plan(&system, log::statement(None, false), types, values).await, MOST);
    // What a recovery looks at: a window of ten thousand events, wherever it stands.
    let types = "uuid, uuid, uuid, uuid, uuid, smallint, text[], uuid, timestamptz, boolean, bigint";
    let window =
        "(SELECT event_id FROM deliveries WHERE event_id > '{}' ORDER BY event_id OFFSET 9999 LIMIT 1)";
    let query = format!("SELECT ({})::text AS \"QUERY PLAN\"", window.replace("{}", middle));
    let end: Vec<Line> = system.db.once(move |conn| Ok(sql_query(query).load(conn)?)).await.unwrap();
    let last = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    for which in Which::ALL {
        for event_types in ["NULL", "'{order.t1}'"] {
            let values = format!(
                "'{busy}', '{own}', '00000000-0000-0000-0000-000000000000', '{last}', '{middle}', 4, {event_types}, '{}', NULL, false, 500",
                end[0].line
            );
            let statement = recovery::statement(*which);
            goes_by_index(which.as_str(), &plan(&system, statement, types, values).await, 10_000);
        }
    }
}
