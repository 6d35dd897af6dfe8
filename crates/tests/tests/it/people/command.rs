//! `hookyard users`, and the set-up link of `hookyard up`, with the real binary.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use hookyard_domain::person::Role;
use hookyard_tests::{
    browser::Browser,
    database::Database,
    processes::{Environment, Process, binary, environment, free_port, operate, run},
    system::{PASSWORD, System},
};

const EMAIL: &str = "ada@example.com";

fn of_database(database: &Database) -> Environment {
    let mut environment = environment("http://127.0.0.1", &[]);
    environment.insert("DATABASE_URL".to_owned(), database.url());
    environment
}

/// Runs a command with a password on its standard input; what it said, and whether it succeeded.
fn with_password(arguments: &[&str], password: &str, environment: &Environment) -> (bool, String) {
    let mut child = Command::new(binary())
        .env_clear()
        .envs(environment)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn succeeds(arguments: &[&str], environment: &Environment) -> String {
    let output = run(arguments, environment);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn path(said: &str) -> String {
    let at = said.find("/invitations/").unwrap_or_else(|| panic!("no link in {said}"));
    said[at..].split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_changes_and_disables_users() {
    let system = System::start().await;
    let environment = of_database(&system.database);
    let tenant = system.tenant.to_string();
    let create = ["users", "create", "--tenant", &tenant, "--email", EMAIL, "--role", "admin"];
    let named = [&create[..], &["--name", "Ada", "--password-stdin"]].concat();
    let (made, said) = with_password(&named, "password1234", &environment);
    assert!(!made && said.contains("commonest"), "{said}");
    let (made, said) = with_password(&named, PASSWORD, &environment);
    assert!(made && !said.contains(PASSWORD), "{said}");
    let (again, said) = with_password(&named, PASSWORD, &environment);
    assert!(!again && said.contains("already"), "{said}");
    let mut browser = system.logged_in(EMAIL).await;

    let said = succeeds(
        &["users", "create", "--tenant", &tenant, "--email", "eve@example.com", "--role", "viewer"],
        &environment,
    );
    let mut eve = system.browser();
    assert_eq!(eve.get(&path(&said)).await.status, 200);
    eve.submit(&path(&said), &[("name", "Eve"), ("password", PASSWORD)]).await;
    assert_eq!(eve.session().await.unwrap()["role"], "viewer");
    let said = succeeds(&["users", "list", "--json"], &environment);
    let listed: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 2, "{said}");
    assert!(!said.contains("argon2"), "{said}");

    let set_role =
        |role| ["users", "set-role", "--tenant", &tenant, "--email", "eve@example.com", "--role", role];
    succeeds(&set_role("developer"), &environment);
    assert_eq!(eve.session().await.unwrap()["role"], "developer");
    succeeds(&["users", "disable", "--email", "eve@example.com"], &environment);
    assert_eq!(eve.session().await, Err(401));
    assert_eq!(system.browser().log_in("eve@example.com", PASSWORD).await.status, 422);
    succeeds(&["users", "enable", "--email", "eve@example.com"], &environment);
    system.logged_in("eve@example.com").await;
    let output = run(&["users", "disable", "--email", EMAIL], &environment);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("last admin"));

    let said = succeeds(&["users", "reset-password", "--email", EMAIL], &environment);
    assert!(browser.session().await.is_ok(), "a link alone changes nothing");
    let mut reset = system.browser();
    reset.get(&path(&said)).await;
    reset.submit(&path(&said), &[("password", "a sentence of mine")]).await;
    assert!(reset.session().await.is_ok());
    assert_eq!(browser.session().await, Err(401));
    let (set, said) = with_password(
        &["users", "reset-password", "--email", EMAIL, "--password-stdin"],
        PASSWORD,
        &environment,
    );
    assert!(set, "{said}");
    assert_eq!(reset.session().await, Err(401));
    system.logged_in(EMAIL).await;
    let audited = system.audited(Some(system.tenant)).await;
    for action in [
        "user.created",
        "invitation.created",
        "user.role_changed",
        "user.disabled",
        "user.enabled",
        "password.changed",
    ] {
        assert!(audited.iter().any(|there| there == action), "{action}: {audited:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_prints_a_set_up_link_until_there_is_somebody() {
    let database = Database::create().await;
    let mut environment = of_database(&database);
    let api = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    environment.insert("HOOKYARD__HTTP__LISTEN".to_owned(), api.to_string());
    let link = |process: &Process| {
        let log = process.log();
        let at = log.rfind("/setup/")?;
        assert!(log.contains(&format!("http://{api}/setup/")), "{log}");
        log[at..].split_whitespace().next().map(str::to_owned)
    };
    let patience = std::time::Duration::from_secs(60);
    let start = |environment: &Environment| {
        let mut process = Process::start(&["up"], environment);
        process.wait_until_ready(patience);
        process.wait_for("a greeting", patience, |process| process.log().contains("Hookyard is up"));
        std::thread::sleep(std::time::Duration::from_millis(100));
        process
    };
    let mut first = start(&environment);
    let older = link(&first).expect("a link");
    first.stop(patience);
    let mut second = start(&environment);
    let newer = link(&second).expect("a link after a restart");
    let mut browser = Browser::new(api);
    assert_eq!(browser.get(&older).await.status, 404, "the new one replaces the old");
    assert_eq!(browser.get(&newer).await.status, 200);
    let fields = [("tenant", "Acme"), ("name", "Ada"), ("email", EMAIL), ("password", PASSWORD)];
    browser.submit(&newer, &fields).await;
    assert_eq!(browser.session().await.unwrap()["role"], Role::Admin.as_str());
    second.stop(patience);
    let mut third = start(&environment);
    assert_eq!(link(&third), None, "there is somebody");
    let listed = operate(&["users", "list", "--json"], &environment);
    assert_eq!(listed["email"], EMAIL);
    third.stop(patience);
}
