//! Numbers of deliveries from outside: contiguous whatever races, signed, and every hole told of.

mod gaps;
mod numbers;
mod plans;
mod signature;

use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Nullable, Uuid},
};
use hookyard_domain::{db::Conn, id::SubscriptionId};
use serde_json::Value;

use crate::pipeline::stage::Stage;

#[derive(Debug, QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
}

/// The numbers of a hook's deliveries, in order.
async fn numbers(stage: &Stage, hook: &str) -> Vec<Option<i64>> {
    let hook: SubscriptionId = hook.parse().unwrap();
    let read = move |conn: &mut Conn| {
        let rows: Vec<Number> =
            sql_query("SELECT sequence FROM deliveries WHERE subscription_id = $1 ORDER BY sequence")
                .bind::<Uuid, _>(hook)
                .load(conn)?;
        Ok(rows.into_iter().map(|row| row.sequence).collect())
    };
    stage.system.db.once(read).await.unwrap()
}

/// Runs a statement.
async fn execute(stage: &Stage, sql: &'static str) {
    stage.system.db.once(move |conn| Ok(sql_query(sql).execute(conn)?)).await.unwrap();
}

/// What a crash of Postgres does to unlogged tables.
async fn crash(stage: &Stage) {
    execute(stage, "TRUNCATE sequence_generation").await;
}

async fn gaps(stage: &Stage, hook: &str, query: &str) -> Value {
    stage.client.get(&format!("/v1/subscriptions/{hook}/gaps{query}")).await.expect(200)
}
