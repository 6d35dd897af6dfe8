//! What must never be reached is not reached: by literal, by name, by a name that changes its mind, by redirect, by
//! a proxy of the environment.

use std::process::Stdio;

use hookyard_egress::{Egress, FailureKind, Refusal, host_of};
use tokio::io::AsyncWriteExt;

use super::server::{Server, reply, request};
use super::{Names, PATIENCE, open, post, settings};

fn guarded() -> Egress {
    Egress::new(&settings(&[])).expect("a client")
}

#[tokio::test]
async fn a_literal_address_is_refused_in_every_spelling_and_nobody_is_called() {
    let server = Server::answering(reply("200 OK", "", "")).await;
    let port = server.address.port();
    let egress = guarded();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "017700000001", "127.0.0.1.", "[::ffff:127.0.0.1]", "0"]
    {
        let url = format!("http://{host}:{port}/");
        let failure = egress.send(post(&url)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Forbidden, "{url}: {failure}");
        assert!(matches!(egress.check(&url.parse().unwrap()), Err(Refusal::Address(_))), "{url}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn urls_that_hide_something_are_invalid() {
    let egress = open();
    for url in ["http://user:secret@127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd"] {
        let failure = egress.send(post(url)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidUrl, "{url}");
        assert!(!failure.detail.contains("secret"), "{failure}");
    }
    let endless = format!("http://127.0.0.1/{}", "a".repeat(70_000));
    assert_eq!(egress.send(post(&endless)).await.unwrap_err().kind, FailureKind::InvalidUrl);
}

#[tokio::test]
async fn the_name_localhost_is_judged_by_the_system_resolver_too() {
    let server = Server::answering(reply("200 OK", "", "")).await;
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(guarded().send(post(&url)).await.unwrap_err().kind, FailureKind::Forbidden);
    assert_eq!(open().send(post(&url)).await.unwrap().status, 200);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_name_with_a_forbidden_address_is_refused_when_connecting() {
    let server = Server::answering(reply("200 OK", "", "")).await;
    let url = format!("http://internal.example:{}/", server.address.port());
    for address in ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1", "0.0.0.0"] {
        let names = Names::new(&[&[address]]);
        let egress = Egress::with_resolver(&settings(&[]), names.clone()).unwrap();
        assert_eq!(egress.check(&url.parse().unwrap()), Ok(()), "nobody was asked yet");
        let failure = egress.send(post(&url)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Forbidden, "{address}");
        assert!(!failure.detail.contains(address), "tells what the name is inside: {failure}");
        assert_eq!(names.asked(), 1);
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn one_forbidden_address_among_good_ones_refuses_the_name() {
    let server = Server::answering(reply("200 OK", "", "")).await;
    let url = format!("http://mixed.example:{}/", server.address.port());
    for answer in
        [&["127.0.0.1", "10.0.0.1"][..], &["10.0.0.1", "127.0.0.1"], &["127.0.0.1", "8.8.8.8", "::1"]]
    {
        let egress = Egress::with_resolver(&settings(&["127.0.0.1/32"]), Names::new(&[answer])).unwrap();
        let failure = egress.send(post(&url)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Forbidden, "{answer:?}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_rebinds_is_judged_anew_by_every_connection() {
    let server = Server::answering(reply("200 OK", "connection: close\r\n", "")).await;
    let url = format!("http://rebind.example:{}/", server.address.port());
    let names = Names::new(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]);
    let egress = Egress::with_resolver(&settings(&["127.0.0.1/32"]), names.clone()).unwrap();
    assert_eq!(egress.send(post(&url)).await.unwrap().status, 200);
    assert_eq!(egress.send(post(&url)).await.unwrap_err().kind, FailureKind::Forbidden);
    assert_eq!(egress.send(post(&url)).await.unwrap().status, 200);
    assert_eq!((names.asked(), server.accepted()), (3, 2));
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let inside = Server::answering(reply("200 OK", "", "secret")).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let server = Server::answering(reply(status, &format!("location: {}\r\n", inside.url()), "")).await;
        let received = open().send(post(&server.url())).await.unwrap();
        assert_eq!(received.status.to_string(), status[..3]);
        assert_eq!(server.accepted(), 1);
    }
    assert_eq!(inside.accepted(), 0);
}

#[tokio::test]
async fn limits_count_a_host_once() {
    let url = "https://Hooks.Zapier.com.:443/hooks/".parse().unwrap();
    assert_eq!(host_of(&url), Some("hooks.zapier.com"));
}

/// Environment variables belong to a process, so that this test needs one of its own: this binary again.
#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let target = Server::answering(reply("200 OK", "", "")).await;
    let proxy = Server::start(|mut socket| async move {
        request(&mut socket).await;
        let _gone = socket.write_all(reply("200 OK", "", "").as_bytes()).await;
    })
    .await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "egress::guard::child_of_the_proxy_test", "--ignored", "--nocapture"])
        .env("HOOKYARD_TEST_TARGET", target.url())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(variable, proxy.url()).env(variable.to_lowercase(), proxy.url());
    }
    let output = tokio::time::timeout(PATIENCE, child.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("child got 200"), "{printed}");
    assert_eq!((target.accepted(), proxy.accepted()), (1, 0));
}

#[tokio::test]
#[ignore = "half of proxies_of_the_environment_are_ignored"]
async fn child_of_the_proxy_test() {
    let Some(target) = std::env::var_os("HOOKYARD_TEST_TARGET") else { return };
    let received = open().send(post(target.to_str().unwrap())).await.unwrap();
    println!("child got {}", received.status);
}
