//! A RabbitMQ of a test's own, to be stopped, killed and started: the one of the machine serves everybody and is never
//! touched.
//!
//! It has its own node name, ports, cookie, data and port mapper (`epmd`), and no plugins.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::processes::{free_port, signal};

/// Debian's command changes its account, its directory and its logs; the script behind it does what it is told.
const BEHIND_DEBIANS: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The first start takes some ten seconds, later ones two.
const PATIENCE: Duration = Duration::from_secs(120);

/// A RabbitMQ that runs or not. Ended when dropped; its files stay when the test fails.
#[derive(Debug)]
pub struct Broker {
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    epmd: Child,
    node: Option<Child>,
    dir: Option<TempDir>,
}

impl Broker {
    /// A broker that does not run yet.
    ///
    /// # Panics
    /// When Erlang is not installed.
    pub fn stopped() -> Self {
        let dir = tempfile::Builder::new().prefix("hookyard-broker-").tempdir().expect("a directory");
        std::fs::write(dir.path().join("plugins"), "[].\n").expect("a file can be written");
        let epmd_port = free_port();
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd starts: fault tests need RabbitMQ and Erlang installed (scripts/test does it)");
        Self { port: free_port(), dist_port: free_port(), epmd_port, epmd, node: None, dir: Some(dir) }
    }

    /// A broker that runs.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn running() -> Self {
        let mut broker = Self::stopped();
        broker.start();
        broker
    }

    /// Where it is, for `AMQP_URL`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Starts it, with the queues it had, and waits until it takes connections.
    ///
    /// # Panics
    /// When it cannot be started, with what it said.
    pub fn start(&mut self) {
        assert!(self.node.is_none(), "it runs already");
        let path = |name: &str| self.dir().join(name);
        let out = File::options().create(true).append(true).open(path("out")).expect("a log can be written");
        let behind = Path::new(BEHIND_DEBIANS);
        let program = if behind.exists() { behind } else { Path::new("rabbitmq-server") };
        let node = Command::new(program)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| name == "PATH"))
            .env("HOME", path("home")) // of the cookie
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("hyfault_{}@localhost", std::process::id()))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            // Files that do not exist: nothing of the machine's own configuration.
            .env("RABBITMQ_CONF_ENV_FILE", path("none"))
            .env("RABBITMQ_CONFIG_FILE", path("none"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("none"))
            // The server in the place of the script that starts it: our child, which heeds SIGTERM.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .current_dir(self.home())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file can be shared"))
            .stderr(out)
            .spawn();
        let what =
            format!("{} (fault tests need a RabbitMQ installed; scripts/test does it)", program.display());
        self.node = Some(node.unwrap_or_else(|error| panic!("cannot start {what}: {error}")));
        let end = Instant::now() + PATIENCE;
        while !self.answers() {
            let ended = self.node.as_mut().and_then(|node| node.try_wait().ok().flatten());
            // Somebody was faster. Nobody but its node knows this port, so that it can be another one.
            if ended.is_some() && self.said().contains(&format!("distribution port {}", self.dist_port)) {
                (self.node, self.dist_port) = (None, free_port());
                return self.start();
            }
            assert!(ended.is_none(), "{what} ended with {ended:?}: {}", self.said());
            assert!(Instant::now() < end, "{what} is not ready within {PATIENCE:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let mut node = self.node.take().expect("it runs");
        signal(&node, "TERM");
        let end = Instant::now() + PATIENCE;
        while node.try_wait().expect("a child can be asked").is_none() {
            assert!(Instant::now() < end, "RabbitMQ does not stop: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            let _already_gone = node.kill();
            let _status = node.wait();
        }
    }

    /// Whether it speaks AMQP: a header of a version that does not exist is answered with the one that does.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 4];
        let limit = stream.set_read_timeout(Some(Duration::from_secs(2)));
        limit.is_ok()
            && stream.write_all(b"AMQP\x00\x01\x00\x00").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer == *b"AMQP"
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it is there until the end").path()
    }

    fn home(&self) -> PathBuf {
        let home = self.dir().join("home");
        std::fs::create_dir_all(&home).expect("a directory can be made");
        home
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir().join("out")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _already_gone = self.epmd.kill();
        let _status = self.epmd.wait();
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("RabbitMQ's files are in {}", dir.keep().display());
        }
    }
}
