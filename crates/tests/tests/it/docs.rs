//! The documents against the product: what can be set, measured, logged and answered stands in docs/, and what stands
//! there exists. What the texts say about it is for readers to judge.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

mod markdown;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hookyard_domain::credential::Scope;
use hookyard_tests::{processes::binary, system::System};

use self::{
    markdown::{code, headings, links, rows},
    source::Source,
};

/// The sections of the settings.
const SECTIONS: [&str; 17] = [
    "http", "ops", "log", "database", "amqp", "gateway", "oidc", "mail", "llm", "runner", "registry",
    "delivery", "egress", "hooks", "tasks", "secrets", "embedded",
];

/// Words in capitals that are no codes of errors.
const NO_CODES: [&str; 4] = ["HOOKYARD__", "NO_COLOR", "SIGINT", "SIGTERM"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `hookyard config …` with this environment only: whether it succeeded, and what it said.
fn config(command: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(binary())
        .args(["config", command])
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The keys of a section: what is told to whoever mistypes one.
fn keys(section: &str) -> BTreeSet<String> {
    let mistyped = format!("HOOKYARD__{}__NO_SUCH_KEY", section.to_uppercase());
    let (accepted, said) = config("check", &[(&mistyped, "1")]);
    assert!(!accepted, "{mistyped} was accepted");
    let (_, list) = said.split_once("accepted here: ").unwrap_or_else(|| panic!("{said}"));
    list.trim().split(", ").map(|key| format!("{section}.{key}")).collect()
}

/// What `hookyard config show` prints, by key. Lists of tables are left out.
fn shown() -> BTreeMap<String, String> {
    let (accepted, text) = config("show", &[]);
    assert!(accepted, "{text}");
    let mut section = String::new();
    let mut shown = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once(" = ")
            && !section.starts_with('[')
        {
            shown.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    shown
}

/// The rows of the settings: key, environment, unit, range, default, meaning.
fn documented_settings() -> BTreeMap<String, Vec<String>> {
    let of_settings = |cells: &Vec<String>| {
        cells.len() == 6
            && code(&cells[0])
                .and_then(|key| key.split_once('.'))
                .is_some_and(|(section, _)| SECTIONS.contains(&section))
    };
    let mut documented = BTreeMap::new();
    for cells in rows(&read("docs/operations.md")).into_iter().filter(of_settings) {
        let key = code(&cells[0]).unwrap().to_owned();
        assert!(documented.insert(key.clone(), cells).is_none(), "`{key}` is documented twice");
    }
    documented
}

#[test]
fn every_setting_is_documented_and_every_documented_setting_exists() {
    let existing: BTreeSet<String> = SECTIONS.into_iter().flat_map(keys).collect();
    let documented: BTreeSet<String> = documented_settings().into_keys().collect();
    assert_eq!(documented, existing);
}

#[test]
fn what_config_show_prints_is_documented_with_its_default() {
    let (shown, documented) = (shown(), documented_settings());
    assert!(shown.len() > 40, "{shown:?}");
    for (key, default) in &shown {
        let cells = documented.get(key).unwrap_or_else(|| panic!("`{key}` is not documented"));
        assert_eq!(code(&cells[4]), Some(default.as_str()), "the default of `{key}`");
    }
    for (key, cells) in documented.iter().filter(|(key, _)| !shown.contains_key(*key)) {
        assert!(["none", "see below"].contains(&cells[4].as_str()), "`{key}` is documented with a default");
    }
}

#[test]
fn the_variable_of_each_setting_is_the_one_that_sets_it() {
    for (key, cells) in documented_settings() {
        let variable = format!("HOOKYARD__{}", key.to_uppercase().replace('.', "__"));
        match code(&cells[1]) {
            Some(documented) => assert_eq!(documented, variable),
            None => assert_eq!(cells[1], "only in the file", "{key}"),
        }
    }
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let is_metric = |text: &str| {
        let known = text.starts_with("hookyard_") || text.starts_with("process_");
        known && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let registered: BTreeSet<String> =
        Source::of_the_product().iter().flat_map(Source::literals).filter(|text| is_metric(text)).collect();
    assert!(registered.len() > 25, "{registered:?}");
    let documented: BTreeSet<String> = rows(&read("docs/operations.md"))
        .iter()
        .filter(|cells| cells.len() == 5)
        .filter_map(|cells| code(&cells[0]).filter(|text| is_metric(text)).map(str::to_owned))
        .collect();
    assert_eq!(documented, registered);
}

#[tokio::test]
async fn the_metrics_of_a_gateway_are_documented_with_their_labels() {
    let system = System::start().await;
    system.anonymous().get("/v1/hooks").await;
    let rendered = system.gateways[0].registry.render().unwrap();
    let documented: BTreeMap<String, Vec<String>> = rows(&read("docs/operations.md"))
        .into_iter()
        .filter(|cells| cells.len() == 5)
        .filter_map(|cells| Some((code(&cells[0])?.to_owned(), cells)))
        .collect();
    for line in rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let cells = documented.get(name).unwrap_or_else(|| panic!("`{name}` is not documented"));
        assert_eq!(cells[1], kind, "{name}");
        let sample = rendered.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(l, _)| l);
        let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        for label in names.filter(|label| *label != "le") {
            assert!(cells[2].contains(&format!("`{label}`")), "the label `{label}` of `{name}`");
        }
    }
}

#[test]
fn every_error_and_warning_line_is_documented_and_every_documented_line_exists() {
    let mut logged = BTreeSet::new();
    for source in Source::of_the_product() {
        for (level, macro_name) in [("error", "error!"), ("warn", "warn!")] {
            for message in source.messages(macro_name) {
                logged.insert((message, level.to_owned()));
            }
        }
    }
    assert!(logged.len() > 35, "{logged:?}");
    let documented: BTreeSet<(String, String)> = rows(&read("docs/operations.md"))
        .iter()
        .filter(|cells| cells.len() == 4 && ["error", "warn"].contains(&cells[1].as_str()))
        .filter_map(|cells| Some((code(&cells[0])?.to_owned(), cells[1].clone())))
        .collect();
    assert_eq!(documented, logged);
}

/// The rows of the table of errors: code and status.
fn documented_errors() -> BTreeMap<String, String> {
    let of_errors = |cells: &Vec<String>| cells.len() == 4 && cells[1].parse::<u16>().is_ok();
    let rows = rows(&read("docs/api.md")).into_iter().filter(of_errors);
    rows.filter_map(|cells| Some((code(&cells[0])?.to_owned(), cells[1].clone()))).collect()
}

#[test]
fn every_error_code_is_documented_and_every_documented_code_exists() {
    let is_code =
        |text: &str| text.len() > 4 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let used: BTreeSet<String> = Source::of(&["chassis", "gateway"])
        .iter()
        .flat_map(Source::literals)
        .filter(|text| is_code(text) && !NO_CODES.contains(&text.as_str()))
        .collect();
    let documented: BTreeSet<String> = documented_errors().into_keys().collect();
    assert_eq!(documented, used);
}

#[tokio::test]
async fn every_route_is_documented_with_its_scope_and_its_errors() {
    let system = System::start().await;
    let document = system.anonymous().get("/openapi.json").await.expect(200);
    let errors = documented_errors();
    let mut routes = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let scope = operation["security"][0].as_object().and_then(|scheme| scheme.values().next());
            let scope = scope.map_or("none".to_owned(), |scopes| match scopes[0].as_str() {
                Some(scope) => format!("`{scope}`"),
                None if operation["x-worker"] == true => "a worker token".to_owned(),
                None => format!("a person: `{}`", operation["x-role"].as_str().unwrap()),
            });
            for (status, response) in operation["responses"].as_object().unwrap() {
                let examples = response["content"]["application/json"]["examples"].as_object();
                let codes = examples.into_iter().flat_map(|examples| examples.keys());
                for code in codes.filter(|_| !status.starts_with('2')) {
                    assert_eq!(errors.get(code), Some(status), "{name}: {code}");
                }
            }
            routes.insert((name, scope));
        }
    }
    let documented: BTreeSet<(String, String)> = rows(&read("docs/api.md"))
        .into_iter()
        .filter_map(|cells| Some((code(&cells[0])?.to_owned(), cells.get(1)?.clone())))
        .filter(|(route, _)| route.split_once(' ').is_some_and(|(_, path)| path.starts_with('/')))
        .collect();
    assert_eq!(documented, routes);
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// That they do take it is tested with the routes, in `matrix`.
#[tokio::test]
async fn every_route_that_takes_an_idempotency_key_is_named_where_repeating_is_explained() {
    let system = System::start().await;
    let document = system.anonymous().get("/openapi.json").await.expect(200);
    let mut taking = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten();
            if parameters.any(|parameter| parameter["name"] == "Idempotency-Key") {
                taking.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    assert!(taking.len() > 25, "{taking:?}");
    let text = read("docs/api.md");
    let (_, section) = text.split_once("\n## Repeating requests\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let named: BTreeSet<String> =
        quoted(section).filter(|text| text.contains(" /")).map(str::to_owned).collect();
    assert_eq!(named, taking);
}

#[test]
fn the_scopes_of_keys_are_named_wherever_all_of_them_are() {
    let scopes: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
    let options = rows(&read("docs/operations.md"));
    let option = options.iter().find(|cells| code(&cells[0]) == Some("--scopes")).unwrap();
    assert_eq!(quoted(&option[1]).collect::<Vec<_>>(), scopes, "docs/operations.md");
    let text = read("docs/api.md");
    let sentence = text.lines().find(|line| line.starts_with("The scopes are ")).unwrap();
    assert_eq!(quoted(sentence).collect::<Vec<_>>(), scopes, "docs/api.md");
}

#[test]
fn every_relative_link_leads_to_a_file_and_to_a_heading_in_it() {
    let mut files = vec![PathBuf::from("README.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 10, "{files:?}");
    let mut followed = 0;
    for file in files {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => file.clone(),
                _ => file.parent().unwrap().join(path),
            };
            assert!(root().join(&target).exists(), "{}: {link} leads nowhere", file.display());
            if !heading.is_empty() {
                let there = headings(&fs::read_to_string(root().join(&target)).unwrap());
                assert!(there.contains(heading), "{}: {link} has no such heading", file.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 30, "{followed}");
}

/// The vectors of contract §8, as docs/api.md shows them.
#[test]
fn the_signature_that_is_shown_to_try_an_implementation_is_right() {
    let text = read("docs/api.md");
    let secret =
        hookyard_domain::wire::SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let body = br#"{"test": 2432232314}"#;
    let signature = secret.standard_webhooks("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert!(text.contains(&signature), "{signature}");
    for shown in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"] {
        assert!(text.contains(shown), "{shown}");
    }
    assert!(text.contains(std::str::from_utf8(body).unwrap()));
}

/// The delivery that docs/webhooks.md shows, with the secret and the public key that stand below it; the key pair is TEST 1 of
/// RFC 8032 §7.1.
#[test]
fn the_signatures_of_the_delivery_in_the_guide_are_right() {
    use hookyard_domain::wire::{SigningKey, SigningSecret};
    let seed = b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
    let (key, secret) = (
        SigningKey::from_seed(seed).unwrap(),
        SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
    );
    for path in ["docs/webhooks.md", "docs/webhooks.fr.md"] {
        let text = read(path);
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        let header = |name: &str| line(name).split_once(": ").unwrap().1;
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
        let body = line("{\"id\":\"evt_").as_bytes();
        let signatures =
            [secret.standard_webhooks(id, timestamp, body), key.standard_webhooks(id, timestamp, body)];
        assert_eq!(header("webhook-signature"), signatures.join(" "), "{path}");
        assert!(text.contains(secret.expose()) && text.contains(&key.public_key()), "{path}");
    }
}
