//! The three routes in a test app, and the server from outside.

use actix_web::test::{TestRequest, call_service, init_service, read_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::settings::{Sources, load};

fn parts() -> (CancellationToken, Health, Registry) {
    let shutdown = CancellationToken::new();
    (shutdown.clone(), Health::new(shutdown), Registry::new("1.0").unwrap())
}

#[actix_web::test]
async fn the_routes_answer() {
    let (shutdown, health, registry) = parts();
    let app = App::new()
        .configure(api_error::configure(BODY_LIMIT_BYTES))
        .configure(configure(health.clone(), registry))
        .wrap(RequestIds);
    let app = init_service(app).await;
    let get = async |path: &str| {
        let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(read_body(response).await.to_vec()).unwrap())
    };
    assert_eq!(get("/livez").await, (200, r#"{"status":"alive"}"#.to_owned()));
    assert_eq!(get("/readyz").await, (200, r#"{"status":"ready","checks":[]}"#.to_owned()));
    health.add("database", || async { Err("no connection".to_owned()) });
    let failed =
        r#"{"status":"not_ready","checks":[{"name":"database","ok":false,"reason":"no connection"}]}"#;
    assert_eq!(get("/readyz").await, (503, failed.to_owned()));
    shutdown.cancel();
    assert_eq!(get("/readyz").await, (503, failed.replace("not_ready", "draining")));
    assert_eq!(get("/livez").await.0, 200);
    let (status, figures) = get("/metrics").await;
    assert_eq!((status, figures.contains("hookyard_build_info{version=\"1.0\"} 1")), (200, true));

    let response = call_service(&app, TestRequest::post().uri("/livez").to_request()).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers().get("allow").unwrap(), "GET, HEAD");
    let response =
        call_service(&app, TestRequest::default().method("HEAD".parse().unwrap()).uri("/livez").to_request());
    assert_eq!(response.await.status(), 200);
}

#[tokio::test]
async fn the_server_serves_until_it_is_told_to_stop() {
    let (_shutdown, health, registry) = parts();
    let settings = OpsSettings { listen: Some("127.0.0.1:0".parse().unwrap()), ..OpsSettings::default() };
    let ops = Ops::bind(&settings, health.clone(), registry.clone()).unwrap();
    let addr = ops.addr().unwrap();
    let taken = OpsSettings { listen: Some(addr), ..settings };
    let error = Ops::bind(&taken, health, registry).unwrap_err();
    assert!(
        format!("{error:#}").starts_with(&format!("cannot listen on {addr} (ops.listen): ")),
        "{error:#}"
    );

    let stop = CancellationToken::new();
    let running = tokio::spawn(ops.run(stop.clone()));
    let mut connection = TcpStream::connect(addr).await.unwrap();
    connection.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("x-request-id: "), "{answer}");
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let (shutdown, health, registry) = parts();
    let settings = OpsSettings { listen: None, ..OpsSettings::default() };
    let ops = Ops::bind(&settings, health, registry).unwrap();
    assert_eq!(ops.addr(), None);
    shutdown.cancel();
    ops.run(shutdown).await.unwrap();
}

#[test]
fn settings_are_read_and_shown() {
    let from = |pairs: &[(&'static str, &'static str)]| {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Tree {
            ops: OpsSettings,
        }
        load::<Tree>(Sources::new(pairs.iter().copied())).map(|tree| tree.ops)
    };
    assert_eq!(from(&[]).unwrap(), OpsSettings::default());
    let off = from(&[("HOOKYARD__OPS__LISTEN", "")]).unwrap();
    assert_eq!(off.listen, None);
    assert_eq!(serde_json::to_value(&off).unwrap()["listen"], "");
    assert!(from(&[("HOOKYARD__OPS__SHUTDOWN_GRACE_MS", "600000")]).is_ok());
    assert!(from(&[("HOOKYARD__OPS__SHUTDOWN_GRACE_MS", "600001")]).is_err());
    assert!(from(&[("HOOKYARD__OPS__LISTEN", "localhost")]).is_err());
}
