//! One request, one reply, one deadline: what receivers do to a connection and what is made of it.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use hookyard_egress::{
    Egress, FailureKind, HeaderMap, HeaderValue, MAX_FETCHED, MAX_KEPT, MAX_READ, Method, RetryAfter,
    Settings,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::server::{Server, reply, request};
use super::{Broken, Names, PATIENCE, at, open, post, post_within, settings};

/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(250);

#[tokio::test]
async fn bytes_and_headers_arrive_as_given_and_framing_is_ours() {
    let (sender, mut received) = mpsc::channel(4);
    let server = Server::start(move |mut socket| {
        let sender = sender.clone();
        async move {
            while let Some(text) = request(&mut socket).await {
                sender.send(text).await.unwrap();
                socket.write_all(reply("202 Accepted", "", "thanks").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let egress = open();
    let mut sent = post(&server.url());
    for (name, value) in [
        ("x-event-id", "evt_1"),
        ("host", "internal"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
    ] {
        sent.headers.insert(name, HeaderValue::from_static(value));
    }
    let answer = egress.send(sent).await.unwrap();
    assert_eq!((answer.status, answer.excerpt.as_slice(), answer.retry_after), (202, &b"thanks"[..], None));
    assert!(answer.latency > Duration::ZERO && answer.latency < PATIENCE);
    let text = received.recv().await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut head: Vec<&str> = head.lines().collect();
    head[1..].sort_unstable();
    let host = format!("Host: {}", server.address);
    let agent = format!("User-Agent: {}", Settings::default().user_agent);
    let expected =
        ["POST / HTTP/1.1", "Accept: */*", "Content-Length: 7", &host, &agent, "X-Event-Id: evt_1"];
    assert_eq!((head.as_slice(), body), (&expected[..], "{\"a\":1}"));

    let mut own = post(&server.url());
    own.method = Method::DELETE;
    own.headers.insert("user-agent", HeaderValue::from_static("Special/1"));
    egress.send(own).await.unwrap();
    let text = received.recv().await.unwrap();
    assert!(text.starts_with("DELETE / ") && text.contains("\r\nUser-Agent: Special/1\r\n"), "{text}");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_reply_was_read() {
    let server = Server::answering(reply("200 OK", "", &"x".repeat(MAX_READ - 1))).await;
    let egress = open();
    for _ in 0..5 {
        let answer = egress.clone().send(post(&server.url())).await.unwrap();
        assert_eq!((answer.status, answer.excerpt.len()), (200, MAX_KEPT));
    }
    assert_eq!(server.accepted(), 1);
}

/// At the very bound nothing is cut, and one byte behind it only that byte.
#[tokio::test]
async fn a_body_as_long_as_may_be_read_is_read_whole_and_a_longer_one_is_cut_there() {
    let of = |length: usize| format!("{}y", "x".repeat(length - 1));
    let chunked = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    for (length, is_whole) in [(MAX_READ, true), (MAX_READ + 1, false)] {
        let body = of(length);
        for (framing, bytes) in [("length", reply("200 OK", "", &body)), ("chunked", chunked(&body))] {
            let server = Server::answering(bytes).await;
            let egress = open();
            // More than once: what is left of a reply must not become the beginning of the next.
            for _ in 0..3 {
                let answer = egress.ask(post(&server.url())).await.unwrap();
                assert_eq!((answer.status, answer.excerpt.len()), (200, MAX_READ), "{framing} {length}");
                assert_eq!(answer.excerpt.ends_with(b"y"), is_whole, "{framing} {length}");
                let sent = egress.send(post(&server.url())).await.unwrap();
                assert_eq!((sent.status, sent.excerpt.len()), (200, MAX_KEPT), "{framing} {length}");
                // A connection that can be used again has a moment to come back.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Of a known length nothing is left to be read behind the last byte.
            let connections = server.accepted();
            assert!(connections == 1 || framing != "length" || !is_whole, "{connections}");
        }
    }
}

#[tokio::test]
async fn what_is_fetched_is_whole_or_a_failure() {
    for (length, fits) in [(MAX_FETCHED, true), (MAX_FETCHED + 1, false)] {
        let server = Server::answering(reply("503 Busy", "x-kind: whole\r\n", &"x".repeat(length))).await;
        match open().fetch(post(&server.url())).await {
            Ok(fetched) => {
                assert!(fits);
                assert_eq!((fetched.status, fetched.body.len()), (503, length));
                assert_eq!(fetched.headers["x-kind"], "whole");
            }
            Err(failure) => assert!(!fits && failure.kind == FailureKind::Protocol, "{failure:?}"),
        }
    }
    let server = Server::answering(reply("302 Found", "location: /elsewhere\r\n", "")).await;
    assert_eq!(open().fetch(post(&server.url())).await.unwrap().status, 302, "not followed");
    let guarded = Egress::new(&settings(&[])).unwrap();
    assert_eq!(guarded.fetch(post(&server.url())).await.unwrap_err().kind, FailureKind::Forbidden);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn every_status_is_a_reply() {
    for status in [200, 204, 299, 304, 400, 401, 404, 410, 429, 500, 503, 599, 999] {
        let server = Server::answering(reply(&format!("{status} Whatever"), "", "")).await;
        assert_eq!(open().send(post(&server.url())).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn retry_after_is_read_in_seconds_and_as_a_date() {
    let moment = UNIX_EPOCH + Duration::from_secs(1_792_324_800);
    for (text, expected) in [
        ("120", Some(RetryAfter::Seconds(120))),
        ("Sun, 18 Oct 2026 12:00:00 GMT", Some(RetryAfter::At(moment))),
        ("later", None),
    ] {
        let server = Server::answering(reply("429 Slow", &format!("retry-after: {text}\r\n"), "")).await;
        let answer = open().send(post(&server.url())).await.unwrap();
        assert_eq!((answer.status, answer.retry_after), (429, expected), "{text}");
    }
}

#[tokio::test]
async fn a_huge_body_is_cut_and_its_connection_dropped() {
    const SIZE: usize = 100 * 1024 * 1024;
    for head in [format!("content-length: {SIZE}"), "transfer-encoding: chunked".to_owned()] {
        let (sender, mut written) = mpsc::channel(1);
        let head = Arc::new(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
        let server = Server::start(move |mut socket| {
            let (sender, head) = (sender.clone(), Arc::clone(&head));
            async move {
                request(&mut socket).await;
                let mut block = vec![b'x'; 64 * 1024];
                block[..7].copy_from_slice(b"fff8\r\nx");
                let end = block.len() - 2;
                block[end..].copy_from_slice(b"\r\n");
                let mut total = 0;
                socket.write_all(head.as_bytes()).await.unwrap();
                while total < SIZE && socket.write_all(&block).await.is_ok() {
                    total += block.len();
                }
                sender.send(total).await.unwrap();
            }
        })
        .await;
        let started = Instant::now();
        let answer = open().send(post(&server.url())).await.unwrap();
        assert_eq!((answer.status, answer.excerpt.len()), (200, MAX_KEPT));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let total = tokio::time::timeout(PATIENCE, written.recv()).await.unwrap().unwrap();
        assert!(total < SIZE / 4, "the connection took {total} bytes");
    }
}

#[tokio::test]
async fn slow_receivers_meet_the_deadline_wherever_they_are_slow() {
    // Before the reply, within its headers, within its body of known and of unknown length.
    for first in [
        "",
        "HTTP/1.1 200 OK\r\nx-slow: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let server = Server::start(move |mut socket| async move {
            request(&mut socket).await;
            let mut next = first.as_bytes();
            while socket.write_all(next).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                next = if first.is_empty() { b"" } else { b"x" };
            }
        })
        .await;
        let failure = open().send(post_within(&server.url(), SHORT)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout, "{first:?}: {failure}");
        assert!(failure.latency >= SHORT && failure.latency < SHORT * 8, "{:?}", failure.latency);
        assert!(failure.detail.ends_with("within 250 ms"), "{failure}");
    }
}

#[tokio::test]
async fn a_short_body_that_never_ends_is_not_a_success() {
    let server = Server::start(|mut socket| async move {
        request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let failure = open().send(post_within(&server.url(), SHORT)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
}

#[tokio::test]
async fn a_name_server_that_is_silent_meets_the_connect_timeout() {
    let egress =
        Egress::with_resolver(&Settings { connect_timeout_ms: 150, ..settings(&[]) }, Arc::new(Broken(None)))
            .unwrap();
    let failure = egress.send(post("http://silent.example/")).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.detail.as_str()),
        (FailureKind::Timeout, "no connection within 150 ms")
    );
    assert!(failure.latency < Duration::from_secs(2), "{:?}", failure.latency);
    let failure = egress.send(post_within("http://silent.example/", SHORT / 5)).await.unwrap_err();
    assert_eq!((failure.kind, failure.detail.as_str()), (FailureKind::Timeout, "no reply within 50 ms"));
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    let broken = Arc::new(Broken(Some(std::io::ErrorKind::TimedOut)));
    let egress = Egress::with_resolver(&settings(&[]), broken).unwrap();
    let failure = egress.send(post("http://unknown.example/")).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.detail.as_str()),
        (FailureKind::Dns, "the name cannot be resolved: no name server")
    );
    let egress = Egress::with_resolver(&settings(&[]), Names::new(&[&[]])).unwrap();
    assert_eq!(egress.send(post("http://empty.example/")).await.unwrap_err().kind, FailureKind::Dns);
    // A label too long for DNS: the system's resolver says no without asking anybody.
    let url = format!("http://{}.example/", "a".repeat(70));
    assert_eq!(open().send(post(&url)).await.unwrap_err().kind, FailureKind::Dns);
}

#[tokio::test]
async fn a_closed_port_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = open().send(post(&at(address))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Connect, "{failure}");
    assert!(failure.detail.contains("refused"), "{failure}");
}

#[tokio::test]
async fn a_connection_that_ends_early_is_a_reset() {
    // How much is said before the end, and whether the end is rude (RST) or polite (FIN).
    for (said, rude) in [
        ("", true),
        ("", false),
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 200 OK\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", false),
    ] {
        let server = Server::start(move |mut socket| async move {
            request(&mut socket).await;
            socket.write_all(said.as_bytes()).await.unwrap();
            if rude {
                socket.set_zero_linger().unwrap();
            }
        })
        .await;
        let failure = open().send(post(&server.url())).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Reset, "{said:?} {rude}: {failure}");
        assert!(!failure.detail.contains("http://"), "{failure}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    let many: String = (0..2_000).map(|n| format!("x-{n}: y\r\n")).collect();
    for said in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "220 mail.example ESMTP\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        &format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
    ] {
        let server = Server::answering(said).await;
        let failure = open().send(post(&server.url())).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Protocol, "{}: {failure}", &said[..said.len().min(60)]);
    }
}

#[tokio::test]
async fn many_requests_at_once_share_one_client() {
    let server = Server::answering(reply("200 OK", "", "")).await;
    let egress = open();
    let sends = (0..50).map(|_| {
        let (egress, sent) = (egress.clone(), post(&server.url()));
        tokio::spawn(async move { egress.send(sent).await.map(|answer| answer.status) })
    });
    for send in sends.collect::<Vec<_>>() {
        assert_eq!(send.await.unwrap(), Ok(200));
    }
    assert!(server.accepted() <= 50);
    let before = server.accepted();
    egress.send(post(&server.url())).await.unwrap();
    assert_eq!(server.accepted(), before);
}

#[tokio::test]
async fn headers_of_a_request_may_be_empty() {
    let server = Server::answering(reply("200 OK", "", "")).await;
    let mut sent = post(&server.url());
    sent.body = bytes::Bytes::new();
    sent.headers = HeaderMap::new();
    assert_eq!(open().send(sent).await.unwrap().status, 200);
}
