//! Keys from outside: who makes and ends them, over HTTP and at the command line, and what they open.

mod api;
mod commands;
mod integration;
mod source;

use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Text},
};
use hookyard_tests::{
    http::{Client, Reply},
    system::{Options, System},
};
use serde_json::Value;

const EVENT: &str = r#"{"event_type":"order.created","payload":{"id":1}}"#;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// A number that a query tells as `n`.
async fn count(system: &System, sql: &'static str) -> i64 {
    system.db.once(move |conn| Ok(sql_query(sql).get_result::<Count>(conn)?.n)).await.unwrap()
}

/// The actions in the audit log, oldest first.
async fn audited(system: &System) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        action: String,
    }
    let all = |conn: &mut diesel::PgConnection| {
        Ok(sql_query("SELECT action FROM audit_log ORDER BY tenant_id, seq").load::<Row>(conn)?)
    };
    system.db.once(all).await.unwrap().into_iter().map(|row| row.action).collect()
}

/// Whether a text stands anywhere in a table, whatever the column.
async fn stands_in(system: &System, table: &str, text: &str) -> bool {
    let sql = format!(
        "SELECT count(*) AS n FROM {table} t WHERE t::text LIKE '%{text}%' OR t::text LIKE '%' || \
         encode(convert_to('{text}', 'UTF8'), 'hex') || '%'"
    );
    system.db.once(move |conn| Ok(sql_query(sql).get_result::<Count>(conn)?.n > 0)).await.unwrap()
}

async fn two_gateways() -> System {
    System::with(Options { gateways: 2, ..Options::default() }).await
}

/// The same client at every gateway.
fn everywhere(system: &System, key: &str) -> Vec<Client> {
    system.gateways.iter().map(|gateway| Client::new(gateway.addr).with_key(key)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// How many answers have this status.
fn with_status(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}
