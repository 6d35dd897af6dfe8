//! Events at the gateway: posting one or a hundred, what is refused and how, reading them, overload and stopping.

mod batches;
mod bodies;
mod posting;
mod pressure;
mod reading;

use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use hookyard_tests::http::Client;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

fn count_events(conn: &mut PgConnection) -> hookyard_domain::Result<i64> {
    Ok(sql_query("SELECT count(*) AS n FROM events").get_result::<Count>(conn)?.n)
}

fn event(event_type: &str, payload: &Value) -> String {
    json!({"event_type": event_type, "payload": payload}).to_string()
}

/// An event whose text has exactly so many bytes.
fn event_of(bytes: usize) -> String {
    let empty = event("a.b", &json!({"x": ""})).len();
    event("a.b", &json!({"x": "x".repeat(bytes - empty)}))
}

async fn post(client: &Client, body: &str) -> String {
    client.post("/events", body).await.expect(202)["event_id"].as_str().unwrap().to_owned()
}

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}
