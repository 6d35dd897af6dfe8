//! What mode `services` needs on real servers: a fresh database and a fresh virtual host, both deleted at the end, and the
//! processes of the servers, which are charged for their part.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use url::Url;

use crate::cost::{is_alive, named, parent, psql};

/// Executable name of Postgres' processes.
pub(crate) const POSTGRES: &str = "postgres";
/// Executable name of RabbitMQ's runtime.
const BEAM: &str = "beam.smp";

/// A database of our own; its `Drop` deletes it.
pub(crate) struct Database {
    admin_url: String,
    name: String,
    /// URL of the database.
    pub(crate) url: String,
}

impl Database {
    /// Creates the database.
    ///
    /// # Errors
    /// When the server refuses, or the URL is none.
    pub(crate) fn create(admin_url: &str, name: &str) -> Result<Self> {
        let url = with_path(admin_url, name)?;
        psql(admin_url, &format!("create database {name}")).context("cannot create the database")?;
        Ok(Self { admin_url: admin_url.into(), name: name.into(), url })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = psql(&self.admin_url, &format!("drop database if exists {} with (force)", self.name));
        if let Err(error) = dropped {
            eprintln!("cannot drop database {}: {error}", self.name);
        }
    }
}

/// A virtual host of our own; its `Drop` deletes it with all its queues and exchanges, whatever their names are.
pub(crate) struct VirtualHost {
    name: String,
    /// AMQP URL of the virtual host.
    pub(crate) url: String,
}

impl VirtualHost {
    /// Adds the virtual host and lets the user of the URL do everything in it.
    ///
    /// # Errors
    /// When rabbitmqctl is missing or refuses (it wants root or RabbitMQ's own user).
    pub(crate) fn create(amqp_url: &str, name: &str) -> Result<Self> {
        let url = with_path(amqp_url, name)?;
        let user = match Url::parse(amqp_url)?.username() {
            "" => "guest".to_owned(),
            user => user.to_owned(),
        };
        rabbitmqctl(&["add_vhost", name])?;
        let host = Self { name: name.into(), url };
        rabbitmqctl(&["set_permissions", "-p", name, &user, ".*", ".*", ".*"])?;
        Ok(host)
    }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        if let Err(error) = rabbitmqctl(&["delete_vhost", &self.name]) {
            eprintln!("cannot delete virtual host {}: {error}", self.name);
        }
    }
}

fn rabbitmqctl(args: &[&str]) -> Result<()> {
    let out = Command::new("rabbitmqctl")
        .arg("-q")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("rabbitmqctl cannot be run (needed for mode services)")?;
    if !out.status.success() {
        let text = [out.stdout, out.stderr].concat();
        bail!("rabbitmqctl {} failed: {}", args[0], String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}

/// `url` with another path: another database, another virtual host.
fn with_path(url: &str, name: &str) -> Result<String> {
    let mut parsed = Url::parse(url).context("not a URL")?;
    parsed.set_path(&format!("/{name}"));
    Ok(parsed.into())
}

/// The process all backends of the server descend from; None when the server does not run on this machine, which leaves
/// its cost out of the report.
///
/// # Errors
/// When psql cannot be run.
pub(crate) fn postmaster(url: &str) -> Result<Option<u32>> {
    let mut client = Command::new("psql")
        .args(["-XAtqw", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("psql cannot be run")?;
    let answer = ask_backend(&mut client);
    // The backend lives until here: its parent was looked up while it did.
    let _stopped = client.kill();
    let _reaped = client.wait();
    answer
}

fn ask_backend(client: &mut std::process::Child) -> Result<Option<u32>> {
    use std::io::Write;
    let (Some(stdin), Some(stdout)) = (client.stdin.as_mut(), client.stdout.as_mut()) else {
        bail!("psql has no pipes");
    };
    writeln!(stdin, "select pg_backend_pid();")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let backend: u32 = line.trim().parse().context("psql did not tell its backend")?;
    let local = is_alive(backend, POSTGRES);
    Ok(parent(backend).filter(|parent| local && is_alive(*parent, POSTGRES)))
}

/// The broker's process; None when it does not run on this machine.
pub(crate) fn broker() -> Option<u32> {
    named(BEAM).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_everything_but_its_path() {
        let database =
            with_path("postgres://me:secret@127.0.0.1:5433/postgres?sslmode=disable", "own").unwrap();
        assert_eq!(database, "postgres://me:secret@127.0.0.1:5433/own?sslmode=disable");
        let broker = with_path("amqp://guest:guest@127.0.0.1:5672/%2f?heartbeat=10", "own").unwrap();
        assert_eq!(broker, "amqp://guest:guest@127.0.0.1:5672/own?heartbeat=10");
        assert_eq!(with_path("amqp://127.0.0.1:5672", "own").unwrap(), "amqp://127.0.0.1:5672/own");
    }
}
