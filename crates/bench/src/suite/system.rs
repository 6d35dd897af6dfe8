//! Hookyard as the suite starts it: fresh storage, the processes of one mode, and keys made on the command line.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    child::{self, Process},
    cluster::Cluster,
    server::{self, Database, VirtualHost},
    timing::Timing,
};
use crate::{
    cost::{Proc, checkpoint, rss_bytes},
    http,
};

/// How long the processes may take until all are ready; the first start of `up` makes a database cluster.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Secrets of databases that are dropped at the end need no secret key.
pub(super) const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Scopes of the keys the suite makes.
const SCOPES: &str = "admin,events:read,events:write,hooks:read,hooks:write";

/// How Hookyard is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// A process for each service, on real Postgres and RabbitMQ
    Services,
    /// `hookyard up`: one process, private Postgres, in-process bus
    Up,
}

impl Mode {
    /// Both modes.
    pub(crate) const ALL: [Self; 2] = [Self::Services, Self::Up];

    /// Name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Up => "up",
        }
    }
}

/// What a start needs to know.
pub(crate) struct Plan<'a> {
    /// The binary.
    pub(crate) hookyard: &'a Path,
    /// Where logs and data go.
    pub(crate) folder: &'a Path,
    /// See [`super::Args`].
    pub(crate) database_url: &'a str,
    /// See [`super::Args`].
    pub(crate) amqp_url: &'a str,
    /// See [`super::Args`].
    pub(crate) embedded_url: &'a str,
    /// Where the sink listens: URLs there are allowed as hooks.
    pub(crate) sink: SocketAddr,
    /// Whether the gateway writes what follows from small events, as it does by default.
    pub(crate) foresight: bool,
}

/// A running Hookyard.
pub(crate) struct System {
    // Fields are dropped in this order: first the processes, then what they stand on.
    processes: Vec<Running>,
    storage: Storage,
    hookyard: PathBuf,
    folder: PathBuf,
    env: Env,
    /// Where the gateway listens.
    pub(crate) api: SocketAddr,
    /// The database, for its counters.
    pub(crate) database_url: String,
}

/// What the processes stand on; deleted when dropped.
enum Storage {
    Servers { _database: Database, _host: VirtualHost },
    Private(Cluster),
}

