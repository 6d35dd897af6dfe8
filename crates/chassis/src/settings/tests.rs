//! What [`load`] accepts and refuses, and that a refusal tells the place and not the value.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tree {
    http: Http,
    database: Database,
    egress: Egress,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    listen: SocketAddr,
    #[serde(deserialize_with = "in_range::<_, _, 1, 64>")]
    workers: u16,
    verbose: bool,
    ratio: f64,
    format: Format,
    public: Option<SocketAddr>,
}

impl Default for Http {
    fn default() -> Self {
        let listen = "127.0.0.1:8080".parse().unwrap();
        Self { listen, workers: 2, verbose: false, ratio: 0.5, format: Format::Text, public: None }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Database {
    url: Option<SecretUrl>,
    key: Option<Secret>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Egress {
    allow: Vec<std::net::IpAddr>,
    ports: BTreeSet<u16>,
}

fn env(pairs: &[(&str, &str)]) -> Sources {
    Sources::new(pairs.iter().copied()).alias("DATABASE_URL", "database.url")
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Tree, SettingsError> {
    load(env(pairs))
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    from_env(pairs).unwrap_err().to_string()
}

/// A file that is gone with the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hookyard-settings-{}.toml", uuid::Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[test]
fn without_sources_the_defaults_hold() {
    assert_eq!(from_env(&[]).unwrap(), Tree::default());
}

#[test]
fn values_from_the_environment_become_what_the_field_wants() {
    let tree = from_env(&[
        ("HOOKYARD__HTTP__LISTEN", "0.0.0.0:1"),
        ("HOOKYARD__HTTP__WORKERS", "7"),
        ("HOOKYARD__HTTP__VERBOSE", "yes"),
        ("HOOKYARD__HTTP__RATIO", "0.25"),
        ("HOOKYARD__HTTP__FORMAT", "json"),
        ("HOOKYARD__HTTP__PUBLIC", ""),
        ("HOOKYARD__DATABASE__KEY", "123"),
        ("HOOKYARD__EGRESS__ALLOW", "127.0.0.1, ::1,"),
        ("HOOKYARD__EGRESS__PORTS", "80,443"),
        ("DATABASE_URL", "postgres://u:p@h/d"),
        ("HOOKYARD_CONFIG", "not ours to read"),
        ("PATH", "/bin"),
    ]);
    let expected = Tree {
        http: Http {
            listen: "0.0.0.0:1".parse().unwrap(),
            workers: 7,
            verbose: true,
            ratio: 0.25,
            format: Format::Json,
            public: None,
        },
        database: Database { url: SecretUrl::parse("postgres://u:p@h/d"), key: Some(Secret::new("123")) },
        egress: Egress {
            allow: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            ports: BTreeSet::from([80, 443]),
        },
    };
    assert_eq!(tree.unwrap(), expected);
}

#[test]
fn an_empty_list_from_the_environment_is_empty() {
    assert_eq!(from_env(&[("HOOKYARD__EGRESS__PORTS", "")]).unwrap(), Tree::default());
}

#[test]
fn later_sources_win() {
    let file = TempFile::new("[http]\nworkers = 3\nratio = 0.1\n[database]\nurl = \"postgres://file\"\n");
    let both = [("HOOKYARD__HTTP__WORKERS", "4"), ("HOOKYARD__DATABASE__URL", "postgres://env")];
    let tree: Tree = load(env(&both).file(&file.0)).unwrap();
    assert_eq!((tree.http.workers, tree.http.ratio), (4, 0.1));
    assert_eq!(tree.database.url, SecretUrl::parse("postgres://env"));

    let alias = [("HOOKYARD__DATABASE__URL", "postgres://env"), ("DATABASE_URL", "postgres://alias")];
    let tree: Tree = load(env(&alias).file(&file.0)).unwrap();
    assert_eq!(tree.database.url, SecretUrl::parse("postgres://alias"));

    let tree: Tree = load(env(&[("DATABASE_URL", "")]).file(&file.0)).unwrap();
    assert_eq!(tree.database.url, SecretUrl::parse("postgres://file"));
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let missing = env(&[]).file("/nonexistent/hookyard.toml");
    let error = load::<Tree>(missing).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the settings file `/nonexistent/hookyard.toml`");
    assert_eq!(load::<Tree>(env(&[]).default_file("/nonexistent/hookyard.toml")).unwrap(), Tree::default());
}

#[test]
fn refusals_name_the_place_and_what_is_accepted() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "HOOKYARD__HTTP__LISTNE",
            "127.0.0.1:1",
            "unknown key `http.listne` in the environment variable `HOOKYARD__HTTP__LISTNE`, accepted here: listen, \
             workers, verbose, ratio, format, public",
        ),
        (
            "HOOKYARD__HTPP__LISTEN",
            "127.0.0.1:1",
            "unknown key `htpp` in the environment variable `HOOKYARD__HTPP__LISTEN`, accepted here: http, database, \
             egress",
        ),
        (
            "HOOKYARD__HTTP__WORKERS",
            "many",
            "invalid value for `http.workers` in the environment variable `HOOKYARD__HTTP__WORKERS`: expected a whole \
             number",
        ),
        (
            "HOOKYARD__HTTP__VERBOSE",
            "maybe",
            "invalid value for `http.verbose` in the environment variable `HOOKYARD__HTTP__VERBOSE`: expected `true` \
             or `false`, found another text",
        ),
        (
            "HOOKYARD__HTTP__FORMAT",
            "xml",
            "invalid value for `http.format` in the environment variable `HOOKYARD__HTTP__FORMAT`: expected one of \
             `text`, `json`",
        ),
        (
            "HOOKYARD__HTTP__RATIO",
            "NaN",
            "invalid value for `http.ratio` in the environment variable `HOOKYARD__HTTP__RATIO`: expected a number, \
             found another text",
        ),
        (
            "HOOKYARD__HTTP",
            "x",
            "invalid value for `http` in the environment variable `HOOKYARD__HTTP`: expected a section with keys, \
             found a single value",
        ),
        (
            "HOOKYARD__EGRESS__PORTS",
            "80,65536",
            "invalid value for `egress.ports.1` in the environment variable `HOOKYARD__EGRESS__PORTS`: expected u16, \
             found the number 65536",
        ),
        (
            "HOOKYARD____X",
            "1",
            "the environment variable `HOOKYARD____X` is not of the form `HOOKYARD__SECTION__KEY`",
        ),
    ];
    for (name, value, expected) in cases {
        assert_eq!(refusal(&[(name, value)]), *expected);
    }
}

#[test]
fn two_variables_for_one_key_are_refused() {
    assert_eq!(
        refusal(&[("HOOKYARD__HTTP__WORKERS", "1"), ("HOOKYARD__http__workers", "2")]),
        "the environment variable `HOOKYARD__http__workers` sets what `HOOKYARD__HTTP__WORKERS` sets as well",
    );
    assert_eq!(
        refusal(&[("HOOKYARD__HTTP__WORKERS", "1"), ("HOOKYARD__HTTP", "2")]),
        "the environment variable `HOOKYARD__HTTP__WORKERS` sets what `HOOKYARD__HTTP` sets as well",
    );
}

#[test]
fn refusals_of_the_file_name_the_file() {
    let cases = [
        ("[http]\nworkers = \"3\"\n", "invalid value for `http.workers` in the file `F`: invalid type"),
        (
            "[http]\nverbose = 1\n",
            "invalid value for `http.verbose` in the file `F`: expected a boolean, found the number 1",
        ),
        ("[http]\nport = 1\n", "unknown key `http.port` in the file `F`, accepted here: listen, workers"),
        ("a = 1\n", "unknown key `a` in the file `F`, accepted here: http, database, egress"),
        (
            "http = 1\n",
            "invalid value for `http` in the file `F`: expected a section with keys, found a single value",
        ),
        ("\n[http\n", "the settings file `F` is not valid TOML, line 2: "),
    ];
    for (text, expected) in cases {
        let file = TempFile::new(text);
        let told = load::<Tree>(env(&[]).file(&file.0)).unwrap_err().to_string();
        let told = told.replace(&file.0.display().to_string(), "F");
        let expected = expected.replace(": invalid type", ": expected i128, found another text");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn a_range_ends_where_it_says() {
    for (value, accepted) in [
        ("0", false),
        ("1", true),
        ("64", true),
        ("65", false),
        ("-1", false),
        ("99999999999999999999", false),
    ] {
        let tree = from_env(&[("HOOKYARD__HTTP__WORKERS", value)]);
        assert_eq!(tree.is_ok(), accepted, "{value}: {tree:?}");
    }
    assert_eq!(
        refusal(&[("HOOKYARD__HTTP__WORKERS", "65")]),
        "invalid value for `http.workers` in the environment variable `HOOKYARD__HTTP__WORKERS`: expected a whole \
         number from 1 to 64",
    );
}

#[test]
fn a_secret_is_not_told() {
    let told = refusal(&[("DATABASE_URL", "hunter2@nowhere")]);
    assert_eq!(
        told,
        "invalid value for `database.url` in the environment variable `DATABASE_URL`: expected a URL such as \
         `scheme://user:password@host/path` (a secret, so the value is not shown)",
    );
    for text in [
        "[database]\nkey = 4711\n",
        "[database]\nkey = [\"hunter2\"]\n",
        "[database]\nurl = \"hunter2\"\n",
        "database = \"postgres://u:hunter2@h\"\n",
        "[database]\nurl = \"postgres://u:hunter2@h\n",
        "[http]\nlisten = \"postgres://u:hunter2@h\"\n",
        "[http]\nformat = \"hunter2\"\n",
    ] {
        let file = TempFile::new(text);
        let error = load::<Tree>(env(&[]).file(&file.0)).unwrap_err();
        let told = format!("{error} {error:?}").replace(&file.0.display().to_string(), "F");
        assert!(!told.contains("hunter2") && !told.contains("4711"), "{told}");
    }
}

#[test]
fn secrets_are_masked_when_shown() {
    let tree = from_env(&[("DATABASE_URL", "postgres://u:p@h/d"), ("HOOKYARD__DATABASE__KEY", "k")]).unwrap();
    assert_eq!(
        serde_json::to_value(&tree.database).unwrap(),
        serde_json::json!({"url": "postgres://u:•••@h/d", "key": "•••"}),
    );
    assert_eq!(
        format!("{:?}", tree.database),
        "Database { url: Some(postgres://u:•••@h/d), key: Some(•••) }"
    );
}

#[test]
fn passwords_in_urls_are_masked() {
    for (url, masked) in [
        ("postgres://u:p@h:5432/d", "postgres://u:•••@h:5432/d"),
        ("postgres://u:p/q?r#s@t@h/d", "postgres://u:•••@h/d"),
        ("postgres://u@h/d", "postgres://u@h/d"),
        (
            "postgres://h/d?user=u&password=p&sslmode=require",
            "postgres://h/d?user=u&password=•••&sslmode=require",
        ),
        ("amqp://u:p@h1:1,h2:2/%2f", "amqp://u:•••@h1:1,h2:2/%2f"),
        ("amqp://:p@h", "amqp://:•••@h"),
        ("no url", "no url"),
    ] {
        assert_eq!(mask_url(url), masked);
    }
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    let error = load::<Tree>(Sources::new([("HOOKYARD__HTTP__LISTEN", value)])).unwrap_err();
    assert_eq!(error.to_string(), "the environment variable `HOOKYARD__HTTP__LISTEN` is not UTF-8");
}
