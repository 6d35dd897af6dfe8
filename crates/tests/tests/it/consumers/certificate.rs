//! Client certificates: which are taken, and that a real TLS server which asks for one gets it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::TimeDelta;
use hookyard_egress::{Answer as Addresses, Resolver};
use hookyard_messaging::Bus;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    RootCertStore,
    pki_types::PrivateKeyDer,
    server::{ServerConfig, WebPkiClientVerifier},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{body, count, made, patch, start};
use crate::pipeline::stage::{Stage, text, time, until};

const NAME: &str = "receiver.example";

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, both PEM.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn certificate(pair: &(String, String)) -> Value {
    json!({"client_certificate": {"certificate": pair.0, "private_key": pair.1}})
}

#[tokio::test]
async fn what_is_no_pair_or_not_valid_is_refused_and_nothing_is_stored() {
    let (_system, client) = start().await;
    let authority = Authority::new("clients");
    let (good, other) = (authority.issue("a", |_| ()), authority.issue("b", |_| ()));
    let expired = authority.issue("old", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let future = authority.issue("new", |params| params.not_before = date_time_ymd(2999, 1, 1));
    let for_servers = authority
        .issue("server", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let chain = |length: usize| good.0.clone() + &other.0.repeat(length - 1);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (what, pair, told) in [
        ("another's key", (good.0.clone(), other.1.clone()), "does not fit the private key"),
        ("expired", expired, "has expired"),
        ("of the future", future, "is not valid yet"),
        ("for servers", for_servers, "is not for clients"),
        ("no certificate", (String::from("hello"), good.1.clone()), "is not there"),
        ("a key for a certificate", (good.1.clone(), good.1.clone()), "is not there"),
        ("garbage within", (good.0.replacen("MII", "AAA", 1), good.1.clone()), "is not one that can be read"),
        ("no key", (good.0.clone(), String::from("hello")), "has no key"),
        ("a certificate for a key", (good.0.clone(), good.0.clone()), "has no key"),
        ("an encrypted key", (good.0.clone(), encrypted.to_owned()), "has no key"),
        ("too many", (chain(6), good.1.clone()), "is too long"),
        ("too long", (good.0.clone() + &" ".repeat(32 << 10), good.1.clone()), "is too long"),
    ] {
        let reply = client.post_json("/webhooks", &body(certificate(&pair))).await;
        assert_eq!(reply.error(), (422, "INVALID_CERTIFICATE".to_owned()), "{what}: {}", reply.text());
        let json = reply.json();
        let reason = text(&json["details"]["reason"]);
        assert!(reason.starts_with(told), "{what}: {reason}");
        assert!(!reply.text().contains("KEY-----"), "{what}: {}", reply.text());
    }
    assert_eq!(count(&client).await, 0);
    // Five in a chain are not too many, and a key that stands for itself is never shown.
    let made = made(&client, certificate(&(chain(5), good.1.clone()))).await;
    assert_eq!(made["client_certificate"]["certificate"], json!(chain(5)));
    assert!(text(&made["client_certificate"]["expires_at"]).starts_with("4096-"), "{made}");
    let id = text(&made["id"]).to_owned();
    let reply = patch(&client, &id, &certificate(&(good.0.clone(), other.1.clone()))).await;
    assert_eq!(reply.error(), (422, "INVALID_CERTIFICATE".to_owned()));
    let shown = client.get(&format!("/webhooks/{id}")).await;
    assert!(!shown.text().contains("PRIVATE KEY"));
    assert_eq!(shown.expect(200), made);
    let bare = patch(&client, &id, &json!({"client_certificate": null})).await.expect(200);
    assert_eq!(bare["client_certificate"], Value::Null);
}

#[tokio::test]
async fn a_certificate_is_not_shown_to_another_origin_unless_it_is_given_again() {
    let (_system, client) = start().await;
    let authority = Authority::new("clients");
    let pair = authority.issue("a", |_| ());
    let before = made(&client, certificate(&pair)).await;
    let id = text(&before["id"]).to_owned();
    let url = json!({"url": "https://other.example/in"});
    let reply = patch(&client, &id, &url).await;
    assert_eq!(reply.error(), (422, "INVALID_CERTIFICATE".to_owned()));
    assert_eq!(reply.json()["details"]["field"], "client_certificate");
    assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200), before);
    let mut again = url;
    again.as_object_mut().unwrap().extend(certificate(&pair).as_object().unwrap().clone());
    let moved = patch(&client, &id, &again).await.expect(200);
    assert_eq!((&moved["url"], &moved["client_certificate"]), (&again["url"], &before["client_certificate"]));
    let bare = json!({"url": "https://third.example/in", "client_certificate": null});
    assert_eq!(patch(&client, &id, &bare).await.expect(200)["client_certificate"], Value::Null);
}

/// Every name leads here.
struct Here;

impl Resolver for Here {
    fn resolve(&self, _name: &str) -> Addresses {
        Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })
    }
}