type Env = Vec<(&'static str, String)>;

/// A process of Hookyard and where it tells whether it is ready.
struct Running {
    process: Process,
    ops: String,
}

impl System {
    /// Starts Hookyard in `mode` and waits until it is ready.
    ///
    /// # Errors
    /// When a part cannot be started or is not ready in time; the text shows the end of its log.
    pub(crate) async fn start(mode: Mode, plan: &Plan<'_>) -> Result<Self> {
        let mut system = match mode {
            Mode::Services => Self::start_services(plan)?,
            Mode::Up => Self::start_up(plan)?,
        };
        system.wait_ready().await?;
        if let Storage::Private(cluster) = &system.storage {
            system.database_url = cluster.postmaster()?.url(plan.embedded_url, cluster.data_dir());
            system.env.push(("DATABASE_URL", system.database_url.clone()));
        }
        checkpoint(&system.database_url)?;
        Ok(system)
    }

    fn start_services(plan: &Plan<'_>) -> Result<Self> {
        // Two may run side by side.
        let folder = plan.folder.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("hookyard_bench_{}_{folder}", std::process::id());
        let database = Database::create(plan.database_url, &name)?;
        let host = VirtualHost::create(plan.amqp_url, &name)?;
        let mut env = common_env(plan);
        env.push(("DATABASE_URL", database.url.clone()));
        env.push(("AMQP_URL", host.url.clone()));
        env.push(("HOOKYARD__AMQP__NAMESPACE", format!("bench.{}.", std::process::id())));
        let mut migrate = command(plan.hookyard, &["migrate"], plan.folder, &env);
        child::output("hookyard migrate", &mut migrate, &plan.folder.join("migrate.log"))?;

        let [gateway, registry, delivery, runner, ops_1, ops_2, ops_3, ops_4] = free_addresses()?;
        let mut system = Self {
            processes: Vec::new(),
            database_url: database.url.clone(),
            storage: Storage::Servers { _database: database, _host: host },
            hookyard: plan.hookyard.into(),
            folder: plan.folder.into(),
            env,
            api: gateway,
        };
        system.spawn("gateway", &["gateway"], gateway, ops_1)?;
        system.spawn("registry", &["registry"], registry, ops_2)?;
        system.spawn("delivery", &["delivery"], delivery, ops_3)?;
        system.spawn("runner", &["runner"], runner, ops_4)?;
        Ok(system)
    }

    fn start_up(plan: &Plan<'_>) -> Result<Self> {
        let cluster = Cluster::new(plan.folder.join("data"));
        let data_dir = cluster.data_dir().display().to_string();
        let [api, ops] = free_addresses()?;
        let mut system = Self {
            processes: Vec::new(),
            storage: Storage::Private(cluster),
            hookyard: plan.hookyard.into(),
            folder: plan.folder.into(),
            env: common_env(plan),
            api,
            database_url: String::new(),
        };
        system.spawn("up", &["up", "--data-dir", &data_dir], api, ops)?;
        Ok(system)
    }

    fn spawn(&mut self, name: &'static str, args: &[&str], http: SocketAddr, ops: SocketAddr) -> Result<()> {
        let mut command = command(&self.hookyard, args, &self.folder, &self.env);
        command.env("HOOKYARD__HTTP__LISTEN", http.to_string()).env("HOOKYARD__OPS__LISTEN", ops.to_string());
        let process = Process::start(name, command, self.folder.join(format!("{name}.log")))?;
        self.processes.push(Running { process, ops: ops.to_string() });
        Ok(())
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for Running { process, ops } in &mut self.processes {
            loop {
                process.check()?;
                if matches!(http::get(ops, "/readyz").await, Ok((200, _))) {
                    break;
                }
                let late = Instant::now() > deadline;
                ensure!(
                    !late,
                    "{} is not ready after {READY_WITHIN:?}\n{}",
                    process.name,
                    process.log_tail()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Makes a tenant with a key, and returns the key. One without limits is not counted; one with a limit that nobody reaches
    /// is counted like any other.
    ///
    /// # Errors
    /// When the command line fails or does not print what its documentation says.
    pub(crate) fn make_key(&self, limited: bool) -> Result<String> {
        self.make_key_of(&self.make_tenant()?, limited)
    }

    /// Makes a tenant, and returns its id.
    ///
    /// # Errors
    /// As [`System::make_key`].
    pub(crate) fn make_tenant(&self) -> Result<String> {
        self.cli(&["tenants", "create", "--name", "bench", "--json"], "tenant_id")
    }

    /// Makes a key of a tenant.
    ///
    /// # Errors
    /// As [`System::make_key`].
    pub(crate) fn make_key_of(&self, tenant: &str, limited: bool) -> Result<String> {
        let make = ["keys", "create", "--tenant", tenant, "--name", "bench", "--scopes", SCOPES];
        let limit = if limited { "1000000000" } else { "0" };
        let limits = ["--rate-limit", limit, "--hook-write-limit", "0", "--json"];
        self.cli(&[&make[..], &limits[..]].concat(), "key")
    }

    /// Runs the command line and takes one field of the JSON it prints.
    fn cli(&self, args: &[&str], field: &str) -> Result<String> {
        let name = format!("hookyard {} {}", args[0], args[1]);
        let mut command = command(&self.hookyard, args, &self.folder, &self.env);
        let out = child::output(&name, &mut command, &self.folder.join("cli.log"))?;
        let json: Value = serde_json::from_str(&out).with_context(|| format!("{name} did not print JSON"))?;
        let value = json.get(field).and_then(Value::as_str);
        Ok(value.with_context(|| format!("{name} printed no {field}"))?.to_owned())
    }

    /// The processes to charge: those of Hookyard, Postgres and, in mode services, the broker.
    ///
    /// # Errors
    /// When the private Postgres is not there.
    pub(crate) fn charged(&self) -> Result<Vec<Proc>> {
        let own = self.processes.iter().map(|running| &running.process);
        let mut out: Vec<Proc> =
            own.map(|process| Proc { name: process.name.into(), pid: process.pid() }).collect();
        let (postgres, broker) = match &self.storage {
            Storage::Private(cluster) => (Some(cluster.postmaster()?.pid), None),
            Storage::Servers { .. } => (server::postmaster(&self.database_url)?, server::broker()),
        };
        out.extend(postgres.map(|pid| Proc { name: "postgres".into(), pid }));
        out.extend(broker.map(|pid| Proc { name: "rabbit".into(), pid }));
        Ok(out)
    }

    /// How long something took so far that one of the processes counts as `metric`.
    ///
    /// # Errors
    /// When it does not tell.
    pub(crate) async fn timing(&self, process: &str, metric: &str) -> Result<Timing> {
        let mut asked =
            self.processes.iter().filter(|running| [process, "up"].contains(&running.process.name));
        let Some(Running { ops, .. }) = asked.next() else { return Ok(Timing::default()) };
        let (status, body) =
            http::get(ops, "/metrics").await.with_context(|| format!("no metrics of {process}"))?;
        ensure!(status == 200, "{process} answered {status} to /metrics");
        Ok(Timing::read(&String::from_utf8_lossy(&body), metric))
    }

    /// The memory of one of the processes that is in RAM at the moment, in bytes.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn rss_bytes(&self, name: &str) -> Result<u64> {
        let running = self.processes.iter().find(|running| running.process.name == name);
        let pid = running.with_context(|| format!("there is no process {name}"))?.process.pid();
        Ok(rss_bytes(pid))
    }

    /// Makes sure that all processes still run.
    ///
    /// # Errors
    /// When one ended; the text shows the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(|running| running.process.check())
    }
}

fn common_env(plan: &Plan<'_>) -> Env {
    let mut env = vec![
        ("HOOKYARD__HOOKS__EXTRA_URL_PREFIXES", format!("http://{}/", plan.sink)),
        ("HOOKYARD__EGRESS__ALLOW", "127.0.0.0/8".into()),
        ("HOOKYARD__SECRETS__MASTER_KEY", MASTER_KEY.into()),
    ];
    if !plan.foresight {
        env.push(("HOOKYARD__GATEWAY__FORESIGHT", "false".into()));
    }
    env
}

/// A command of the binary that sees no setting but `env`: neither the caller's environment nor a file in the folder the
/// suite was started from.
fn command(hookyard: &Path, args: &[&str], folder: &Path, env: &Env) -> Command {
    let mut command = Command::new(hookyard);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HOOKYARD") || ["DATABASE_URL", "AMQP_URL", "RUST_LOG"].contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    command.args(args).current_dir(folder).envs(env.iter().map(|(name, value)| (name, value)));
    command
}

/// Loopback addresses whose ports nobody uses now.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().map_err(|_| anyhow::anyhow!("no free port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_differ() {
        let [a, b] = free_addresses().unwrap();
        assert!(a != b && a.ip().is_loopback());
    }

    #[test]
    fn a_command_gets_its_settings_from_the_suite_only() {
        let env: Env = vec![("DATABASE_URL", "postgres://x/y".into())];
        let command = command(Path::new("hookyard"), &["migrate"], Path::new("/"), &env);
        let seen: Vec<_> = command.get_envs().filter(|(name, _)| *name == "DATABASE_URL").collect();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].1.unwrap(), "postgres://x/y");
    }
}
