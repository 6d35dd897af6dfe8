//! `hookyard up` with nothing set but what keeps it apart from others on this machine: ports and a directory.

use std::{
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use hookyard_tests::{
    http::Client,
    processes::{Environment, Process, account, free_port, is_root, new_tenant},
};
use tempfile::TempDir;

use super::{PATIENCE, post};

pub(super) fn directory() -> TempDir {
    let dir = tempfile::Builder::new().prefix("hookyard-up-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn environment(settings: &[(&str, &Path)]) -> (SocketAddr, Environment) {
    let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let settings =
        settings.iter().map(|(name, path)| ((*name).to_owned(), path.to_str().unwrap().to_owned()));
    (api, settings.chain([("HOOKYARD__HTTP__LISTEN".to_owned(), api.to_string())]).collect())
}

async fn accepts_events(api: SocketAddr, environment: &Environment) {
    let (_tenant, key) = new_tenant("Acme", environment);
    let client = Client::new(api).with_key(&key);
    post(&client, 1).await;
    let events = client.get("/v1/events").await.expect(200);
    assert_eq!(events["data"].as_array().unwrap().len(), 1, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_without_configuration_and_stops_its_postgresql() {
    let dir = directory();
    let data = dir.path().join("data");
    let (api, environment) = environment(&[("HOOKYARD__EMBEDDED__DATA_DIR", &data)]);
    let mut up = Process::start(&["up"], &environment);
    up.wait_until_ready(PATIENCE);
    accepts_events(api, &environment).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.pid())).unwrap();
    assert!(status.contains("THP_enabled:\t0"), "{status}");
    up.stop(PATIENCE);
    assert!(!data.join("postgres/postmaster.pid").exists(), "{}", up.last_words());
    assert!(up.log().contains("Hookyard is up"), "{}", up.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_for_an_unprivileged_user() {
    if !is_root() {
        // Then the test above has shown it.
        return;
    }
    let (uid, gid, _home) = account("nobody").expect("an account `nobody`");
    let home = directory();
    chown(home.path(), Some(uid), Some(gid)).unwrap();
    let (api, environment) = environment(&[("HOME", home.path())]);
    let mut up = Process::start_as(Some((uid, gid)), &["up"], &environment);
    up.wait_until_ready(PATIENCE);
    let data = home.path().join(".local/share/hookyard");
    assert!(data.join("postgres/PG_VERSION").exists(), "the default directory of a user");
    // Root may work on it, too.
    let mut environment = environment;
    environment.insert("HOOKYARD__EMBEDDED__DATA_DIR".to_owned(), data.to_str().unwrap().to_owned());
    accepts_events(api, &environment).await;
    up.stop(PATIENCE);
}
