//! Who may depend on whom. A new edge needs a decision record and a line here.

use std::{collections::BTreeMap, process::Command};

/// Each crate of ours, and which others of ours it may know. `tests` and `bench` stand outside.
const MAY_KNOW: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("chassis", &[]),
    ("egress", &[]),
    ("messaging", &["domain"]),
    ("portal", &["domain"]),
    ("gateway", &["chassis", "domain", "egress", "messaging", "portal"]),
    ("registry", &["chassis", "domain", "messaging"]),
    ("delivery", &["chassis", "domain", "egress", "messaging"]),
    ("runner", &["chassis", "domain", "egress", "messaging"]),
    ("hookyard", &["chassis", "domain", "egress", "messaging", "gateway", "registry", "delivery", "runner"]),
];

/// Packages from outside that belong to one place, and where.
const BELONGS: [(&str, &[&str]); 12] = [
    ("argon2", &["domain"]),
    ("diesel", &["domain"]),
    ("diesel_migrations", &["domain"]),
    ("lapin", &["messaging"]),
    ("lettre", &["runner"]),
    ("openidconnect", &["gateway"]),
    ("hyper-rustls", &["egress"]),
    ("hyper-util", &["egress"]),
    ("reqwest", &["egress"]),
    ("actix-web", &["chassis", "gateway"]),
    ("config", &["chassis"]),
    ("maud", &["portal"]),
];

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// The normal dependencies of every crate of ours but `tests` and `bench`.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let short = |name: &str| name.strip_prefix("hookyard-").unwrap_or(name).to_owned();
    metadata
        .packages
        .into_iter()
        .map(|package| {
            let normal = package.dependencies.into_iter().filter(|dependency| dependency.kind.is_none());
            (short(&package.name), normal.map(|dependency| dependency.name).collect())
        })
        .filter(|(name, _)| name != "tests" && name != "bench")
        .collect()
}

#[test]
fn every_crate_knows_only_what_stands_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_KNOW.into_iter().collect();
    let actual = dependencies();
    assert_eq!(
        actual.keys().map(String::as_str).collect::<Vec<_>>(),
        allowed.keys().copied().collect::<Vec<_>>(),
        "a crate without a line in MAY_KNOW"
    );
    for (name, dependencies) in &actual {
        for dependency in dependencies {
            let Some(ours) = dependency.strip_prefix("hookyard-") else { continue };
            assert!(allowed[name.as_str()].contains(&ours), "`{name}` may not know `{ours}`");
        }
    }
}

#[test]
fn packages_stay_where_they_belong() {
    for (name, dependencies) in dependencies() {
        for (package, places) in BELONGS {
            let used = dependencies.iter().any(|dependency| dependency == package);
            assert!(
                !used || places.contains(&name.as_str()),
                "`{package}` belongs to {places:?}, not to `{name}`"
            );
        }
    }
}
