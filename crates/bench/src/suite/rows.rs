//! What Postgres is worth on this machine: rows that are inserted and updated by two hundred, as in the peer study.
//!
//! `pgbench`, which comes with the server, sends the statements; nothing of Hookyard is in them. What counts is the processor time for
//! a row: rates depend on what else the machine has to do.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result};

use super::{case::label, child::Process, server};
use crate::{
    cost::{Proc, Watch, checkpoint, psql},
    load::Report,
};

/// Rows of a statement, and of the table that is updated.
const ROWS: u64 = 200;
const TABLE: u64 = 400_000;
const CLIENTS: u32 = 8;

fn schema() -> String {
    format!(
        "create sequence numbers cache 100; \
         create table attempt (id bigint generated always as identity primary key, event_id bigint not null, \
            endpoint_id bigint not null, status smallint not null, response_status smallint, duration_ms int, \
            created_at timestamptz not null default now()); \
         create index on attempt (event_id); \
         create table delivery (id bigint primary key, status smallint not null, attempts smallint not null, \
            updated_at timestamptz not null default now()) with (fillfactor = 70); \
         insert into delivery select i, 0, 0 from generate_series(0, {TABLE} - 1) i"
    )
}

/// Ids that follow on one another, of one statement. They are part of its text: parameters would be planned for differently.
fn ids(each: &str) -> String {
    format!("array(select {each} from (select nextval('numbers') as n) f, generate_series(0, {ROWS} - 1) i)")
}

fn statements() -> [(&'static str, String); 2] {
    let inserted = ids(&format!("n * {ROWS} + i"));
    let updated = ids(&format!("(n * {ROWS} + i) % {TABLE}"));
    [
        (
            "insert.sql",
            format!(
                "insert into attempt (event_id, endpoint_id, status, response_status, duration_ms) \
                 select i, 1, 1, 200, 5 from unnest({inserted}) i;\n"
            ),
        ),
        (
            "update.sql",
            format!(
                "update delivery set status = 1, attempts = attempts + 1, updated_at = now() \
                 where id = any({updated});\n"
            ),
        ),
    ]
}

/// Inserts and updates, one as often as the other, in a database of its own.
///
/// # Errors
/// When there is no server, it is not on this machine, or `pgbench` is not installed.
pub(crate) async fn measure(admin_url: &str, folder: &Path, quick: bool) -> Result<Report> {
    let seconds: u32 = if quick { 1 } else { 5 };
    let name = format!("hookyard_bench_{}_rows", std::process::id());
    let database = server::Database::create(admin_url, &name)?;
    psql(&database.url, &schema())?;
    checkpoint(&database.url)?;
    let postmaster = server::postmaster(&database.url)?.context("the server is not on this machine")?;
    let mut pgbench = Command::new("pgbench");
    pgbench.args(["-n", "-M", "prepared", "-j", "1", "-c", &CLIENTS.to_string(), "-T", &seconds.to_string()]);
    for (file, statement) in statements() {
        let path = folder.join(file);
        fs::write(&path, statement)?;
        pgbench.arg("-f").arg(path);
    }
    pgbench.arg(&database.url);
    let log = folder.join("pgbench.log");
    // What a child used is this process's when it has ended.
    let procs = [("postgres", postmaster), ("load", std::process::id())];
    let watch = Watch::start(&procs.map(|(name, pid)| Proc { name: name.into(), pid }))?;
    let started = Instant::now();
    Process::start("pgbench", pgbench, log.clone())?.finished().await?;
    let watched_s = started.elapsed().as_secs_f64();
    let (usage, other_cpu_s) = watch.finish();
    let text = fs::read_to_string(&log)?;
    let statements =
        processed(&text).with_context(|| format!("pgbench does not tell what it did:\n{text}"))?;
    let rows = statements * ROWS;
    let mut report = Report {
        label: label::ROWS.into(),
        accepted: rows,
        delivered: rows,
        accepted_per_s: rows as f64 / watched_s,
        delivered_per_s: rows as f64 / watched_s,
        usage,
        other_cpu_s,
        watched_s,
        ..Report::default()
    };
    report.cpu_s_per_1000 = report.cpu_per_1000("postgres").unwrap_or(0.0);
    Ok(report)
}

fn processed(text: &str) -> Option<u64> {
    let line =
        text.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "))?;
    line.split('/').next()?.trim().parse().ok().filter(|statements| *statements > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_did_is_read() {
        let of = |tail: &str| {
            processed(&format!(
                "scaling factor: 1\nnumber of transactions actually processed: {tail}\ntps = 1\n"
            ))
        };
        assert_eq!((of("3118"), of("40/50")), (Some(3_118), Some(40)));
        assert_eq!((of("0"), processed("pgbench: error")), (None, None));
    }
}
