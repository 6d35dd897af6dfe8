//! A hundred thousand runs that wait are not read to take some: each claim goes by an index, as Postgres plans it for any
//! values, which is what prepared statements get.

use std::time::Instant;

use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, SmallInt, Text, Uuid},
};
use hookyard_domain::{
    db::Conn,
    id::{TenantId, WorkerId},
    task::{
        AgentType,
        claim::{self, CHOICE, WORKER_CHOICE, WorkerWants},
        lease,
    },
};

use super::{claims::small, stage::Shop};

/// Rows that no step of a plan touches more than.
const MOST: u64 = 300;

/// So many runs that wait, of each priority.
async fn fill(shop: &Shop, tenant: TenantId, agent: AgentType, rows: i64) {
    let fill = move |conn: &mut Conn| {
        sql_query(
            "WITH new AS MATERIALIZED (SELECT gen_random_uuid() AS task, gen_random_uuid() AS run, n \
                FROM generate_series(1, $2) n), \
             made AS (INSERT INTO tasks (id, tenant_id, run_id, title, description, agent_type, model, resolved, \
                priority, capabilities, webhook_events, timeout_s, trace, sampled, created_at) \
                SELECT task, $1, run, 't', 'd', $3, 'm', 'offline:text', n % 101, '{}', 0, 600, task, false, now() FROM new) \
             INSERT INTO task_runs (id, task_id, tenant_id, number, latest, state, agent_type, model, resolved, priority, \
                capabilities, built_in, timeout_s, queued_at, due_at) \
             SELECT run, task, $1, 1, true, 0, $3, 'm', 'offline:text', n % 101, '{}', $4, 600, now(), \
                now() + interval '1 day' FROM new",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<BigInt, _>(rows)
        .bind::<SmallInt, _>(agent)
        .bind::<Bool, _>(agent.built_in())
        .execute(conn)?;
        Ok(())
    };
    shop.run(fill).await;
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// How a statement is carried out with these values, planned for any.
async fn plan(shop: &Shop, statement: &str, types: &str, values: String) -> String {
    let prepare = format!("PREPARE planned ({types}) AS {statement}");
    let lines = move |conn: &mut Conn| {
        sql_query("ANALYZE tasks, task_runs").execute(conn)?;
        sql_query("SET LOCAL plan_cache_mode = force_generic_plan").execute(conn)?;
        sql_query(prepare).execute(conn)?;
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE planned ({values})");
        let lines: Vec<Line> = sql_query(explain).load(conn)?;
        sql_query("DEALLOCATE planned").execute(conn)?;
        Ok(lines)
    };
    let lines = shop.run(lines).await;
    lines.into_iter().map(|line| line.line).collect::<Vec<_>>().join("\n")
}

fn goes_by(plan: &str, index: &str) {
    assert!(plan.contains(index) && !plan.contains("Seq Scan on task_runs"), "{plan}");
    let rows = plan.lines().filter_map(|line| {
        let rows = line.split("actual rows=").nth(1)?;
        rows.split([' ', '.', ')']).next()?.parse::<u64>().ok()
    });
    let filtered = plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "));
    let touched = rows.chain(filtered.filter_map(|rows| rows.parse().ok())).max();
    assert!(touched.unwrap() <= MOST, "{plan}");
}

#[tokio::test]
async fn a_claim_of_the_built_in_executor_goes_by_an_index() {
    let shop = Shop::with(small(10_000)).await;
    for tenant in [shop.tenant, shop.new_tenant().await, shop.new_tenant().await] {
        fill(&shop, tenant, AgentType::General, 33_334).await;
    }
    let plan = plan(&shop, CHOICE, "bigint, bigint, bigint", "10000, 64, 1000".to_owned()).await;
    goes_by(&plan, "task_runs_queue");
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(shop.claim(16).await.len(), 16);
        took.push(began.elapsed());
    }
    took.sort();
    println!("claims of 16 with 100,000 waiting: median {:?}, slowest {:?}", took[10], took[19]);
}

#[tokio::test]
async fn a_claim_of_a_worker_goes_by_an_index() {
    let shop = Shop::open().await;
    fill(&shop, shop.tenant, AgentType::Build, 100_000).await;
    let (types, tenant) = ("uuid, smallint[], boolean, text[], text[], bigint", shop.tenant.uuid());
    let build = AgentType::Build.code();
    for (any, models) in [("true", "{}"), ("false", "{m}")] {
        let values = format!("'{tenant}', '{{{build}}}', {any}, '{models}', '{{gpu}}', 16");
        goes_by(&plan(&shop, WORKER_CHOICE, types, values).await, "task_runs_worker_queue");
    }
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let (settings, now) = (shop.ledger.settings.clone(), shop.now);
        let wants = WorkerWants {
            worker: WorkerId::new(now),
            tenant: shop.tenant,
            agent_types: vec![AgentType::Build, AgentType::Explore],
            models: None,
            capabilities: Vec::new(),
        };
        let claimed = shop.run(move |conn| claim::claim_for_worker(conn, &settings, &wants, 16, now)).await;
        assert_eq!(claimed.len(), 16);
        took.push(began.elapsed());
    }
    took.sort();
    println!("a worker's claims of 16 with 100,000 waiting: median {:?}, slowest {:?}", took[10], took[19]);
}

#[tokio::test]
async fn who_waits_for_work_and_whose_timer_is_due_is_found_by_an_index() {
    let shop = Shop::open().await;
    fill(&shop, shop.tenant, AgentType::Build, 100_000).await;
    let values = format!("'{{{}}}', '{{0,1,2,3}}'", shop.tenant.uuid());
    goes_by(&plan(&shop, claim::WAITING, "uuid[], smallint[]", values).await, "task_runs_worker_queue");
    let values = "now(), 100".to_owned();
    goes_by(&plan(&shop, lease::OVERDUE, "timestamptz, bigint", values).await, "task_runs_due");
}
