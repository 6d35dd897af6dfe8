//! Certificates: the good one works over HTTP/1.1 and HTTP/2, and every kind of bad one is a TLS failure.

use std::path::PathBuf;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hookyard_domain::subscription::diagnosis::Problem;
use hookyard_egress::{Egress, Failure, FailureKind, Reply, Settings, SetupError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use super::server::{Server, reply, request};
use super::{Names, post, settings};

const NAME: &str = "receiver.example";

/// An authority with a file that names it, as an operator would write it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(test: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        // Authorities of one name are told apart by their keys alone, which is another mistake than the one meant.
        params.distinguished_name.push(DnType::CommonName, test);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let file = std::env::temp_dir().join(format!("hookyard-{}-{test}.pem", std::process::id()));
        std::fs::write(&file, issuer.pem()).expect("a file");
        Self { issuer, file }
    }

    /// A server's side for `name`, speaking `protocols` in its order.
    fn server(
        &self,
        name: &str,
        protocols: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Acceptor {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Acceptor {
            chain: vec![certificate.der().clone()],
            key,
            protocols: words(protocols),
            client_roots: None,
        }
    }

    fn client(&self) -> Egress {
        let settings = Settings { extra_ca_file: Some(self.file.clone()), ..settings(&["127.0.0.0/8"]) };
        Egress::with_resolver(&settings, Names::new(&[&["127.0.0.1"]])).expect("a client")
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.file);
    }
}

struct Acceptor {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    protocols: Vec<Vec<u8>>,
    client_roots: Option<RootCertStore>,
}

impl Acceptor {
    fn build(self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match self.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("a verifier"),
            ),
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        let mut config = builder.with_single_cert(self.chain, key).expect("a certificate");
        config.alpn_protocols = self.protocols;
        TlsAcceptor::from(Arc::new(config))
    }

    /// Answers 200 over HTTP/1.1 to whoever accepts the certificate.
    async fn serve(self) -> Server {
        let acceptor = self.build();
        Server::start(move |socket| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                while request(&mut stream).await.is_some() {
                    if stream.write_all(reply("200 OK", "", "over tls").as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    }
}

fn words(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

async fn send(egress: &Egress, server: &Server) -> Result<Reply, Failure> {
    egress.send(post(&format!("https://{NAME}:{}/", server.address.port()))).await
}

#[tokio::test]
async fn the_authority_of_the_extra_file_is_trusted() {
    let authority = Authority::new("trusted");
    let server = authority.server(NAME, &["http/1.1"], |_| ()).serve().await;
    let egress = authority.client();
    for _ in 0..2 {
        let answer = send(&egress, &server).await.unwrap();
        assert_eq!((answer.status, answer.excerpt.as_slice()), (200, &b"over tls"[..]));
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn http2_is_chosen_by_alpn_and_carries_many_requests_on_one_connection() {
    let authority = Authority::new("h2");
    let acceptor = authority.server(NAME, &["h2", "http/1.1"], |_| ()).build();
    let server = Server::start(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(socket).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                let head = http::Response::builder().status(201).body(()).unwrap();
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data("over h2".into(), true).unwrap();
            }
        }
    })
    .await;
    let egress = authority.client();
    for _ in 0..3 {
        let answer = send(&egress, &server).await.unwrap();
        assert_eq!((answer.status, answer.excerpt.as_slice()), (201, &b"over h2"[..]));
    }
    let (one, two, three) =
        tokio::join!(send(&egress, &server), send(&egress, &server), send(&egress, &server));
    assert_eq!([one, two, three].map(|answer| answer.unwrap().status), [201; 3]);
    assert_eq!(server.accepted(), 1);
}

/// How an HTTP/2 server treats the requests that it does not answer.
#[derive(Clone, Copy, Debug)]
enum Treatment {
    Reset(h2::Reason),
    /// It goes away before it has looked at any.
    Leave,
}

/// A server that treats so many requests, or connections, like this and answers what comes then. Returns whether it answered, and how often
/// it was asked.
async fn treated(times: usize, how: Treatment) -> (bool, usize) {
    let authority = Authority::new("h2");
    let acceptor = authority.server(NAME, &["h2"], |_| ()).build();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let server = Server::start(move |socket| {
        let (acceptor, asked) = (acceptor.clone(), Arc::clone(&counted));
        async move {
            let mut connection = h2::server::handshake(acceptor.accept(socket).await.unwrap()).await.unwrap();
            if matches!(how, Treatment::Leave) && asked.fetch_add(1, Ordering::SeqCst) < times {
                connection.abrupt_shutdown(h2::Reason::NO_ERROR);
            }
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                match how {
                    Treatment::Reset(reason) if asked.fetch_add(1, Ordering::SeqCst) < times => {
                        respond.send_reset(reason);
                    }
                    _ => {
                        let head = http::Response::builder().status(201).body(()).unwrap();
                        respond.send_response(head, true).unwrap();
                    }
                }
            }
        }
    })
    .await;
    let answered = send(&authority.client(), &server).await.is_ok();
    (answered, asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn what_an_http2_receiver_has_not_looked_at_is_sent_anew_twice() {
    let refused = Treatment::Reset(h2::Reason::REFUSED_STREAM);
    assert_eq!(treated(2, refused).await, (true, 3));
    assert_eq!(treated(3, refused).await, (false, 3));
    assert_eq!(treated(2, Treatment::Leave).await, (true, 3));
    assert_eq!(treated(3, Treatment::Leave).await, (false, 3));
    // Whoever has begun may have done it.
    assert_eq!(treated(1, Treatment::Reset(h2::Reason::INTERNAL_ERROR)).await, (false, 1));
}

#[tokio::test]
async fn bad_certificates_are_tls_failures_and_their_owners_are_told_which() {
    let authority = Authority::new("bad");
    let stranger = Authority::new("stranger");
    let self_signed = |is_ca: IsCa| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        Acceptor { chain: vec![certificate.der().clone()], key, protocols: Vec::new(), client_roots: None }
    };
    let mut wants_client = authority.server(NAME, &[], |_| ());
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    wants_client.client_roots = Some(roots);
    for (what, acceptor, word, problem) in [
        ("of an unknown authority", stranger.server(NAME, &[], |_| ()), "UnknownIssuer", Problem::TlsChain),
        ("self-signed", self_signed(IsCa::NoCa), "invalid peer certificate", Problem::TlsChain),
        // What `openssl req -x509` makes.
        (
            "self-signed and an authority",
            self_signed(IsCa::Ca(BasicConstraints::Unconstrained)),
            "invalid peer certificate",
            Problem::TlsChain,
        ),
        (
            "for another name",
            authority.server("other.example", &[], |_| ()),
            "not valid for name",
            Problem::TlsName,
        ),
        (
            "expired",
            authority.server(NAME, &[], |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }),
            "expired",
            Problem::TlsExpired,
        ),
        (
            "of the future",
            authority.server(NAME, &[], |params| params.not_before = date_time_ymd(2999, 1, 1)),
            "not valid yet",
            Problem::TlsExpired,
        ),
        ("that wants one of ours", wants_client, "alert", Problem::ClientCertificate),
        ("for another protocol", authority.server(NAME, &["spdy/1"], |_| ()), "alert", Problem::Tls),
    ] {
        let server = acceptor.serve().await;
        let failure = send(&authority.client(), &server).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Tls, "a certificate {what}: {failure}");
        assert!(failure.detail.contains(word), "a certificate {what}: {failure}");
        assert!(failure.detail.len() <= 200);
        let told = Problem::of(failure.kind.as_str(), &failure.detail);
        assert_eq!(told, Some(problem), "a certificate {what}: {failure}");
    }
}

