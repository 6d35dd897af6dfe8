//! The real binary as processes, for tests of faults: each service apart on Postgres and RabbitMQ, or `hookyard up`.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::secrets::MASTER_KEY;

/// What a process is told besides the command line.
pub type Environment = HashMap<String, String>;

/// Not among the ports that the system gives to clients (from 32,768): the port of a process that was killed stays free
/// until it starts again.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Logs of one test are numbered.
static LOGS: AtomicU32 = AtomicU32::new(0);

/// The binary under test: built by `cargo build -p hookyard` beside this test's own.
///
/// # Panics
/// When it is not there.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let target = own.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let binary = target.join("hookyard");
    assert!(binary.exists(), "{} is missing: run `cargo build --workspace --bins` first", binary.display());
    binary
}

/// A port that was free a moment ago, and that no client is given meanwhile.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    (0..1000)
        .map(|_| rand::random_range(PORTS))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// The environment of processes whose hooks begin with `prefix`, on this machine.
pub fn environment(prefix: &str, settings: &[(&str, &str)]) -> Environment {
    let local = [
        ("HOOKYARD__HOOKS__EXTRA_URL_PREFIXES", prefix),
        ("HOOKYARD__EGRESS__ALLOW", "127.0.0.0/8"),
        // The shortest there is: what a killed deliverer held is taken over after it.
        ("HOOKYARD__DELIVERY__LEASE_MS", "16000"),
        ("HOOKYARD__SECRETS__MASTER_KEY", MASTER_KEY),
    ];
    local.iter().chain(settings).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A process of ours. Killed when dropped; its log stays when the test fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    start: Start,
    ended: Option<ExitStatus>,
}

/// How a process is started, each time.
#[derive(Debug)]
struct Start {
    arguments: Vec<String>,
    environment: Environment,
    account: Option<(u32, u32)>,
    log: PathBuf,
    ops: SocketAddr,
}

impl Process {
    /// Starts `hookyard <arguments>` with this environment and nothing else of ours.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(arguments: &[&str], environment: &Environment) -> Self {
        Self::start_as(None, arguments, environment)
    }

    /// The same under another account (uid and gid), for tests that run as root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_as(account: Option<(u32, u32)>, arguments: &[&str], environment: &Environment) -> Self {
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        let name =
            format!("hookyard-test-{}-{number}-{}.log", std::process::id(), arguments.first().unwrap_or(&""));
        let start = Start {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: environment.clone(),
            account,
            log: std::env::temp_dir().join(name),
            ops: SocketAddr::from(([127, 0, 0, 1], free_port())),
        };
        Self { child: start.spawn(), start, ended: None }
    }

    /// Waits until the process says that it is ready.
    ///
    /// # Panics
    /// When it does not in time, with what it logged.
    pub fn wait_until_ready(&mut self, patience: Duration) {
        self.wait_for("readiness", patience, |process| process.is_ready());
    }

    /// Waits until something holds while the process runs.
    ///
    /// # Panics
    /// When it does not in time or the process ends, with what it logged.
    pub fn wait_for(&mut self, what: &str, patience: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + patience;
        while !holds(self) {
            let ended = self.ended();
            assert!(ended.is_none(), "{self} ended with {ended:?}:\n{}", self.last_words());
            assert!(Instant::now() < end, "{self}: no {what} within {patience:?}:\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether `/readyz` says 200 now.
    pub fn is_ready(&self) -> bool {
        self.probe("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Whether `/livez` says 200 now.
    pub fn is_live(&self) -> bool {
        self.probe("/livez").is_some_and(|(status, _)| status == 200)
    }

    /// Status and body of a path on the port of the probes; `None` when nobody answers.
    pub fn probe(&self, path: &str) -> Option<(u16, String)> {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&self.start.ops, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// `kill -9`, and the same again from the start.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// The same again from the start; the process has ended.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn restart(&mut self) {
        self.child = self.start.spawn();
        self.ended = None;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _already_gone = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be asked");
        }
        self.ended
    }

    /// Waits until it has ended, and returns its exit code; `None` when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{self} does not end:\n{}", self.last_words());
    }

    /// SIGTERM; returns how long it took to end.
    ///
    /// # Panics
    /// When it does not end in time, or not with exit code 0.
    pub fn stop(&mut self, patience: Duration) -> Duration {
        let began = Instant::now();
        self.signal("TERM");
        let code = self.wait(patience);
        assert_eq!(code, Some(0), "{self} did not end well:\n{}", self.last_words());
        began.elapsed()
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.start.log).unwrap_or_default()).into_owned()
    }

    /// What it logged last: 4 KiB.
    pub fn last_words(&self) -> String {
        let text = self.log();
        let from = text.len().saturating_sub(4096);
        text.get(text.ceil_char_boundary(from)..).unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`hookyard {}` ({})", self.start.arguments.join(" "), self.start.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _left = std::fs::remove_file(&self.start.log);
        }
    }
}

