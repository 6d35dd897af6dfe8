//! Mail over TLS, to a server that is not ours (aiosmtpd): with STARTTLS and from the first byte, with certificates that are
//! right and wrong.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    sync::mpsc,
    time::Duration,
};

use hookyard_domain::email::{Password, Settings, Tls};
use hookyard_tests::{runner::Runner, tools};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;

use super::{
    Yard,
    mail::{Smtp, wait, write},
};

/// An authority, and what it issues, in files as an operator has them.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Test mail authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate and its key.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (self.file("server.pem"), self.file("server.key"));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

/// The server, as a process.
struct Server {
    child: Child,
    port: u16,
    mails: mpsc::Receiver<Value>,
}

impl Server {
    fn start(tls: Tls, (certificate, key): &(PathBuf, PathBuf)) -> Self {
        let mode = match tls {
            Tls::Tls => "tls",
            Tls::Starttls => "starttls",
            Tls::None => unreachable!(),
        };
        let mut command = tools::python();
        command.arg(tools::fixture("smtp/server.py")).arg(mode).args([certificate, key]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        lines.read_line(&mut port).unwrap();
        let port = port.trim().parse().expect("it tells its port");
        let (told, mails) = mpsc::channel();
        std::thread::spawn(move || tell(lines, &told));
        Self { child, port, mails }
    }

    fn settings(&self, tls: Tls, authority: Option<&Path>) -> Settings {
        Settings {
            host: Some("localhost".to_owned()),
            port: self.port,
            tls,
            username: Some("ada".to_owned()),
            password: Some(Password::new("open sesame")),
            from: Some("hookyard@example.com".to_owned()),
            extra_ca_file: authority.map(Path::to_owned),
        }
    }
}

fn tell(lines: BufReader<ChildStdout>, told: &mpsc::Sender<Value>) {
    for line in lines.lines().map_while(Result::ok) {
        if told.send(serde_json::from_str(&line).unwrap()).is_err() {
            return;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.stdin.take().map(|mut input| input.flush());
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_over_tls_with_the_password() {
    let authority = Authority::new();
    let files = authority.issue("localhost", |_| ());
    for tls in [Tls::Tls, Tls::Starttls] {
        let server = Server::start(tls, &files);
        let yard = Yard::new().await;
        let mail = server.settings(tls, Some(&authority.file("ca.pem")));
        write(&yard, "ada@example.com").await;
        let running = yard.start(&Runner { mail, ..Runner::default() });
        wait(&yard, |row| row.state == 1).await;
        let mail = server.mails.recv_timeout(Duration::from_secs(5)).expect("a mail");
        assert_eq!(mail["tls"], true, "{mail}");
        assert_eq!(mail["to"], serde_json::json!(["ada@example.com"]));
        assert!(mail["content"].as_str().unwrap().contains("it is done."), "{mail}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_wrong_certificate_gets_nothing() {
    let authority = Authority::new();
    let ca = authority.file("ca.pem");
    let expired = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    };
    type Change = fn(&mut CertificateParams);
    for (what, name, change, ca, part) in [
        ("of another name", "mail.example", (|_| ()) as Change, Some(&ca), "not valid for name"),
        ("expired", "localhost", expired as Change, Some(&ca), "expired"),
        ("of an unknown authority", "localhost", (|_| ()) as Change, None, "UnknownIssuer"),
    ] {
        let files = authority.issue(name, change);
        for tls in [Tls::Tls, Tls::Starttls] {
            let server = Server::start(tls, &files);
            let yard = Yard::new().await;
            let mail = server.settings(tls, ca.map(PathBuf::as_path));
            write(&yard, "ada@example.com").await;
            let running = yard.start(&Runner { mail, ..Runner::default() });
            let row = wait(&yard, |row| row.tries == 1).await;
            // Certificates are renewed: it is tried again.
            assert_eq!(row.state, 0, "{what} {tls:?}: {row:?}");
            let error = row.last_error.unwrap();
            assert!(error.contains(part), "{what} {tls:?}: {error}");
            assert!(server.mails.try_recv().is_err(), "{what} {tls:?}");
            running.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_offers_no_tls_gets_nothing() {
    let (smtp, plain) = Smtp::start().await;
    let yard = Yard::new().await;
    write(&yard, "ada@example.com").await;
    let mail = Settings { tls: Tls::Starttls, ..plain };
    let running = yard.start(&Runner { mail, ..Runner::default() });
    let row = wait(&yard, |row| row.tries == 1).await;
    assert_eq!(row.state, 0, "{row:?}");
    assert!(smtp.taken.lock().unwrap().is_empty());
    running.stop().await;
}