/// A server with a certificate of this authority, which asks for one of the clients'. Returns its port, and whom it has seen: the
/// certificates in DER.
async fn server(servers: &Authority, clients: &Authority) -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.0.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new([NAME.to_owned()]).unwrap().signed_by(&key, &servers.0).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                let mut buffer = [0; 65_536];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(shown.clone());
                    let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    (port, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_told_that_nobody_vouches_for_the_certificate_of_their_server() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (port, seen) = server(&servers, &clients).await;
    // The authority of the server is not among ours.
    let stage = Stage::with(Bus::in_process(), |options, engine| {
        options.extra_url_prefixes.push(format!("https://{NAME}:{port}/"));
        engine.resolver = Some(Arc::new(Here));
    })
    .await;
    let made = made(&stage.client, json!({"url": format!("https://{NAME}:{port}/in")})).await;
    let id = text(&made["id"]).to_owned();
    let event = stage.post("order.created", json!({})).await;
    assert_eq!(stage.tried(&event, &id, 1).await["last_reason"], "tls");
    let path = format!("/webhooks/{id}/health");
    let shown = until("the failure is counted", async || {
        let shown = stage.client.get(&path).await.expect(200);
        if shown["consecutive_failures"].as_i64() >= Some(1) { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!(
        (&shown["problem"]["kind"], &shown["last_failure"]["reason"], &shown["last_failure"]["status"]),
        (&json!("tls_chain"), &json!("tls"), &Value::Null)
    );
    assert!(text(&shown["last_failure"]["reply"]).contains("UnknownIssuer"), "{shown}");
    let explanation = text(&shown["problem"]["explanation"]);
    assert!(text(&shown["summary"]).contains(explanation), "{shown}");
    // Who is warned is told the same.
    stage.advance_beyond(time(&shown["first_failure_at"]) + TimeDelta::hours(61));
    stage.post("order.created", json!({})).await;
    let warnings = until("the owner is warned", async || {
        let found = stage.client.get("/v1/events?event_type=hook.warning").await.expect(200);
        if found["data"].as_array().unwrap().is_empty() { Err(found) } else { Ok(found) }
    })
    .await;
    let payload = &warnings["data"][0]["payload"];
    assert_eq!((text(&payload["reason"]), text(&payload["last_reason"])), (explanation, "tls"), "{warnings}");
    assert!(seen.lock().unwrap_or_else(PoisonError::into_inner).is_empty(), "nothing was sent");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_is_shown_each_consumers_own_certificate() {
    let (servers, clients, strangers) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("strangers"));
    let (port, seen) = server(&servers, &clients).await;
    let file: PathBuf = std::env::temp_dir().join(format!("hookyard-{}-mtls.pem", std::process::id()));
    std::fs::write(&file, servers.0.pem()).unwrap();
    let ca = file.clone();
    let stage = Stage::with(Bus::in_process(), |options, engine| {
        options.extra_url_prefixes.push(format!("https://{NAME}:{port}/"));
        engine.egress.extra_ca_file = Some(ca);
        engine.resolver = Some(Arc::new(Here));
    })
    .await;
    let (a, b, unknown) =
        (clients.issue("a", |_| ()), clients.issue("b", |_| ()), strangers.issue("c", |_| ()));
    let make = async |event_type: &str, more: Value| {
        let mut all = json!({"url": format!("https://{NAME}:{port}/in"), "eventTypes": [event_type]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        text(&made(&stage.client, all).await["id"]).to_owned()
    };
    let first = make("for.a", certificate(&a)).await;
    let second = make("for.b", certificate(&b)).await;
    let without = make("for.nobody", json!({})).await;
    let stranger = make("for.stranger", certificate(&unknown)).await;
    let der = |pair: &(String, String)| {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap().to_vec()
    };
    let shown = || seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (event_type, id, pair) in [("for.a", &first, &a), ("for.b", &second, &b), ("for.a", &first, &a)] {
        let event = stage.post(event_type, json!({})).await;
        stage.ended(&event, id, "delivered").await;
        assert_eq!(shown().last(), Some(&der(pair)), "{event_type}");
    }
    let before = shown().len();
    for (event_type, id) in [("for.nobody", &without), ("for.stranger", &stranger)] {
        let event = stage.post(event_type, json!({})).await;
        let tried = stage.tried(&event, id, 1).await;
        assert_eq!(tried["last_reason"], "tls", "{event_type}: {tried}");
    }
    assert_eq!(shown().len(), before, "nobody came in without a certificate of that authority");
    for id in [&without, &stranger] {
        let health = until("the health says what is lacking", async || {
            let health = stage.client.get(&format!("/webhooks/{id}/health")).await.expect(200);
            if health["problem"]["kind"] == "client_certificate" { Ok(health) } else { Err(health) }
        })
        .await;
        assert!(text(&health["problem"]["advice"]).contains("`client_certificate`"), "{health}");
        assert!(text(&health["last_failure"]["reply"]).contains("received fatal alert: "), "{health}");
    }
    // Whoever gets another one shows it from then on.
    patch(&stage.client, &without, &certificate(&b)).await.expect(200);
    stage.advance(6_100);
    until("the try with the certificate arrives", async || {
        if shown().len() == before + 1 { Ok(()) } else { Err(shown().len()) }
    })
    .await;
    assert_eq!(shown().last(), Some(&der(&b)));
    stage.close().await;
    std::fs::remove_file(file).unwrap();
}