impl Start {
    fn spawn(&self) -> Child {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let file = file.expect("a log can be written");
        let mut command = command(&self.environment);
        command
            .args(&self.arguments)
            .env("HOOKYARD__OPS__LISTEN", self.ops.to_string())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file);
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command.spawn().expect("the binary starts")
    }
}

/// The binary with this environment, in a directory where no settings file lies.
fn command(environment: &Environment) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| name == "PATH" || name == "HOME"))
        .envs(environment)
        .current_dir("/");
    command
}

/// Sends a signal to a child.
///
/// # Panics
/// When it cannot be sent.
pub(crate) fn signal(child: &Child, name: &str) {
    let told = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(told.is_ok_and(|status| status.success()), "cannot send SIG{name}");
}

/// Uid, gid and home directory of an account of this machine.
pub fn account(name: &str) -> Option<(u32, u32, PathBuf)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((uid, gid, PathBuf::from(fields.nth(1)?)))
}

/// Whether this test runs as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|own| own.uid() == 0)
}

/// Runs a command to its end, whatever that is.
///
/// # Panics
/// When the binary cannot be started.
pub fn run(arguments: &[&str], environment: &Environment) -> Output {
    command(environment).args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

/// Runs a command of which nobody reads what it prints, and returns what it says of errors and how it ended.
///
/// # Panics
/// When it does not start or end.
pub fn run_unread(arguments: &[&str], environment: &Environment) -> Output {
    let mut command = command(environment);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    drop(child.stdout.take());
    child.wait_with_output().expect("the command ends")
}

/// Runs a command of the operator and returns its JSON.
///
/// # Panics
/// When it fails.
pub fn operate(arguments: &[&str], environment: &Environment) -> serde_json::Value {
    let output = run(arguments, environment);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "`hookyard {arguments:?}` failed: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// Makes a tenant and a key of it that may do everything without limits; returns the tenant's id and the key.
///
/// # Panics
/// When a command fails.
pub fn new_tenant(name: &str, environment: &Environment) -> (String, String) {
    let made = operate(&["tenants", "create", "--name", name, "--json"], environment);
    let tenant = made["tenant_id"].as_str().expect("a tenant has an id").to_owned();
    let key = new_key(
        &tenant,
        &["--rate-limit", "0", "--hook-write-limit", "0", "--sample-limit", "0"],
        environment,
    );
    (tenant, key.1)
}

/// Makes a key that may do everything, with these limits; returns its id and the key.
///
/// # Panics
/// When the command fails.
pub fn new_key(tenant: &str, limits: &[&str], environment: &Environment) -> (String, String) {
    let create = ["keys", "create", "--tenant", tenant, "--name", "test", "--scopes", "admin", "--json"];
    let made = operate(&[&create[..], limits].concat(), environment);
    let text = |name: &str| made[name].as_str().expect("a key is told").to_owned();
    (text("key_id"), text("key"))
}
