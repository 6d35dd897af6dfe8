//! What is refused, by which name, and that secrets are shown nowhere.

use hookyard_tests::{
    postgres::Postgres,
    processes::{Environment, run},
    secrets::MASTER_KEY,
};

const SECRET: &str = "t0psecret";

/// Runs a command; returns whether it succeeded, and all that it said.
fn ask(arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let environment: Environment =
        environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let output = run(arguments, &environment);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn unknown_keys_and_bad_values_in_the_environment_are_refused_by_name() {
    let cases = [
        ("HOOKYARD__HTTP__LISTNE", "127.0.0.1:1", "http.listne"),
        ("HOOKYARD__HTPP__LISTEN", "127.0.0.1:1", "htpp"),
        ("HOOKYARD__HTTP__LISTEN", SECRET, "http.listen"),
        ("HOOKYARD__HTTP__WORKERS", "many", "http.workers"),
        ("HOOKYARD__HTTP__WORKERS", "257", "http.workers"),
        ("HOOKYARD__DATABASE__POOL_SIZE", "-1", "database.pool_size"),
        ("HOOKYARD__DELIVERY__LEASE_MS", "15999", "delivery.lease_ms"),
        ("HOOKYARD__DELIVERY__SETTLE_BATCH", "0", "delivery.settle_batch"),
        ("HOOKYARD__REGISTRY__WORKERS", "17", "registry.workers"),
        ("HOOKYARD__REGISTRY__RETENTION_DAYS", "0", "registry.retention_days"),
        ("HOOKYARD__AMQP__PREFETCH", "0", "amqp.prefetch"),
        ("HOOKYARD__AMQP__NAMESPACE", "Hook Yard", "amqp.namespace"),
        ("HOOKYARD__LOG__FORMAT", "yaml", "log.format"),
        ("HOOKYARD__HOOKS__EXTRA_URL_PREFIXES", "not a url", "hooks.extra_url_prefixes"),
        ("HOOKYARD__EGRESS__ALLOW", "10.0.0.0/33", "egress.allow"),
        ("HOOKYARD__EGRESS__CONNECT_TIMEOUT_MS", "0", "egress.connect_timeout_ms"),
        ("HOOKYARD__EGRESS__EXTRA_CA_FILE", "/nowhere/ca.pem", "egress.extra_ca_file"),
        ("HOOKYARD__EMBEDDED__STOP_TIMEOUT_S", "0", "embedded.stop_timeout_s"),
        ("HOOKYARD__SECRETS__MASTER_KEY", SECRET, "secrets.master_key"),
        ("HOOKYARD__SECRETS__MASTER_KEY_FILE", "/nowhere/key", "secrets.master_key_file"),
        ("HOOKYARD__SECRETS__PREVIOUS_MASTER_KEYS", SECRET, "secrets.previous_master_keys"),
        ("HOOKYARD__SECRETS__PREVIOUS_MASTER_KEY_FILES", "/nowhere/key", "secrets.previous_master_key_files"),
        ("AMQP_URL", "http://user:t0psecret@host", "amqp.url"),
    ];
    for (name, value, told) in cases {
        for command in [&["config", "check"][..], &["gateway"]] {
            let elsewhere =
                [("DATABASE_URL", "postgres://127.0.0.1:1/a"), ("AMQP_URL", "amqp://a:b@127.0.0.1:1/%2f")];
            let (succeeded, said) = ask(command, &[&elsewhere[..], &[(name, value)]].concat());
            assert!(!succeeded && said.contains(told), "{name}={value}, {command:?}: {said}");
            assert!(!said.contains(SECRET), "{name}, {command:?}: {said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    }
}

#[test]
fn unknown_keys_and_bad_values_in_the_file_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hookyard.toml");
    let path = file.to_str().unwrap();
    let cases = [
        ("[http]\nlistne = \"127.0.0.1:1\"\n", "http.listne"),
        ("[nothing]\n", "nothing"),
        ("listen = 1\n", "listen"),
        ("[delivery]\nlease_ms = \"long\"\n", "delivery.lease_ms"),
        ("[delivery]\nlease_ms = 1\n", "delivery.lease_ms"),
        (
            "[[delivery.destination_limits]]\nhosts = [\"a\"]\nper_second = 1\nper_window = 1\nwindow = 1\n",
            "window",
        ),
        ("[database]\nurl = 7\n", "database.url"),
        ("[amqp]\nurl = \"amqp//guest:t0psecret@host\"\n", "amqp.url"),
        ("[http\n", "line 1"),
        ("[database]\nurl = \"postgres://a:t0psecret@b/c\n", "line 2"),
    ];
    for (text, told) in cases {
        std::fs::write(&file, text).unwrap();
        let (succeeded, said) = ask(&["--config", path, "config", "check"], &[]);
        // A range is checked when everything has been read, wherever it came from.
        let named = said.contains(path) || said.contains("must lie between");
        assert!(!succeeded && said.contains(told) && named, "{text}: {said}");
        assert!(!said.contains(SECRET), "{text}: {said}");
    }
    let (succeeded, said) = ask(&["config", "check"], &[("HOOKYARD_CONFIG", "/nowhere/hookyard.toml")]);
    assert!(!succeeded && said.contains("/nowhere/hookyard.toml"), "{said}");
}

#[test]
fn what_is_shown_is_complete_and_without_secrets() {
    let environment = [
        ("DATABASE_URL", "postgres://hook:t0psecret@db.example/yard"),
        ("AMQP_URL", "amqps://hook:t0psecret@broker.example/%2f"),
        ("HOOKYARD__HTTP__LISTEN", "127.0.0.1:7"),
        ("HOOKYARD__SECRETS__MASTER_KEY", MASTER_KEY),
        ("HOOKYARD__SECRETS__PREVIOUS_MASTER_KEYS", MASTER_KEY),
    ];
    let (succeeded, shown) = ask(&["config", "show"], &environment);
    assert!(succeeded, "{shown}");
    assert!(!shown.contains(SECRET) && !shown.contains(MASTER_KEY), "{shown}");
    assert!(shown.contains("master_key = \"•••\""), "{shown}");
    assert!(shown.contains("broker.example") && shown.contains("listen = \"127.0.0.1:7\""), "{shown}");
    for section in [
        "http", "ops", "log", "database", "amqp", "gateway", "registry", "delivery", "egress", "hooks",
        "secrets", "embedded",
    ] {
        assert!(shown.contains(&format!("[{section}]")), "{section} is missing: {shown}");
    }
    // What is shown without a secret can be read again.
    let (_, shown) = ask(&["config", "show"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.toml");
    std::fs::write(&file, &shown).unwrap();
    let (succeeded, again) = ask(&["--config", file.to_str().unwrap(), "config", "show"], &[]);
    assert!(succeeded && again == shown, "{again}");
}

#[test]
fn a_service_names_what_it_needs() {
    for service in ["gateway", "registry", "delivery"] {
        let (succeeded, said) = ask(&[service], &[]);
        assert!(!succeeded && said.contains("DATABASE_URL"), "{said}");
        let (succeeded, said) = ask(&[service], &[("DATABASE_URL", "postgres://a:t0psecret@127.0.0.1:1/b")]);
        assert!(!succeeded && said.contains("AMQP_URL") && !said.contains(SECRET), "{said}");
        let elsewhere = [
            ("DATABASE_URL", "postgres://a:t0psecret@127.0.0.1:1/b"),
            ("AMQP_URL", "amqp://a:t0psecret@127.0.0.1:1/%2f"),
        ];
        let (succeeded, said) = ask(&[service], &elsewhere);
        assert!(!succeeded && said.contains("HOOKYARD__SECRETS__MASTER_KEY"), "{said}");
        assert!(said.contains("generate-key") && !said.contains(SECRET), "{said}");
    }
}

#[test]
fn a_refused_password_is_not_repeated() {
    let postgres = Postgres::running();
    let url = postgres.url().replace(postgres.password(), SECRET);
    let commands: [&[&str]; 3] = [&["migrate"], &["tenants", "list"], &["up"]];
    for command in commands {
        let (succeeded, said) = ask(
            command,
            &[("DATABASE_URL", &url), ("HOOKYARD__OPS__LISTEN", ""), ("HOOKYARD__LOG__LEVEL", "trace")],
        );
        assert!(!succeeded && said.contains("password authentication failed"), "{command:?}: {said}");
        assert!(!said.contains(SECRET), "{command:?}: {said}");
    }
}
