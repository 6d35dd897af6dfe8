//! The audit log from outside: what is told, who may read it, and that whatever is done to it afterwards shows.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

mod chain;
mod commands;
mod readers;
mod scene;
mod system_actor;
mod tampering;
mod wired;

use std::process::Output;

use diesel::{PgConnection, RunQueryDsl, sql_query};
use hookyard_domain::{
    audit::{Action, Actor, Entry, ObjectKind, ObjectRef, record_all},
    id::TenantId,
};
use hookyard_tests::{
    http::Client,
    processes::{Environment, environment, run},
    system::System,
};
use serde_json::{Value, json};

/// An entry about the n-th key of a tenant.
fn entry(tenant: TenantId, n: usize) -> Entry {
    let object = ObjectRef::new(ObjectKind::Key, format!("key-{n}"));
    Entry::new(tenant, Action::KeyCreated, object).after(json!({"n": n}))
}

/// Writes so many entries at once.
async fn write(system: &System, tenant: TenantId, count: usize) {
    let now = system.clock.now();
    let entries: Vec<Entry> = (1..=count).map(|n| entry(tenant, n)).collect();
    let written = system.db.run(move |conn| record_all(conn, &Actor::operator("alice"), &entries, now)).await;
    written.unwrap();
}

/// Everything that the caller's tenant has in its log, oldest first.
async fn exported(client: &Client) -> Vec<Value> {
    let reply = client.get("/v1/audit/export").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What whoever owns the server can do: statements that no trigger stops.
fn forge(conn: &mut PgConnection, statements: &str) {
    sql_query("SET LOCAL session_replication_role = replica").execute(conn).unwrap();
    for statement in statements.split(';').filter(|statement| !statement.trim().is_empty()) {
        sql_query(statement).execute(conn).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// What a command of the operator needs to find the system's database.
fn at(system: &System) -> Environment {
    environment("", &[("DATABASE_URL", &system.database.url())])
}

/// `hookyard audit verify`: whether all is good, and what it prints, both streams.
fn verify(system: &System, arguments: &[&str]) -> (bool, String) {
    let arguments = [&["audit", "verify"], arguments].concat();
    told(&run(&arguments, &at(system)))
}

fn told(output: &Output) -> (bool, String) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    (output.status.success(), String::from_utf8(said).unwrap())
}