#[tokio::test]
async fn a_port_that_does_not_speak_tls_is_a_tls_failure() {
    let authority = Authority::new("plain");
    for said in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "garbage garbage garbage",
        "",
        "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}",
    ] {
        let server = Server::start(move |mut socket| async move {
            let mut hello = [0; 4096];
            tokio::io::AsyncReadExt::read(&mut socket, &mut hello).await.unwrap();
            socket.write_all(said.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
            while tokio::io::AsyncReadExt::read(&mut socket, &mut hello).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let failure = send(&authority.client(), &server).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Tls, "{said:?}: {failure}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_reset_is_a_reset() {
    let authority = Authority::new("reset");
    let server = Server::start(|socket| async move { socket.set_zero_linger().unwrap() }).await;
    let failure = send(&authority.client(), &server).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Reset, "{failure}");
}

#[test]
fn settings_that_make_no_client_name_themselves() {
    let path = std::env::temp_dir().join(format!("hookyard-{}-empty.pem", std::process::id()));
    std::fs::write(&path, "no certificate here\n").unwrap();
    let with_file = |path| Settings { extra_ca_file: Some(path), ..Settings::default() };
    let error = |settings: &Settings| Egress::new(settings).map(|_| ()).unwrap_err();
    assert!(matches!(error(&with_file(path.clone())), SetupError::NoCertificate { .. }));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(error(&with_file(path.clone())), SetupError::RejectedCa { .. }));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(error(&with_file(path)), SetupError::UnreadableCa { .. }));
    for connect_timeout_ms in [0, 60_001] {
        let settings = Settings { connect_timeout_ms, ..Settings::default() };
        assert!(matches!(error(&settings), SetupError::ConnectTimeout));
    }
    let settings = Settings { user_agent: "a\nb".to_owned(), ..Settings::default() };
    assert!(matches!(error(&settings), SetupError::UserAgent));
}
