//! The door to services that the operator named: streams piece by piece, and nothing but the named origins.

use std::time::{Duration, Instant};

use hookyard_egress::{FailureKind, Opened, Services, Settings};
use tokio::io::AsyncWriteExt;

use super::server::{Server, reply, request};
use super::{PATIENCE, post, post_within};

/// Without any range that is allowed: the loopback address is reached because it was named.
fn services(server: &Server) -> Services {
    Services::new(&Settings::default(), &[server.url().parse().unwrap()]).unwrap()
}

async fn all(mut opened: Opened) -> Result<Vec<Vec<u8>>, FailureKind> {
    let mut pieces = Vec::new();
    while let Some(piece) = opened.next().await.map_err(|failure| failure.kind)? {
        pieces.push(piece.to_vec());
    }
    Ok(pieces)
}

/// Two pieces, with a wait before the second.
async fn dripping(wait: Duration) -> Server {
    Server::start(move |mut socket| async move {
        let _asked = request(&mut socket).await;
        let _sent =
            socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        tokio::time::sleep(wait).await;
        let _sent = socket.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await;
    })
    .await
}

#[tokio::test]
async fn pieces_come_as_they_are_sent() {
    let server = dripping(Duration::from_millis(100)).await;
    let opened = services(&server).open(post(&server.url()), PATIENCE, 6).await.unwrap();
    assert_eq!(opened.status(), 200);
    assert_eq!(all(opened).await, Ok(vec![b"one".to_vec(), b"two".to_vec()]));
}

#[tokio::test]
async fn a_stream_has_its_bytes_its_silence_and_its_end() {
    let server = dripping(Duration::from_millis(100)).await;
    let opened = services(&server).open(post(&server.url()), PATIENCE, 5).await.unwrap();
    assert_eq!(all(opened).await, Err(FailureKind::Protocol), "six bytes are one too many");

    let server = dripping(Duration::from_secs(60)).await;
    let began = Instant::now();
    let opened = services(&server).open(post(&server.url()), Duration::from_millis(200), 6).await.unwrap();
    assert_eq!(all(opened).await, Err(FailureKind::Timeout), "silence");
    let request = post_within(&server.url(), Duration::from_millis(200));
    let opened = services(&server).open(request, PATIENCE, 6).await.unwrap();
    assert_eq!(all(opened).await, Err(FailureKind::Timeout), "the time for the whole");
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn redirects_are_answers_and_other_ports_are_not_reached() {
    let elsewhere = Server::answering(reply("200 OK", "", "secret")).await;
    let server =
        Server::answering(reply("307 Temporary Redirect", &format!("location: {}\r\n", elsewhere.url()), ""))
            .await;
    let services = services(&server);
    let opened = services.open(post(&server.url()), PATIENCE, 6).await.unwrap();
    assert_eq!(opened.status(), 307);
    let refused = services.open(post(&elsewhere.url()), PATIENCE, 6).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::InvalidUrl);
    assert_eq!(elsewhere.accepted(), 0);
}
