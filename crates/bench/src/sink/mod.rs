//! HTTP server that plays the webhook endpoints.
//!
//! `POST /e/NAME[?delay_ms=N&fail=P&status=S&capacity=C]` is an endpoint: it answers 200 after `delay_ms`, or `status` (500) with
//! probability `fail`. `GET /stats` reports, `GET /settled` and `GET /settled/plain` count distinct events answered 200
//! or failed on their last allowed try (of all endpoints, of those without a query), `GET /pid` names the process and `GET /reset` clears.
//! It verifies no signature: it has to cost next to nothing.

mod endpoint;
mod retries;
mod stats;

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::Result;
use tokio::net::TcpListener;

use self::endpoint::{Behaviour, Endpoint, FAILURE_STATUS, Tally};
pub(crate) use self::stats::{EndpointStats, GapStats, Stats};
use crate::{http::Conn, latency::now_ns};

/// Sequence numbers start here, so that all have the same width.
pub(crate) const FIRST_SEQ: u64 = 10_000_000;

/// Settings of the sink.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Loopback address to listen on
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Delay of every answer, unless the endpoint's URL has its own
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Probability of a failure answer, unless the endpoint's URL has its own
    #[arg(long, default_value_t = 0.0)]
    fail: f64,
    /// Status of a failure answer
    #[arg(long, default_value_t = FAILURE_STATUS)]
    status: u16,
    /// When a retry is due, in ms after the failed try before it: first retry, second, ...
    #[arg(long, value_delimiter = ',', default_value = "1000,4000,9000")]
    retry_steps_ms: Vec<u64>,
    /// Exit after this many seconds
    #[arg(long, default_value_t = 3600)]
    max_s: u64,
}

/// Serves until Ctrl-C or `--max-s`.
///
/// # Errors
/// When the address is not loopback or cannot be bound.
pub(crate) async fn run(args: Args) -> Result<()> {
    anyhow::ensure!(args.listen.ip().is_loopback(), "the sink is for loopback");
    let listener = TcpListener::bind(args.listen).await?;
    eprintln!("sink on http://{}", listener.local_addr()?);
    let max = Duration::from_secs(args.max_s);
    let state = Rc::new(RefCell::new(State::new(args)));
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let conn = Conn::new(stream)?;
            let state = state.clone();
            tokio::task::spawn_local(async move {
                // A connection that the system under test drops is no error of the sink.
                let _dropped = serve(conn, state).await;
            });
        }
    };
    tokio::select! {
        result = accept => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = tokio::time::sleep(max) => Ok(()),
    }
}

struct State {
    default: Behaviour,
    retry_steps_ms: Vec<u64>,
    endpoints: Vec<Endpoint>,
    /// State of the dice. Not random on purpose: every run sees the same failures.
    dice: u64,
}

impl State {
    fn new(args: Args) -> Self {
        let delay = Duration::from_millis(args.delay_ms);
        Self {
            default: Behaviour { delay, fail: args.fail, status: args.status, capacity: 0 },
            retry_steps_ms: args.retry_steps_ms,
            endpoints: Vec::new(),
            dice: 0x9E37_79B9_7F4A_7C15,
        }
    }

    fn endpoint(&mut self, path: &str) -> &mut Endpoint {
        let i = match self.endpoints.iter().position(|endpoint| endpoint.path == path) {
            Some(i) => i,
            None => {
                self.endpoints.push(Endpoint::new(path, self.default, &self.retry_steps_ms));
                self.endpoints.len() - 1
            }
        };
        &mut self.endpoints[i]
    }

    /// A number from 0 to 1 (xorshift).
    fn throw_dice(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Takes one webhook: the delay before its answer, and the failure status if it fails.
    fn webhook(&mut self, path: &str, body: &[u8]) -> (Duration, Option<u16>) {
        let now = now_ns();
        let dice = self.throw_dice();
        self.endpoint(path).take(body, now, dice)
    }

    fn settled(&self, counts: impl Fn(&Endpoint) -> bool) -> u64 {
        self.endpoints
            .iter()
            .filter(|endpoint| counts(endpoint))
            .map(|endpoint| endpoint.tally.settled())
            .sum()
    }

    fn stats(&self) -> Stats {
        let mut total = Tally::new(&self.retry_steps_ms);
        let mut plain = Tally::new(&self.retry_steps_ms);
        let mut out = Stats::default();
        for endpoint in &self.endpoints {
            total.add(&endpoint.tally);
            if endpoint.is_plain() {
                plain.add(&endpoint.tally);
            }
            out.endpoints.insert(endpoint.path.clone(), endpoint.stats());
        }
        out.total = total.stats(Vec::new());
        out.done = out.total.done;
        out.plain = plain.stats(Vec::new());
        out
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

async fn serve(mut conn: Conn, state: Rc<RefCell<State>>) -> std::io::Result<()> {
    while let Some(request) = conn.request().await? {
        let keep_alive = request.keep_alive;
        if request.path.starts_with("/e/") {
            let (delay, failure) = state.borrow_mut().webhook(request.path, request.body);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            match failure {
                None => conn.write_all(OK).await?,
                Some(status) => conn.write_all(&answer(status, b"{}")).await?,
            }
        } else {
            let reply = match request.path {
                "/stats" => answer(200, &serde_json::to_vec(&state.borrow().stats())?),
                "/settled" => answer(200, state.borrow().settled(|_| true).to_string().as_bytes()),
                "/settled/plain" => {
                    answer(200, state.borrow().settled(Endpoint::is_plain).to_string().as_bytes())
                }
                "/pid" => answer(200, std::process::id().to_string().as_bytes()),
                "/reset" => {
                    state.borrow_mut().endpoints.clear();
                    answer(200, b"{}")
                }
                _ => answer(404, b"{}"),
            };
            conn.write_all(&reply).await?;
        }
        if !keep_alive {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            default: Behaviour { delay: Duration::ZERO, fail: 0.0, status: 500, capacity: 0 },
            retry_steps_ms: vec![1000],
            endpoints: Vec::new(),
            dice: 1,
        }
    }

    #[test]
    fn duplicates_and_failures_are_counted_apart() {
        let mut state = state();
        let body = format!(r#"{{"seq":{FIRST_SEQ},"sent_ns":1}}"#);
        for _ in 0..2 {
            assert!(state.webhook("/e/0", body.as_bytes()).1.is_none());
        }
        assert_eq!(state.webhook("/e/1?fail=1&status=429", body.as_bytes()).1, Some(429));
        state.webhook("/e/0", b"{}");
        let stats = state.stats();
        let total = &stats.total;
        assert_eq!((total.done, total.duplicates, total.failed, total.unparsed), (1, 1, 1, 1));
        assert_eq!((total.seen, total.requests), (2, 4));
        assert_eq!((stats.plain.requests, stats.plain.failed), (3, 0));
        assert_eq!((state.settled(|_| true), state.settled(Endpoint::is_plain)), (1, 1));
        state.webhook("/e/1?fail=1&status=429", body.as_bytes());
        assert_eq!((state.settled(|_| true), state.settled(Endpoint::is_plain)), (2, 1), "tries are spent");
    }

    #[test]
    fn the_dice_are_fair_enough() {
        let mut state = state();
        let low = (0..10_000).filter(|_| state.throw_dice() < 0.2).count();
        assert!((1800..2200).contains(&low), "{low}");
    }

    #[test]
    fn an_empty_sink_reports_nothing() {
        let stats = state().stats();
        assert_eq!((stats.done, stats.total.requests, stats.total.first_ns), (0, 0, 0));
    }
}
