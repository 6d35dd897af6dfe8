//! docker-compose.yml and deploy/Dockerfile: what a Docker engine would read is valid, and every setting in them exists.
//!
//! No engine runs here. The file is checked against the schema of the Compose Specification (fixtures/compose-spec),
//! and each service's environment is given to `hookyard config check`, which refuses keys it does not know.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hookyard_tests::secrets::MASTER_KEY;
use serde_json::Value;

/// Our services, and the role each runs as.
const SERVICES: [&str; 5] = ["delivery", "gateway", "migrate", "registry", "runner"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap()
}

/// docker-compose.yml with its merge keys resolved, as Compose sees it before it looks at variables.
fn compose() -> Value {
    let mut file: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read("docker-compose.yml")).unwrap();
    file.apply_merge().unwrap();
    serde_json::to_value(file).unwrap()
}

fn schema() -> jsonschema::Validator {
    let schema: Value =
        serde_json::from_str(&read("crates/tests/fixtures/compose-spec/compose-spec.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// `${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced, with the variables that `set` has.
fn interpolate(text: &str, set: &BTreeMap<&str, &str>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').unwrap();
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside.split_once(":?").map_or(inside, |(name, _)| name), None),
        };
        let value = set.get(name).copied().or(default);
        result.push_str(before);
        result.push_str(value.unwrap_or_else(|| panic!("`{name}` has no default and is not set")));
        rest = after;
    }
    result + rest
}

/// What the image sets for every container: the lines of `ENV` in the Dockerfile's last stage.
fn image_environment() -> BTreeMap<String, String> {
    let dockerfile = read("deploy/Dockerfile").replace("\\\n", " ");
    let (_, stage) = dockerfile.rsplit_once("\nFROM ").unwrap();
    let assignments =
        stage.lines().filter_map(|line| line.strip_prefix("ENV ")).flat_map(str::split_whitespace);
    assignments
        .map(|text| text.split_once('=').unwrap())
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The environment of a service in its container.
fn environment(service: &str, set: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    let mut environment = image_environment();
    for (name, value) in compose()["services"][service]["environment"].as_object().unwrap() {
        environment.insert(name.clone(), interpolate(value.as_str().unwrap(), set));
    }
    environment
}

/// `hookyard` as `cargo build --workspace --bins` has left it beside this test.
fn hookyard(arguments: &[&str], environment: &BTreeMap<String, String>) -> Output {
    let built = std::env::current_exe().unwrap();
    let program = built.parent().unwrap().parent().unwrap().join("hookyard");
    assert!(program.exists(), "`{}` is missing: cargo build --workspace --bins", program.display());
    let empty = std::env::temp_dir();
    Command::new(program).args(arguments).env_clear().envs(environment).current_dir(empty).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn the_file_follows_the_compose_specification() {
    let errors: Vec<String> =
        schema().iter_errors(&compose()).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());

    // The schema does bite.
    let mut broken = compose();
    broken["services"]["gateway"]["comand"] = Value::from("gateway");
    assert!(!schema().is_valid(&broken));
}

#[test]
fn every_setting_exists() {
    let key = ("HOOKYARD_MASTER_KEY", MASTER_KEY);
    let needed = BTreeMap::from([key]);
    let all = BTreeMap::from([
        key,
        ("POSTGRES_PASSWORD", "a1"),
        ("RABBITMQ_PASSWORD", "b2"),
        ("HOOKYARD_PORT", "9090"),
        ("HOOKYARD_PUBLIC_URL", "https://hooks.example.com"),
    ]);
    for set in [needed.clone(), all] {
        for service in SERVICES {
            let output = hookyard(&["config", "check"], &environment(service, &set));
            assert!(output.status.success(), "{service} with {set:?}: {}", said(&output));
        }
    }
    let mut mistyped = environment("gateway", &needed);
    mistyped.insert("HOOKYARD__HTTP__LISTNE".into(), "0.0.0.0:8080".into());
    let output = hookyard(&["config", "check"], &mistyped);
    assert!(!output.status.success() && said(&output).contains("listne"), "{}", said(&output));
}

/// A key that everybody could read in this file would protect nothing.
#[test]
fn the_master_key_has_no_default_and_its_absence_is_told() {
    for service in SERVICES {
        let value = &compose()["services"][service]["environment"]["HOOKYARD__SECRETS__MASTER_KEY"];
        let (name, message) = value.as_str().unwrap().split_once(":?").unwrap();
        assert_eq!(name, "${HOOKYARD_MASTER_KEY");
        assert!(message.contains("openssl rand -base64 32"), "{message}");
    }
}

#[test]
fn every_role_exists() {
    let file = compose();
    for service in SERVICES {
        let role = &file["services"][service]["command"][0];
        assert_eq!(role, service);
        let output = hookyard(&[service, "--help"], &BTreeMap::new());
        assert!(output.status.success(), "{service}: {}", said(&output));
    }
    assert!(
        hookyard(&["health", "--help"], &BTreeMap::new()).status.success(),
        "the health check of the image"
    );
}

#[test]
fn only_the_gateway_is_published_and_only_on_this_machine() {
    for (name, service) in compose()["services"].as_object().unwrap() {
        let ports: Vec<&str> =
            service["ports"].as_array().into_iter().flatten().map(|port| port.as_str().unwrap()).collect();
        match name.as_str() {
            "gateway" => assert_eq!(ports, ["127.0.0.1:${HOOKYARD_PORT:-8080}:8080"]),
            _ => assert!(ports.is_empty(), "{name} publishes {ports:?}"),
        }
    }
}

/// What a container listens on is nothing that anybody outside could follow.
#[test]
fn links_begin_where_the_gateway_is_found() {
    let key = ("HOOKYARD_MASTER_KEY", MASTER_KEY);
    let url = "https://hooks.example.com";
    for (set, public_url) in
        [(BTreeMap::from([key]), ""), (BTreeMap::from([key, ("HOOKYARD_PUBLIC_URL", url)]), url)]
    {
        for service in SERVICES {
            let environment = environment(service, &set);
            // Without a URL, links begin with this port on the machine itself.
            assert_eq!(environment["HOOKYARD__HTTP__LISTEN"], "0.0.0.0:8080", "{service}");
            assert_eq!(environment["HOOKYARD__HTTP__PUBLIC_URL"], public_url, "{service}");
        }
    }
}

#[test]
fn our_containers_have_no_rights_they_do_not_need() {
    let file = compose();
    for service in SERVICES {
        let service = &file["services"][service];
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]));
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]));
    }
    let dockerfile = read("deploy/Dockerfile");
    let (_, stage) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(stage.contains("\nUSER 10001:10001\n"), "the image's account is not root");
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_workspace() {
    let toolchain = read("rust-toolchain.toml");
    let channel =
        toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(read("deploy/Dockerfile").contains(&format!("\nARG RUST_VERSION={channel}\n")), "{channel}");
}
