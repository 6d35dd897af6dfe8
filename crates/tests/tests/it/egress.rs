//! The guarded client from outside, against receivers that misbehave on real sockets. The table of addresses and the
//! spellings of URLs are tested beside the code.

#![expect(clippy::expect_used, reason = "a broken harness should stop its test")]

mod exchange;
mod guard;
mod server;
mod services;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookyard_egress::{Answer, Egress, HeaderMap, Method, Request, Resolver, Settings};

/// Long enough for a busy machine, short enough for a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(allow: &[&str]) -> Settings {
    let allow = allow.iter().map(|range| range.parse().expect("a range")).collect();
    Settings { allow, ..Settings::default() }
}

/// A client that may reach the loopback interface, where the tests' receivers are.
fn open() -> Egress {
    Egress::new(&settings(&["127.0.0.0/8", "::1/128"])).expect("a client")
}

fn post(url: &str) -> Request {
    Request {
        method: Method::POST,
        url: url.parse().expect("a url"),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"a\":1}"),
        timeout: PATIENCE,
    }
}

fn post_within(url: &str, timeout: Duration) -> Request {
    Request { timeout, ..post(url) }
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}/")
}

/// A name server with a script: one answer per question, the last one for ever.
struct Names {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Names {
    fn resolve(&self, _name: &str) -> Answer {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let answer: Vec<IpAddr> =
            self.answers[turn].iter().map(|ip| ip.parse().expect("an address")).collect();
        Box::pin(async move { Ok(answer) })
    }
}

/// A name server that fails, or (without a failure) never answers.
struct Broken(Option<io::ErrorKind>);

impl Resolver for Broken {
    fn resolve(&self, _name: &str) -> Answer {
        match self.0 {
            Some(kind) => Box::pin(async move { Err(io::Error::new(kind, "no name server")) }),
            None => Box::pin(std::future::pending()),
        }
    }
}
