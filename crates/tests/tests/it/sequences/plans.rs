//! A hundred thousand deliveries of a hook are not read to tell of some numbers.

use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::Text};
use hookyard_domain::{
    db::{Conn, prepared::planned_for_values},
    id::SubscriptionId,
};
use hookyard_messaging::Bus;
use serde_json::json;

use super::execute;
use crate::pipeline::stage::Stage;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_found_by_number() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.deliverers = 0).await;
    let hook = stage.hook("in", json!({})).await;
    let event = stage.post("order.created", json!({})).await;
    stage.goes_to(&event).await;
    execute(
        &stage,
        "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
            next_attempt_at, claim, sequence) \
         SELECT overlay(d.event_id::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, d.subscription_id, d.tenant_id, 0, 1, 1, 1, \
            0, now(), now(), d.claim, n FROM deliveries d, generate_series(2, 100000) n",
    )
    .await;
    let hook: SubscriptionId = hook.parse().unwrap();
    for (name, custom) in [("planned for any values", false), ("planned for these", true)] {
        let explain = move |conn: &mut Conn| {
            sql_query(
                "PREPARE asked (uuid, bigint, bigint) AS SELECT d.sequence, d.state FROM deliveries d \
                 WHERE d.subscription_id = $1 AND d.sequence >= $2 AND d.sequence <= $3 ORDER BY d.sequence",
            )
            .execute(conn)?;
            let execute = format!(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked ('{}', 50000, 50009)",
                hook.uuid()
            );
            let lines: Vec<Line> = if custom {
                planned_for_values(conn, |conn| Ok(sql_query(execute).load(conn)?))?
            } else {
                sql_query(execute).load(conn)?
            };
            sql_query("DEALLOCATE asked").execute(conn)?;
            Ok(lines.into_iter().map(|line| line.line).collect::<Vec<_>>().join("\n"))
        };
        let plan = stage.system.db.once(explain).await.unwrap();
        assert!(
            plan.contains("_subscription_id_sequence_idx") && !plan.contains("Seq Scan"),
            "{name}: {plan}"
        );
        assert!(!plan.contains("Rows Removed by Filter"), "{name}: {plan}");
    }
    stage.close().await;
}
