//! A database that has been in use: a million events with their deliveries and tries over a week, written by Postgres itself. Does it
//! slow what is accepted, or what is listed?
//!
//! It stands beside one with next to nothing in it. The pages show as many events of both, and nothing differs but what lies behind them:
//! the events that they show are newer than the million.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::system::System;
use crate::{
    cost::psql,
    http::{self, Conn},
    latency::{Latency, Summary},
};

/// Events of the tenant that lists, newer than the million.
const FEW: Filling = Filling { events: 5_000, from_hours: 1, to_hours: 0 };

/// Each list is asked for in rounds, of one system and then of the other, so that a machine that is slow for a moment is slow for all of them.
const ROUNDS: usize = 10;
/// Requests of a list in a round. The first round is not measured.
const REQUESTS: usize = 30;

/// Each system accepts in as many turns.
pub(super) const TURNS: usize = 4;

/// After a million rows were written the kernel and Postgres are busy with them for a while, which is not what is measured.
const SETTLING: Duration = Duration::from_secs(20);

/// How many, and the hours before now in which they were accepted.
#[derive(Clone, Copy)]
struct Filling {
    events: u64,
    from_hours: u32,
    to_hours: u32,
}

/// Makes the tenant whose lists are asked for; returns its UUID, and a key without limits.
///
/// # Errors
/// When a command fails.
fn tenant(system: &System) -> Result<(String, String)> {
    let tenant = system.make_tenant()?;
    let key = system.make_key_of(&tenant, false)?;
    let id = psql(&system.database_url, "SELECT id FROM tenants ORDER BY id DESC LIMIT 1")?;
    Ok((id.trim().to_owned(), key))
}

/// Writes events of a tenant with a delivery and a try each: of a hundred one is a dead letter, the others arrived; of ten one has
/// another type and another shop.
///
/// # Errors
/// When Postgres refuses.
fn fill(url: &str, tenant: &str, filling: Filling) -> Result<()> {
    let Filling { events, from_hours, to_hours } = filling;
    psql(
        url,
        "DO $$ DECLARE day date; t text; lower text; upper text; BEGIN \
         FOREACH t IN ARRAY ARRAY['events', 'deliveries', 'delivery_bodies', 'attempts'] LOOP \
           FOR day IN SELECT generate_series(current_date - 8, current_date, '1 day')::date LOOP \
             lower := lpad(to_hex((extract(epoch FROM day) * 1000)::bigint), 12, '0') || repeat('0', 20); \
             upper := lpad(to_hex((extract(epoch FROM day + 1) * 1000)::bigint), 12, '0') || repeat('0', 20); \
             EXECUTE format('CREATE TABLE IF NOT EXISTS %s_%s PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', \
               t, to_char(day, 'YYYYMMDD'), t, lower::uuid, upper::uuid); \
           END LOOP; END LOOP; END $$",
    )?;
    let hook = psql(
        url,
        &format!(
            "INSERT INTO subscriptions (id, tenant_id, kind, url, identity, state, signing_secret, created_at, updated_at) \
             SELECT md5('{tenant}')::uuid, '{tenant}', 0, 'https://hooks.zapier.com/hooks/catch/1/a/', 'bench', 3, '', now(), now() \
             ON CONFLICT DO NOTHING; SELECT md5('{tenant}')::uuid"
        ),
    )?;
    let hook = hook.trim();
    psql(
        url,
        &format!(
            "CREATE UNLOGGED TABLE bench_filling AS SELECT n, at, \
               (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id \
             FROM (SELECT n, md5(random()::text) AS h, date_trunc('milliseconds', now() - interval '{from_hours} hours' \
                     + (interval '1 hour' * ({from_hours} - {to_hours})) * (n / {events}::float8)) AS at \
                   FROM generate_series(0, {events} - 1) n) made; \
             INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
               SELECT '{tenant}', id, CASE WHEN n % 10 = 0 THEN 'order.paid' ELSE 'order.created' END, 0, at, at, \
                 jsonb_build_object('correlation_id', 'c' || n, 'shop', (n % 10)::text), id, false, \
                 convert_to('{{\"id\":\"x\",\"payload\":{{\"text\":\"' || repeat(md5(n::text), 12) || '\"}},\"created_at\":\"' || \
                   to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') || '\"}}', 'UTF8') FROM bench_filling; \
             INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                 next_attempt_at, claim, settled_at, last_status, last_reason) \
               SELECT id, '{hook}', '{tenant}', 0, CASE n % 100 WHEN 7 THEN 2 ELSE 1 END, 1, 1, 0, at, at, \
                 '00000000-0000-0000-0000-000000000000', at, 200, 'success' FROM bench_filling; \
             INSERT INTO attempts (event_id, subscription_id, number, started_at, latency_ms, status, reason, reply) \
               SELECT id, '{hook}', 1, at, 12, 200, 'success', 'ok' FROM bench_filling; \
             DROP TABLE bench_filling"
        ),
    )?;
    // What the server would do about it by itself is done now, not while something is measured.
    psql(url, "VACUUM (ANALYZE) events, deliveries, attempts")?;
    // The owner of a private cluster may not.
    psql(url, "CHECKPOINT").or_else(|_| psql(url, "SELECT 1"))?;
    Ok(())
}

/// Fills both systems, the second with a million events besides, asks both for each list again and again, and returns how long each took to
/// answer.
///
/// # Errors
/// When Postgres refuses, a list is not answered with 200, or one that should be full is not.
pub(super) async fn lists(systems: &[System; 2], quick: bool) -> Result<[BTreeMap<String, Summary>; 2]> {
    let week = Filling { events: if quick { 100_000 } else { 1_000_000 }, from_hours: 7 * 24, to_hours: 1 };
    let [few, many] = systems;
    let owners = [tenant(few)?, tenant(many)?];
    fill(&many.database_url, &owners[1].0, week)?;
    for (system, (owner, _)) in systems.iter().zip(&owners) {
        fill(&system.database_url, owner, FEW)?;
    }
    tokio::time::sleep(SETTLING).await;
    let mut readers =
        [Reader::start(few.api, &owners[0].1).await?, Reader::start(many.api, &owners[1].1).await?];
    for round in 0..=ROUNDS {
        for list in 0..readers[0].lists.len() {
            // In changing order: whatever the first of a pair does to the machine, it does to both.
            let first = (round + list) % 2;
            for system in [first, 1 - first] {
                readers[system].ask(list, round > 0).await?;
            }
        }
    }
    Ok(readers.map(|reader| {
        reader.lists.into_iter().map(|list| (list.name.to_owned(), list.latency.summary())).collect()
    }))
}

/// One of the lists.
struct List {
    name: &'static str,
    path: String,
    latency: Latency,
}

/// Reads on one connection.
struct Reader<'a> {
    conn: Conn,
    host: String,
    key: &'a str,
    lists: Vec<List>,
}

