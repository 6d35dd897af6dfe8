//! The cluster on real servers: every test makes its own with `initdb`.
//!
//! When the tests run as root, the paths of a plain user run in a process of the account `nobody`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// Tells [`another_process`] what to do; without it that test is only a name.
const ORDER: &str = "HOOKYARD_EMBEDDED_TEST_DIR";

/// A directory that the server's account can reach.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

fn settings(data_dir: &Path) -> Settings {
    Settings { data_dir: Some(data_dir.to_owned()), ..Settings::default() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The answer of the database at `url` to `statement`.
fn ask(url: &str, statement: &str) -> String {
    let psql = Installation::find(&Settings::default(), None).unwrap().program("psql");
    let answer = Command::new(psql).args(["-X", "-A", "-t", "-q", "-c", statement, url]).output().unwrap();
    assert!(answer.status.success(), "{statement}: {}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8(answer.stdout).unwrap().trim().to_owned()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn exists(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::test_kill_process(pid).is_ok()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_cluster_is_made_started_and_keeps_its_data() {
    let place = place();
    let settings = settings(&place.path().join("data dir & größer"));
    assert_eq!(locate(&settings), None);

    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(locate(&settings), Some(cluster.url()));
    let shown = |name: &str| ask(&cluster.url(), &format!("show {name}"));
    assert_eq!(shown("listen_addresses"), "", "nothing listens on TCP");
    assert_eq!((shown("fsync"), shown("synchronous_commit")), ("on".to_owned(), "on".to_owned()));
    assert_eq!((shown("data_checksums"), shown("server_encoding")), ("on".to_owned(), "UTF8".to_owned()));
    assert_eq!((shown("lc_collate"), shown("timezone")), ("C".to_owned(), "UTC".to_owned()));
    assert_eq!((shown("max_connections"), shown("jit")), ("60".to_owned(), "off".to_owned()));
    assert_eq!(
        ask(
            &cluster.url(),
            "select current_user, current_database(), usesuper from pg_user where usename = current_user"
        ),
        "hookyard|hookyard|f"
    );
    let dir = DataDir::open(&settings.data_dir().unwrap()).unwrap();
    let used = ask(&cluster.url(), "select pg_walfile_name(pg_current_wal_lsn())");
    let logs = std::fs::read_dir(dir.cluster().join("pg_wal")).unwrap();
    let names = logs.map(|log| log.unwrap().file_name().into_string().unwrap());
    let spare = names.filter(|name| name.len() == used.len() && *name > used).count();
    assert!(spare >= 5, "{spare} files of the log are there before they are needed");
    let socket_dir = std::fs::metadata(&cluster.socket_dir).unwrap();
    assert_eq!(socket_dir.mode() & 0o777, 0o700, "only the server's account reaches the socket");
    ask(&cluster.url(), "create table kept (word text); insert into kept values ('ö')");
    let pid = cluster.child.as_ref().unwrap().id();
    cluster.stop().unwrap();
    assert!(!exists(pid));
    assert_eq!(locate(&settings), None);

    std::fs::write(dir.top().join("postgres.local.conf"), "work_mem = '5MB'\n").unwrap();
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(ask(&cluster.url(), "select word from kept"), "ö");
    assert_eq!(ask(&cluster.url(), "show work_mem"), "5MB", "the operator's file is read");
    let pid = cluster.child.as_ref().unwrap().id();
    drop(cluster);
    assert!(!exists(pid), "dropping stops the server, too");
}

#[test]
fn root_gives_the_server_an_account_without_rights() {
    let place = place();
    let cluster = Cluster::start(&settings(&place.path().join("data"))).unwrap();
    let pid = cluster.child.as_ref().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let ids: Vec<String> = line("Uid:").split_whitespace().skip(1).map(str::to_owned).collect();
    if is_root() {
        assert!(ids.iter().all(|id| id != "0"), "{ids:?}");
        assert_eq!(
            line("Groups:").split_whitespace().count(),
            1,
            "no supplementary groups: {}",
            line("Groups:")
        );
    } else {
        assert!(ids.iter().all(|id| *id == rustix::process::geteuid().as_raw().to_string()), "{ids:?}");
    }
}

#[test]
fn the_terminal_does_not_reach_the_server() {
    let place = place();
    let cluster = Cluster::start(&settings(&place.path().join("data"))).unwrap();
    let pid = rustix::process::Pid::from_child(cluster.child.as_ref().unwrap());
    assert_ne!(rustix::process::getpgid(Some(pid)).unwrap(), rustix::process::getpgrp());
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let place = place();
    let settings = settings(&place.path().join("data"));
    let cluster = Cluster::start(&settings).unwrap();
    let error = Cluster::start(&settings).unwrap_err().to_string();
    assert!(error.contains("in use by another hookyard"), "{error}");
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    assert_eq!(ask(&cluster.url(), "select 1"), "1", "the first is not disturbed");
}

#[test]
fn a_path_too_long_for_a_socket_works() {
    let place = place();
    let settings = settings(&place.path().join("long".repeat(40)));
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(ask(&cluster.url(), "select 1"), "1");
    assert_eq!(locate(&settings), Some(cluster.url()));
    let socket_dir = cluster.socket_dir.clone();
    assert!(!socket_dir.starts_with(place.path()));
    cluster.stop().unwrap();
    assert!(!socket_dir.exists(), "nothing stays behind");
}

#[test]
fn the_server_of_a_killed_process_is_adopted() {
    let place = place();
    let data = place.path().join("data");
    let mut owner = in_another_process(&place, &data);
    let settings = settings(&data);
    wait_for("the other process starts its cluster", || locate(&settings).is_some() || ended(&mut owner));
    let url = locate(&settings).unwrap();
    ask(&url, "create table kept (word text); insert into kept values ('a')");
    let left = postmaster::running(&DataDir::open(&data).unwrap()).unwrap().unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(exists(left.pid), "the server outlives its owner");

    let mut cluster = Cluster::start(&settings).unwrap();
    assert_eq!((cluster.child.is_none(), cluster.url()), (true, url.clone()));
    assert_eq!(ask(&cluster.url(), "select word from kept"), "a");
    assert!(!cluster.ensure_running().unwrap());
    cluster.stop().unwrap();
    wait_for("the adopted server is gone", || !exists(left.pid));
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(ask(&cluster.url(), "select word from kept"), "a");
}

#[test]
fn a_crashed_server_is_started_again_also_when_its_number_is_taken() {
    let place = place();
    let settings = settings(&place.path().join("data"));
    let mut cluster = Cluster::start(&settings).unwrap();
    ask(&cluster.url(), "create table kept (word text); insert into kept values ('a')");
    assert!(!cluster.ensure_running().unwrap());
    kill(cluster.child.as_ref().unwrap().id());
    wait_for("the server is noticed to be gone", || cluster.ensure_running().unwrap());
    assert_eq!(ask(&cluster.url(), "select word from kept"), "a");

    // As after a power cut: the file has stayed, and its number belongs to another process of the same account.
    let path = cluster.dir.cluster().join("postmaster.pid");
    let file = std::fs::read_to_string(&path).unwrap();
    let (dir, account) = (cluster.dir.clone(), cluster.account.clone());
    cluster.stop().unwrap();
    let mut stranger = account.command(Path::new("sleep")).arg("600").spawn().unwrap();
    let (_, rest) = file.split_once('\n').unwrap();
    std::fs::write(&path, format!("{}\n{rest}", stranger.id())).unwrap();
    account.own(&path).unwrap();
    assert_eq!(postmaster::running(&dir).unwrap(), None);
    assert_eq!(locate(&settings), None);
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(ask(&cluster.url(), "select word from kept"), "a");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_half_made_cluster_is_made_anew() {
    let place = place();
    let settings = settings(&place.path().join("data"));
    let dir = DataDir::create(&settings.data_dir().unwrap()).unwrap();
    std::fs::create_dir_all(dir.staging().join("base")).unwrap();
    std::fs::write(dir.staging().join("PG_VERSION"), "15\n").unwrap();
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(ask(&cluster.url(), "select 1"), "1");
    assert!(!dir.staging().exists());
}

#[test]
fn a_cluster_of_another_version_or_account_is_refused() {
    let place = place();
    let settings = settings(&place.path().join("data"));
    let dir = DataDir::create(&settings.data_dir().unwrap()).unwrap();
    let account = Account::choose(&dir.cluster()).unwrap();
    std::fs::create_dir(dir.cluster()).unwrap();
    std::fs::write(dir.cluster().join("PG_VERSION"), "9\n").unwrap();
    if is_root() {
        let error = Cluster::start(&settings).unwrap_err().to_string();
        assert!(error.contains("belongs to root"), "{error}");
    }
    account.own(&dir.cluster()).unwrap();
    let error = Cluster::start(&settings).unwrap_err().to_string();
    assert!(error.contains("made by PostgreSQL 9, which is not installed"), "{error}");
}

#[test]
fn a_server_that_cannot_start_shows_its_last_words() {
    let place = place();
    let settings = settings(&place.path().join("data"));
    Cluster::start(&settings).unwrap().stop().unwrap();
    let local = place.path().join("data/postgres.local.conf");
    std::fs::write(local, "shared_buffers = 'a lot'\n").unwrap();
    let error = format!("{:#}", Cluster::start(&settings).unwrap_err());
    assert!(error.contains("PostgreSQL ended while it started"), "{error}");
    assert!(error.contains("invalid value for parameter \"shared_buffers\""), "{error}");
}

#[test]
fn a_directory_the_server_cannot_reach_is_named() {
    // A plain user's server runs as that user, and reaches what he reaches.
    if is_root() {
        let place = place();
        let closed = place.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
        let error = Cluster::start(&settings(&closed.join("data"))).unwrap_err().to_string();
        assert!(error.contains(&format!("because `{}` is closed to it", closed.display())), "{error}");
    }
}

#[test]
fn a_plain_user_needs_nobody_else() {
    let place = place();
    let data = place.path().join("home/data");
    let mut user = in_another_process(&place, &data);
    let found = settings(&data);
    wait_for("the plain user's cluster starts", || locate(&found).is_some() || ended(&mut user));
    assert_eq!(ask(&locate(&found).unwrap(), "select current_user"), "hookyard");
    let owner = std::fs::metadata(data.join("postgres")).unwrap().uid();
    assert_ne!(owner, 0);
    // The end of its standard input asks it to stop.
    drop(user.stdin.take());
    assert!(user.wait().unwrap().success());
    assert_eq!(locate(&found), None);
}

/// Runs [`another_process`] on `data`: as ourselves, or as `nobody` when we are root.
fn in_another_process(place: &TempDir, data: &Path) -> Child {
    // The build directory may be closed to that account.
    let program: PathBuf = place.path().join("process");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let home = data.parent().unwrap();
    std::fs::create_dir_all(home).unwrap();
    let (_, name) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(program);
    command
        .args(["--exact", &format!("{name}::another_process"), "--nocapture"])
        .env(ORDER, data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .current_dir("/");
    if is_root() {
        let nobody = (65_534, 65_534);
        std::os::unix::fs::chown(home, Some(nobody.0), Some(nobody.1)).unwrap();
        command.uid(nobody.0).gid(nobody.1);
    }
    command.spawn().unwrap()
}

fn ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

/// Not a test of its own: what [`in_another_process`] runs. It has a cluster until its standard input ends.
#[test]
fn another_process() {
    let Some(data) = std::env::var_os(ORDER) else { return };
    let cluster = Cluster::start(&settings(Path::new(&data))).unwrap();
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    cluster.stop().unwrap();
}
