//! Makes a new PostgreSQL cluster with the role and the database `hookyard`, all of it or nothing.
//!
//! It is made beside its place and moved there when it is complete: a crash or a full disk half-way leaves
//! nothing that a later start could take for a cluster.

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

use super::account::Account;
use super::binaries::Installation;
use super::directory::{DataDir, PORT};

/// The role we work as, and its database. It owns the database and is not a superuser.
pub(super) const DATABASE: &str = "hookyard";

/// Files of the write-ahead log that a new cluster begins with, as many as PostgreSQL keeps at the least (`min_wal_size`, 80 MB of
/// 16 MB each). One that has to be made first keeps everybody waiting who commits then, for some 20 ms; one that is there is used again
/// at every checkpoint.
const SPARE_LOG_FILES: usize = 5;

/// The settings of a small machine, and why. `postgres.local.conf` beside the file may change any of them.
const CONFIGURATION: [(&str, &str); 26] = [
    ("listen_addresses", "''"), // the Unix socket only
    ("unix_socket_permissions", "0700"),
    ("max_connections", "60"),
    ("shared_buffers", "128MB"),
    ("effective_cache_size", "1GB"),
    ("maintenance_work_mem", "64MB"),
    ("jit", "off"), // short statements: compiling costs more than it saves
    ("max_parallel_workers_per_gather", "0"), // the services use the other cores
    ("max_worker_processes", "4"),
    ("fsync", "on"), // a 202 promises that the event survives a power cut
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_compression", "on"),
    ("wal_buffers", "16MB"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("autovacuum_naptime", "15s"), // queues: many dead rows in few, small tables
    ("autovacuum_vacuum_cost_limit", "1000"),
    ("timezone", "'UTC'"),
    ("log_timezone", "'UTC'"),
    ("logging_collector", "on"),
    ("log_filename", "'postgresql-%a.log'"), // one per weekday, each replaced after a week
    ("log_truncate_on_rotation", "on"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
];

/// Creates the cluster. There is none yet, and no other process works in `dir`.
pub(super) fn create(dir: &DataDir, account: &Account, installed: &Installation) -> Result<()> {
    let staging = dir.staging();
    if staging.exists() {
        std::fs::remove_dir_all(&staging)
            .with_context(|| format!("cannot remove the half-made cluster `{}`", staging.display()))?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&staging)
        .with_context(|| format!("cannot make `{}`", staging.display()))?;
    account.own(&staging)?;

    // Every connection is trusted because only root and the server's account can reach the socket.
    let mut initdb = account.command(&installed.program("initdb"));
    initdb
        .arg("--pgdata")
        .arg(&staging)
        .args(["--username=postgres", "--auth-local=trust", "--auth-host=reject"])
        .args(["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]);
    // It is synchronised to the disk, which takes some seconds once: from here on it is the truth.
    finish(initdb, "initdb", "")?;

    // A server of one process, without a socket: nobody can connect before the role exists.
    let mut single = account.command(&installed.program("postgres"));
    single.arg("--single").arg("-D").arg(&staging).args(["-c", "exit_on_error=true", "postgres"]);
    // A file that nothing was written to would not be left for the next.
    let next_log_file = "SELECT pg_logical_emit_message(true, 'hookyard', '');\nSELECT pg_switch_wal();\n";
    let statements = format!(
        "CREATE ROLE {DATABASE} LOGIN;\nCREATE DATABASE {DATABASE} OWNER {DATABASE};\n{}CHECKPOINT;\n",
        next_log_file.repeat(SPARE_LOG_FILES)
    );
    finish(single, "postgres --single", &statements)?;

    std::fs::rename(&staging, dir.cluster())
        .with_context(|| format!("cannot move `{}` to its place", staging.display()))?;
    File::open(dir.top()).and_then(|top| top.sync_all()).context("cannot synchronise the data directory")
}

/// Writes the configuration of this version of ours. What the operator adds stands in a file we never touch.
pub(super) fn configure(dir: &DataDir) -> Result<()> {
    let mut text = String::from(
        "# Written by hookyard at every start: put your own settings into postgres.local.conf beside this file.\n",
    );
    for (name, value) in CONFIGURATION {
        text.push_str(&format!("{name} = {value}\n"));
    }
    text.push_str(&format!("log_directory = '{}'\n", dir.logs().display()));
    text.push_str("include_if_exists 'postgres.local.conf'\n");
    let path = dir.configuration();
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// The arguments of the server, which stand above every configuration file.
pub(super) fn arguments(dir: &DataDir, socket_dir: &std::path::Path) -> Vec<String> {
    vec![
        "-D".to_owned(),
        dir.cluster().display().to_string(),
        "-c".to_owned(),
        format!("config_file={}", dir.configuration().display()),
        "-c".to_owned(),
        format!("port={PORT}"),
        "-c".to_owned(),
        // The setting is a list; quotes keep a comma in the path from ending the item.
        format!("unix_socket_directories=\"{}\"", socket_dir.display()),
    ]
}

/// Runs `command` to its end with `input`, and fails with what it said when it fails.
fn finish(mut command: Command, name: &str, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that failed early has closed its end: what it said is the better message.
        drop(stdin.write_all(input.as_bytes()));
    }
    let Output { status, stdout, stderr } =
        child.wait_with_output().with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() {
        let said = [stdout, stderr].concat();
        bail!("{name} failed ({status}): {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}