impl<'a> Reader<'a> {
    async fn start(api: SocketAddr, key: &'a str) -> Result<Self> {
        let conn = Conn::connect(&api.to_string()).await?;
        let mut reader = Self { conn, host: api.to_string(), key, lists: Vec::new() };
        let first = |page: &Value, field: &str| -> Result<String> {
            let value = page["data"][0][field].as_str();
            Ok(value.with_context(|| format!("no {field} in {page}"))?.to_owned())
        };
        let deliveries = reader.page("/v1/deliveries").await?;
        let (event, delivery) = (first(&deliveries, "event_id")?, first(&deliveries, "id")?);
        let hook = first(&deliveries, "hook_id")?;
        let newest = first(&reader.page("/v1/events?limit=1").await?, "created_at")?;
        let lists = [
            ("events", "/v1/events".to_owned()),
            ("events by type", "/v1/events?event_type=order.paid".to_owned()),
            ("events by time", format!("/v1/events?until={newest}")),
            ("events by metadata", "/v1/events?metadata.shop=7".to_owned()),
            ("events undelivered", "/v1/events?state=undelivered".to_owned()),
            ("events dead", "/v1/events?state=dead".to_owned()),
            ("events delivered", "/v1/events?state=delivered".to_owned()),
            ("deliveries", "/v1/deliveries".to_owned()),
            ("deliveries of a hook", format!("/v1/deliveries?hook_id={hook}")),
            ("deliveries of an event", format!("/v1/events/{event}/deliveries")),
            ("tries of a delivery", format!("/v1/deliveries/{delivery}")),
            ("dead letters", "/v1/dead-letters".to_owned()),
            ("messages", "/v1/messages".to_owned()),
            ("messages of a type", "/v1/messages?event_type=order.paid".to_owned()),
            ("messages that failed", "/v1/messages?status=Failure".to_owned()),
        ];
        reader.lists =
            lists.map(|(name, path)| List { name, path, latency: Latency::default() }).into_iter().collect();
        Ok(reader)
    }

    /// Asks for a list some times, and keeps how long it took if it `counts`.
    async fn ask(&mut self, list: usize, counts: bool) -> Result<()> {
        let path = self.lists[list].path.clone();
        let page = self.page(&path).await?;
        let rows = page["data"].as_array().map_or(1, Vec::len);
        ensure!(rows == 50 || path.matches('/').count() > 2, "{path} has {rows} entries");
        for _ in 0..REQUESTS {
            let began = Instant::now();
            self.get(&path).await?;
            if counts {
                self.lists[list].latency.record_ns(began.elapsed().as_nanos() as u64);
            }
        }
        Ok(())
    }

    async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let bearer = format!("Bearer {}", self.key);
        let request = http::request("GET", &self.host, path, &[("authorization", &bearer)], b"");
        let answer = self.conn.call(&request).await?;
        ensure!(answer.status == 200, "{path} is answered {}", answer.status);
        Ok(answer.body.to_vec())
    }

    async fn page(&mut self, path: &str) -> Result<Value> {
        serde_json::from_slice(&self.get(path).await?)
            .with_context(|| format!("{path} is not answered with JSON"))
    }
}
